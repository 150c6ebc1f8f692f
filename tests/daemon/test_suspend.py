"""A suspend of the system for ten hours, in the running exporter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.config_files import account_of, entry, write_config
from tests.support.running_exporter import LeapingClock, running

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.simulator import Simulator

TEN_HOURS = 36_000.0


@pytest.mark.usefixtures("brisk")
async def test_nothing_known_before_a_suspend_is_shown_after_it_and_nothing_counts_as_lost(
    simulator: Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="exporter")
    entries = [entry(f"factor-{number}", simulator.add_factor()) for number in range(5)]
    path = write_config(tmp_path / "config.toml", {"main": account_of(simulator)}, entries)
    clock = LeapingClock()
    async with running(path, clock=clock) as exporter:
        clock.leap(30)
        before = await exporter.shows(lambda page: page.counts()["verified"] == 5)
        clock.suspend(TEN_HOURS)
        page = await exporter.scrape()
        assert page.counts()["unknown"] == 5
        assert await exporter.status("/-/healthy") == 200
        assert page.value("twilio_verify_exporter_config_last_reload_successful") == 1
        clock.leap(30)
        page = await exporter.shows(lambda page: page.counts()["verified"] == 5)
        for name in (
            "twilio_verify_fetch_failures_total",
            "twilio_verify_exporter_scheduler_runs_lost_total",
            "twilio_verify_api_client_rotations_total",
        ):
            assert page.total(name) == before.total(name) == 0, name
        assert page.value("twilio_verify_exporter_late_fetches_total") == 0
        assert caplog.text.count("system resumed after a suspend") == 1
        assert "wall clock stepped" not in caplog.text


@pytest.mark.usefixtures("brisk")
async def test_a_suspend_right_after_the_start_makes_nothing_ready(simulator: Simulator, tmp_path: Path) -> None:
    entries = [entry("watched", simulator.add_factor())]
    path = write_config(
        tmp_path / "config.toml", {"main": account_of(simulator)}, entries, polling={"interval": "5m"}
    )
    clock = LeapingClock()
    async with running(path, clock=clock) as exporter:
        clock.stop()
        clock.suspend(TEN_HOURS)
        await exporter.shows(
            lambda page: (page.value("twilio_verify_exporter_last_tick_timestamp_seconds") or 0) >= clock.wall() - 1
        )
        assert await exporter.status("/-/ready") == 503
        clock.leap(30)
        await exporter.shows(lambda page: page.counts()["verified"] == 1)
        assert await exporter.status("/-/ready") == 200
