"""Cases for the alerts about services and their entities."""

from __future__ import annotations

from tests.support.rules.cases import JOB, POD_A, POD_B, Case, ExpectedAlert, name

SERVICE = {**JOB, "account": "main", "service_sid": "VA1"}
OPS = {**SERVICE, "entity": "ops"}
STATUSES = ("verified", "unverified", "not_found", "unknown")


def _counts(metric: str, of: dict[str, str], pod: dict[str, str], given: dict[str, str]) -> dict[str, str]:
    return {name(metric, of, {"status": status}, pod): given.get(status, "0x100") for status in STATUSES}


def entity(pod: dict[str, str] = POD_A, **given: str) -> dict[str, str]:
    """Return an entity's factor counts; statuses not given are 0."""
    return _counts("twilio_verify_entity_factors", OPS, pod, given)


def listings(
    values: str, pod: dict[str, str] = POD_A, *, code: str = "200", operation: str = "list"
) -> dict[str, str]:
    """Return the request counter of the account."""
    labels = {**JOB, "account": "main", "operation": operation, "code": code}
    return {name("twilio_verify_api_requests_total", labels, pod): values}


def failed_listings(values: str, pod: dict[str, str] = POD_A) -> dict[str, str]:
    """Return the counter of failed listings of the service."""
    return {name("twilio_verify_entity_failures_total", SERVICE, pod): values}


def watched(pod: dict[str, str] = POD_A, values: str = "0x600") -> dict[str, str]:
    """Return one of the entity's factor counts, which are there while it is watched."""
    return {name("twilio_verify_entity_factors", OPS, {"status": "unknown"}, pod): values}


def last_listed(values: str, pod: dict[str, str] = POD_A) -> dict[str, str]:
    """Return when the entity was last listed."""
    return {name("twilio_verify_entity_last_listed_timestamp_seconds", OPS, pod): values}


def every(values: str = "900x600", pod: dict[str, str] = POD_A) -> dict[str, str]:
    """Return the configured discovery interval."""
    return {name("twilio_verify_exporter_discovery_interval_seconds", JOB, pod): values}


def truncated(values: str, pod: dict[str, str] = POD_A) -> dict[str, str]:
    """Return whether a listing of the service stopped at the maximum."""
    return {name("twilio_verify_service_entities_truncated", OPS, pod): values}


def counts(pod: dict[str, str] = POD_A, **given: str) -> dict[str, str]:
    """Return a service's factor counts; statuses not given are 0."""
    return _counts("twilio_verify_factors", SERVICE, pod, given)


def exists(values: str, pod: dict[str, str] = POD_A, *, service_sid: str = "VA1") -> dict[str, str]:
    """Return whether a service exists."""
    return {name("twilio_verify_service_exists", SERVICE | {"service_sid": service_sid}, pod): values}


_WITHOUT = "EntityWithoutVerifiedFactor"
_NOT_LISTED = "EntityNotListed"
_TRUNCATED = "ServiceTruncated"
_STALE = "DataStale"
_MASS = "MassMissing"
_GONE = "ServiceMissing"
_OVERVIEW = "twilio-verify-overview?var-account=main&var-service=VA1"

ENTITIES = (
    Case(
        "the last verified factor goes, and one comes",
        _WITHOUT,
        entity(verified="1x4 0x24 1x9", unverified="0x4 1x40"),
        {18: [], 19: [], 20: [OPS], 29: [OPS], 30: []},
        ExpectedAlert(
            25,
            OPS,
            "An entity has no verified factor.",
            'Entity "ops" (account main, service VA1) has no verified factor: the person or team behind it can\'t '
            "log in. Have one of its factors verified, or enrol a new one.",
            _OVERVIEW,
        ),
    ),
    Case(
        "an unknown status for some minutes restarts the wait",
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
        "a restart in the middle continues the same alert",
        _WITHOUT,
        entity(POD_A, verified="0x19 stale", unverified="1x19 stale", not_found="0x19 stale", unknown="0x19 stale")
        | entity(POD_B, verified="_x21 0x40", unverified="_x21 1x40", not_found="_x21 0x40", unknown="_x21 0x40"),
        {15: [OPS], 20: [OPS], 21: [OPS], 22: [OPS], 40: [OPS]},
    ),
    Case(
        "a whole service is no entity",
        _WITHOUT,
        entity(unverified="1x60") | truncated("0x60"),
        {20: [], 60: []},
    ),
    Case(
        "an entity of the name that a service had until a moment ago",
        _WITHOUT,
        entity(unverified="1x60") | truncated("0x29 stale"),
        {29: [], 47: [], 51: [OPS]},
    ),
    Case("nothing found, and nothing listed yet", _WITHOUT, entity(), {20: [], 60: []}),
    Case(
        "nothing found, confirmed by a listing",
        _WITHOUT,
        entity() | failed_listings("0x100") | listings("0x9 1x90"),
        {24: [], 25: [OPS], 60: [OPS]},
    ),
    Case(
        "only other requests succeed",
        _WITHOUT,
        entity() | failed_listings("0x100") | listings("0+1x100", operation="fetch"),
        {20: [], 60: []},
    ),
    Case(
        "every listing fails",
        _WITHOUT,
        entity() | failed_listings("0x100") | listings("0+1x100", code="404"),
        {20: [], 60: []},
    ),
    Case(
        "a listing failed within the hour, perhaps this one",
        _WITHOUT,
        entity() | failed_listings("0x9 1x90") | listings("0+1x100"),
        {83: [], 88: [OPS]},
    ),
    Case(
        "no listing succeeds from some time on",
        _WITHOUT,
        entity() | failed_listings("0x100") | listings("0+1x10 10x90"),
        {20: [OPS], 68: [OPS], 73: []},
    ),
    Case(
        "one of two replicas can list",
        _WITHOUT,
        entity(POD_A)
        | failed_listings("0x100", POD_A)
        | listings("0+1x100", POD_A)
        | entity(POD_B)
        | failed_listings("0+1x100", POD_B)
        | listings("0x100", POD_B),
        {20: [], 60: []},
    ),
    Case(
        "one of two replicas has not listed yet",
        _WITHOUT,
        entity(POD_A)
        | failed_listings("0x100", POD_A)
        | listings("0+1x100", POD_A)
        | entity(POD_B)
        | failed_listings("0x100", POD_B)
        | listings("0x100", POD_B),
        {20: [OPS], 60: [OPS]},
    ),
    Case(
        "listings that failed before a restart don't count after it",
        _WITHOUT,
        entity() | failed_listings("5x9 0x90") | listings("50x9 0+1x90"),
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


def _not_listed(about: str, series: dict[str, str], firing: dict[int, list[dict[str, str]]]) -> Case:
    return Case(about, _NOT_LISTED, series, firing, severity="warning", long=True)


_FOR_EVER = "0x600"
NOT_LISTED = (
    Case(
        "no listing ends for hours, and then one does",
        _NOT_LISTED,
        watched() | last_listed("0+60x9 600x230 14400x20") | every(),
        {205: [], 206: [OPS], 240: [OPS], 241: []},
        ExpectedAlert(
            230,
            OPS,
            "The factors of an entity can't be listed.",
            'The factors of entity "ops" (account main, service VA1) have not been listed completely for more than '
            "3 hours. Factors enrolled since are not watched. The log names the reason.",
            _OVERVIEW,
        ),
        severity="warning",
    ),
    _not_listed("listed regularly", watched() | last_listed("0+60x600") | every(), {200: [], 400: [], 600: []}),
    _not_listed(
        "the interval is two hours",
        watched() | last_listed(_FOR_EVER) | every("7200x600"),
        {200: [], 495: [], 500: [OPS]},
    ),
    _not_listed(
        "one of two exporters was reloaded with a longer interval",
        watched() | last_listed(_FOR_EVER) | every() | every("7200x600", POD_B),
        {300: [], 495: [], 500: [OPS]},
    ),
    _not_listed(
        "a reload makes the interval longer",
        watched() | last_listed(_FOR_EVER) | every("900x299 7200x60"),
        {295: [OPS], 300: []},
    ),
    _not_listed(
        "one of two shards can't list its part of a service",
        watched() | watched(POD_B) | last_listed("0+60x400") | last_listed(_FOR_EVER, POD_B) | every(),
        {195: [], 200: [OPS], 400: [OPS]},
    ),
    _not_listed("never listed", watched() | every(), {190: [], 195: [OPS], 600: [OPS]}),
    _not_listed(
        "never listed, and then at last",
        watched() | every() | last_listed("_x240 14400x60"),
        {235: [OPS], 245: [], 300: []},
    ),
    _not_listed(
        "one of two shards never listed its part",
        watched() | watched(POD_B) | last_listed("0+60x400") | every(),
        {190: [], 195: [OPS]},
    ),
    _not_listed(
        "a restart forgets when the last listing was, and none follows",
        watched() | last_listed("0+60x59 _x500") | every(),
        {250: [], 255: [OPS], 415: [OPS], 425: [OPS], 600: [OPS]},
    ),
    _not_listed(
        "the same with an interval of two hours",
        watched() | last_listed("0+60x59 _x500") | every("7200x600"),
        {255: [], 430: [], 435: [OPS]},
    ),
    _not_listed(
        "a restart forgets it, and the next listing ends in time",
        watched() | last_listed("0+60x59 _x120 10800+60x300") | every(),
        {200: [], 255: [], 400: []},
    ),
    _not_listed(
        "a pod takes over from another",
        watched(POD_A, "0x120 stale")
        | last_listed("0+60x120 stale")
        | watched(POD_B, "_x122 0x400")
        | last_listed("_x122 7320+60x400", POD_B)
        | every(),
        {135: [], 320: [], 400: [], 500: []},
    ),
    _not_listed(
        "no longer watched for hours, and then again",
        watched(POD_A, "0x60 _x390 0x60") | last_listed("3600x60") | every(),
        {300: [], 475: [], 500: []},
    ),
    _not_listed(
        "a short gap in the scrapes",
        watched(POD_A, "0x296 stale _x5 0x60") | last_listed(_FOR_EVER) | every(),
        {200: [OPS], 295: [OPS], 300: [OPS], 310: [OPS]},
    ),
    _not_listed(
        "a long gap in the scrapes",
        watched(POD_A, "0x292 _x11 0x60") | last_listed(_FOR_EVER) | every(),
        {295: [OPS], 300: [], 310: [], 325: [OPS]},
    ),
    _not_listed(
        "a short gap in the interval alone",
        watched() | last_listed(_FOR_EVER) | every("900x296 stale _x5 900x60"),
        {295: [OPS], 300: [OPS], 310: [OPS]},
    ),
    _not_listed(
        "a long gap in the interval alone",
        watched() | last_listed(_FOR_EVER) | every("900x292 _x11 900x60"),
        {295: [OPS], 300: []},
    ),
    _not_listed(
        "never listed, with a short gap",
        watched(POD_A, "0x296 stale _x5 0x60") | every(),
        {295: [OPS], 300: [OPS], 310: [OPS]},
    ),
    _not_listed(
        "never listed, with a long gap",
        watched(POD_A, "0x292 _x11 0x60") | every(),
        {295: [OPS], 300: []},
    ),
    _not_listed(
        "never listed, with a short gap three hours ago",
        watched(POD_A, "0x116 stale _x5 0x300") | every(),
        {295: [OPS], 300: [OPS], 310: [OPS]},
    ),
    _not_listed(
        "never listed, with a long gap three hours ago",
        watched(POD_A, "0x112 _x11 0x300") | every(),
        {290: [OPS], 300: []},
    ),
)

TRUNCATED = (
    Case(
        "a service grows past the maximum, which is then raised",
        _TRUNCATED,
        truncated("0x9 1x60 0x60"),
        {24: [], 25: [OPS], 98: [OPS], 102: []},
        ExpectedAlert(
            60,
            OPS,
            "Some entities of a service are not watched.",
            'Service "ops" (VA1, account main) has more entities than max_entities allows. The factors of the '
            "others are not watched.",
            _OVERVIEW,
        ),
        severity="warning",
    ),
    Case("all entities are watched", _TRUNCATED, truncated("0x60"), {20: [], 60: []}, severity="warning"),
    Case(
        "the exporter is restarted meanwhile",
        _TRUNCATED,
        truncated("1x30 0x14 1x40"),
        {14: [], 15: [OPS], 40: [OPS], 60: [OPS]},
        severity="warning",
    ),
    Case(
        "two exporters make one alert, also if one sees more entities",
        _TRUNCATED,
        truncated("1x60") | truncated("0x60", POD_B),
        {14: [], 15: [OPS], 60: [OPS]},
        severity="warning",
    ),
)

STALENESS = (
    Case(
        "a status is unknown, and known again",
        _STALE,
        counts(verified="5x4 4x24 5x9", unknown="0x4 1x24 0x9"),
        {4: [], 19: [], 20: [SERVICE], 29: [SERVICE], 30: []},
        ExpectedAlert(
            25,
            SERVICE,
            "The status of some factors is unknown.",
            "Service VA1 (account main) has 1 factor(s) with unknown status: the exporter has had no definite "
            "answer for too long. Changes of these factors go unnoticed.",
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
        ExpectedAlert(
            15,
            SERVICE,
            "Most factors of a service are missing.",
            "58.33% of the factors of service VA1 (account main) answer 404: they or the service were deleted, or "
            "the configured service or account is wrong.",
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
    Case(
        "the service itself is gone: that has an alert of its own",
        _MASS,
        counts(not_found="12x60") | exists("0x60"),
        {2: [], 5: [], 60: []},
    ),
    Case("the service exists", _MASS, counts(not_found="12x30") | exists("1x30"), {2: [SERVICE], 30: [SERVICE]}),
    Case(
        "another service is gone",
        _MASS,
        counts(not_found="12x30") | exists("0x30", service_sid="VA2"),
        {2: [SERVICE], 30: [SERVICE]},
    ),
    Case(
        "of two replicas one still has the answer that the service exists",
        _MASS,
        counts(not_found="12x30") | exists("0x30") | exists("1x30", POD_B),
        {2: [SERVICE], 30: [SERVICE]},
    ),
    Case(
        "the exporter that knew that the service is gone was restarted, and fetches it within five minutes",
        _MASS,
        counts(not_found="12x60") | exists("0x9 stale _x3 0x40"),
        {9: [], 14: [], 20: [], 50: []},
    ),
    Case(
        "it is no longer known that the service is gone",
        _MASS,
        counts(not_found="12x60") | exists("0x9 stale _x40"),
        {9: [], 15: [], 17: [SERVICE], 30: [SERVICE]},
    ),
    Case(
        "the service is found again, and its factors are not",
        _MASS,
        counts(not_found="12x60") | exists("0x9 1x40"),
        {9: [], 11: [], 12: [SERVICE]},
    ),
)

SERVICES = (
    Case(
        "a service is deleted and, as if it were a mistake, found again",
        _GONE,
        exists("_x4 0x19 1x9"),
        {6: [], 7: [SERVICE], 23: [SERVICE], 24: []},
        ExpectedAlert(
            10,
            SERVICE,
            "A Verify service no longer exists.",
            "The API answers 404 for service VA1 (account main) itself: it was deleted, or the configured service "
            "or account is wrong. None of its factors can be used.",
            _OVERVIEW,
        ),
    ),
    Case("a wrong 404 for a service, corrected by the next request", _GONE, exists("_x4 0 0 1x30"), {7: [], 9: []}),
    Case("a service that exists", _GONE, exists("1x30"), {5: [], 30: []}),
    Case(
        "two replicas make one alert", _GONE, exists("0x30") | exists("0x30", POD_B), {5: [SERVICE], 30: [SERVICE]}
    ),
    Case("what one of two replicas finds exists", _GONE, exists("0x30") | exists("1x30", POD_B), {5: [], 30: []}),
    Case(
        "a restart of the exporter does not resolve the alert",
        _GONE,
        exists("0x9 stale _x3 0x20"),
        {9: [SERVICE], 13: [SERVICE], 20: [SERVICE]},
    ),
    Case("one that is no longer known resolves", _GONE, exists("0x9 stale _x40"), {9: [SERVICE], 16: [], 30: []}),
    Case("no series, no alert", _GONE, {name("up", JOB, POD_A): "1x60"}, {15: [], 60: []}),
)

CASES = (*ENTITIES, *NOT_LISTED, *TRUNCATED, *STALENESS, *MASSES, *SERVICES)
