"""Cases for the alerts about the exporter itself."""

from __future__ import annotations

from tests.support.rules.cases import JOB, POD_A, POD_B, Case, ExpectedAlert, name
from tests.support.rules.service_cases import SERVICE

OTHER_SERVICE = SERVICE | {"account": "other", "service_sid": "VA" + "9" * 32}
_BOARD = "twilio-verify-exporter"
_DOWN = "ExporterDown"
_ABSENT = "ExporterAbsent"
_STALLED = "SchedulerStalled"
_LAGGING = "ScheduleLagging"
_RELOAD = "ConfigReloadFailed"
_FALLBACK = "WatchlistFallback"
_SOURCE_DOWN = "WatchlistSourceDown"
_SOURCE_UP = "twilio_verify_exporter_watchlist_source_up"
_URL = JOB | {"source": "identity-service"}
_OTHER_URL = JOB | {"source": "crm"}
_RESTARTING = "ExporterRestarting"
_STATE = "StateNotSaved"
_LAST_SAVE = "twilio_verify_exporter_state_last_save_timestamp_seconds"
_SAVE_FAILURES = "twilio_verify_exporter_state_save_failures_total"
_TICK = "twilio_verify_exporter_last_tick_timestamp_seconds"
_LOADED = "twilio_verify_exporter_config_last_reload_successful"
_STANDS_IN = "twilio_verify_exporter_watchlist_fallback"
_START = "process_start_time_seconds"


def up(values: str, pod: dict[str, str] = POD_A, job: dict[str, str] = JOB) -> dict[str, str]:
    """Return the up series of a target."""
    return {name("up", job, pod): values}


def late(values: str, fetches: str, pod: dict[str, str] = POD_A) -> dict[str, str]:
    """Return the fetches that started late, and all fetches."""
    return {
        name("twilio_verify_exporter_late_fetches_total", JOB, pod): values,
        name("twilio_verify_fetches_total", SERVICE, pod): fetches,
        name("twilio_verify_fetches_total", OTHER_SERVICE, pod): "0x150",
    }


REACHED = (
    Case(
        "not scraped for a while",
        _DOWN,
        up("1x4 0x24 1x10"),
        {4: [], 9: [], 10: [JOB], 29: [JOB], 30: []},
        ExpectedAlert(
            15,
            JOB,
            "The exporter is down or unreachable.",
            "Prometheus can't scrape any target of job verify-factor-exporter, so no factor status is updated. "
            "Factor alerts resolve after 15 minutes although nothing was fixed.",
            _BOARD,
        ),
    ),
    Case("of two replicas one is down", _DOWN, up("0x40") | up("1x40", POD_B), {10: [], 40: []}),
    Case("two replicas make one alert", _DOWN, up("0x40") | up("0x40", POD_B), {4: [], 5: [JOB], 40: [JOB]}),
    Case("a pod is replaced", _DOWN, up("1x9 0x2 stale") | up("_x11 1x20", POD_B), {15: [], 30: []}),
    Case(
        "down, and down in another pod: the same alert",
        _DOWN,
        up("0x9 stale") | up("_x10 0x20", POD_B),
        {9: [JOB], 10: [JOB], 11: [JOB], 30: [JOB]},
    ),
    Case("another job is down", _DOWN, up("1x40") | up("0x40", job={"job": "other"}), {10: [], 40: []}),
    Case("one good scrape among bad ones", _DOWN, up("0x3 1 0x3 1 0x3 1 0x3"), {5: [], 9: [], 13: [], 16: []}),
    Case(
        "no target, and one again",
        _ABSENT,
        up("1x4 stale _x24 1x5") | up("1x60", job={"job": "other"}),
        {4: [], 14: [], 15: [JOB], 29: [JOB], 30: []},
        ExpectedAlert(
            20,
            JOB,
            "Prometheus has no exporter to scrape.",
            "Prometheus has no target for job verify-factor-exporter: the exporter is not deployed, or the scrape "
            "configuration does not discover it.",
            _BOARD,
        ),
        isolated=True,
    ),
    Case("never a target", _ABSENT, up("1x60", job={"job": "other"}), {9: [], 10: [JOB], 60: [JOB]}, isolated=True),
    Case("a target that is down is there", _ABSENT, up("0x60"), {10: [], 60: []}, isolated=True),
    Case(
        "a pod is replaced within minutes",
        _ABSENT,
        up("1x4 stale") | up("_x12 1x20", POD_B),
        {12: [], 13: [], 30: []},
        isolated=True,
    ),
)

SCHEDULED = (
    Case(
        "no dispatch for a while",
        _STALLED,
        {name(_TICK, JOB, POD_A): "0+60x4 240x24 1800+60x10"},
        {6: [], 8: [], 9: [JOB], 29: [JOB], 30: []},
        ExpectedAlert(
            10,
            JOB,
            "The exporter's scheduler has stalled.",
            "The scheduler of an exporter of job verify-factor-exporter last ran 6m 0s ago. No factor is polled, "
            "and all statuses are getting old.",
            _BOARD,
        ),
    ),
    Case("two minutes ago", _STALLED, {name(_TICK, JOB, POD_A): "-120+60x60"}, {5: [], 60: []}),
    Case(
        "a little over two minutes ago",
        _STALLED,
        {name(_TICK, JOB, POD_A): "-125+60x60"},
        {1: [], 2: [JOB], 60: [JOB]},
    ),
    Case("a little under two minutes ago", _STALLED, {name(_TICK, JOB, POD_A): "-115+60x60"}, {5: [], 60: []}),
    Case(
        "one of two shards has stalled",
        _STALLED,
        {name(_TICK, JOB, POD_A): "0x30", name(_TICK, JOB, POD_B): "0+60x30"},
        {4: [], 5: [JOB], 30: [JOB]},
    ),
    Case(
        "two shards make one alert",
        _STALLED,
        {name(_TICK, JOB, POD_A): "0x30", name(_TICK, JOB, POD_B): "0x30"},
        {5: [JOB], 30: [JOB]},
    ),
    Case(
        "a pod that is gone is not stalled",
        _STALLED,
        {name(_TICK, JOB, POD_A): "0+60x9 stale", name(_TICK, JOB, POD_B): "_x10 600+60x20"},
        {13: [], 16: [], 30: []},
    ),
    Case("no series, no alert", _STALLED, up("1x60"), {10: [], 60: []}),
    Case(
        "late for a while",
        _LAGGING,
        late("0x19 0+2x41 84x40", "0+10x100"),
        {30: [], 38: [], 50: [JOB], 80: []},
        ExpectedAlert(
            55,
            JOB,
            "Fetches start late.",
            "20% of the fetches of job verify-factor-exporter start more than a minute late, so status changes are "
            "detected late. Check the request budget, Twilio's latency and CPU.",
            _BOARD,
        ),
        severity="warning",
    ),
    Case(
        "from the beginning",
        _LAGGING,
        late("0+5x40", "0+10x40"),
        {14: [], 16: [], 17: [JOB], 40: [JOB]},
        severity="warning",
    ),
    Case("10.5 % late", _LAGGING, late("0+105x60", "0+1000x60"), {40: [JOB]}, severity="warning"),
    Case("9.5 % late", _LAGGING, late("0+95x60", "0+1000x60"), {40: [], 60: []}, severity="warning"),
    Case("9.7 late ones are few", _LAGGING, late("0+0.6467x60", "0+1x60"), {40: [], 60: []}, severity="warning"),
    Case(
        "10.3 late ones, of two shards",
        _LAGGING,
        late("0+0.3433x60", "0+0.5x60") | late("0+0.3433x60", "0+0.5x60", POD_B),
        {40: [JOB]},
        severity="warning",
    ),
    Case(
        "of two shards one is late, and they are many",
        _LAGGING,
        late("0+5x60", "0+10x60") | late("0x60", "0+80x60", POD_B),
        {40: [], 60: []},
        severity="warning",
    ),
    Case(
        "two shards, a tenth of all and more",
        _LAGGING,
        late("0+5x60", "0+10x60") | late("0x60", "0+30x60", POD_B),
        {40: [JOB]},
        severity="warning",
    ),
    Case(
        "the last of them a quarter of an hour ago",
        _LAGGING,
        late("0x10 1+1x30 32x60", "0+1x100"),
        {38: [JOB], 44: [JOB], 50: [], 60: []},
        severity="warning",
    ),
    Case(
        "a restart of the process in the middle",
        _LAGGING,
        late("200+2x40 0+2x40", "500+10x40 0+10x40"),
        {30: [JOB], 41: [JOB], 43: [JOB], 60: [JOB]},
        severity="warning",
    ),
    Case("no fetches", _LAGGING, late("0x60", "0x60"), {40: []}, severity="warning"),
)

OPERATED = (
    Case(
        "every save fails from the start, until it is fixed",
        _STATE,
        {name(_SAVE_FAILURES, JOB, POD_A): "0x4 1+1x25 26x30"},
        {9: [], 14: [], 16: [JOB], 30: [JOB], 42: []},
        ExpectedAlert(
            20,
            JOB,
            "The exporter can't save its state.",
            "An exporter of job verify-factor-exporter has a state file and does not save it. After a restart, it "
            "will start from the last saved state, or from none.",
            _BOARD,
        ),
        severity="warning",
    ),
    Case(
        "a save hangs",
        _STATE,
        {name(_LAST_SAVE, JOB, POD_A): "0+60x10 600x20 1920+60x20"} | {name(_SAVE_FAILURES, JOB, POD_A): "0x60"},
        {20: [], 25: [], 26: [JOB], 31: [JOB], 32: [], 45: []},
        severity="warning",
    ),
    Case(
        "a save hangs for ten minutes",
        _STATE,
        {name(_LAST_SAVE, JOB, POD_A): "0+60x10 600x9 1200+60x20"},
        {15: [], 19: [], 20: [], 25: []},
        severity="warning",
    ),
    Case(
        "of two exporters one saves",
        _STATE,
        {
            name(_LAST_SAVE, JOB, POD_A): "0+60x60",
            name(_LAST_SAVE, JOB, POD_B): "0x60",
            name(_SAVE_FAILURES, JOB, POD_A): "0x60",
        },
        {15: [], 16: [JOB], 30: [JOB]},
        severity="warning",
    ),
    Case(
        "of two exporters one fails",
        _STATE,
        {name(_SAVE_FAILURES, JOB, POD_A): "0x60", name(_SAVE_FAILURES, JOB, POD_B): "0+1x60"},
        {10: [], 13: [JOB], 30: [JOB]},
        severity="warning",
    ),
    Case(
        "the disk is full for a moment",
        _STATE,
        {name(_LAST_SAVE, JOB, POD_A): "0+60x60", name(_SAVE_FAILURES, JOB, POD_A): "0x9 1+1x3 5x40"},
        {12: [], 17: [], 20: [], 30: []},
        severity="warning",
    ),
    Case(
        "more than half of the saves fail",
        _STATE,
        {name(_LAST_SAVE, JOB, POD_A): "0+60x60", name(_SAVE_FAILURES, JOB, POD_A): "0+0.55x60"},
        {10: [], 20: [JOB], 40: [JOB]},
        severity="warning",
    ),
    Case(
        "a save fails now and then",
        _STATE,
        {name(_LAST_SAVE, JOB, POD_A): "0+60x60", name(_SAVE_FAILURES, JOB, POD_A): "0+0.4x60"},
        {20: [], 40: []},
        severity="warning",
    ),
    Case(
        "a restart after a while restores an old file",
        _STATE,
        {name(_LAST_SAVE, JOB, POD_A): "_x30 0 0 1920+60x20"},
        {31: [], 32: [], 40: []},
        severity="warning",
    ),
    Case("without a state file", _STATE, up("1x40"), {30: []}, severity="warning", isolated=True),
    Case(
        "refused for a while",
        _RELOAD,
        {name(_LOADED, JOB, POD_A): "1x4 0x24 1x10"},
        {4: [], 14: [], 15: [JOB], 29: [JOB], 30: []},
        ExpectedAlert(
            20,
            JOB,
            "The exporter refused to reload its configuration.",
            "An exporter of job verify-factor-exporter refused the current configuration or watchlist and keeps "
            "the previous one. Its log and the check command list the errors.",
            _BOARD,
        ),
        severity="warning",
    ),
    Case(
        "of two pods one refuses",
        _RELOAD,
        {name(_LOADED, JOB, POD_A): "1x40", name(_LOADED, JOB, POD_B): "0x40"},
        {9: [], 10: [JOB]},
        severity="warning",
    ),
    Case(
        "two pods make one alert",
        _RELOAD,
        {name(_LOADED, JOB, POD_A): "0x40", name(_LOADED, JOB, POD_B): "0x40"},
        {10: [JOB]},
        severity="warning",
    ),
    Case(
        "the pod that refused is gone",
        _RELOAD,
        {name(_LOADED, JOB, POD_A): "0x19 stale", name(_LOADED, JOB, POD_B): "_x20 1x40"},
        {15: [JOB], 22: [JOB], 26: []},
        severity="warning",
    ),
    Case("no series, no alert", _RELOAD, up("1x60"), {30: []}, severity="warning"),
    Case(
        "on the last good watchlist for a while",
        _FALLBACK,
        {name(_STANDS_IN, JOB, POD_A): "0x4 1x24 0x10"},
        {4: [], 9: [], 10: [JOB], 29: [JOB], 30: []},
        ExpectedAlert(
            20,
            JOB,
            "The exporter runs on the last good watchlist.",
            "An exporter of job verify-factor-exporter started with watchlist files or URLs that are missing, "
            "invalid or empty. It watches what they listed last, and is not ready. Its log and the check command "
            "list the errors.",
            _BOARD,
        ),
        severity="warning",
    ),
    Case(
        "one of two pods is on the last good watchlist",
        _FALLBACK,
        {name(_STANDS_IN, JOB, POD_A): "0x40", name(_STANDS_IN, JOB, POD_B): "1x40"},
        {4: [], 5: [JOB]},
        severity="warning",
    ),
    Case(
        "two pods on the last good watchlist make one alert",
        _FALLBACK,
        {name(_STANDS_IN, JOB, POD_A): "1x40", name(_STANDS_IN, JOB, POD_B): "1x40"},
        {5: [JOB]},
        severity="warning",
    ),
    Case(
        "the pod that was on the last good watchlist is gone",
        _FALLBACK,
        {name(_STANDS_IN, JOB, POD_A): "1x19 stale", name(_STANDS_IN, JOB, POD_B): "_x20 0x40"},
        {15: [JOB], 22: [JOB], 26: []},
        severity="warning",
    ),
    Case("the files are right", _FALLBACK, {name(_STANDS_IN, JOB, POD_A): "0x40"}, {30: []}, severity="warning"),
    Case(
        "a watchlist URL is down for a while",
        _SOURCE_DOWN,
        {name(_SOURCE_UP, _URL, POD_A): "1x4 0x34 1x10"},
        {4: [], 19: [], 20: [_URL], 39: [_URL], 40: []},
        ExpectedAlert(
            25,
            _URL,
            "A watchlist URL can't be used.",
            "An exporter of job verify-factor-exporter can't load the watchlist URL identity-service, or refuses "
            "its answer. What the URL listed last stays in effect; if the exporter never loaded it, nothing that "
            "it lists is watched, and the exporter is not ready. Its log has the reason.",
            _BOARD,
        ),
        severity="warning",
    ),
    Case(
        "one of two exporters can't load it, and one of two URLs",
        _SOURCE_DOWN,
        {
            name(_SOURCE_UP, _URL, POD_A): "1x40",
            name(_SOURCE_UP, _URL, POD_B): "0x40",
            name(_SOURCE_UP, _OTHER_URL, POD_A): "1x40",
            name(_SOURCE_UP, _OTHER_URL, POD_B): "1x40",
        },
        {14: [], 15: [_URL]},
        severity="warning",
    ),
    Case(
        "two exporters that can't load it make one alert",
        _SOURCE_DOWN,
        {name(_SOURCE_UP, _URL, POD_A): "0x40", name(_SOURCE_UP, _URL, POD_B): "0x40"},
        {15: [_URL]},
        severity="warning",
    ),
    Case(
        "two URLs make two alerts",
        _SOURCE_DOWN,
        {name(_SOURCE_UP, _URL, POD_A): "0x40", name(_SOURCE_UP, _OTHER_URL, POD_A): "0x40"},
        {15: [_URL, _OTHER_URL]},
        severity="warning",
    ),
    Case(
        "a load that fails now and then",
        _SOURCE_DOWN,
        {name(_SOURCE_UP, _URL, POD_A): "1x9 0x9 1 0x9 1x10"},
        {15: [], 30: []},
        severity="warning",
    ),
    Case(
        "the pod that could not load it is gone",
        _SOURCE_DOWN,
        {name(_SOURCE_UP, _URL, POD_A): "0x24 stale", name(_SOURCE_UP, _URL, POD_B): "_x25 1x20"},
        {20: [_URL], 27: [_URL], 31: []},
        severity="warning",
    ),
    Case("without watchlist URLs, no alert", _SOURCE_DOWN, up("1x60"), {30: []}, severity="warning"),
    Case(
        "three starts in half an hour",
        _RESTARTING,
        {name(_START, JOB, POD_A): "100x9 700x4 1000x4 1300x80"},
        {10: [], 19: [], 20: [JOB], 37: [JOB], 53: [JOB], 55: []},
        ExpectedAlert(
            25,
            JOB,
            "The exporter restarts repeatedly.",
            "An exporter of job verify-factor-exporter started 3 times within 30 minutes. Check the end of its "
            "previous log for the cause.",
            _BOARD,
        ),
        severity="warning",
    ),
    Case(
        "two starts in half an hour",
        _RESTARTING,
        {name(_START, JOB, POD_A): "100x9 700x4 1000x80"},
        {20: [], 40: []},
        severity="warning",
    ),
    Case(
        "three starts in an hour",
        _RESTARTING,
        {name(_START, JOB, POD_A): "100x9 700x20 2000x20 3000x40"},
        {55: [], 60: []},
        severity="warning",
    ),
    Case(
        "three starts of two shards",
        _RESTARTING,
        {name(_START, JOB, POD_A): "100x9 700x4 1000x80", name(_START, JOB, POD_B): "100x12 900x80"},
        {20: [], 40: []},
        severity="warning",
    ),
    Case(
        "of two shards one keeps restarting",
        _RESTARTING,
        {name(_START, JOB, POD_A): "100x9 700x4 1000x4 1300x80", name(_START, JOB, POD_B): "100x80"},
        {20: [JOB]},
        severity="warning",
    ),
    Case(
        "another program keeps restarting",
        _RESTARTING,
        {name(_START, {"job": "other"}, POD_A): "100x9 700x4 1000x4 1300x80"},
        {20: [], 25: []},
        severity="warning",
    ),
)

WATCHDOG = (
    Case(
        "always",
        "Watchdog",
        up("1x10"),
        {0: [{}], 10: [{}]},
        ExpectedAlert(
            5,
            {},
            "The alerting pipeline works.",
            "This alert always fires. Route it to an external service that pages when it stops arriving: "
            "Prometheus, Alertmanager or the connection between them is down then.",
            "twilio-verify-overview",
        ),
        severity="none",
        isolated=True,
    ),
)

CASES = (*REACHED, *SCHEDULED, *OPERATED)
