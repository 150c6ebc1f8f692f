"""Aggregates by type and notification platform, and the duration of enrolments, as a scrape shows them."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING

import pytest

from exporter.simulator import FactorStatus, FactorType, Fault, FaultKind, Simulator
from tests.support.config_files import account_of, entry, write_config
from tests.support.running_exporter import LeapingClock, running

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.scrape import Scrape

ENROLMENTS = "twilio_verify_enrolment_duration_seconds"


def types(page: Scrape) -> dict[tuple[str, str], float]:
    samples = page.samples("twilio_verify_factors_by_type")
    return {(of.labels["factor_type"], of.labels["status"]): of.value for of in samples if of.value}


def platforms(page: Scrape) -> dict[str, float]:
    samples = page.samples("twilio_verify_push_factors")
    return {of.labels["notification_platform"]: of.value for of in samples}


def shows(page: Scrape, *, name: str, verified: int) -> bool:
    return page.factor("verified", name) == verified


@pytest.mark.slow
@pytest.mark.usefixtures("brisk")
async def test_factors_count_by_type_and_platform_also_after_a_restart(
    simulator: Simulator, tmp_path: Path
) -> None:
    push = [
        simulator.add_factor(factor_type=FactorType.PUSH, notification_platform=p) for p in ("apn", "none", "x")
    ]
    gone = simulator.add_factor(factor_type=FactorType.PUSH, notification_platform="fcm")
    totp = simulator.add_factor(status=FactorStatus.UNVERIFIED)
    passkey = simulator.add_factor(factor_type=FactorType.PASSKEYS)
    entries = [entry(f"f{number}", of) for number, of in enumerate([*push, gone, totp, passkey])]
    path = write_config(
        tmp_path / "config.toml",
        {"main": account_of(simulator)},
        entries,
        polling={"interval": "10m", "unverified_interval": "10m", "not_found_interval": "10m"},
        state={"file": "state.jsonl"},
    )
    clock = LeapingClock()
    async with running(path, clock=clock) as exporter:
        first = await exporter.scrape()
        assert sum(types(first).values()) == 6
        clock.leap(31)
        page = await exporter.shows(lambda page: page.counts()["unknown"] == 0)
        assert platforms(page) == {"apn": 1, "fcm": 1, "none": 1, "other": 1}
        simulator.delete(gone.sid)
        clock.leap(700)
        page = await exporter.shows(lambda page: page.counts()["not_found"] == 1 and page.counts()["unknown"] == 0)
    seen = {
        ("push", "verified"): 3,
        ("push", "not_found"): 1,
        ("totp", "unverified"): 1,
        ("passkeys", "verified"): 1,
    }
    assert types(page) == seen
    assert platforms(page) == {"apn": 1, "fcm": 0, "none": 1, "other": 1}

    simulator.faults.add(Fault(FaultKind.STALL_BEFORE_HEADERS))
    again = LeapingClock(clock.steady())
    again.stop()
    async with running(path, clock=again) as exporter:
        restored = await exporter.scrape()
        assert types(restored) == seen
        assert platforms(restored) == {"apn": 1, "fcm": 0, "none": 1, "other": 1}
        assert restored.value(f"{ENROLMENTS}_count", factor_type="totp") == 0, "an enrolment may end here"
        again.leap(2000)
        stale = await exporter.scrape()
        assert types(stale) == {("push", "unknown"): 4, ("totp", "unknown"): 1, ("passkeys", "unknown"): 1}
        assert platforms(stale) == {"apn": 0, "fcm": 0, "none": 0, "other": 0}


@pytest.mark.slow
async def test_an_enrolment_is_measured_once(simulator: Simulator, tmp_path: Path) -> None:
    enrolling = simulator.add_factor(factor_type=FactorType.PUSH, status=FactorStatus.UNVERIFIED)
    always = simulator.add_factor(factor_type=FactorType.PUSH)
    entries = [entry("enrolling", enrolling), entry("always", always)]
    path = write_config(tmp_path / "config.toml", {"main": account_of(simulator)}, entries)
    async with running(path) as exporter:
        await exporter.shows(lambda page: page.counts()["unverified"] == page.counts()["verified"] == 1)
        before = await exporter.scrape()
        assert before.value(f"{ENROLMENTS}_count", factor_type="push") == 0

        simulator.set_status(enrolling.sid, FactorStatus.VERIFIED)
        done = await exporter.shows(lambda page: page.counts()["verified"] == 2)
        took = done.value(f"{ENROLMENTS}_sum", factor_type="push")
        assert done.value(f"{ENROLMENTS}_count", factor_type="push") == 1
        assert took is not None
        assert 0 < took <= time.time() - int(enrolling.date_created)
        assert done.total(f"{ENROLMENTS}_count") == 1

        for name, factor in (("enrolling", enrolling), ("always", always)):
            for status, shown in ((FactorStatus.UNVERIFIED, 0), (FactorStatus.VERIFIED, 1)):
                simulator.set_status(factor.sid, status)
                await exporter.shows(functools.partial(shows, name=name, verified=shown))
        after = await exporter.scrape()
        assert after.value(f"{ENROLMENTS}_count", factor_type="push") == 1, "a regression is no enrolment"
