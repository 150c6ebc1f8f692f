"""Rules about how enrolments go, whether push notifications reach the devices, and which passkeys are not used.

None of them pages: whoever is affected can still log in, or has another alert.
"""

from __future__ import annotations

from exporter.exposition.catalogue import (
    ENROLMENT_DURATION,
    FACTOR_LAST_APPROVED,
    FACTOR_VERIFIED,
    PUSH_FACTORS,
)
from grafana.rules.model import Alert, Dashboard, Group, Recording, Settings, Severity, percent

# Medians of fewer durations differ too much by chance.
LEAST_ENROLMENTS = 30
MEDIAN_HOURS = 6
USUAL_DAYS = 7
# A new service has something usual after a day with enrolments all around the clock.
LEAST_USUAL = 4
# Durations are measured at fetches: of short ones, a change of the polling interval makes three times as much.
LEAST_SLOW_SECONDS = 300
UNUSED_DAYS = 90

MEDIAN = f"service:{ENROLMENT_DURATION.name}:median{MEDIAN_HOURS}h"

_SERVICE = {"account": "account", "service": "service_sid"}


def enrolment_group(settings: Settings) -> Group:
    """Return the rules about enrolments and push factors."""
    return Group(
        "twilio-verify-enrolments", (_median(settings), _enrolment_slow(settings), _push_without_platform(settings))
    )


def unused_group(settings: Settings) -> Group:
    """Return the optional group with the alert about passkeys that are verified and not used."""
    return Group("twilio-verify-unused", (_passkeys_unused(settings),))


def _median(settings: Settings) -> Recording:
    # With its buckets, a histogram has the series _bucket and _count; in a pipeline that converts it to a native
    # histogram, only itself. histogram_quantile reads numbers, so it doesn't matter how a pipeline writes le.
    # The median, because one person who enrols over night would dominate the mean of hundreds.
    def of_many(median_of: str, count: str) -> str:
        return f"(\n  histogram_quantile(0.5, {median_of})\n  and\n  {count} >= {LEAST_ENROLMENTS}\n)"

    def of(function: str, suffix: str = "") -> str:
        return f"sum {settings.without()} ({function}({ENROLMENT_DURATION.name}{suffix}[{MEDIAN_HOURS}h]))"

    classic = of_many(of("rate", "_bucket"), of("increase", "_count"))
    native = of_many(of("rate"), f"histogram_count({of('increase')})")
    return Recording(
        MEDIAN,
        f"{classic}\nor\n{native}",
        f"Median duration of the enrolments of the last {MEDIAN_HOURS} hours, by service and factor type; absent "
        f"with fewer than {LEAST_ENROLMENTS}.",
    )


def _enrolment_slow(settings: Settings) -> Alert:
    # The median of earlier medians: neither a bad day nor the times of day change what is usual.
    earlier = f"{MEDIAN}[{USUAL_DAYS}d:{MEDIAN_HOURS}h] offset {MEDIAN_HOURS}h"
    slower = f"{settings.slow_enrolment:g}"
    return Alert(
        "EnrolmentSlow",
        f"""\
(
  {MEDIAN} > {slower} * quantile_over_time(0.5, {earlier})
  and
  count_over_time({earlier}) >= {LEAST_USUAL}
)
> {LEAST_SLOW_SECONDS}""",
        Severity.WARNING,
        pending="30m",
        keep_firing="1h",
        when=f"the median enrolment of the last {MEDIAN_HOURS} hours, of at least {LEAST_ENROLMENTS}, took more "
        f"than {slower} times as long as usual in the {USUAL_DAYS} days before, and more than "
        f"{LEAST_SLOW_SECONDS // 60} minutes",
        summary="Enrolments take longer than usual.",
        description=f"Half of the enrolments of the last {MEDIAN_HOURS} hours took more than "
        "{{ $value | humanizeDuration }}, "
        f"over {slower} times as long as usual: those of {{{{ $labels.factor_type }}}} factors in service "
        "{{ $labels.service_sid }} (account {{ $labels.account }}). Users may be giving up. Check what changed in "
        "the app or in the instructions for enrolment.",
        dashboard=Dashboard.OVERVIEW,
        variables=_SERVICE,
    )


def _push_without_platform(settings: Settings) -> Alert:
    # Replicas and shards don't change a ratio of sums. A service without any platform has no push notifications,
    # which is not a fault; its ratio is 1.
    def count(selector: str = "") -> str:
        series = f"{PUSH_FACTORS.name}{selector}"
        return f"sum {settings.without('notification_platform')} (last_over_time({series}[5m]))"

    return Alert(
        "PushWithoutPlatform",
        f"""\
{count('{notification_platform="none"}')}
/
{count()}
> {settings.without_platform_ratio:g} < 1""",
        Severity.WARNING,
        pending="1h",
        when=f"more than {percent(settings.without_platform_ratio)} of a service's push factors, but not all of "
        "them, have no notification platform",
        summary="Push notifications can't reach many devices.",
        description="{{ $value | humanizePercentage }} of the push factors of service {{ $labels.service_sid }} "
        "(account {{ $labels.account }}) have no notification platform, so no notification tells their users of a "
        "login: they must open the app to approve it. Check whether the app still registers for notifications.",
        dashboard=Dashboard.OVERVIEW,
        variables=_SERVICE,
    )


def _passkeys_unused(settings: Settings) -> Alert:
    # Counted, because a list of a thousand unused passkeys is a report and not a thousand alerts. Labels from the
    # watchlist stay, so that a team gets its own number. A passkey without the time is left out: that it was never
    # used isn't known.
    def last(name: str) -> str:
        return f"max {settings.without()} (last_over_time({name}[5m]))"

    return Alert(
        "PasskeysUnused",
        f"""\
count without (factor) (
  time() - {last(FACTOR_LAST_APPROVED.name)} > {UNUSED_DAYS * 86400}
  and
  {last(FACTOR_VERIFIED.name)} == 1
)""",
        Severity.WARNING,
        pending="1h",
        keep_firing="1h",
        when=f"optional: a verified passkey last approved a challenge more than {UNUSED_DAYS} days ago",
        summary="Some verified passkeys are not used.",
        description="{{ $value | humanize }} verified passkey(s) of service {{ $labels.service_sid }} (account "
        f"{{{{ $labels.account }}}}) have approved no challenge for {UNUSED_DAYS} days: a device that is lost or "
        "no longer used can still log in. The dashboard lists them.",
        dashboard=Dashboard.OVERVIEW,
        variables=_SERVICE,
    )
