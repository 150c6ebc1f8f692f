"""Cases for the alerts about slow enrolments and about push factors without a notification platform."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.rules.cases import POD_A, POD_B, Case, ExpectedAlert, ExpectedSample, name
from tests.support.rules.service_cases import SERVICE

if TYPE_CHECKING:
    from collections.abc import Iterator

PUSH, TOTP = {**SERVICE, "factor_type": "push"}, {**SERVICE, "factor_type": "totp"}
MEDIAN = "service:twilio_verify_enrolment_duration_seconds:median6h"
_HISTOGRAM = "twilio_verify_enrolment_duration_seconds"
_SLOW, _PLATFORM = "EnrolmentSlow", "PushWithoutPlatform"
_OVERVIEW = "twilio-verify-overview?var-account=main&var-service=VA1"
_HOUR, _DAY = 60, 1440

BOUNDS = (30, 60, 120, 600)
# Enrolments per minute in each bucket, the last of which is without bound.
Rates = tuple[float, ...]
FAST: Rates = (0.02, 0.02, 0.06, 0.0, 0.0)  # 36 in six hours; the median is 70 s
FEW: Rates = (0.012, 0.012, 0.036, 0.0, 0.0)  # 21.6 in six hours
LONG: Rates = (0.0, 0.0, 0.0, 0.1, 0.0)


def _phases(phases: tuple[tuple[Rates, int], ...], restarted: bool) -> Iterator[tuple[Rates, Rates, int]]:
    """Yield each phase of (rates, minutes) with the numbers that it begins with: 0 if the exporter restarted."""
    before: Rates = (0.0,) * (len(BOUNDS) + 1)
    for rates, minutes in phases:
        yield before, rates, minutes
        if not restarted:
            before = tuple(number + rate * minutes for number, rate in zip(before, rates, strict=True))


def classic(
    *phases: tuple[Rates, int], pod: dict[str, str] = POD_A, restarted: bool = False, decimals: bool = True
) -> dict[str, str]:
    """Return a histogram of enrolments in phases.

    A bucket is written with a decimal point, as the client library does, or without, as some pipelines do.
    """

    def counted(buckets: int) -> str:
        return " ".join(
            f"{sum(before[:buckets]):g}+{sum(rates[:buckets]):g}x{minutes - 1}"
            for before, rates, minutes in _phases(phases, restarted)
        )

    written = [f"{bound}.0" if decimals else f"{bound}" for bound in BOUNDS]
    return {
        name(f"{_HISTOGRAM}_bucket", PUSH, {"le": bound}, pod): counted(place)
        for place, bound in enumerate([*written, "+Inf"], 1)
    } | {name(f"{_HISTOGRAM}_count", PUSH, pod): counted(len(BOUNDS) + 1)}


def native(*phases: tuple[Rates, int], pod: dict[str, str] = POD_A, restarted: bool = False) -> dict[str, str]:
    """Return the same histogram as a native one with these buckets."""

    def histogram(buckets: Rates) -> str:
        total, bounds = sum(buckets), " ".join(map(str, BOUNDS))
        numbers = " ".join(f"{bucket:g}" for bucket in buckets)
        return f"{{{{schema:-53 sum:{70 * total:g} count:{total:g} custom_values:[{bounds}] buckets:[{numbers}]}}}}"

    values = (
        f"{histogram(before)}+{histogram(rates)}x{minutes - 1}"
        for before, rates, minutes in _phases(phases, restarted)
    )
    return {name(_HISTOGRAM, PUSH, pod): " ".join(values)}


def usual(values: str, of: dict[str, str] = PUSH) -> dict[str, str]:
    """Return recorded medians."""
    return {name(MEDIAN, of): values}


def median(minute: int, seconds: float | None) -> ExpectedSample:
    """Expect the recorded median, within three seconds, or its absence."""
    if seconds is None:
        return ExpectedSample(MEDIAN, minute)
    return ExpectedSample(MEDIAN, minute, PUSH, seconds - 3, seconds + 3)


def push(pod: dict[str, str] = POD_A, **given: str) -> dict[str, str]:
    """Return the numbers of a service's push factors by platform; those not given are 0."""
    return {
        name("twilio_verify_push_factors", SERVICE, {"notification_platform": platform}, pod): given.get(
            platform, "0x300"
        )
        for platform in ("apn", "fcm", "none", "other")
    }


def _medians(form: str) -> tuple[Case, ...]:
    """Return the cases of the recorded median for histograms of one form."""
    of = native if form == "native" else classic

    def case(about: str, series: dict[str, str], *samples: ExpectedSample) -> Case:
        return Case(
            f"{about}, {form}", _SLOW, series, samples=samples, severity="warning", long=True, native=of is native
        )

    return (
        case("enough", of((FAST, 800)), median(295, None), median(305, 70), median(400, 70), median(790, 70)),
        case("too few", of((FEW, 800)), median(400, None), median(790, None)),
        case("too few of each of two pods", of((FEW, 410)) | of((FEW, 410), pod=POD_B), median(400, 70)),
        # Six hours contain 20 of the fast ones and 16 of the others.
        case("longer ones for some hours", of((FAST, 540), (LONG, 260)), median(700, 110)),
        # Six hours contain 16 of the fast ones and 20 of the others.
        case("longer ones since a restart", of((FAST, 250), (LONG, 250), restarted=True), median(450, 168)),
    )


MEDIANS = (
    *_medians("classic"),
    *_medians("native"),
    Case(
        "buckets without a decimal point",
        _SLOW,
        classic((FAST, 410), decimals=False),
        samples=[median(295, None), median(400, 70)],
        severity="warning",
        long=True,
    ),
    Case(
        "two pods, and a pipeline writes the buckets of one without a decimal point",
        _SLOW,
        classic((FEW, 410)) | classic((FEW, 410), pod=POD_B, decimals=False),
        samples=[median(400, 70)],
        severity="warning",
        long=True,
    ),
)


def _slow(about: str, values: str, firing: dict[int, list[dict[str, str]]], *, days: bool = False) -> Case:
    return Case(about, _SLOW, usual(values), firing, severity="warning", long=not days, days=days)


def _since(*phases: tuple[float | None, int]) -> str:
    """Return a series in phases of (value or none, minutes)."""
    return " ".join(f"_x{minutes}" if value is None else f"{value:g}x{minutes - 1}" for value, minutes in phases)


# The usual is made of the medians at 0:00, 6:00, 12:00 and 18:00, so the first day has just enough of them.
ENROLMENTS = (
    Case(
        "slow for some time",
        _SLOW,
        usual(_since((60, 1500), (400, 101), (60, 200))) | usual(_since((60, 1800)), TOTP),
        {1529: [], 1530: [PUSH], 1600: [PUSH], 1660: [PUSH], 1662: []},
        ExpectedAlert(
            1560,
            PUSH,
            "Enrolments take longer than usual.",
            "Half of the enrolments of the last 6 hours took more than 6m 40s, over 3 times as long as usual: "
            "those of push factors in service VA1 (account main). Users may be giving up. Check what changed in "
            "the app or in the instructions for enrolment.",
            _OVERVIEW,
        ),
        severity="warning",
    ),
    _slow("three times as long", _since((150, 1500), (450, 100), (449, 100)), {1600: [], 1690: []}),
    _slow("more than three times as long", _since((150, 1500), (500, 100)), {1540: [PUSH]}),
    _slow("long for them, and still short", _since((60, 1500), (300, 100), (290, 100)), {1600: [], 1690: []}),
    _slow("just no longer short", _since((60, 1500), (320, 100)), {1540: [PUSH]}),
    _slow("too little is known of what is usual", _since((None, 1), (60, 1499), (400, 100)), {1550: [], 1590: []}),
    _slow("slow before enough is known", _since((60, 1390), (400, 200)), {1435: [], 1465: [], 1470: [PUSH]}),
    _slow(
        "unlike most earlier medians, but not all",
        _since((60, 360), (100, 360), (140, 360), (1000, 360), (365, 100)),
        {1465: [], 1470: [PUSH]},
    ),
    _slow(
        "like one half of earlier medians",
        _since((60, 360), (100, 360), (140, 360), (1000, 360), (350, 100)),
        {1470: [], 1530: []},
    ),
    _slow(
        "what is usual changes with a median that is six hours old",
        _since((200, 720), (60, 721), (350, 460)),
        {1795: [], 1825: [], 1830: [PUSH]},
    ),
    _slow(
        "one earlier median of four is long", _since((60, 720), (1000, 360), (60, 360), (400, 100)), {1480: [PUSH]}
    ),
    _slow(
        "long between the earlier medians that count",
        _since(*((60, 60), (1000, 300)) * 4, (60, 180), (400, 100)),
        {1645: [], 1650: [PUSH]},
    ),
    _slow(
        "longer for three days, and then much longer",
        _since((60, 4 * _DAY), (200, 3 * _DAY), (400, _DAY)),
        {7 * _DAY: [], 7 * _DAY + 4 * _HOUR: [PUSH]},
        days=True,
    ),
    _slow(
        "shorter for six days than before",
        _since((1000, 9 * _DAY), (60, 6 * _DAY), (400, _DAY)),
        {15 * _DAY: [], 15 * _DAY + 4 * _HOUR: [PUSH]},
        days=True,
    ),
    _slow(
        "no enrolments for four days",
        _since((60, 2 * _DAY), (None, 4 * _DAY), (400, _DAY)),
        {6 * _DAY: [], 6 * _DAY + 2 * _HOUR: [PUSH]},
        days=True,
    ),
    _slow(
        "few enrolments for a week, and many before",
        _since((60, 2 * _DAY), (None, 7 * _DAY), (60, 11 * _HOUR), (None, 13 * _HOUR), (400, _DAY)),
        {10 * _DAY + 2 * _HOUR: [], 10 * _DAY + 5 * _HOUR: []},
        days=True,
    ),
)


def _platforms(about: str, series: dict[str, str], firing: dict[int, list[dict[str, str]]]) -> Case:
    return Case(about, _PLATFORM, series, firing, severity="warning")


_GAP = "2x29 _x7 2x90"
PLATFORMS = (
    Case(
        "a version of the app loses it, and the next one gets it again",
        _PLATFORM,
        push(none="0x9 20x99 0x100", apn="80x210"),
        {69: [], 70: [SERVICE], 109: [SERVICE], 110: []},
        ExpectedAlert(
            80,
            SERVICE,
            "Push notifications can't reach many devices.",
            "20% of the push factors of service VA1 (account main) have no notification platform, so no "
            "notification tells their users of a login: they must open the app to approve it. Check whether the "
            "app still registers for notifications.",
            _OVERVIEW,
        ),
        severity="warning",
    ),
    _platforms("a tenth", push(none="1x200", fcm="9x200"), {60: [], 200: []}),
    _platforms("a share of .105", push(none="21x200", fcm="179x200"), {60: [SERVICE]}),
    _platforms("a share of .095", push(none="19x200", fcm="181x200"), {60: [], 200: []}),
    _platforms("one of two", push(none="1x200", other="1x200"), {60: [SERVICE]}),
    _platforms("an app without push notifications", push(none="5x200"), {60: [], 200: []}),
    _platforms("no push factors", push(), {60: [], 200: []}),
    _platforms("every push factor has one", push(apn="5x200", fcm="5x200"), {60: [], 200: []}),
    _platforms(
        "two replicas make one alert",
        push(none="2x200", fcm="13x200") | push(POD_B, none="2x200", fcm="13x200"),
        {60: [SERVICE]},
    ),
    _platforms(
        "many in one of two shards, few in all",
        push(none="3x200", fcm="7x200") | push(POD_B, fcm="90x200"),
        {60: [], 200: []},
    ),
    _platforms("more devices", push(none="5x200", apn="10x99 100x100"), {60: [SERVICE], 99: [SERVICE], 100: []}),
    _platforms(
        "a pod takes over from another",
        push(none="2x29 stale", apn="8x29 stale", fcm="0x29 stale", other="0x29 stale")
        | push(POD_B, none="_x33 2x90", apn="_x33 8x90", fcm="_x33 0x90", other="_x33 0x90"),
        {59: [], 60: [SERVICE], 90: [SERVICE]},
    ),
    _platforms(
        "a long gap in the number of those without",
        push(none=_GAP, apn="8x200"),
        {60: [], 95: [], 98: [SERVICE]},
    ),
    _platforms(
        "a long gap in the numbers of the others",
        push(none="2x200", apn=_GAP, fcm=_GAP, other=_GAP),
        {60: [], 95: [], 98: [SERVICE]},
    ),
)

CASES = (*MEDIANS, *ENROLMENTS, *PLATFORMS)
