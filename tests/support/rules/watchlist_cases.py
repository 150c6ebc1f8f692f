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
            "The exporters of job verify-factor-exporter do not cover every shard or disagree on the number of "
            "shards (seen: 2), so some factors may not be polled.",
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

CASES = (*WATCHLISTS, *SHARDING)
