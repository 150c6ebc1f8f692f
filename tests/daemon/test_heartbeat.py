"""The signs that the exporter itself has stopped: none of them may stop with what it watches."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.config_files import account_of, entry, write_config
from tests.support.running_exporter import LeapingClock, running

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.simulator import Simulator

TICK = "twilio_verify_exporter_last_tick_timestamp_seconds"
LOST = "twilio_verify_exporter_scheduler_runs_lost_total"
LAG = "twilio_verify_exporter_event_loop_lag_seconds"

pytestmark = pytest.mark.usefixtures("brisk")


@pytest.fixture
def path(simulator: Simulator, tmp_path: Path) -> Path:
    entries = [entry("watched", simulator.add_factor())]
    return write_config(tmp_path / "config.toml", {"main": account_of(simulator)}, entries)


async def test_ticks_that_fail_are_no_heartbeat(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_steady: float) -> None:
        raise LookupError

    clock = LeapingClock()
    async with running(path, clock=clock) as exporter:
        await exporter.shows(lambda page: (page.value(LAG + "_count") or 0) > 2)
        with monkeypatch.context() as patch:
            patch.setattr(exporter.daemon.engine.schedule, "pop_due", broken)
            lost = await exporter.shows(lambda page: (page.value(LOST, task="dispatch", reason="failed") or 0) > 2)
            clock.leap(15.1)
            later = await exporter.shows(
                lambda page: page.total(LOST) > lost.total(LOST) + 2  # runs go on, and go on to fail
            )
            assert await exporter.status("/-/healthy") == 503
            assert later.value(TICK) == lost.value(TICK), "the time of the last good one"
        await exporter.shows(lambda page: (page.value(TICK) or 0) > (later.value(TICK) or 0))
        assert await exporter.status("/-/healthy") == 200


async def test_a_task_that_hangs_is_counted_and_is_nobody_elses_end(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.daemon.jobs.WATCH_SECONDS", 0.1)
    hangs = asyncio.Event()
    async with running(path) as exporter:
        monkeypatch.setattr(exporter.daemon.engine.passwords, "reread_all", hangs.wait)
        lost = await exporter.shows(lambda page: (page.value(LOST, task="watch", reason="refused") or 0) > 2)
        after = await exporter.shows(lambda page: (page.value(TICK) or 0) > (lost.value(TICK) or 0))
        assert after.total(LOST, task="dispatch") == 0
        assert await exporter.status("/-/healthy") == 200
        hangs.set()


@pytest.mark.slow
async def test_a_blocked_loop_shows_in_its_lag(path: Path) -> None:
    async with running(path) as exporter:
        before = await exporter.shows(lambda page: (page.value(LAG + "_count") or 0) > 2)
        time.sleep(0.7)  # noqa: ASYNC251 - a callback that blocks
        after = await exporter.shows(
            lambda page: (page.value(LAG + "_sum") or 0) - (before.value(LAG + "_sum") or 0) > 0.5
        )
        slow = [page.value(LAG + "_count") or 0 for page in (before, after)]
        fast = [page.value(LAG + "_bucket", le="0.5") or 0 for page in (before, after)]
        assert slow[1] - fast[1] > slow[0] - fast[0]
        later = await exporter.shows(lambda page: (page.value(LAG + "_count") or 0) > slow[1] + 2)
        assert later.value(TICK) != after.value(TICK)


async def test_now_and_then_what_concerns_the_whole_process_is_done(path: Path) -> None:
    clock = LeapingClock()
    tidied: list[float] = []
    async with running(path, clock=clock, trim=lambda: tidied.append(clock.steady())) as exporter:
        await exporter.daemon.housekeeping()
        assert tidied == []
        clock.leap(60)
        for _ in range(2):
            await exporter.daemon.housekeeping()
        assert len(tidied) == 1
