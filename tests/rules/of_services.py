"""Cases of the alerts of services and their entities."""

from __future__ import annotations

from tests.rules.cases import JOB, POD_A, POD_B, Case, Shown, Told, name

SERVICE = {**JOB, "account": "main", "service_sid": "VA1"}
OPS = {**SERVICE, "entity": "ops"}
STATUSES = ("verified", "unverified", "not_found", "unknown")
RATIO = "service:twilio_verify_fetch_failures:ratio_rate"


def _counts(metric: str, of: dict[str, str], pod: dict[str, str], given: dict[str, str]) -> dict[str, str]:
    return {name(metric, of, {"status": status}, pod): given.get(status, "0x100") for status in STATUSES}


def entity(pod: dict[str, str] = POD_A, **given: str) -> dict[str, str]:
    """Return the counts of an entity's factors; those that are not given are 0."""
    return _counts("twilio_verify_entity_factors", OPS, pod, given)


def lists(
    values: str, pod: dict[str, str] = POD_A, *, code: str = "200", operation: str = "list"
) -> dict[str, str]:
    """Return the requests of the account."""
    labels = {**JOB, "account": "main", "operation": operation, "code": code}
    return {name("twilio_verify_api_requests_total", labels, pod): values}


def failed_lists(values: str, pod: dict[str, str] = POD_A) -> dict[str, str]:
    """Return the failed lists of the service."""
    return {name("twilio_verify_entity_failures_total", SERVICE, pod): values}


def counts(pod: dict[str, str] = POD_A, **given: str) -> dict[str, str]:
    """Return the counts of a service's factors; those that are not given are 0."""
    return _counts("twilio_verify_factors", SERVICE, pod, given)


def fetches(all_of_them: str, failed: dict[str, str], pod: dict[str, str] = POD_A) -> dict[str, str]:
    """Return the fetches of a service, and the failed ones by reason."""
    return {name("twilio_verify_fetches_total", SERVICE, pod): all_of_them} | {
        name("twilio_verify_fetch_failures_total", SERVICE, {"reason": reason}, pod): values
        for reason, values in failed.items()
    }


def phases(*rates: tuple[float, int]) -> str:
    """Return a counter that grows by a rate a minute for so many minutes, one after the other."""
    parts, value = [], 0.0
    for rate, minutes in rates:
        parts.append(f"{value:g}+{rate:g}x{minutes - 1}")
        value += rate * minutes
    return " ".join(parts)


_WITHOUT = "EntityWithoutVerifiedFactor"
_STALE = "DataStale"
_MASS = "MassMissing"
_BURN = "FetchErrorBudgetBurn"
_FINE_FOR_SIX_HOURS = (10, 360)
_OVERVIEW = "twilio-verify-overview?var-account=main&var-service=VA1"

ENTITIES = (
    Case(
        "the last verified factor goes, and one comes",
        _WITHOUT,
        entity(verified="1x4 0x24 1x9", unverified="0x4 1x40"),
        {18: [], 19: [], 20: [OPS], 29: [OPS], 30: []},
        Told(
            25,
            OPS,
            "An entity has no verified factor.",
            'None of the factors of entity "ops" (account main, service VA1) is verified: whoever it stands for '
            "can't log in.",
            _OVERVIEW,
        ),
    ),
    Case(
        "what is not known for some minutes begins the wait anew",
        _WITHOUT,
        entity(unverified="1x40", unknown="0x12 1x3 0x30"),
        {15: [], 31: [], 32: [OPS]},
    ),
    Case("one may be verified", _WITHOUT, entity(unverified="1x40", unknown="1x40"), {20: [], 40: []}),
    Case(
        "of two replicas one sees a verified factor, one what it doesn't know",
        _WITHOUT,
        entity(POD_A, verified="1x40") | entity(POD_B, unverified="1x40"),
        {20: [], 40: []},
    ),
    Case(
        "of two replicas one knows all",
        _WITHOUT,
        entity(POD_A, unverified="1x40") | entity(POD_B, unverified="1x40", unknown="1x40"),
        {20: [], 40: []},
    ),
    Case(
        "two replicas make one alert",
        _WITHOUT,
        entity(POD_A, unverified="1x40") | entity(POD_B, not_found="1x40"),
        {14: [], 15: [OPS], 40: [OPS]},
    ),
    Case(
        "a pod that saw a verified factor is gone",
        _WITHOUT,
        entity(POD_A, verified="1x9 stale", unverified="0x9 stale", not_found="0x9 stale", unknown="0x9 stale")
        | entity(POD_B, verified="_x10 0x40", unverified="_x10 1x40"),
        {28: [], 31: [OPS]},
    ),
    Case(
        "a pod that didn't know all is gone",
        _WITHOUT,
        entity(POD_A, verified="0x9 stale", unverified="1x9 stale", not_found="0x9 stale", unknown="1x9 stale")
        | entity(POD_B, verified="_x10 0x40", unverified="_x10 1x40"),
        {28: [], 31: [OPS]},
    ),
    Case(
        "a restart in the middle goes on as the same alert",
        _WITHOUT,
        entity(POD_A, verified="0x19 stale", unverified="1x19 stale", not_found="0x19 stale", unknown="0x19 stale")
        | entity(POD_B, verified="_x21 0x40", unverified="_x21 1x40", not_found="_x21 0x40", unknown="_x21 0x40"),
        {15: [OPS], 20: [OPS], 21: [OPS], 22: [OPS], 40: [OPS]},
    ),
    Case("nothing found, and nothing listed yet", _WITHOUT, entity(), {20: [], 60: []}),
    Case(
        "nothing found, and a list tells so",
        _WITHOUT,
        entity() | failed_lists("0x100") | lists("0x9 1x90"),
        {24: [], 25: [OPS], 60: [OPS]},
    ),
    Case(
        "only other requests succeed",
        _WITHOUT,
        entity() | failed_lists("0x100") | lists("0+1x100", operation="fetch"),
        {20: [], 60: []},
    ),
    Case(
        "every list fails",
        _WITHOUT,
        entity() | failed_lists("0x100") | lists("0+1x100", code="404"),
        {20: [], 60: []},
    ),
    Case(
        "a list failed within the hour, perhaps this one",
        _WITHOUT,
        entity() | failed_lists("0x9 1x90") | lists("0+1x100"),
        {83: [], 88: [OPS]},
    ),
    Case(
        "no list succeeds any more",
        _WITHOUT,
        entity() | failed_lists("0x100") | lists("0+1x10 10x90"),
        {20: [OPS], 68: [OPS], 73: []},
    ),
    Case(
        "of two replicas one lists, one can't",
        _WITHOUT,
        entity(POD_A)
        | failed_lists("0x100", POD_A)
        | lists("0+1x100", POD_A)
        | entity(POD_B)
        | failed_lists("0+1x100", POD_B)
        | lists("0x100", POD_B),
        {20: [], 60: []},
    ),
    Case(
        "of two replicas one lists, one has not begun",
        _WITHOUT,
        entity(POD_A)
        | failed_lists("0x100", POD_A)
        | lists("0+1x100", POD_A)
        | entity(POD_B)
        | failed_lists("0x100", POD_B)
        | lists("0x100", POD_B),
        {20: [OPS], 60: [OPS]},
    ),
    Case(
        "lists that failed before a restart of the process are no failures after it",
        _WITHOUT,
        entity() | failed_lists("5x9 0x90") | lists("50x9 0+1x90"),
        {24: [], 30: [OPS], 60: [OPS]},
    ),
    Case(
        "a pod that had found something is gone, and the next has not listed yet",
        _WITHOUT,
        entity(POD_A, verified="0x19 stale", unverified="0x19 stale", not_found="1x19 stale", unknown="0x19 stale")
        | entity(POD_B, verified="_x20 0x40", unverified="_x20 0x40", not_found="_x20 0x40", unknown="_x20 0x40"),
        {15: [OPS], 22: [OPS], 26: []},
    ),
)

STALENESS = (
    Case(
        "a status is unknown, and known again",
        _STALE,
        counts(verified="5x4 4x24 5x9", unknown="0x4 1x24 0x9"),
        {4: [], 19: [], 20: [SERVICE], 29: [SERVICE], 30: []},
        Told(
            25,
            SERVICE,
            "The status of factors is not known.",
            "The status of 1 factors of service VA1 (account main) is unknown: no definite answer came for too "
            "long. A change would not be seen.",
            _OVERVIEW,
        ),
        severity="warning",
    ),
    Case(
        "all is known",
        _STALE,
        counts(verified="5x30", unverified="1x30", not_found="1x30"),
        {20: []},
        severity="warning",
    ),
    Case(
        "of two replicas one doesn't know",
        _STALE,
        counts(POD_A, unknown="1x30") | counts(POD_B),
        {20: [SERVICE]},
        severity="warning",
    ),
    Case(
        "the pod that didn't know is gone",
        _STALE,
        counts(POD_A, unknown="1x19 stale") | counts(POD_B, unknown="_x20 0x30"),
        {15: [SERVICE], 22: [SERVICE], 26: []},
        severity="warning",
    ),
)

MASSES = (
    Case(
        "half, more than half, and found again",
        _MASS,
        counts(verified="12x4 6x4 5x9 12x30", not_found="0x4 6x4 7x9 0x30"),
        {9: [], 11: [], 12: [SERVICE], 19: [SERVICE], 20: [SERVICE], 29: [SERVICE], 30: []},
        Told(
            15,
            SERVICE,
            "Most factors of a service are gone.",
            "58.33% of the factors of service VA1 (account main) answer 404: the service was deleted, or service "
            "or account is wrong.",
            _OVERVIEW,
        ),
    ),
    Case("exactly half", _MASS, counts(verified="6x30", not_found="6x30"), {5: [], 30: []}),
    Case("all of nine are few", _MASS, counts(not_found="9x30"), {5: [], 30: []}),
    Case("all of ten are many", _MASS, counts(not_found="10x30"), {5: [SERVICE]}),
    Case(
        "nine seen by two replicas are nine",
        _MASS,
        counts(POD_A, not_found="9x30") | counts(POD_B, not_found="9x30"),
        {5: [], 30: []},
    ),
    Case(
        "of two replicas one sees them",
        _MASS,
        counts(POD_A, not_found="7x30", verified="5x30") | counts(POD_B, verified="12x30"),
        {1: [], 2: [SERVICE]},
    ),
    Case("a share of .52", _MASS, counts(not_found="52x30", verified="48x30"), {5: [SERVICE]}),
    Case("a share of .48", _MASS, counts(not_found="48x30", verified="52x30"), {5: []}),
    Case(
        "the pod that saw them is gone",
        _MASS,
        counts(POD_A, not_found="20x9 stale", verified="12x30", unverified="_", unknown="_"),
        {9: [SERVICE], 22: [SERVICE], 26: []},
    ),
    Case(
        "the ones that were found are gone",
        _MASS,
        counts(POD_A, not_found="10x30", verified="10x9 stale", unverified="_", unknown="_"),
        {9: [], 15: [], 18: [SERVICE]},
    ),
    Case("more are watched at once", _MASS, counts(not_found="10x30", verified="0 90x30"), {2: [], 3: [], 30: []}),
    Case("no series, no alert", _MASS, {name("up", JOB, POD_A): "1x60"}, {15: [], 60: []}),
)

# Of two pods, one of which starts anew as failures begin; fewer are fetched from then on.
_TWO_PODS_AND_A_RESTART = fetches(
    "0+30x400 0+10x200", {"timeout": "0x400 0+6x200", "connect": "0x400 0+2x200"}, POD_A
) | fetches("0+30x400 12010+10x200", {"timeout": "0x400 8+8x200"}, POD_B)
_SHORT_BURNS = (
    Case(
        "all fails from the start, for 20 minutes",
        _BURN,
        fetches(phases((10, 20), (1000, 40)), {"timeout": phases((10, 20), (0, 40))}),
        {2: [], 3: [SERVICE], 20: [SERVICE], 35: [SERVICE], 37: []},
        Told(
            10,
            SERVICE,
            "Many fetches of a service fail.",
            "100% of the fetches of service VA1 (account main) fail and go on failing: statuses become stale.",
            "twilio-verify-exporter?var-account=main",
        ),
    ),
    Case(
        "one failure of a factor that is fetched twice an hour",
        _BURN,
        fetches("0x9 1x29 2x29", {"timeout": "0x9 1x60"}),
        {11: [], 15: [], 40: []},
    ),
    Case("nothing fetched, nothing told", _BURN, fetches("0x60", {"timeout": "0x60"}), {30: [], 60: []}),
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
BURNS = (
    *_SHORT_BURNS,
    *(Case(name, _BURN, series, firing, long=True) for name, series, firing in _LONG_BURNS),
    Case(
        "the share of failures over each window",
        _BURN,
        _TWO_PODS_AND_A_RESTART,
        shows=[
            Shown(f"{RATIO}5m", 395, SERVICE, 0, 0),
            Shown(f"{RATIO}5m", 405, SERVICE, 0.77, 0.83),
            Shown(f"{RATIO}30m", 420, SERVICE, 0.3, 0.335),
            Shown(f"{RATIO}1h", 440, SERVICE, 0.3, 0.335),
            Shown(f"{RATIO}6h", 500, SERVICE, 0.085, 0.1),
        ],
        long=True,
    ),
)

CASES = (*ENTITIES, *STALENESS, *MASSES, *BURNS)
