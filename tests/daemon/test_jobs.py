"""The scheduler's jobs, with APScheduler itself and short intervals."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from exporter.daemon import jobs as jobs_module
from exporter.daemon.jobs import Jobs
from exporter.polling.clock import Clock
from tests.support.running_exporter import becomes

if TYPE_CHECKING:
    import io
    from collections.abc import AsyncIterator, Callable

INTERVAL_SECONDS = 0.05


class Bench:
    """The jobs, their runs, and what they reported."""

    def __init__(self) -> None:
        self.runs: Counter[str] = Counter()
        self.lost: Counter[tuple[str, str]] = Counter()
        self.lags: list[float] = []
        self.wall_offset = 0.0
        self.fails = False
        self.sticks = False
        self.stuck = asyncio.Event()
        self.keeper = Jobs(
            dispatch=self._task("dispatch"),
            discovery=self._task("discovery"),
            watch=self._watch,
            housekeeping=self._task("housekeeping"),
            run_lost=lambda task, reason: self.lost.update([(task, reason)]),
            loop_lagged=self.lags.append,
            clock=Clock(lambda: time.time() + self.wall_offset, time.monotonic),
        )

    def _task(self, name: str) -> Callable[[], None]:
        def run() -> None:
            self.runs[name] += 1
            if self.fails:
                raise RuntimeError("broken")

        return run

    async def _watch(self) -> None:
        self._task("watch")()
        if self.sticks:
            await self.stuck.wait()


@pytest.fixture
async def bench(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(jobs_module, "DISPATCH_SECONDS", INTERVAL_SECONDS)
    monkeypatch.setattr(jobs_module, "WATCH_SECONDS", 2 * INTERVAL_SECONDS)
    monkeypatch.setattr(jobs_module, "HOUSEKEEPING_SECONDS", 3 * INTERVAL_SECONDS)
    bench = Bench()
    yield bench
    bench.stuck.set()
    await bench.keeper.stop()


def jobs(bench: Bench) -> dict[str, Any]:
    return {job.id: job for job in bench.keeper._scheduler.get_jobs()}


def only_refused(bench: Bench) -> bool:
    """Return whether no run was lost but those of a busy machine, which are due before the last one has ended."""
    return {reason for _, reason in bench.lost} <= {"refused"}


async def test_each_task_runs_at_once_and_then_at_its_interval(bench: Bench) -> None:
    began = time.monotonic()
    bench.keeper.start()
    await becomes(lambda: len(bench.runs) == 4)
    await becomes(lambda: bench.runs["dispatch"] >= 10)
    took = time.monotonic() - began
    assert took >= 9 * INTERVAL_SECONDS * 0.9
    assert bench.runs["dispatch"] >= bench.runs["watch"] >= bench.runs["housekeeping"] >= 2
    assert bench.runs["dispatch"] <= took / INTERVAL_SECONDS + 2
    assert only_refused(bench)
    assert bench.lags
    assert all(lag >= 0 for lag in bench.lags)


async def test_runs_are_not_logged_at_debug_but_lost_ones_are(
    bench: Bench, logged: Callable[..., io.StringIO]
) -> None:
    log = logged(level="debug")
    bench.keeper.start()
    await becomes(lambda: bench.runs["dispatch"] >= 10)
    # A busy machine may refuse runs; that is logged, with a warning of the scheduler beside it.
    assert [line for line in log.getvalue().splitlines() if "level=warning" not in line] == []
    bench.fails = True
    await becomes(lambda: bench.lost["dispatch", "failed"])
    assert "level=error logger=apscheduler" in log.getvalue()


async def test_runs_that_fail_are_counted_and_do_not_end_it(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.fails = True
    bench.keeper.start()
    await becomes(lambda: bench.lost["dispatch", "failed"] >= 2 and bench.lost["housekeeping", "failed"])
    assert 0 <= bench.runs["dispatch"] - bench.lost["dispatch", "failed"] <= 1
    bench.fails = False
    ran = bench.runs["dispatch"]
    await becomes(lambda: bench.runs["dispatch"] >= ran + 2)
    assert "scheduler run lost" in caplog.text
    assert {reason for _, reason in bench.lost} == {"failed"}


async def test_a_run_that_is_missed_is_counted(bench: Bench) -> None:
    bench.keeper.start()
    await becomes(lambda: bench.runs["dispatch"] >= 1)
    assert all(job.misfire_grace_time is None for job in jobs(bench).values()), "late runs are made up"
    job = jobs(bench)["dispatch"]
    job.modify(misfire_grace_time=1, coalesce=False, next_run_time=datetime.now(UTC) - timedelta(seconds=3))
    await becomes(lambda: bench.lost["dispatch", "missed"] >= 1)
    assert {reason for _, reason in bench.lost} == {"missed"}


async def test_a_run_that_is_refused_is_counted(bench: Bench) -> None:
    """One that would begin before the end of the one before is known."""
    bench.keeper.start()
    await becomes(lambda: bench.runs["dispatch"] >= 1)
    scheduler, job = bench.keeper._scheduler, jobs(bench)["dispatch"]
    job.modify(next_run_time=datetime.now(UTC))
    scheduler._process_jobs()
    job.modify(next_run_time=datetime.now(UTC))
    scheduler._process_jobs()
    assert bench.lost["dispatch", "refused"] == 1
    ran = bench.runs["dispatch"]
    await becomes(lambda: bench.runs["dispatch"] >= ran + 3)


async def test_while_a_run_is_in_progress_its_next_runs_are_refused_and_other_tasks_run(bench: Bench) -> None:
    bench.sticks = True
    bench.keeper.start()
    await becomes(lambda: bench.lost["watch", "refused"] >= 2 and bench.runs["dispatch"] >= 4)
    assert bench.runs["watch"] == 1
    bench.sticks = False
    bench.stuck.set()
    await becomes(lambda: bench.runs["watch"] >= 3)
    assert set(bench.lost) == {("watch", "refused")}


async def test_a_run_in_progress_is_cancelled_at_the_stop(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    before = asyncio.all_tasks()
    bench.sticks = True
    bench.keeper.start()
    await becomes(lambda: bench.runs["watch"] == 1)
    await bench.keeper.stop()
    await becomes(lambda: asyncio.all_tasks() == before)
    assert only_refused(bench)
    assert "Error" not in caplog.text


async def test_late_runs_are_made_up_once(bench: Bench) -> None:
    bench.keeper.start()
    await becomes(lambda: bench.runs["dispatch"] >= 1)
    ran = bench.runs["dispatch"]
    time.sleep(10 * INTERVAL_SECONDS)  # noqa: ASYNC251 - the loop is blocked, as by a slow callback
    freed = time.monotonic()
    await becomes(lambda: bench.runs["dispatch"] > ran)
    assert bench.runs["dispatch"] - ran <= 2 + (time.monotonic() - freed) / INTERVAL_SECONDS
    assert only_refused(bench)
    await becomes(lambda: max(bench.lags) > 8 * INTERVAL_SECONDS)


@pytest.mark.parametrize("seconds", [-3600.0, 3600.0], ids=["back", "forward"])
async def test_a_step_of_the_wall_clock_plans_the_jobs_again(
    bench: Bench, seconds: float, caplog: pytest.LogCaptureFixture
) -> None:
    bench.keeper.start()
    await becomes(lambda: bench.runs["dispatch"] >= 1)
    for job in jobs(bench).values():  # where a step back leaves them: due an hour from now
        job.modify(next_run_time=datetime.now(UTC) + timedelta(hours=1))
    await asyncio.sleep(INTERVAL_SECONDS)
    ran = bench.runs.copy()
    await asyncio.sleep(4 * INTERVAL_SECONDS)
    assert bench.runs == ran, "they would be silent for an hour"
    bench.wall_offset = seconds
    await becomes(lambda: all(bench.runs[name] >= ran[name] + 2 for name in ran))
    assert caplog.text.count("wall clock stepped") == 1
    assert only_refused(bench)


async def test_a_slow_drift_of_the_wall_clock_is_no_step(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.keeper.start()
    for _ in range(4):
        measured = len(bench.lags)
        bench.wall_offset += 0.4
        await becomes(lambda: len(bench.lags) > measured + 1)  # noqa: B023  it is awaited before the next round
    assert "stepped" not in caplog.text


@pytest.mark.parametrize("handed_out", [False, True])
async def test_stopped_while_it_runs_it_leaves_nothing(
    bench: Bench, caplog: pytest.LogCaptureFixture, handed_out: bool
) -> None:
    threads = threading.active_count()
    before = asyncio.all_tasks()
    bench.keeper.start()
    await becomes(lambda: bench.runs["dispatch"] >= 2)
    for job in jobs(bench).values():
        job.modify(next_run_time=datetime.now(UTC))
    if handed_out:
        bench.keeper._scheduler._process_jobs()
    await bench.keeper.stop()
    await bench.keeper.stop()
    await becomes(lambda: asyncio.all_tasks() == before)
    ran = bench.runs.copy()
    lags = len(bench.lags)
    await asyncio.sleep(6 * INTERVAL_SECONDS)
    assert bench.runs == ran
    assert len(bench.lags) == lags
    assert asyncio.all_tasks() == before
    assert threading.active_count() == threads
    assert only_refused(bench)
    assert "Error" not in caplog.text


async def test_stopped_before_it_started_is_fine(bench: Bench) -> None:
    await bench.keeper.stop()
    assert bench.runs == {}


async def test_the_lag_is_still_measured_after_it_could_not_be_reported(bench: Bench) -> None:
    def fail(_seconds: float) -> None:
        raise LookupError

    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: faults.append(context["exception"]))
    bench.keeper._loop_lagged = fail
    bench.keeper.start()
    await becomes(lambda: faults)
    bench.keeper._loop_lagged = bench.lags.append
    await becomes(lambda: len(bench.lags) >= 2)
