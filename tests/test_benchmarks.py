"""What the benchmarks decide and count: the measurements themselves run by `make bench`."""

from __future__ import annotations

import asyncio
import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import compare, curve, document, full, functions, history, million, noise, process, reloads
from benchmarks.__main__ import BY_NAME_ONLY, NAMES, Extent, Run
from benchmarks.upstream import SERVICE_SID
from benchmarks.whole import GO_POLLER, JSON_EXPORTER, OURS
from exporter.polling.schedule import due_after, phase

ROOT = Path(__file__).parents[1]
FOREVER = (sys.executable, "-c", "import time; time.sleep(3600)")


@pytest.fixture
def numbers() -> dict[str, Any]:
    read: dict[str, Any] = json.loads(document.NUMBERS.read_text(encoding="utf-8"))
    return read


# History


def test_a_version_has_one_entry_which_a_new_run_replaces() -> None:
    entries = [{"version": "1.0.0", "fetch_us": 9.0}, {"version": "1.1.0", "fetch_us": 8.0}]
    again = {"version": "1.0.0", "fetch_us": 7.0}
    assert history.merged(entries, again) == [again, entries[1]]
    following = {"version": "1.2.0", "fetch_us": 6.0}
    assert history.merged(entries, following) == [*entries, following]
    assert history.merged([], following) == [following]


def test_an_entry_is_one_line_of_json(tmp_path: Path) -> None:
    entries = [{"version": "1.0.0", "python": "3.11.7"}, {"version": "1.1.0", "python": "3.13.1"}]
    file = tmp_path / "history.json"
    assert history.read(file) == []
    file.write_text(history.dump(entries), encoding="utf-8")
    assert history.read(file) == entries
    assert [line.count("version") for line in file.read_text(encoding="utf-8").splitlines()] == [0, 1, 1, 0]


def test_an_entry_has_the_numbers_that_there_are(numbers: dict[str, Any]) -> None:
    for part in ("million", "reload"):
        numbers.pop(part, None)
    numbers["whole"]["measured"]["seconds"] = {
        OURS: [1e-4, 3e-4, 2e-4],
        "blackbox_exporter (one probe)": [8e-4],
    }
    numbers["whole"]["commit"] = "0123456789ab"
    entry = history.entry(numbers, "1.0.0")
    assert (entry["version"], entry["commit"], entry["fetch_us"], entry["blackbox_to_fetch"]) == (
        "1.0.0",
        "0123456789ab",
        200.0,
        4.0,
    )
    assert not {"fetch_to_go", "factors_in_shards"} & entry.keys()
    numbers["whole"]["measured"]["seconds"][GO_POLLER] = [1e-4]
    numbers["million"] = {"measured": [{"factors": 1_000_000, "missed": 7}, {"factors": 700_000, "missed": 0}]}
    entry = history.entry(numbers, "1.0.0")
    assert (entry["fetch_to_go"], entry["factors_in_shards"]) == (2.0, 700_000)
    numbers["reload"] = {"measured": {"one": {"longest_stall": 0.02}, "other": {"longest_stall": 0.03}}}
    assert history.entry(numbers, "1.0.0")["longest_stall_of_reloads_ms"] == 30.0


def test_the_plot_has_room_for_what_an_old_version_did_not_measure(tmp_path: Path) -> None:
    plot = tmp_path / "history.png"
    history.draw([{"version": "1.0.0"}, {"version": "1.1.0", "fetch_us": 100.0, "fetch_to_go": 1.5}], plot)
    assert plot.read_bytes().startswith(b"\x89PNG")


# Number of factors


def test_no_point_of_the_curve_exceeds_the_rate() -> None:
    for factors in (*curve.SIZES, 100_000):
        interval = curve.interval_seconds(factors)
        assert factors / interval <= curve.RATE * 1.0001
        assert interval >= curve.LEAST_INTERVAL_SECONDS


def result(factors: int, *, missed: int = 0, failed: float = 0.0) -> million.Million:
    return million.Million(
        factors=factors,
        shards=10,
        interval_seconds=600.0,
        seconds=1200,
        fetches=2 * factors,
        missed=missed,
        failed=failed,
        lag_p50=0.5,
        lag_p99=1.0,
        lag_max=1.5,
        exporters_cpu=1.0,
        upstream_cpu=0.2,
        rest_cpu=0.1,
        memory_mb=[500.0] * 10,
        memory_peak_mb=[900.0] * 10,
        start=[20.0] * 10,
        scrapes=200,
        scrape_bytes=10_000_000,
        scrape_median=0.5,
        scrape_max=2.0,
    )


@pytest.mark.parametrize(
    ("of", "tried"),
    [
        ({1000: result(1000), 700: result(700)}, [1000]),
        ({1000: result(1000, missed=1), 700: result(700), 500: result(500)}, [1000, 700]),
        ({1000: result(1000, failed=1.0), 700: result(700)}, [1000, 700]),
        ({1000: result(1000, missed=2), 700: result(700, missed=1)}, [1000, 700]),
        ({1000: SystemExit("out of memory"), 700: result(700)}, [700]),
        ({1000: replace(result(1000), fetches=0), 700: result(700)}, [1000, 700]),
    ],
)
def test_fewer_factors_are_tried_until_none_is_missed(of: dict[int, Any], tried: list[int]) -> None:
    def run(count: int) -> million.Million:
        found = of[count]
        if isinstance(found, BaseException):
            raise found
        assert isinstance(found, million.Million)
        return found

    assert [found.factors for found in million.step_down(of, run)] == tried


def test_no_result_at_all_is_an_error() -> None:
    def run(count: int) -> million.Million:
        raise OSError(f"{count}: no memory")

    with pytest.raises(SystemExit, match="no number of factors"):
        million.step_down((2, 1), run)


def test_each_slot_without_an_arrival_is_missed(tmp_path: Path) -> None:
    sids, interval, start = ("YF1", "YF2", "YF3"), 100.0, 1_000_000.0
    due = {sid: due_after(start, interval, phase(("main", SERVICE_SID, sid))) for sid in sids}
    log = tmp_path / "arrivals.log"
    lines = [f"{due['YF1'] + 0.25:.3f} YF1", f"{due['YF1'] + 100.5:.3f} YF1", f"{due['YF2'] + 100.75:.3f} YF2"]
    log.write_text("\n".join(lines) + "\n", encoding="ascii")
    lags, missed = full.lateness(sids, full.arrivals_of(log), start, start + 2 * interval, interval)
    assert sorted(round(lag, 2) for lag in lags) == [0.25, 0.5, 0.75]
    assert missed == 3


def test_the_longest_time_without_a_fetch_includes_both_ends() -> None:
    moments = [1.0, 9.0, 10.0, 10.5, 14.0, 30.0]
    assert reloads.longest_gap(moments, 8.0, 15.0) == 3.5
    assert reloads.longest_gap(moments, 10.2, 20.0) == 6.0
    assert reloads.longest_gap(moments, 2.0, 10.2) == 7.0
    assert reloads.longest_gap(moments, 15.0, 20.0) == 5.0


# Noise and profile


def test_the_noise_is_what_grew_in_proc_stat() -> None:
    before = noise.counters("cpu  100 0 50 1000 10 0 5 20 7 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
    after = noise.counters("cpu  140 0 60 1040 10 0 5 30 9 0\n")
    stolen, busy = noise.shares(before, after)
    assert (stolen, busy) == (0.1, 0.5)
    assert noise.shares(before, before) == (0.0, 1.0)


def test_samples_count_for_the_innermost_function() -> None:
    counted = functions.by_function(
        (
            "main (/opt/env/lib/python3.11/site-packages/x/y.py:1);fetch (/src/exporter/verify/client.py:20) 3",
            "main (a.py:1);fetch (/tmp/other/exporter/verify/client.py:20) 4",
            "run (/usr/lib/python3.11/asyncio/runners.py:9) 5",
            "main (a.py:1);send (/opt/env/lib/python3.11/site-packages/httpx/_client.py:7) 2",
            "<error> 1",
        )
    )
    assert counted == {
        "fetch (exporter/verify/client.py)": 7,
        "run (asyncio/runners.py)": 5,
        "send (httpx/_client.py)": 2,
    }


# Another revision


def test_the_files_of_a_revision_are_there_until_the_block_ends() -> None:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    with compare.tree_of("HEAD") as tree:
        assert (tree / "exporter" / "__main__.py").is_file()
        found = subprocess.run(
            (sys.executable, "-c", "import exporter; print(exporter.__file__)"),
            cwd=tree,
            check=True,
            capture_output=True,
            text=True,
        )
        assert Path(found.stdout.strip()).is_relative_to(tree)
    assert not tree.exists()
    with pytest.raises(SystemExit, match="--compare no-such-revision"), compare.tree_of("no-such-revision"):
        pass


COMPARED: dict[str, Any] = {
    "revision": "0123456",
    "factors": 10_000,
    "many_factors": 100_000,
    "fetch": {
        "seconds": {"before": [2e-4, 4e-4, 3e-4], "after": [1e-4], GO_POLLER: [5e-5]},
        "memory_mb": {"before": 110.0, "after": 90.0, GO_POLLER: 30.0},
    },
    "startup": {
        name: {"import the libraries": [seconds], "first scrape of ten factors": [seconds + 0.1]}
        for name, seconds in (("before", 0.5), ("after", 0.4))
    },
    "reload": {
        name: {
            "every label changes": {
                "longest_stall": stall,
                "longest_scrape": 1.5,
                "longest_without_fetch": 1.0,
                "seconds": 4.0,
            }
        }
        for name, stall in (("before", 0.4), ("after", 0.04))
    },
    "functions": {
        "before": {"samples": 100, "cpu_seconds_per_fetch": 2e-4, "own": {"a (x.py)": 60, "b (x.py)": 40}},
        "after": {"samples": 50, "cpu_seconds_per_fetch": 1e-4, "own": {"a (x.py)": 50}},
    },
}


def test_what_was_measured_of_both_revisions_is_compared() -> None:
    rows = {name: (round(before, 6), round(after, 6)) for name, _, before, after in compare.rows(COMPARED)}
    assert rows == {
        "CPU per fetch": (300.0, 100.0),
        "CPU per fetch / that of the poller in Go": (6.0, 2.0),
        "resident memory, 10,000 factors": (110.0, 90.0),
        "reload, every label changes: longest stall": (400.0, 40.0),
        "reload, every label changes: longest scrape": (1500.0, 1500.0),
        "reload, every label changes: longest time without a fetch": (1000.0, 1000.0),
        "reload, every label changes: duration": (4000.0, 4000.0),
        "import the libraries": (500.0, 400.0),
        "first scrape of ten factors": (600.0, 500.0),
    }
    assert compare.rows({"revision": "0123456"}) == []


# The page


def test_the_page_has_the_sections_of_what_was_measured(numbers: dict[str, Any]) -> None:
    optional = ("many", "functions", "curve", "million", "reload", "compare")
    bare = document.render({name: of for name, of in numbers.items() if name not in optional}, [])
    headings = (
        "### By function",
        "## By number",
        "## Shards",
        "## Reloads",
        "## Before and after",
        "## Releases",
        "CSV file",
    )
    assert not [heading for heading in headings if heading in bare]
    assert "<!-- if" not in bare
    assert "py-spy, 40 s" in bare

    whole = copy.deepcopy(numbers["whole"])
    whole["measured"]["seconds"] |= {OURS: [2e-4], GO_POLLER: [1e-4], JSON_EXPORTER: [1e-3]}
    whole["noise"] = {"longest_stall": 0.0123, "stalls_over_50_ms": 0, "stolen": 0.002, "busy": 0.345}
    about = {"date": "2027-01-02"}
    complete = document.render(
        {
            **numbers,
            "whole": whole,
            "many": {"measured": {"check": [1.5, 1.25, 2.0]}, **about},
            "functions": {"measured": COMPARED["functions"]["before"], **about},
            "million": {"measured": [json.loads(json.dumps(vars_of(result(700_000))))], **about},
            "reload": {"measured": {"every label changes": RELOADED}, **about},
            "compare": {"measured": COMPARED, **about},
        },
        [{"version": "0.9.0", "date": "2026-01-01", "python": "3.11.7", "fetch_us": 321.0}],
    )
    assert not [heading for heading in headings if heading not in complete]
    assert "py-spy, 40 s" not in complete
    assert "an idle event loop stalled for at most 12 ms, the cores were 34% busy" in complete
    assert "the hypervisor took 0.2% of their time" in complete
    assert "**The exporter needs 2.0 times the CPU time of the poller in Go.**" in complete
    assert "A json_exporter probe needs 5.0 times the CPU time" in complete
    assert "| check | 1,500.00 ms |" in complete
    assert "| `a (x.py)` | 120.0 | 60.0% |" in complete
    assert "| | 700,000 factors |" in complete
    assert "| resident memory of all shards, MB | 5,000 |" in complete
    assert "| CPU per fetch | 300 µs | 100 µs | 0.33 |" in complete
    assert "| `b (x.py)` | 80.0 | 0.0 |" in complete
    assert "| longest stall of the event loop, ms | 46 |" in complete
    assert "| stalls of more than 50 ms | 1 |" in complete
    assert "| 0.9.0 | 2026-01-01 | 3.11.7 | 321 |" in complete


RELOADED = {
    "factors": 100_000,
    "factors_after": 100_000,
    "seconds": 4.25,
    "longest_stall": 0.0456,
    "stalls_over_50_ms": [[70.5, 0.0556]],
    "longest_scrape": 0.5,
    "longest_scrape_before": 0.4,
    "longest_without_fetch": 1.25,
    "longest_without_fetch_before": 1.0,
    "memory_mb": 400.0,
    "memory_peak_mb": 600.0,
}


def vars_of(of: million.Million) -> dict[str, Any]:
    return {name: getattr(of, name) for name in of.__slots__}


def test_the_comparison_gets_the_numbers_of_others(numbers: dict[str, Any]) -> None:
    whole = numbers["whole"]["measured"]
    whole |= {"memory_mb": 99.4, "blackbox_memory_mb": 31.0, "json_exporter_memory_mb": 27.8}
    whole["seconds"] = {OURS: [1e-4], "blackbox_exporter (one probe)": [1.5e-3], JSON_EXPORTER: [1.2e-3]}
    text = document.compared_to_others(document.COMPARISON.read_text(encoding="utf-8"), numbers)
    assert "| Memory | 99 MB with 10,000 factors | 31 MB | 28 MB |" in text
    blackbox, _, rest = text.partition("## json_exporter")
    assert "took 15.0 times the CPU time of a fetch" in blackbox
    assert "A probe took 12.0 times the CPU time of a fetch." in rest
    assert "We didn't measure it" not in text
    assert document.compared_to_others(text, numbers) == text


def test_a_benchmark_keeps_the_numbers_of_the_others(tmp_path: Path, numbers: dict[str, Any]) -> None:
    (tmp_path / "images").mkdir()
    for file in (document.NUMBERS, document.COMPARISON):
        shutil.copy(file, tmp_path)
    record = {"measured": {"python -c pass": [0.0123]}, "date": "2027-01-02"}
    document.write(tmp_path, "startup", record, "9.9.9")
    written = json.loads((tmp_path / document.NUMBERS.name).read_text(encoding="utf-8"))
    assert written == {**numbers, "startup": record}
    assert "| python -c pass | 12.30 ms |" in (tmp_path / document.PAGE.name).read_text(encoding="utf-8")
    assert [of["version"] for of in history.read(tmp_path / history.HISTORY.name)] == ["9.9.9"]


# The run


def test_a_benchmark_that_fails_does_not_end_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    run = Run()

    def missing() -> None:
        process.found("no-such-program", install="apt-get install no-such-program")

    assert run.attempt("first", missing) is None
    assert run.attempt("second", lambda: 1 / 0) is None
    assert run.attempt("third", lambda: 42) == 42
    assert run.failures == ["first", "second"]
    errors = capsys.readouterr().err
    assert "apt-get install no-such-program" in errors
    assert "ZeroDivisionError" in errors


def test_ctrl_c_ends_the_run_even_if_something_else_fails_because_of_it() -> None:
    run = Run()

    def interrupted() -> None:
        try:
            run.stop(signal.SIGINT, None)
        except KeyboardInterrupt:
            raise SystemExit("a process is gone") from None

    with pytest.raises(KeyboardInterrupt):
        run.attempt("first", interrupted)
    assert run.failures == []


async def test_ctrl_c_in_a_terminal_does_not_reach_what_a_benchmark_runs() -> None:
    with process.running(*FOREVER) as pid:
        assert os.getpgid(pid) == pid


async def test_a_cancelled_benchmark_leaves_no_process_behind() -> None:
    pids: list[int] = []
    begun = asyncio.Event()

    async def measure() -> None:
        with process.running(*FOREVER) as pid, process.running(*FOREVER) as other:
            pids.extend((pid, other))
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(measure())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(pids) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_the_cpu_time_of_a_process_is_exact() -> None:
    for _ in range(3):
        before = time.process_time()
        measured = process.cpu_seconds(os.getpid())
        assert before <= measured <= time.process_time()
    with pytest.raises(ProcessLookupError):
        process.cpu_seconds(2**22 + 1)  # more than Linux gives out


def test_a_process_that_ignores_sigterm_is_killed() -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(3600)"
    with subprocess.Popen((sys.executable, "-c", deaf), stdout=subprocess.PIPE) as started:
        assert started.stdout is not None
        started.stdout.readline()
        process.end(started, patience_seconds=0.05)
        assert started.returncode == -signal.SIGKILL


def test_a_program_that_ends_early_is_not_waited_for() -> None:
    command = (sys.executable, "-c", "raise SystemExit(3)")
    with pytest.raises(SystemExit, match="doesn't listen on port 1"), process.running(*command, port=1):
        pass


def test_the_page_and_the_makefile_name_what_runs_only_by_name() -> None:
    template = (ROOT / "benchmarks" / "page.md").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "--only million" in makefile
    assert "make bench-million" in template
    assert "--only compare --compare REVISION" in template
    assert set(BY_NAME_ONLY) < set(NAMES)
    counts = {1_000_000: "a million", 700_000: "700,000", 500_000: "500,000"}
    assert Extent().million_counts == tuple(counts)
