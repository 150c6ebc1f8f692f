"""Rules about single factors: one alert for each status that needs attention, and one for fetches that fail.

The status of each factor is recorded once, as a number, for alerts and dashboards. Every rule matches on the whole
label set, so the labels that the watchlist gives a factor (``team``) reach its alert, and factors may have
different labels.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from exporter.exposition.catalogue import (
    FACTOR_CREATED,
    FACTOR_EXISTS,
    FACTOR_INTERVAL,
    FACTOR_LAST_SUCCESS,
    FACTOR_LAST_VERIFIED,
    FACTOR_UP,
    FACTOR_VERIFIED,
)
from grafana.rules.model import Alert, Dashboard, Group, Recording, Severity, indented

if TYPE_CHECKING:
    from exporter.exposition.catalogue import Family
    from grafana.rules.model import Settings

# Twilio may delete an unverified factor 1 to 24 hours after its creation: https://www.twilio.com/docs/api/errors/60318
ABANDONED_SECONDS = 20 * 3600
LOOK_BACK = "5m"
KEPT = "10m"
# With intervals up to this one (the default of polling.not_found_interval), the alert's time contains two fetches.
FETCHED_OFTEN_SECONDS = 15 * 60


class FactorState(IntEnum):
    """The status of a factor as a number: the higher, the more attention it needs."""

    VERIFIED = 1
    UNKNOWN = 2
    UNVERIFIED = 3
    NOT_FOUND = 4


def _recorded(family: Family, operation: str) -> str:
    return f"factor:{family.name}:{operation}"


STATE = "factor:twilio_verify_factor:state"
LAST_KNOWN_STATE = "factor:twilio_verify_factor:last_known_state"
WATCHED = _recorded(FACTOR_INTERVAL, "last")
LAST_VERIFIED = _recorded(FACTOR_LAST_VERIFIED, "last_known")
CREATED = _recorded(FACTOR_CREATED, "last_known")

_ONE_FACTOR = {"account": "account", "service": "service_sid", "factor": "factor"}
_FACTOR = 'Factor "{{ $labels.factor }}" (account {{ $labels.account }}, service {{ $labels.service_sid }})'
# urlquery writes a space as +, which means a plus sign in a path.
_PAGE = (
    "/factors/{{ $labels.account }}/{{ $labels.service_sid }}/"
    r'{{ $labels.factor | urlquery | reReplaceAll "\\+" "%20" }}'
)


def group(settings: Settings) -> Group:
    """Return the rules about single factors."""
    return Group("twilio-verify-factors", (*_recordings(settings), *_alerts(), _fetch_failing(settings)))


def known_state(verified: str, exists: str) -> str:
    """Return the expression for the known statuses, one series per factor and exporter, from two of its families.

    The lowest number is right if exporters disagree: a factor is gone only if none of them finds it.
    """
    return f"({exists} == 0) + {FactorState.NOT_FOUND:d}\nor\n{FactorState.UNVERIFIED:d} - 2 * {verified}"


def _state(settings: Settings) -> str:
    # The samples of this moment, never older ones: without an exporter, the recorded state is a gap, not a status.
    known = known_state(FACTOR_VERIFIED.name, FACTOR_EXISTS.name)
    return (
        f"min {settings.without()} (\n{indented(known)}\n)\n"
        f"or\n"
        f"1 + group {settings.without()} ({FACTOR_INTERVAL.name})"
    )


def _last(family: Family, settings: Settings) -> str:
    return f"max {settings.without()} (last_over_time({family.name}[{LOOK_BACK}]))"


def _recordings(settings: Settings) -> tuple[Recording, ...]:
    def kept(name: str) -> str:
        return f"(last_over_time({name}[{KEPT}]) and present_over_time({WATCHED}[{KEPT}]))"

    def last_known(family: Family) -> str:
        return f"{_last(family, settings)}\nor\n{kept(_recorded(family, 'last_known'))}"

    return (
        Recording(
            WATCHED,
            _last(FACTOR_INTERVAL, settings),
            "Polling interval of each watched factor. The last known values below are kept while it exists.",
        ),
        Recording(
            STATE,
            _state(settings),
            "Status of each factor: 1 verified, 2 unknown, 3 unverified, 4 not found; absent while no exporter "
            "that watches the factor can be scraped.",
        ),
        Recording(
            LAST_KNOWN_STATE,
            f"{STATE} != {FactorState.UNKNOWN:d}\nor\n{kept(LAST_KNOWN_STATE)}",
            "The same, without unknown: the last known status.",
        ),
        Recording(
            LAST_VERIFIED,
            last_known(FACTOR_LAST_VERIFIED),
            "When the factor was last seen verified; survives restarts of an exporter without a state file.",
        ),
        Recording(CREATED, last_known(FACTOR_CREATED), "Last known creation time of the factor."),
    )


def _alerts() -> tuple[Alert, ...]:
    missing = f"{LAST_KNOWN_STATE} == {FactorState.NOT_FOUND:d}"
    now_unverified = f"{LAST_KNOWN_STATE} == {FactorState.UNVERIFIED:d}"
    unverified = f"({now_unverified} unless {LAST_VERIFIED})"
    old = f"time() - {CREATED} > {ABANDONED_SECONDS}"
    return (
        Alert(
            "FactorRegressed",
            f"{LAST_VERIFIED} and {now_unverified}",
            Severity.CRITICAL,
            pending="2m",
            when="a factor that was verified is now unverified",
            summary="A verified factor became unverified.",
            description=f"{_FACTOR} was last seen verified at {{{{ $value | humanizeTimestamp }}}} and is now "
            "unverified. It can't approve anything until its user verifies it again.",
            dashboard=Dashboard.FACTOR,
            variables=_ONE_FACTOR,
        ),
        Alert(
            "FactorUnverified",
            f"{unverified}\nunless\n{old}",
            Severity.CRITICAL,
            pending="15m",
            when="a factor was never seen verified and is at most 20 hours old",
            summary="A factor has not been verified yet.",
            description=f"{_FACTOR} exists but was never seen verified, so it can't approve anything. Ask its "
            "owner to finish the enrolment: Twilio may delete it within a day of its creation.",
            dashboard=Dashboard.FACTOR,
            variables=_ONE_FACTOR,
        ),
        Alert(
            "FactorMissing",
            f"{LAST_VERIFIED} and {missing}",
            Severity.CRITICAL,
            pending="15m",
            when="a factor that was verified no longer exists (404)",
            summary="A verified factor no longer exists.",
            description=f"{_FACTOR} was last seen verified at {{{{ $value | humanizeTimestamp }}}}, and the API "
            "now answers 404. It was deleted, or its watchlist entry is wrong.",
            dashboard=Dashboard.FACTOR,
            variables=_ONE_FACTOR,
        ),
        Alert(
            "EnrolmentAbandoned",
            f"({missing} unless {LAST_VERIFIED})\nor\n({unverified} and {old})",
            Severity.WARNING,
            pending="15m",
            when="a factor was never seen verified and is gone (404) or more than 20 hours old",
            summary="A factor's enrolment was abandoned.",
            description=f"{_FACTOR} was never seen verified and is gone or more than 20 hours old; Twilio may "
            "have deleted it. Enrol its user again, or remove it from the watchlist.",
            dashboard=Dashboard.FACTOR,
            variables=_ONE_FACTOR,
        ),
    )


def _fetch_failing(settings: Settings) -> Alert:
    # The factor's metrics don't contain the reason, so this covers failures of every kind; alerts about the account
    # inhibit it. With a long interval, the last answer must be two intervals old, so that one failed fetch is no
    # alert; a factor that was never answered has none to wait for.
    return Alert(
        "FactorFetchFailing",
        f"""\
max {settings.without()} (max_over_time({FACTOR_UP.name}[{LOOK_BACK}])) == 0
unless
(
  {WATCHED} > {FETCHED_OFTEN_SECONDS}
  and
  time() - max {settings.without()} ({FACTOR_LAST_SUCCESS.name}) < 2 * {WATCHED}
)""",
        Severity.WARNING,
        pending="15m",
        when="the fetches of a factor have failed for 15 minutes, and two in a row if its interval is longer",
        summary="The fetches of a factor keep failing.",
        description=f"{_FACTOR} has had no definite answer for at least 15 minutes: its last fetch failed, and "
        f"changes of its status go unnoticed. The exporter's page {_PAGE} shows the reason and what to do.",
        dashboard=Dashboard.FACTOR,
        variables=_ONE_FACTOR,
    )
