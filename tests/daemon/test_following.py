"""The metrics follow what the API says."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from exporter.simulator import FactorStatus, FactorType, Simulator
from tests.support.config_files import account_of, entry, write_config
from tests.support.running_exporter import LeapingClock, running

if TYPE_CHECKING:
    from pathlib import Path

INTERVAL_SECONDS = 1.0
CHANGES = "twilio_verify_factor_status_changes_total"


@pytest.mark.slow
async def test_a_flip_shows_within_the_interval_and_two_seconds(simulator: Simulator, tmp_path: Path) -> None:
    factor = simulator.add_factor()
    other = simulator.add_factor()
    entries = [entry("flips", factor), entry("stays", other)]
    path = write_config(tmp_path / "config.toml", {"main": account_of(simulator)}, entries)
    async with running(path) as exporter:
        before = await exporter.shows(lambda page: page.counts()["verified"] == 2)
        assert before.factor("verified", "flips") == 1
        assert before.total(CHANGES) == 0, "a first observation is no change"

        flipped = int(time.time())
        simulator.set_status(factor.sid, FactorStatus.UNVERIFIED)
        after = await exporter.shows(lambda page: page.factor("verified", "flips") == 0)

        assert after.value(CHANGES, **{"from": "verified", "to": "unverified"}) == 1
        assert after.total(CHANGES) == 1
        assert after.counts() == {"verified": 1, "unverified": 1, "not_found": 0, "unknown": 0}
        assert after.factor("verified", "stays") == 1
        assert after.factor("exists", "flips") == 1
        updated = after.factor("updated_timestamp_seconds", "flips")
        assert updated == int(simulator.factors[factor.sid].date_updated)
        assert updated >= flipped
        last_verified = after.factor("last_verified_timestamp_seconds", "flips")
        last_success = after.factor("last_success_timestamp_seconds", "flips")
        assert last_verified is not None
        assert last_success is not None
        assert last_verified < last_success
        assert flipped <= last_success

        simulator.set_status(factor.sid, FactorStatus.VERIFIED)
        back = await exporter.shows(lambda page: page.factor("verified", "flips") == 1)
        assert back.value(CHANGES, **{"from": "unverified", "to": "verified"}) == 1
        assert back.total(CHANGES) == 2
        since = "status_since_timestamp_seconds"
        assert before.factor(since, "flips") is None, "its beginning was not seen"
        assert after.factor(since, "flips") == last_success
        assert back.factor(since, "flips") == back.factor("last_success_timestamp_seconds", "flips") != last_success
        assert back.factor(since, "stays") is None
        assert back.counts() == {"verified": 2, "unverified": 0, "not_found": 0, "unknown": 0}
        assert back.failures() == {}


@pytest.mark.usefixtures("brisk")
async def test_a_404_is_an_answer_and_no_failure(simulator: Simulator, tmp_path: Path) -> None:
    factor = simulator.add_factor(factor_type=FactorType.PUSH)
    path = write_config(
        tmp_path / "config.toml",
        {"main": account_of(simulator)},
        [entry("gone", factor)],
        polling={"not_found_interval": "7m"},
    )
    clock = LeapingClock()
    async with running(path, clock=clock) as exporter:
        clock.leap(1)
        there = await exporter.shows(lambda page: page.factor("verified", "gone") == 1)
        assert there.factor("created_timestamp_seconds", "gone") == int(factor.date_created)
        assert there.factor("interval_seconds", "gone") == 1

        simulator.delete(factor.sid)
        gone = await exporter.shows(lambda page: page.factor("exists", "gone") == 0)

        assert gone.factor("up", "gone") == 1
        assert gone.factor("fetch_failures_total", "gone") == 0
        assert gone.factor("interval_seconds", "gone") == 1, "newly missing"
        for absent in ("verified", "created_timestamp_seconds", "updated_timestamp_seconds"):
            assert gone.factor(absent, "gone") is None, absent
        assert there.factor("status_since_timestamp_seconds", "gone") is None
        last_verified = gone.factor("last_verified_timestamp_seconds", "gone")
        last_success = gone.factor("last_success_timestamp_seconds", "gone")
        assert last_verified is not None
        assert last_success is not None
        assert last_verified < last_success
        assert gone.factor("status_since_timestamp_seconds", "gone") == last_success
        assert gone.factor("info", "gone", factor_type="push", entity_sid=factor.entity_sid) == 1
        assert gone.counts()["not_found"] == 1
        assert gone.failures() == {}
        assert gone.value(CHANGES, **{"from": "verified", "to": "not_found"}) == 1
        assert gone.value("twilio_verify_api_requests_total", operation="fetch", code="404") == 1
        clock.leap(15 * 60)
        still = await exporter.shows(lambda page: page.factor("interval_seconds", "gone") == 7 * 60)
        assert still.factor("exists", "gone") == 0
