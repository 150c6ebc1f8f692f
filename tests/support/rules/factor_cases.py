"""Cases for the alerts about single factors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.exposition.catalogue import FACTOR_EXISTS, FACTOR_VERIFIED
from exporter.polling.clock import Moment
from exporter.polling.ledger import Ledger, LedgerPolicy
from exporter.polling.schedule import Schedule
from exporter.verify.outcome import Reason, Status
from tests.support import factors
from tests.support.rules.cases import JOB, POD_A, POD_B, Case, ExpectedAlert, ExpectedSample, name

if TYPE_CHECKING:
    from exporter.watched import FactorKey

ALICE = {**JOB, "account": "main", "service_sid": "VA1", "factor": "alice's phone", "team": "payments"}
BOB = {**JOB, "account": "main", "service_sid": "VA1", "factor": "bob"}

STATE = "factor:twilio_verify_factor:state"
LAST_KNOWN_STATE = "factor:twilio_verify_factor:last_known_state"
FAMILIES = {
    "last_verified_timestamp_seconds": "factor:twilio_verify_factor_last_verified_timestamp_seconds:last_known",
    "created_timestamp_seconds": "factor:twilio_verify_factor_created_timestamp_seconds:last_known",
}
WATCHED = "factor:twilio_verify_factor_interval_seconds:last"


def factor(
    whose: dict[str, str],
    pod: dict[str, str] = POD_A,
    *,
    verified: str = "",
    exists: str = "",
    last_verified: str = "",
    created: str = "-3600x200",
    interval: str = "300x200",
) -> dict[str, str]:
    """Return a factor's series; those without values are left out."""
    values = {
        "verified": verified,
        "exists": exists,
        "last_verified_timestamp_seconds": last_verified,
        "created_timestamp_seconds": created,
        "interval_seconds": interval,
    }
    return {name(f"twilio_verify_factor_{family}", whose, pod): text for family, text in values.items() if text}


def recorded(
    text: str,
    *,
    interval: str,
    verified: str = "",
    second: str = "",
    second_interval: str = "",
    whose: dict[str, str] = ALICE,
) -> dict[str, str]:
    """Return the recorded families of a factor with the same values, of one pod or of two, and its status."""
    first = {name(f"twilio_verify_factor_{family}", whose, POD_A): text for family in FAMILIES}
    first[name("twilio_verify_factor_interval_seconds", whose, POD_A)] = interval
    if verified:
        first[name("twilio_verify_factor_verified", whose, POD_A)] = verified
    if second:
        first |= {name(f"twilio_verify_factor_{family}", whose, POD_B): second for family in FAMILIES}
    if second_interval:
        first[name("twilio_verify_factor_interval_seconds", whose, POD_B)] = second_interval
    return first


def shown(minute: int, value: float | None) -> list[ExpectedSample]:
    """Expect this value of the recorded families, or their absence."""
    return [_shown(record, minute, value) for record in FAMILIES.values()]


def _shown(record: str, minute: int, value: float | None) -> ExpectedSample:
    return ExpectedSample(record, minute) if value is None else ExpectedSample(record, minute, ALICE, value, value)


def polled(minutes: int, *results: Status | Reason) -> dict[str, str]:
    """Return by minute whether the exporter shows a factor as verified and as existing.

    Its fetches, at the default intervals, have these results, and then say verified.
    """
    ledger, to_come = Ledger(LedgerPolicy()), list(results)
    schedule: Schedule[FactorKey] = Schedule()
    watched, start = factors.factor(0), 1.8e9
    record = ledger.watch(watched)
    schedule.add(watched.key, start, 300.0, 0.0)
    shown_families = {"verified": FACTOR_VERIFIED, "exists": FACTOR_EXISTS}
    values: dict[str, list[str]] = {argument: [] for argument in shown_families}
    for minute in range(minutes):
        now = start + 60.0 * (minute + 1)
        for key, due in schedule.pop_due(now):
            result = to_come.pop(0) if to_come else Status.VERIFIED
            ledger.apply(key, factors.outcome(result), Moment(due, due))
            schedule.put_back(key, due, record.interval_seconds)
        for argument, family in shown_families.items():
            value = family.value(record)
            values[argument].append("stale" if value is None else f"{value:g}")
    return {argument: " ".join(texts) for argument, texts in values.items()}


_ONE_WRONG_404 = polled(90, Status.VERIFIED, Status.NOT_FOUND, Reason.TIMEOUT)


def fetched(
    whose: dict[str, str], pod: dict[str, str] = POD_A, *, up: str, success: str = "", interval: str = "900x300"
) -> dict[str, str]:
    """Return the series of a factor's fetches: up, the last definite answer, and the interval in effect."""
    values = {"up": up, "last_success_timestamp_seconds": success, "interval_seconds": interval}
    return {name(f"twilio_verify_factor_{family}", whose, pod): text for family, text in values.items() if text}


_REGRESSED = "FactorRegressed"
_UNVERIFIED = "FactorUnverified"
_MISSING = "FactorMissing"
_ABANDONED = "EnrolmentAbandoned"
_FETCH_FAILING = "FactorFetchFailing"
_DASHBOARD = "twilio-verify-factor?var-account=main&var-service=VA1&var-factor=alice%27s+phone"
_DASHBOARD_OF_BOB = "twilio-verify-factor?var-account=main&var-service=VA1&var-factor=bob"

CASES = (
    Case(
        "verified, unverified for a while, verified again",
        _REGRESSED,
        factor(ALICE, verified="1x4 0x10 1x10", exists="1x30", last_verified="0+60x4 240x10 960x10"),
        {4: [], 6: [], 7: [ALICE], 15: [ALICE], 16: [], 20: []},
        ExpectedAlert(
            10,
            ALICE,
            "A verified factor became unverified.",
            'Factor "alice\'s phone" (account main, service VA1) was last seen verified at 1970-01-01 00:04:00 '
            "+0000 UTC and is now unverified. It can't approve anything until its user verifies it again.",
            _DASHBOARD,
        ),
    ),
    Case(
        "factors with labels of their own and without any, side by side",
        _REGRESSED,
        factor(ALICE, verified="0x20", exists="1x20", last_verified="0x20")
        | factor(BOB, verified="0x20", exists="1x20", last_verified="0x20"),
        {1: [], 2: [ALICE, BOB]},
    ),
    Case(
        "two replicas make one alert",
        _REGRESSED,
        factor(ALICE, POD_A, verified="0x20", exists="1x20", last_verified="0x20")
        | factor(ALICE, POD_B, verified="0x20", exists="1x20", last_verified="60x20"),
        {1: [], 2: [ALICE], 20: [ALICE]},
    ),
    Case(
        "what one of two replicas sees verified is no alert",
        _REGRESSED,
        factor(ALICE, POD_A, verified="0x20", exists="1x20", last_verified="0x20")
        | factor(ALICE, POD_B, verified="1x20", exists="1x20", last_verified="60x20"),
        {2: [], 20: []},
    ),
    Case(
        "never seen verified is not regressed",
        _REGRESSED,
        factor(ALICE, verified="0x20", exists="1x20"),
        {2: [], 20: []},
    ),
    Case(
        "a 404 is not regressed, though the status before is still within reach",
        _REGRESSED,
        factor(ALICE, verified="0x4 stale", exists="1x4 0x30", last_verified="0x40"),
        {4: [ALICE], 5: [], 9: [], 30: []},
        samples=[_shown(STATE, 4, 3), _shown(STATE, 5, 4), _shown(LAST_KNOWN_STATE, 6, 4)],
    ),
    Case(
        "a restart without a state file continues the same alert",
        _REGRESSED,
        factor(
            ALICE,
            POD_A,
            verified="0x9 stale",
            exists="1x9 stale",
            last_verified="0x9 stale",
            interval="300x9 stale",
        )
        | factor(ALICE, POD_B, verified="_x11 0x100", exists="_x11 1x100", interval="_x11 60x100"),
        {9: [ALICE], 10: [ALICE], 11: [ALICE], 20: [ALICE], 60: [ALICE], 100: [ALICE]},
    ),
    Case(
        "a restart without a state file is no new enrolment",
        _UNVERIFIED,
        factor(
            ALICE,
            POD_A,
            verified="0x9 stale",
            exists="1x9 stale",
            last_verified="0x9 stale",
            interval="300x9 stale",
        )
        | factor(ALICE, POD_B, verified="_x11 0x100", exists="_x11 1x100", interval="_x11 60x100"),
        {20: [], 60: [], 100: []},
    ),
    Case(
        "a status that is withdrawn ends no alert, the next answer does",
        _REGRESSED,
        factor(ALICE, verified="0x9 stale _x49 1x10", exists="1x9 stale _x49 1x10", last_verified="0x59 3600x10"),
        {9: [ALICE], 15: [ALICE], 40: [ALICE], 59: [ALICE], 60: [], 65: []},
    ),
    Case(
        "a factor that is no longer watched ends its alert",
        _REGRESSED,
        factor(ALICE, verified="0x9 stale", exists="1x9 stale", last_verified="0x9 stale", interval="300x9 stale"),
        {9: [ALICE], 22: [ALICE], 26: []},
    ),
    Case(
        "a slow enrolment",
        _UNVERIFIED,
        factor(ALICE, verified="0x29 1x5", exists="1x40", last_verified="_x30 1800x5"),
        {14: [], 15: [ALICE], 29: [ALICE], 30: []},
        ExpectedAlert(
            20,
            ALICE,
            "A factor has not been verified yet.",
            "Factor \"alice's phone\" (account main, service VA1) exists but was never seen verified, so it can't "
            "approve anything. Ask its owner to finish the enrolment: Twilio may delete it within a day of its "
            "creation.",
            _DASHBOARD,
        ),
    ),
    Case(
        "exactly 20 hours old is still young",
        _UNVERIFIED,
        factor(ALICE, verified="0x60", exists="1x60", created="-70200x60"),
        {15: [ALICE], 30: [ALICE], 31: []},
    ),
    Case(
        "an unknown creation time counts as young",
        _UNVERIFIED,
        factor(BOB, verified="0x60", exists="1x60", created=""),
        {15: [BOB], 60: [BOB]},
    ),
    Case(
        "verified, without the last_verified family",
        _UNVERIFIED,
        factor(ALICE, verified="1x60", exists="1x60"),
        {15: [], 60: []},
    ),
    Case(
        "older than 20 hours",
        _ABANDONED,
        factor(ALICE, verified="0x60", exists="1x60", created="-70200x60"),
        {30: [], 45: [], 46: [ALICE], 60: [ALICE]},
        severity="warning",
    ),
    Case(
        "an unknown creation time is not abandoned",
        _ABANDONED,
        factor(ALICE, verified="0x60", exists="1x60", created=""),
        {30: [], 60: []},
        severity="warning",
    ),
    Case(
        "was verified once, however old",
        _ABANDONED,
        factor(ALICE, verified="0x60", exists="1x60", created="-100000x60", last_verified="0x60")
        | factor(BOB, exists="0x60", created="", last_verified="0x60"),
        {30: [], 60: []},
        severity="warning",
    ),
    Case(
        "verified and old needs no attention",
        _ABANDONED,
        factor(ALICE, verified="1x60", exists="1x60", created="-100000x60"),
        {30: [], 60: []},
        severity="warning",
    ),
    Case(
        "never seen verified, and gone",
        _ABANDONED,
        factor(BOB, verified="0x4 stale _x24 0x10", exists="1x4 0x24 1x10", created="-3600x4 stale _x24 -3600x10"),
        {19: [], 20: [BOB], 29: [BOB], 30: []},
        ExpectedAlert(
            25,
            BOB,
            "A factor's enrolment was abandoned.",
            'Factor "bob" (account main, service VA1) was never seen verified and is gone or more than 20 hours '
            "old; Twilio may have deleted it. Enrol its user again, or remove it from the watchlist.",
            _DASHBOARD_OF_BOB,
        ),
        severity="warning",
    ),
    Case(
        "verified, and gone for a while",
        _MISSING,
        factor(
            ALICE, verified="1x4 stale _x24 1x5", exists="1x4 0x24 1x5", last_verified="240x40", created="-3600x4"
        ),
        {19: [], 20: [ALICE], 29: [ALICE], 30: []},
        ExpectedAlert(
            25,
            ALICE,
            "A verified factor no longer exists.",
            'Factor "alice\'s phone" (account main, service VA1) was last seen verified at 1970-01-01 00:04:00 '
            "+0000 UTC, and the API now answers 404. It was deleted, or its watchlist entry is wrong.",
            _DASHBOARD,
        ),
    ),
    Case(
        "gone, seen by two replicas, and after the restart of both without a state file",
        _MISSING,
        factor(BOB, POD_A, exists="0x19 stale", last_verified="0x19 stale", created="", interval="900x19 stale")
        | factor(BOB, POD_B, exists="0x60", last_verified="0x19 stale", created="", interval="900x60"),
        {14: [], 15: [BOB], 20: [BOB], 60: [BOB]},
    ),
    Case(
        "what is there is not missing, and what was never verified is not missing",
        _MISSING,
        factor(ALICE, verified="1x60", exists="1x60", last_verified="0x60")
        | factor(BOB, exists="0x60", created=""),
        {15: [], 60: []},
    ),
    Case(
        "one wrong 404 is corrected in time, even if the fetch after it fails",
        _MISSING,
        factor(
            ALICE,
            verified=_ONE_WRONG_404["verified"],
            exists=_ONE_WRONG_404["exists"],
            last_verified="0x90",
        ),
        {minute: [] for minute in range(6, 90)},
    ),
    Case(
        "no series, no alert",
        _MISSING,
        {name("up", JOB, POD_A): "1x60"},
        {15: [], 60: []},
    ),
    Case(
        "of two pods the higher value counts, the last five minutes of one that is gone included",
        _REGRESSED,
        recorded("1x8 9 stale", interval="1x8 9 stale", second="_x9 2 3x50", second_interval="_x9 2 3x50"),
        samples=[*shown(9, 9), *shown(13, 9), *shown(16, 3), _shown(WATCHED, 13, 9), _shown(WATCHED, 16, 3)],
    ),
    Case(
        "of two exporters, one that knows the status counts, and of two statuses the better one",
        _REGRESSED,
        factor(ALICE, POD_A, verified="0x19 stale", exists="1x19 0x9")
        | factor(ALICE, POD_B, verified="_x9 0x4 1x14", exists="_x9 1x19"),
        samples=[
            *(_shown(STATE, minute, 3) for minute in (0, 5, 12)),
            *(_shown(STATE, minute, 1) for minute in (16, 25)),
        ],
    ),
    Case(
        "of two exporters, one that finds a factor is right, and two that know nothing are one unknown",
        _REGRESSED,
        factor(ALICE, POD_A, exists="0x19 stale")
        | factor(ALICE, POD_B, verified="_x9 0x4 stale", exists="_x9 1x4 stale"),
        samples=[
            *(_shown(STATE, minute, 4) for minute in (5, 18)),
            _shown(STATE, 12, 3),
            _shown(STATE, 25, 2),
            _shown(LAST_KNOWN_STATE, 25, 4),
        ],
    ),
    Case(
        "what was known is kept while the factor is watched, and a quarter of an hour longer",
        _REGRESSED,
        recorded("1x8 9 stale", interval="300x59 stale", verified="1x8 0 stale"),
        samples=[
            *shown(16, 9),
            *shown(59, 9),
            *shown(72, 9),
            *shown(76, None),
            _shown(WATCHED, 62, 300),
            _shown(WATCHED, 66, None),
            _shown(STATE, 8, 1),
            _shown(STATE, 9, 3),
            *(_shown(STATE, minute, 2) for minute in (10, 16, 59)),  # stale
            *(_shown(STATE, minute, None) for minute in (60, 62)),  # the exporter is gone
            *(_shown(LAST_KNOWN_STATE, minute, 3) for minute in (9, 16, 59, 72)),
            _shown(LAST_KNOWN_STATE, 76, None),
        ],
    ),
    Case(
        "what was known comes back with an exporter that was away for 20 minutes",
        _REGRESSED,
        recorded("9x9 stale", interval="300x9 stale _x19 300x60", verified="1x9 stale"),
        samples=[
            *shown(22, 9),
            *shown(26, None),
            *shown(31, 9),
            *shown(50, 9),
            *(_shown(LAST_KNOWN_STATE, minute, 1) for minute in (9, 22, 31, 50)),
            _shown(LAST_KNOWN_STATE, 26, None),
            _shown(STATE, 22, None),
            _shown(STATE, 31, 2),
        ],
    ),
    Case(
        "but not with one that was away for longer",
        _REGRESSED,
        recorded("9x9 stale", interval="300x9 stale _x29 300x60", verified="1x9 stale"),
        samples=[
            *shown(22, 9),
            *shown(26, None),
            *shown(41, None),
            *shown(50, None),
            _shown(LAST_KNOWN_STATE, 22, 1),
            *(_shown(LAST_KNOWN_STATE, minute, None) for minute in (26, 41, 50)),
        ],
    ),
    Case(
        "one failed scrape is a gap in the state, and changes nothing of what was known",
        _REGRESSED,
        factor(
            ALICE,
            verified="0x9 stale 0x20",
            exists="1x9 stale 1x20",
            last_verified="0x9 stale 0x20",
            interval="300x9 stale 300x20",
        ),
        {9: [ALICE], 10: [ALICE], 11: [ALICE], 12: [ALICE]},
        samples=[
            *(_shown(STATE, minute, 3) for minute in (9, 11)),
            _shown(STATE, 10, None),
            _shown(LAST_KNOWN_STATE, 10, 3),
        ],
    ),
    Case(
        "a factor that was answered once, then only fails, until somebody fixes its entry",
        _FETCH_FAILING,
        fetched(ALICE, up="1x4 0x54 1x20", success="240x58 3600x20", interval="300x4 900x54 300x20"),
        {5: [], 23: [], 26: [ALICE], 59: [ALICE], 60: [], 75: []},
        ExpectedAlert(
            30,
            ALICE,
            "The fetches of a factor keep failing.",
            'Factor "alice\'s phone" (account main, service VA1) has had no definite answer for at least 15 '
            "minutes: its last fetch failed, and changes of its status go unnoticed. The exporter's page "
            "/factors/main/VA1/alice%27s%20phone shows the reason and what to do.",
            _DASHBOARD,
        ),
        severity="warning",
    ),
    Case(
        "a factor that was never answered, whatever its interval, beside one that is answered",
        _FETCH_FAILING,
        fetched(ALICE, up="0x60") | fetched(BOB, up="1x60", success="0+60x60"),
        {14: [], 15: [ALICE], 60: [ALICE]},
        severity="warning",
    ),
    Case(
        "never answered and fetched every hour",
        _FETCH_FAILING,
        fetched(ALICE, up="0x60", interval="3600x60"),
        {14: [], 15: [ALICE], 60: [ALICE]},
        severity="warning",
    ),
    Case(
        "one failed fetch of a factor that is fetched every 5 minutes, slowed, and fetched again 15 minutes later",
        _FETCH_FAILING,
        fetched(ALICE, up="1x4 0x14 1x20", success="240x19 1200x20", interval="300x4 900x14 300x20"),
        {minute: [] for minute in range(5, 40, 5)},
        severity="warning",
    ),
    Case(
        "one failed fetch of a factor that is fetched every hour",
        _FETCH_FAILING,
        fetched(ALICE, up="1x9 0x59 1x60", success="600x69 4200x60", interval="3600x300"),
        {minute: [] for minute in range(15, 120, 10)},
        severity="warning",
    ),
    Case(
        "two failed fetches of a factor that is fetched every hour",
        _FETCH_FAILING,
        fetched(ALICE, up="_x9 1x59 0x230", success="_x9 600x290", interval="3600x300"),
        {70: [], 90: [], 100: [], 125: [], 135: [], 144: [], 145: [ALICE], 250: [ALICE]},
        severity="warning",
    ),
    Case(
        "two failed fetches of a factor that is fetched every 16 minutes",
        _FETCH_FAILING,
        fetched(ALICE, up="0x100", success="0x100", interval="960x100"),
        {21: [], 40: [], 46: [], 47: [ALICE]},
        severity="warning",
    ),
    Case(
        "two replicas make one alert, which counts from the last answer to either",
        _FETCH_FAILING,
        fetched(ALICE, POD_A, up="0x200", success="0x200", interval="3600x200")
        | fetched(ALICE, POD_B, up="0x200", success="1800x200", interval="3600x200"),
        {140: [], 164: [], 165: [ALICE], 180: [ALICE]},
        severity="warning",
    ),
    Case(
        "what one of two replicas is answered is no alert",
        _FETCH_FAILING,
        fetched(ALICE, POD_A, up="0x60") | fetched(ALICE, POD_B, up="1x60", success="0+60x60"),
        {15: [], 30: [], 60: []},
        severity="warning",
    ),
    Case(
        "a restart continues the same alert",
        _FETCH_FAILING,
        fetched(ALICE, POD_A, up="0x24 stale", interval="900x24 stale")
        | fetched(ALICE, POD_B, up="_x26 0x60", interval="_x25 300x1 900x60"),
        {20: [ALICE], 24: [ALICE], 25: [ALICE], 26: [ALICE], 27: [ALICE], 60: [ALICE]},
        severity="warning",
    ),
    Case(
        "a factor that was never fetched, or is no longer watched",
        _FETCH_FAILING,
        fetched(ALICE, up="") | fetched(BOB, up="0x20 stale", interval="900x20 stale"),
        {20: [BOB], 26: [], 60: []},
        severity="warning",
    ),
)
