"""Cases for the alerts about the watchlist and its shards."""

from __future__ import annotations

from tests.support.rules.cases import JOB, POD_A, POD_B, Case, ExpectedAlert, ExpectedSample, name
from tests.support.rules.exporter_cases import up

TOTAL = "job:twilio_verify_exporter_watchlist_factors:total"
POD_C = {**POD_A, "instance": "10.0.0.3:10069", "pod": "c"}
_EMPTY = "WatchlistEmpty"
_SHRANK = "WatchlistShrank"
_SHARDS = "ShardCoverage"
_FACTORS = "twilio_verify_exporter_watchlist_factors"


def watchlist(factors: str, shards: str = "1x150", pod: dict[str, str] = POD_A) -> dict[str, str]:
    """Return the number of factors that a process watches, and of shards."""
    return {name(_FACTORS, JOB, pod): factors, name("twilio_verify_exporter_shards", JOB, pod): shards}


def shard(ordinal: int, present: str, count: str, pod: dict[str, str] = POD_A) -> dict[str, str]:
    """Return the shard of a process, and its number of shards."""
    return {
        name("twilio_verify_exporter_shard_info", JOB, {"shard": str(ordinal)}, pod): present,
        name("twilio_verify_exporter_shards", JOB, pod): count,
    }


def listed(
    ordinal: int,
    factors: str,
    total: str,
    pod: dict[str, str] = POD_A,
    *,
    present: str = "1x80",
    count: str = "2x80",
) -> dict[str, str]:
    """Return the shard of a process, one of two by default, its listed factors, and those of the watchlist."""
    return shard(ordinal, present, count, pod) | {
        name("twilio_verify_exporter_watchlist_listed_factors", JOB, pod): factors,
        name("twilio_verify_exporter_watchlist_total_factors", JOB, pod): total,
    }


def single(factors: str, total: str, present: str = "1x80") -> dict[str, str]:
    """Return an exporter that is the only shard."""
    return listed(0, factors, total, present=present, count="1x80")


def _in_namespace(namespace: str, series: dict[str, str]) -> dict[str, str]:
    return {f'{each.removesuffix("}")}, namespace="{namespace}"}}': values for each, values in series.items()}


def _of_job(job: str, series: dict[str, str]) -> dict[str, str]:
    return {each.replace(f'job="{JOB["job"]}"', f'job="{job}"'): values for each, values in series.items()}


WATCHLISTS = (
    Case(
        "empty for a while",
        _EMPTY,
        watchlist("5x4 0x24 5x10"),
        {4: [], 19: [], 20: [JOB], 29: [JOB], 30: []},
        ExpectedAlert(
            25,
            JOB,
            "The exporter watches no factors.",
            "No exporter of job verify-factor-exporter has a factor to watch: the watchlist is empty or not "
            "mounted, or all its factors are paused.",
            "twilio-verify-exporter",
        ),
    ),
    Case(
        "of two shards one has nothing", _EMPTY, watchlist("0x40") | watchlist("1x40", pod=POD_B), {20: [], 40: []}
    ),
    Case("one factor", _EMPTY, watchlist("1x40"), {20: []}),
    Case(
        "two shards make one alert", _EMPTY, watchlist("0x40") | watchlist("0x40", pod=POD_B), {14: [], 15: [JOB]}
    ),
    Case(
        "the pod that had something is gone",
        _EMPTY,
        watchlist("5x9 stale") | watchlist("_x10 0x40", pod=POD_B),
        {28: [], 31: [JOB]},
    ),
    Case(
        "a restart in the middle",
        _EMPTY,
        watchlist("0x19 stale") | watchlist("_x21 0x40", pod=POD_B),
        {20: [JOB], 21: [JOB], 22: [JOB], 40: [JOB]},
    ),
    Case(
        "a quarter goes",
        _SHRANK,
        watchlist("100x19 75x80"),
        {19: [], 29: [], 30: [JOB], 77: [JOB], 82: []},
        ExpectedAlert(
            40,
            JOB,
            "The watchlist shrank by more than 20%.",
            "Job verify-factor-exporter now watches 75 factors, over 20% fewer than at its peak in the last hour. "
            "Removed factors raise no alerts: check that this was intended.",
            "twilio-verify-overview",
        ),
        severity="warning",
    ),
    Case("exactly a fifth goes", _SHRANK, watchlist("100x19 80x50"), {35: [], 60: []}, severity="warning"),
    Case("a sixth goes", _SHRANK, watchlist("100x19 84x50"), {35: [], 60: []}, severity="warning"),
    Case(
        "it grows, and a little of it goes",
        _SHRANK,
        watchlist("50x9 100x9 95x50"),
        {35: [], 60: []},
        severity="warning",
    ),
    Case(
        "twice as many shards have half as much each",
        _SHRANK,
        watchlist("100x19 stale", "1x19 stale")
        | watchlist("_x20 55x60", "_x20 2x60", POD_B)
        | watchlist("_x20 45x60", "_x20 2x60", POD_C),
        {35: [], 60: []},
        severity="warning",
    ),
    Case(
        "a shard is away",
        _SHRANK,
        watchlist("50x80", "2x80") | watchlist("50x19 stale", "2x19 stale", POD_B),
        {35: [], 60: []},
        severity="warning",
        samples=[ExpectedSample(TOTAL, 10, JOB, 100, 100), ExpectedSample(TOTAL, 40, JOB, 100, 100)],
    ),
    Case(
        "two shards lose a quarter",
        _SHRANK,
        watchlist("60x19 45x80", "2x100") | watchlist("40x19 30x80", "2x100", POD_B),
        {29: [], 30: [JOB]},
        severity="warning",
        samples=[ExpectedSample(TOTAL, 10, JOB, 100, 100), ExpectedSample(TOTAL, 40, JOB, 75, 75)],
    ),
    Case(
        "the total is that of the last five minutes",
        _SHRANK,
        watchlist("80x8 90 stale", "1x8 2 stale"),
        severity="warning",
        samples=[
            ExpectedSample(TOTAL, 8, JOB, 80, 80),
            ExpectedSample(TOTAL, 9, JOB, 180, 180),
            ExpectedSample(TOTAL, 13, JOB, 180, 180),
            ExpectedSample(TOTAL, 16),
        ],
    ),
    Case(
        "the factors alone are gone",
        _SHRANK,
        watchlist("80x9 stale", "1x60"),
        severity="warning",
        samples=[ExpectedSample(TOTAL, 13, JOB, 80, 80), ExpectedSample(TOTAL, 16)],
    ),
    Case(
        "the shards alone are gone",
        _SHRANK,
        watchlist("80x60", "1x9 stale"),
        severity="warning",
        samples=[ExpectedSample(TOTAL, 13, JOB, 80, 80), ExpectedSample(TOTAL, 16)],
    ),
    Case("no series, no alert", _SHRANK, up("1x60"), {30: []}, severity="warning"),
)

SHARDING = (
    Case(
        "one of three shards is away for a while",
        _SHARDS,
        shard(0, "1x80", "3x80")
        | shard(1, "1x80", "3x80", POD_B)
        | shard(2, "1x9 stale _x39 1x30", "3x9 stale _x39 3x30", POD_C),
        {9: [], 32: [], 36: [JOB], 49: [JOB], 50: []},
        ExpectedAlert(
            40,
            JOB,
            "Part of the watchlist is not watched.",
            "The exporters of job verify-factor-exporter do not cover every shard, disagree on the number of "
            "shards, or have different watchlists, so some factors may not be polled or are polled twice.",
            "twilio-verify-exporter",
        ),
    ),
    Case("one exporter for all", _SHARDS, shard(0, "1x60", "1x60"), {30: []}),
    Case(
        "two replicas of the same shard are one",
        _SHARDS,
        shard(0, "1x60", "2x60") | shard(0, "1x60", "2x60", POD_B),
        {19: [], 20: [JOB]},
    ),
    Case(
        "all shards are there, one of them twice",
        _SHARDS,
        shard(0, "1x60", "2x60") | shard(0, "1x60", "2x60", POD_C) | shard(1, "1x60", "2x60", POD_B),
        {30: []},
    ),
    Case(
        "they disagree, though there is one for each",
        _SHARDS,
        shard(0, "1x60", "2x60") | shard(1, "1x60", "3x60", POD_B) | shard(2, "1x60", "3x60", POD_C),
        {19: [], 20: [JOB]},
    ),
    Case(
        "they disagreed: the pod of the old number is gone",
        _SHARDS,
        shard(0, "1x60", "3x60")
        | shard(1, "1x60", "3x60", POD_B)
        | shard(2, "1x60", "3x60", POD_C)
        | shard(0, "1x29 stale", "2x29 stale", {**POD_C, "instance": "10.0.0.4:10069"}),
        {25: [JOB], 32: [JOB], 36: []},
    ),
    Case(
        "the pod that knew of more is gone",
        _SHARDS,
        shard(0, "1x60", "2x60") | shard(1, "1x60", "2x60", POD_B) | shard(0, "1x29 stale", "3x29 stale", POD_C),
        {25: [JOB], 32: [JOB], 36: []},
    ),
    Case(
        "the number of shards alone is gone",
        _SHARDS,
        shard(0, "1x60", "2x29 stale"),
        {25: [JOB], 32: [JOB], 36: []},
    ),
    Case("one exporter for all is to be one of two", _SHARDS, shard(0, "1x60", "1x19 2x40"), {39: [], 40: [JOB]}),
    Case(
        "a third one that knows of three is gone, and its shard with it",
        _SHARDS,
        shard(0, "1x60", "2x60") | shard(1, "1x60", "2x60", POD_B) | shard(2, "1x29 stale", "3x29 stale", POD_C),
        {25: [JOB], 32: [JOB], 36: []},
    ),
    Case(
        "a third one learns that it is one of three",
        _SHARDS,
        shard(0, "1x60", "2x60") | shard(1, "1x60", "2x60", POD_B) | shard(2, "1x60", "2x19 3x40", POD_C),
        {39: [], 40: [JOB]},
    ),
    Case(
        "the last one learns that there are three",
        _SHARDS,
        shard(0, "1x60", "3x60") | shard(1, "1x60", "3x60", POD_B) | shard(2, "1x60", "2x29 3x40", POD_C),
        {29: [JOB], 30: [], 32: []},
    ),
    Case(
        "two shards become three, a pod at a time",
        _SHARDS,
        shard(0, "1x9 stale", "2x9 stale")
        | shard(1, "1x23 stale", "2x23 stale", POD_B)
        | shard(2, "_x10 1x60", "_x10 3x60", POD_C)
        | shard(0, "_x12 1x60", "_x12 3x60", {**POD_A, "instance": "10.0.0.4:10069"})
        | shard(1, "_x26 1x60", "_x26 3x60", {**POD_B, "instance": "10.0.0.5:10069"}),
        {9: [], 21: [], 24: [], 28: [], 30: [], 60: []},
    ),
    Case("no series, no alert", _SHARDS, up("1x60"), {30: []}),
)

LISTED = (
    Case(
        "a factor is listed for no shard for a while",
        _SHARDS,
        listed(0, "4x80", "9x80") | listed(1, "5x9 4x29 5x40", "9x80", POD_B),
        {9: [], 29: [], 30: [JOB], 39: [JOB], 40: []},
    ),
    Case(
        "a factor is listed for two shards for a while",
        _SHARDS,
        listed(0, "4x9 5x29 4x40", "9x80") | listed(1, "5x80", "9x80", POD_B),
        {9: [], 29: [], 30: [JOB], 39: [JOB], 40: []},
    ),
    Case(
        "half of the list, and half of the shards are meant to be there",
        _SHARDS,
        single("4x80", "8x80"),
        {20: [JOB]},
    ),
    Case(
        "three shards add up",
        _SHARDS,
        listed(0, "2x80", "9x80", count="3x80")
        | listed(1, "3x80", "9x80", POD_B, count="3x80")
        | listed(2, "4x80", "9x80", POD_C, count="3x80"),
        {30: []},
    ),
    Case(
        "a shard of two has nothing",
        _SHARDS,
        listed(0, "0x80", "5x80") | listed(1, "5x80", "5x80", POD_B),
        {30: []},
    ),
    Case("an empty watchlist", _SHARDS, single("0x80", "0x80"), {30: []}),
    Case(
        "replicas of a shard count once",
        _SHARDS,
        listed(0, "4x80", "9x80") | listed(1, "5x80", "9x80", POD_B) | listed(1, "5x80", "9x80", POD_C),
        {30: []},
    ),
    Case(
        "both replicas of a shard lack a factor",
        _SHARDS,
        listed(0, "4x80", "9x80") | listed(1, "4x80", "9x80", POD_B) | listed(1, "4x80", "9x80", POD_C),
        {19: [], 20: [JOB]},
    ),
    Case(
        "of two replicas of a shard one refuses the list, the other watches everything",
        _SHARDS,
        listed(0, "4x80", "9x80") | listed(1, "5x80", "9x80", POD_B) | listed(1, "3x80", "7x80", POD_C),
        {30: []},
    ),
    Case(
        "a shard refuses a list that has a factor of its own more",
        _SHARDS,
        listed(0, "4x120", "9x9 10x110", present="1x120", count="2x120")
        | listed(1, "5x120", "9x120", POD_B, present="1x120", count="2x120"),
        {88: [], 90: [JOB]},
    ),
    Case(
        "a shard refuses a list that has a factor of another shard more",
        _SHARDS,
        listed(0, "4x9 5x70", "9x9 10x70") | listed(1, "5x80", "9x80", POD_B),
        {30: [], 60: []},
    ),
    Case(
        "the shards reload one after the other",
        _SHARDS,
        listed(0, "4x9 6x70", "9x9 13x70") | listed(1, "5x26 7x50", "9x26 13x50", POD_B),
        {9: [], 25: [], 29: [], 31: [], 60: []},
    ),
    Case(
        "the last shard to reload is late",
        _SHARDS,
        listed(0, "4x9 6x110", "9x9 13x110", present="1x120", count="2x120")
        | listed(1, "5x94 7x25", "9x94 13x25", POD_B, present="1x120", count="2x120"),
        {30: [], 88: [], 90: [JOB], 94: [JOB], 95: []},
    ),
    Case(
        "each shard loads a list that grows every hour at a time of its own",
        _SHARDS,
        listed(0, "4x40 5x60 6x60", "9x40 11x60 13x60", present="1x160", count="2x160")
        | listed(1, "5x85 6x60 7x15", "9x85 11x60 13x15", POD_B, present="1x160", count="2x160"),
        {70: [], 84: [], 130: [], 144: []},
    ),
    Case(
        "the list shrinks everywhere",
        _SHARDS,
        listed(0, "4x9 2x70", "9x9 5x70") | listed(1, "5x9 3x70", "9x9 5x70", POD_B),
        {30: [], 60: []},
    ),
    Case(
        "a pod is replaced, under the same shard",
        _SHARDS,
        listed(0, "4x80", "9x80")
        | listed(1, "5x29 stale", "9x29 stale", POD_B, present="1x29 stale", count="2x29 stale")
        | listed(1, "_x31 5x50", "_x31 9x50", POD_C, present="_x31 1x50", count="_x31 2x50"),
        {30: [], 60: []},
    ),
    Case(
        "the missing factor comes, the list having been right",
        _SHARDS,
        single("4x29 5x40", "5x80"),
        {29: [JOB], 30: []},
    ),
    Case(
        "the list comes to have what the shards have",
        _SHARDS,
        single("5x80", "4x29 5x40"),
        {29: [JOB], 30: []},
    ),
    Case(
        "the listed factors alone are gone", _SHARDS, single("4x29 stale", "5x80"), {30: [JOB], 33: [JOB], 36: []}
    ),
    Case("the total alone is gone", _SHARDS, single("4x80", "5x29 stale"), {30: [JOB], 33: [JOB], 36: []}),
    Case("the shard alone is gone", _SHARDS, single("4x80", "5x80", "1x29 stale"), {30: [JOB], 33: [JOB], 36: []}),
    Case(
        "each of two namespaces adds up",
        _SHARDS,
        _in_namespace("one", single("4x80", "4x80")) | _in_namespace("two", single("9x80", "9x80")),
        {30: []},
    ),
    Case(
        "one of two namespaces doesn't add up, though both together do",
        _SHARDS,
        _in_namespace("one", single("4x80", "5x80"))
        | _in_namespace("two", listed(0, "4x80", "9x80") | listed(1, "5x80", "9x80", POD_B)),
        {20: [{**JOB, "namespace": "one"}]},
    ),
    Case(
        "one of two jobs doesn't add up",
        _SHARDS,
        single("5x80", "5x80") | _of_job("another", single("4x80", "5x80")),
        {20: [{"job": "another"}]},
    ),
)

CASES = (*WATCHLISTS, *SHARDING, *LISTED)
