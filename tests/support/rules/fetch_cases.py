"""Cases for the ratio of a service's fetches that fail."""

from __future__ import annotations

from tests.support.rules.cases import POD_A, POD_B, Case, ExpectedAlert, ExpectedSample, name
from tests.support.rules.service_cases import SERVICE

RATIO = "service:twilio_verify_fetch_failures:ratio_rate"
_BURN = "FetchErrorBudgetBurn"


def fetches(total: str, failed: dict[str, str], pod: dict[str, str] = POD_A) -> dict[str, str]:
    """Return the fetch counter of a service, and its failure counters by reason."""
    return {name("twilio_verify_fetches_total", SERVICE, pod): total} | {
        name("twilio_verify_fetch_failures_total", SERVICE, {"reason": reason}, pod): values
        for reason, values in failed.items()
    }


def phases(*rates: tuple[float, int]) -> str:
    """Return a counter that grows in phases of (rate per minute, minutes)."""
    parts, value = [], 0.0
    for rate, minutes in rates:
        parts.append(f"{value:g}+{rate:g}x{minutes - 1}")
        value += rate * minutes
    return " ".join(parts)


def steps(*minutes: int, spared: int = 0) -> str:
    """Return a counter that increases by one after each of these times, except the first few."""
    return " ".join(f"{max(0, step - spared)}x{minutes[step % len(minutes)] - 1}" for step in range(24))


# Two pods, one of which restarts as failures begin; the fetch rate is lower from then on.
_TWO_PODS_AND_A_RESTART = fetches(
    "0+30x400 0+10x200", {"timeout": "0x400 0+6x200", "connect": "0x400 0+2x200"}, POD_A
) | fetches("0+30x400 12010+10x200", {"timeout": "0x400 8+8x200"}, POD_B)
_SHORT_BURNS = (
    Case(
        "all fails from the start, for 20 minutes",
        _BURN,
        fetches(phases((10, 20), (1000, 40)), {"timeout": phases((10, 20), (0, 40))}),
        {2: [], 3: [SERVICE], 20: [SERVICE], 25: [SERVICE], 27: []},
        ExpectedAlert(
            10,
            SERVICE,
            "Many fetches of a service fail.",
            "100% of the fetches of service VA1 (account main) fail, so statuses become stale. Check the failure "
            "reasons on the dashboard.",
            "twilio-verify-exporter?var-account=main",
        ),
    ),
    Case(
        "one failure of a factor that is fetched twice an hour",
        _BURN,
        fetches("0x9 1x29 2x29", {"timeout": "0x9 1x60"}),
        {11: [], 15: [], 40: []},
    ),
    Case(
        "one factor, fetched every five minutes, all fetches fail",
        _BURN,
        fetches(steps(5), {"timeout": steps(5)}),
        {40: []} | {minute: [SERVICE] for minute in range(63, 110)},
    ),
    Case("no fetches, no alert", _BURN, fetches("0x60", {"timeout": "0x60"}), {30: [], 60: []}),
    Case(
        "a restart of the process is no failure",
        _BURN,
        fetches("900+10x50 0+10x50", {"timeout": "300x50 0x50"}),
        {53: [], 55: [], 90: []},
    ),
)
_LONG_BURNS: tuple[tuple[str, dict[str, str], dict[int, list[dict[str, str]]]], ...] = (
    (
        "three of four fail, for two reasons, after six good hours",
        fetches(phases((100, 440)), {"timeout": phases((0, 360), (50, 80)), "decode": phases((0, 360), (25, 80))}),
        {410: [], 420: [], 425: [SERVICE]},
    ),
    (
        "seven of ten fail, after six good hours",
        fetches(phases((100, 445)), {"timeout": phases((0, 360), (70, 85))}),
        {410: [], 425: [], 440: []},
    ),
    (
        "three of four fail, and not for an hour",
        fetches(phases((100, 450)), {"timeout": phases((0, 358), (75, 58), (0, 34))}),
        {415: [], 420: []},
    ),
    (
        "nine of ten failed for an hour, and seven of ten do now",
        fetches(phases((100, 460)), {"timeout": phases((0, 360), (90, 60), (70, 40))}),
        {415: [SERVICE], 445: []},
    ),
    (
        "nine of ten failed for an hour, and three of four do now",
        fetches(phases((100, 460)), {"timeout": phases((0, 360), (90, 60), (75, 40))}),
        {415: [SERVICE], 445: [SERVICE]},
    ),
    ("31 % for six hours", fetches(phases((100, 410)), {"timeout": phases((31, 410))}), {400: [SERVICE]}),
    ("29 % for six hours", fetches(phases((100, 410)), {"timeout": phases((29, 410))}), {60: [], 400: []}),
    (
        "60 %, and not for long enough",
        fetches(phases((100, 340)), {"timeout": phases((0, 160), (60, 150), (0, 30))}),
        {300: [], 310: []},
    ),
    (
        "40 % for six hours, and 29 % now",
        fetches(phases((100, 460)), {"timeout": phases((40, 390), (29, 70))}),
        {380: [SERVICE], 450: []},
    ),
    (
        "40 % for six hours, and 31 % now",
        fetches(phases((100, 460)), {"timeout": phases((40, 390), (31, 70))}),
        {380: [SERVICE], 450: [SERVICE]},
    ),
    (
        "31 % for half an hour, after six good ones",
        fetches(phases((100, 440)), {"timeout": phases((0, 380), (31, 60))}),
        {430: []},
    ),
    (
        "9.7 failures an hour, all there is",
        fetches(phases((10, 360), (0.162, 140)), {"timeout": phases((0, 360), (0.162, 140))}),
        {430: [], 495: []},
    ),
    (
        "10.3 failures an hour, all there is, of two pods and two reasons",
        fetches(phases((10, 360), (0.086, 80)), {"timeout": phases((0, 360), (0.086, 80))}, POD_A)
        | fetches(phases((10, 360), (0.086, 80)), {"dns": phases((0, 360), (0.086, 80))}, POD_B),
        {415: [], 430: [SERVICE]},
    ),
    (
        "9.7 failures in six hours, every other fetch",
        fetches(phases((0.054, 460)), {"timeout": phases((0.027, 460))}),
        {360: [], 450: []},
    ),
    (
        "10.3 failures in six hours, every other fetch, of two pods and two reasons",
        fetches(phases((0.0286, 410)), {"timeout": phases((0.0143, 410))}, POD_A)
        | fetches(phases((0.0286, 410)), {"dns": phases((0.0143, 410))}, POD_B),
        {340: [], 400: [SERVICE]},
    ),
    (
        "a restart of the process in a bad hour",
        fetches("0+100x399 0+100x40", {"timeout": "99990x359 100080+90x39 0+90x40"}),
        {425: [SERVICE], 435: [SERVICE]},
    ),
    (
        "a restart of the process in six bad hours",
        fetches("0+100x389 0+100x70", {"timeout": "100000+40x389 0+40x70"}),
        {380: [SERVICE], 450: [SERVICE]},
    ),
)


def failing(account: str, up: dict[str, tuple[str, ...]], total: str, failed: str) -> dict[str, str]:
    """Return the counters of a service in its own account, and what each pod says of each of its factors.

    The service has an account of its own because the rule doesn't distinguish the labels of cases. One of its
    factors has a label of its own.
    """
    service = {**SERVICE, "account": account}
    series = {
        name("twilio_verify_fetches_total", service, POD_A): total,
        name("twilio_verify_fetch_failures_total", service, {"reason": "decode"}, POD_A): failed,
    }
    for factor, by_pod in up.items():
        labels = service | {"factor": factor} | ({"team": "payments"} if factor == "bob" else {})
        for pod, values in zip((POD_A, POD_B), by_pod, strict=False):
            series[name("twilio_verify_factor_up", labels, pod)] = values
    return series


def lone(account: str, up: dict[str, tuple[str, ...]], firing: dict[int, bool]) -> Case:
    """Return a case with four failures an hour, half of all fetches, and these factors."""
    labels = {**SERVICE, "account": account}
    return Case(
        account,
        _BURN,
        failing(account, up, phases((4 / 30, 460)), phases((2 / 30, 460))),
        {minute: [labels] if fires else [] for minute, fires in firing.items()},
        long=True,
    )


_GOOD, _BAD = "1x460", "0x460"
_LONE_FACTORS = (
    lone("one factor fails", {"alice": (_BAD,), "bob": (_GOOD,)}, dict.fromkeys((180, 240, 300, 360, 420), False)),
    lone("the only factor fails", {"bob": (_BAD,)}, dict.fromkeys((180, 240, 300, 360, 420), False)),
    lone("one factor fails, as two pods say", {"alice": (_BAD, _BAD), "bob": (_GOOD, _GOOD)}, {300: False}),
    lone("one factor fails, as one of two pods says", {"alice": (_BAD, _GOOD)}, {300: False}),
    lone("two factors fail", {"alice": (_BAD,), "bob": (_BAD,)}, {120: False, 180: True, 300: True, 420: True}),
    lone("two factors fail, one for one pod only", {"alice": (_BAD, _BAD), "bob": (_GOOD, _BAD)}, {300: True}),
    lone("none fails now", {"alice": (_GOOD,)}, {300: True}),
    lone(
        "a second factor failed 45 minutes ago",
        {"alice": (_BAD,), "bob": ("0x255 1x200",)},
        {300: True, 330: False},
    ),
    lone("a second factor failed 90 minutes ago", {"alice": (_BAD,), "bob": ("0x210 1x250",)}, {300: False}),
    lone("one factor failed until now", {"alice": ("0x270 1x190",)}, {300: False}),
)
CASES = (
    *_SHORT_BURNS,
    *_LONE_FACTORS,
    *(Case(name, _BURN, series, firing, long=True) for name, series, firing in _LONG_BURNS),
    Case(
        "the failure ratio over each window",
        _BURN,
        _TWO_PODS_AND_A_RESTART,
        samples=[
            ExpectedSample(f"{RATIO}5m", 395, SERVICE, 0, 0),
            ExpectedSample(f"{RATIO}5m", 405, SERVICE, 0.77, 0.83),
            ExpectedSample(f"{RATIO}30m", 420, SERVICE, 0.3, 0.335),
            ExpectedSample(f"{RATIO}1h", 440, SERVICE, 0.3, 0.335),
            ExpectedSample(f"{RATIO}6h", 500, SERVICE, 0.085, 0.1),
        ],
        long=True,
    ),
)
