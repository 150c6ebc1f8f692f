"""The API answers 429."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exporter.simulator import Fault, FaultKind
from tests.support.config_files import account_of, entry, write_config
from tests.support.running_exporter import LeapingClock, running

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.simulator import Simulator

RETRY_AFTER_SECONDS = 5
CONCURRENCY = 4


@pytest.mark.slow
async def test_a_429_pauses_the_account_for_as_long_as_it_says(simulator: Simulator, tmp_path: Path) -> None:
    limited = simulator.add_factor()
    others = [simulator.add_factor() for _ in range(5)]
    simulator.faults.add(
        Fault(FaultKind.STATUS, status=429, retry_after=RETRY_AFTER_SECONDS, times=1, factor_sid=limited.sid)
    )
    entries = [entry(f"other-{number}", factor) for number, factor in enumerate(others)]
    path = write_config(
        tmp_path / "config.toml",
        {"main": account_of(simulator, max_concurrency=CONCURRENCY)},
        [entry("limited", limited, interval="365d"), *entries],
    )
    clock = LeapingClock()
    async with running(path, clock=clock) as exporter:
        clock.leap(30)  # every first fetch is due
        paused = await exporter.shows(lambda page: page.value("twilio_verify_api_paused") == 1)
        assert paused.value("twilio_verify_api_concurrency_limit") == 2
        assert paused.value("twilio_verify_api_requests_total", code="429") == 1
        assert paused.value("twilio_verify_credentials_valid") == 1
        assert paused.factor("up", "limited") is None, "its fetch continues after the pause"
        assert paused.failures() == {}
        assert await exporter.status("/-/healthy") == 200

        after = await exporter.shows(lambda page: page.counts()["verified"] == 6)
        assert after.value("twilio_verify_api_paused") == 0
        assert after.value("twilio_verify_api_concurrency_limit") == 2, "it grows by one in 30 s"
        assert after.value("twilio_verify_api_retries_total") == 1
        assert after.failures() == {}
        duration = after.factor("fetch_duration_seconds", "limited")
        assert duration is not None
        # Not the whole pause: it began when the 429 was read, some milliseconds before the wait.
        assert duration >= RETRY_AFTER_SECONDS / 2, "the pause between two attempts is part of a fetch"

    [refused] = [call for call in simulator.calls.log if call.code == "429"]
    waits = [call.time - refused.time for call in simulator.calls.log]
    # Requests that were in flight when the 429 arrived are no calls in the pause.
    assert len([wait for wait in waits if 0 < wait < RETRY_AFTER_SECONDS]) < CONCURRENCY
    assert any(wait >= RETRY_AFTER_SECONDS for wait in waits)


async def test_together_refused_calls_halve_the_concurrency_once(simulator: Simulator, tmp_path: Path) -> None:
    simulator.latency_seconds = 0.1
    simulator.faults.add(Fault(FaultKind.STATUS, status=429, retry_after=60, times=8))
    entries = [entry(f"factor-{number}", simulator.add_factor()) for number in range(40)]
    path = write_config(
        tmp_path / "config.toml",
        {"main": account_of(simulator, max_concurrency=8, requests_per_second=100)},
        entries,
        polling={"interval": "1s", "max_attempts": 1},
    )
    clock = LeapingClock()
    async with running(path, clock=clock) as exporter:
        clock.leap(1)  # all are due at once
        await exporter.shows(lambda page: page.failures())
        await exporter.shows(lambda page: page.value("twilio_verify_api_in_flight") == 0)
        page = await exporter.scrape()
        assert page.value("twilio_verify_api_concurrency_limit") == 4
        assert page.value("twilio_verify_api_paused") == 1
        assert page.failures().keys() == {"rate_limited"}
        assert simulator.calls.total == 8
        # The other factors wait for the end of the pause: they count neither as fetches nor as failures.
        assert page.total("twilio_verify_fetches_total") == 8
        ready = await exporter.shows(lambda page: (page.value("twilio_verify_exporter_queue_length") or 0) >= 32)
        assert ready.failures() == {"rate_limited": 8}
        assert await exporter.status("/-/ready") == 200
