"""Cases for the alerts about the watchlist and its shards."""

from __future__ import annotations

from tests.support.rules.cases import JOB, POD_A, POD_B, Case, ExpectedAlert, ExpectedSample, name
from tests.support.rules.exporter_cases import up

TOTAL = "job:twilio_verify_exporter_watchlist_factors:total"
POD_C = {**POD_A, "instance": "10.0.0.3:10069", "pod": "c"}
_EMPTY = "WatchlistEmpty"
_SHRANK = "WatchlistShrank"
_SHARDS = "ShardCoverage"
_MISSING = "ShardMissing"
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
    Case("one exporter for all", _SHARDS, shard(0, "1x60", "1x60"), {30: []}),
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
        ExpectedAlert(
            40,
            JOB,
            "The shards do not add up to the watchlist.",
            "The exporters of job verify-factor-exporter disagree on the number of shards, or have different "
            "watchlists, so some factors may not be polled or are polled twice.",
            "twilio-verify-exporter",
        ),
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
    Case("a shard that is missing has an alert of its own", _SHARDS, shard(0, "1x60", "2x60"), {30: [], 60: []}),
    Case("no series, no alert", _SHARDS, up("1x60"), {30: []}),
)

# The pods of a StatefulSet keep their name and get another address.
OLD = [{**POD_A, "pod": f"exporter-{pod}", "instance": f"10.0.1.{pod}:10069"} for pod in range(4)]
NEW = [{**POD_B, "pod": f"exporter-{pod}", "instance": f"10.0.2.{pod}:10069"} for pod in range(4)]

MISSING = (
    Case(
        "the pod of one of three shards is pending for a while",
        _MISSING,
        shard(0, "1x80", "3x80", OLD[0])
        | shard(1, "1x80", "3x80", OLD[1])
        | shard(2, "1x9 stale", "3x9 stale", OLD[2])
        | shard(2, "_x50 1x30", "_x50 3x30", NEW[2]),
        {9: [], 14: [], 15: [JOB], 49: [JOB], 50: []},
        ExpectedAlert(
            40,
            JOB,
            "Part of the watchlist is not watched.",
            "Only 2 shards of job verify-factor-exporter have an exporter that can be scraped. The factors of the "
            "other shards are not polled; their alerts resolve although nothing was fixed.",
            "twilio-verify-exporter",
        ),
    ),
    Case(
        "a quota leaves one of three shards without a pod from the start",
        _MISSING,
        shard(0, "1x60", "3x60", OLD[0]) | shard(1, "1x60", "3x60", OLD[1]),
        {4: [], 5: [JOB], 60: [JOB]},
    ),
    Case(
        "more shards, and a quota stops the new pod: the old ones watch everything",
        _MISSING,
        shard(0, "1x60", "2x60", OLD[0]) | shard(1, "1x60", "2x60", OLD[1]),
        {10: [], 60: []},
    ),
    Case(
        "more shards, and of two new pods one is pending: the old ones watch everything",
        _MISSING,
        shard(0, "1x60", "2x60", OLD[0]) | shard(1, "1x60", "2x60", OLD[1]) | shard(3, "1x60", "4x60", NEW[3]),
        {10: [], 60: []},
    ),
    Case(
        "more shards, and one of the old pods does not start again with the new number",
        _MISSING,
        shard(0, "1x60", "2x60", OLD[0])
        | shard(1, "1x19 stale", "2x19 stale", OLD[1])
        | shard(2, "_x10 1x50", "_x10 3x50", NEW[2]),
        {19: [], 24: [], 25: [JOB], 60: [JOB]},
    ),
    Case(
        "more shards, and the new number has reached one of the old pods: everything is watched",
        _MISSING,
        shard(0, "1x60", "2x60", OLD[0]) | shard(1, "1x60", "3x60", NEW[1]) | shard(2, "1x60", "3x60", NEW[2]),
        {10: [], 60: []},
    ),
    Case(
        "two shards become three, a pod at a time",
        _MISSING,
        shard(2, "_x10 1x60", "_x10 3x60", NEW[2])
        | shard(1, "1x14 stale", "2x14 stale", OLD[1])
        | shard(1, "_x18 1x60", "_x18 3x60", NEW[1])
        | shard(0, "1x24 stale", "2x24 stale", OLD[0])
        | shard(0, "_x28 1x60", "_x28 3x60", NEW[0]),
        {9: [], 12: [], 17: [], 20: [], 27: [], 35: [], 60: []},
    ),
    Case(
        "kubectl takes one of three pods away",
        _MISSING,
        shard(0, "1x60", "3x60", OLD[0])
        | shard(1, "1x60", "3x60", OLD[1])
        | shard(2, "1x19 stale", "3x19 stale", OLD[2]),
        {24: [], 25: [JOB], 60: [JOB]},
    ),
    Case(
        "kubectl adds a pod, which does not start",
        _MISSING,
        shard(0, "1x60", "2x60", OLD[0]) | shard(1, "1x60", "2x60", OLD[1]) | up("0x60"),
        {10: [], 60: []},
    ),
    Case(
        "three shards become two in one step, quickly",
        _MISSING,
        shard(2, "1x9 stale", "3x9 stale", OLD[2])
        | shard(1, "1x9 stale", "3x9 stale", OLD[1])
        | shard(1, "_x11 1x50", "_x11 2x50", NEW[1])
        | shard(0, "1x12 stale", "3x12 stale", OLD[0])
        | shard(0, "_x14 1x50", "_x14 2x50", NEW[0]),
        {12: [], 14: [], 20: [], 40: []},
    ),
    Case(
        "three shards become two in one step, and the rollout stops halfway",
        _MISSING,
        shard(2, "1x9 stale", "3x9 stale", OLD[2])
        | shard(1, "1x9 stale", "3x9 stale", OLD[1])
        | shard(1, "_x11 1x50", "_x11 2x50", NEW[1])
        | shard(0, "1x60", "3x60", OLD[0]),
        {14: [], 15: [JOB], 60: [JOB]},
    ),
    Case(
        "three shards become two in the documented order, with long restarts",
        _MISSING,
        shard(0, "1x9 stale", "3x9 stale", OLD[0])
        | shard(0, "_x14 1x60", "_x14 2x60", NEW[0])
        | shard(1, "1x19 stale", "3x19 stale", OLD[1])
        | shard(1, "_x24 1x60", "_x24 2x60", NEW[1])
        | shard(2, "1x29 stale", "3x29 stale", OLD[2]),
        {9: [], 13: [], 18: [], 23: [], 28: [], 40: [], 60: []},
    ),
    Case(
        "the number of shards has changed, not yet that of the pods: everything is watched",
        _MISSING,
        shard(0, "1x60", "2x60", NEW[0]) | shard(1, "1x60", "2x60", NEW[1]) | shard(2, "1x60", "3x60", OLD[2]),
        {10: [], 60: []},
    ),
    Case(
        "two replicas of the same shard are one",
        _MISSING,
        shard(0, "1x60", "2x60") | shard(0, "1x60", "2x60", POD_B),
        {4: [], 5: [JOB]},
    ),
    Case(
        "two replicas of the same shard of the smaller number are one",
        _MISSING,
        shard(0, "1x60", "2x60") | shard(0, "1x60", "2x60", POD_B) | shard(2, "1x60", "4x60", POD_C),
        {4: [], 5: [JOB]},
    ),
    Case("one exporter for all", _MISSING, shard(0, "1x60", "1x60"), {10: [], 60: []}),
    Case(
        "one exporter for all is to be replaced by two shards, of which one is pending",
        _MISSING,
        shard(0, "1x60", "1x60") | shard(0, "1x60", "2x60", POD_B),
        {10: [], 60: []},
    ),
    Case("one exporter for all is now one of two", _MISSING, shard(0, "1x60", "1x19 2x40"), {24: [], 25: [JOB]}),
    Case(
        "a shard of one of two namespaces",
        _MISSING,
        _in_namespace("one", shard(0, "1x60", "2x60"))
        | _in_namespace("two", shard(0, "1x60", "2x60") | shard(1, "1x60", "2x60", POD_B)),
        {10: [{**JOB, "namespace": "one"}]},
    ),
    Case(
        "a shard of one of two jobs",
        _MISSING,
        shard(0, "1x60", "2x60") | shard(1, "1x60", "2x60", POD_B) | _of_job("another", shard(1, "1x60", "2x60")),
        {10: [{"job": "another"}]},
    ),
    Case("no series, no alert", _MISSING, up("1x60"), {30: []}),
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

CASES = (*WATCHLISTS, *SHARDING, *MISSING, *LISTED)
