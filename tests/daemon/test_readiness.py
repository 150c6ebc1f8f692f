"""Health and readiness."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from exporter.simulator import Fault, FaultKind
from tests.support.config_files import account_of, entry, write_config
from tests.support.running_exporter import LeapingClock, becomes, running

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.simulator import Simulator


@pytest.mark.usefixtures("brisk")
async def test_ready_once_every_first_fetch_has_ended(simulator: Simulator, tmp_path: Path) -> None:
    slow = simulator.add_factor()
    gone = simulator.add_factor()
    simulator.delete(gone.sid)
    simulator.faults.add(Fault(FaultKind.STALL_BEFORE_HEADERS, factor_sid=slow.sid))
    entries = [
        entry("slow", slow),
        entry("gone", gone),
        entry("asleep", simulator.add_factor(), paused=True),
    ]
    path = write_config(
        tmp_path / "config.toml",
        {"main": account_of(simulator)},
        entries,
        polling={"interval": "1m", "timeout": "1m", "max_attempts": 1},
    )
    clock = LeapingClock()
    async with running(path, clock=clock) as exporter:
        assert await exporter.get("/-/ready") == (503, "not ready: first fetches are in progress\n")
        clock.leap(30)
        page = await exporter.shows(lambda page: page.factor("exists", "gone") == 0)
        assert page.factor("up", "slow") is None
        assert await exporter.status("/-/ready") == 503, "one fetch is still in flight"
        await simulator.stop()
        page = await exporter.shows(lambda page: page.factor("up", "slow") == 0)
        assert await exporter.get("/-/ready") == (200, "ready\n"), "it has ended, with a failure"
        assert page.value("twilio_verify_factor_info", factor="asleep") == 1
        assert page.factor("interval_seconds", "asleep") is None


@pytest.mark.usefixtures("brisk")
async def test_a_pause_for_credentials_holds_nobody_unready(simulator: Simulator, tmp_path: Path) -> None:
    entries = [entry(f"factor-{number}", simulator.add_factor()) for number in range(20)]
    path = write_config(
        tmp_path / "config.toml",
        {"main": account_of(simulator, password="not-the-password")},
        entries,
        polling={"interval": "1m"},
    )
    clock = LeapingClock()
    async with running(path, clock=clock) as exporter:
        assert await exporter.status("/-/ready") == 503
        clock.leap(30)
        page = await exporter.shows(lambda page: page.value("twilio_verify_credentials_valid") == 0)
        await becomes(lambda: exporter.daemon.engine.poller.first_fetches_pending == 0)
        assert await exporter.status("/-/ready") == 200
        assert await exporter.status("/-/healthy") == 200
        page = await exporter.scrape()
        assert page.counts()["unknown"] == 20
        assert page.total("twilio_verify_fetches_total") < 20


@pytest.mark.usefixtures("brisk")
async def test_ready_after_an_interval_whatever_the_first_fetches_do(simulator: Simulator, tmp_path: Path) -> None:
    simulator.faults.add(Fault(FaultKind.STALL_BEFORE_HEADERS))
    entries = [entry("stalls", simulator.add_factor())]
    path = write_config(
        tmp_path / "config.toml",
        {"main": account_of(simulator)},
        entries,
        polling={"interval": "5m", "timeout": "30s"},
    )
    clock = LeapingClock()
    async with running(path, clock=clock) as exporter:
        clock.leap(299)
        assert await exporter.status("/-/ready") == 503
        clock.leap(1)
        assert await exporter.status("/-/ready") == 200
        await becomes(lambda: simulator.calls.in_flight == 1)


async def test_a_scheduler_that_stands_still_is_unhealthy_and_claims_nothing_for_long(
    simulator: Simulator, tmp_path: Path
) -> None:
    entries = [entry("watched", simulator.add_factor())]
    path = write_config(
        tmp_path / "config.toml", {"main": account_of(simulator)}, entries, polling={"stale_after": 16}
    )
    clock = LeapingClock()
    async with running(path, clock=clock) as exporter:
        clock.leap(1)
        page = await exporter.shows(lambda page: page.factor("verified", "watched") == 1)
        await exporter.daemon.jobs.stop()
        assert await exporter.get("/-/healthy") == (200, "healthy\n")
        ticked = exporter.daemon.engine.poller.last_dispatch
        clock.leap(14 - (clock.steady() - ticked.steady))
        assert await exporter.status("/-/healthy") == 200
        page = await exporter.scrape()
        assert page.factor("verified", "watched") == 1, "an answer holds for 16 s here"
        clock.leap(1.1)
        assert await exporter.get("/-/healthy") == (503, "not healthy: the scheduler has not run for 15 s\n")
        page = await exporter.scrape()
        assert page.value("twilio_verify_exporter_last_tick_timestamp_seconds") == ticked.wall
        clock.leap(2)
        page = await exporter.scrape()
        assert page.factor("verified", "watched") is None, "nobody but the scrape withdraws it"
        assert page.factor("exists", "watched") is None
        assert page.factor("last_verified_timestamp_seconds", "watched") is not None
        assert page.counts() == {"verified": 0, "unverified": 0, "not_found": 0, "unknown": 1}
        _, text = await exporter.get("/api/v1/factors")
        assert json.loads(text)["factors"][0]["status"] == "unknown"
