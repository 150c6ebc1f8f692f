"""The rules of single factors: exactly one alert for each that is not as it should be.

All of them match on whole label sets: a factor's own labels (``team``) reach the alert, and factors need not have
the same ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.exposition.catalogue import (
    FACTOR_CREATED,
    FACTOR_EXISTS,
    FACTOR_INTERVAL,
    FACTOR_LAST_VERIFIED,
    FACTOR_VERIFIED,
)
from grafana.rules.model import Alert, Dashboard, Group, Recording, Severity

if TYPE_CHECKING:
    from exporter.exposition.catalogue import Family
    from grafana.rules.model import Settings

# Twilio may delete an unverified factor 1 to 24 hours after its creation: https://www.twilio.com/docs/api/errors/60318
ABANDONED_SECONDS = 20 * 3600
LOOK_BACK = "5m"
MEMORY = "10m"


def _recorded(family: Family, operation: str) -> str:
    return f"factor:{family.name}:{operation}"


WATCHED = _recorded(FACTOR_INTERVAL, "last")
EXISTS = _recorded(FACTOR_EXISTS, "last_known")
VERIFIED = _recorded(FACTOR_VERIFIED, "last_known")
LAST_VERIFIED = _recorded(FACTOR_LAST_VERIFIED, "last_known")
CREATED = _recorded(FACTOR_CREATED, "last_known")

_ONE_FACTOR = {"account": "account", "service": "service_sid", "factor": "factor"}
_FACTOR = 'Factor "{{ $labels.factor }}" (account {{ $labels.account }}, service {{ $labels.service_sid }})'


def group(settings: Settings) -> Group:
    """Return the group of the factors."""
    return Group("twilio-verify-factors", (*_recordings(settings), *_alerts()))


def _recordings(settings: Settings) -> tuple[Recording, ...]:
    def last(family: Family) -> str:
        return f"max {settings.without()} (last_over_time({family.name}[{LOOK_BACK}]))"

    def last_known(family: Family) -> str:
        name = _recorded(family, "last_known")
        return f"{last(family)}\nor\n(last_over_time({name}[{MEMORY}]) and present_over_time({WATCHED}[{MEMORY}]))"

    return (
        Recording(
            WATCHED,
            last(FACTOR_INTERVAL),
            "The factors that are watched, by their interval. What was known of one is kept while it is here.",
        ),
        Recording(EXISTS, last_known(FACTOR_EXISTS), "The last known answer: 1, or 0 after a 404."),
        Recording(
            VERIFIED,
            f"(\n{_indented(last_known(FACTOR_VERIFIED))}\n)\nunless\n{EXISTS} == 0",
            "The last known status: 1 verified, 0 unverified; none after a 404.",
        ),
        Recording(
            LAST_VERIFIED,
            last_known(FACTOR_LAST_VERIFIED),
            "When the factor was last seen verified, also where an exporter without a state file has forgotten it.",
        ),
        Recording(CREATED, last_known(FACTOR_CREATED), "When the factor was created, as last known."),
    )


def _alerts() -> tuple[Alert, ...]:
    unverified = f"({VERIFIED} == 0 unless {LAST_VERIFIED})"
    old = f"time() - {CREATED} > {ABANDONED_SECONDS}"
    return (
        Alert(
            "FactorRegressed",
            f"{LAST_VERIFIED} and {VERIFIED} == 0",
            Severity.CRITICAL,
            pending="2m",
            when="a factor that was verified is unverified",
            summary="A factor that was verified is unverified.",
            description=f"{_FACTOR} was last seen verified at {{{{ $value | humanizeTimestamp }}}} and the last "
            "answer says unverified: it can't approve anything until its user verifies it again.",
            dashboard=Dashboard.FACTOR,
            variables=_ONE_FACTOR,
        ),
        Alert(
            "FactorUnverified",
            f"{unverified}\nunless\n{old}",
            Severity.CRITICAL,
            pending="15m",
            when="a factor was never seen verified and is younger than 20 h",
            summary="A factor has not been verified yet.",
            description=f"{_FACTOR} exists but was never seen verified: its enrolment is not finished, and it "
            "can't approve anything. Twilio may delete it within a day of its creation.",
            dashboard=Dashboard.FACTOR,
            variables=_ONE_FACTOR,
        ),
        Alert(
            "FactorMissing",
            f"{LAST_VERIFIED} and {EXISTS} == 0",
            Severity.CRITICAL,
            pending="15m",
            when="a factor that was verified is gone: the API answers 404",
            summary="A factor that was verified is gone.",
            description=f"{_FACTOR} was last seen verified at {{{{ $value | humanizeTimestamp }}}}; now the API "
            "answers 404: it was deleted, or the watchlist names the wrong place.",
            dashboard=Dashboard.FACTOR,
            variables=_ONE_FACTOR,
        ),
        Alert(
            "EnrolmentAbandoned",
            f"({EXISTS} == 0 unless {LAST_VERIFIED})\nor\n({unverified} and {old})",
            Severity.WARNING,
            pending="15m",
            when="a factor was never seen verified, and is gone or older than 20 h",
            summary="The enrolment of a factor was abandoned.",
            description=f"{_FACTOR} was never seen verified and is gone, or was created more than 20 hours ago: "
            "Twilio may have deleted it. Its user must enrol anew, or the watchlist drop it.",
            dashboard=Dashboard.FACTOR,
            variables=_ONE_FACTOR,
        ),
    )


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
