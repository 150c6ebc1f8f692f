"""A deleted service, told from a deleted factor by the real daemon against a simulated API."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from exporter.simulator import Endpoint, Fault, FaultKind, Simulator
from tests.support.config_files import account_of, entry, write_config
from tests.support.running_exporter import LeapingClock, running, until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.scrape import Scrape

EXISTS = "twilio_verify_service_exists"


def config_of(simulator: Simulator, folder: Path, **polling: str) -> Path:
    """Watch three factors of one service and one of another."""
    first = [simulator.add_factor() for _ in range(3)]
    other = simulator.add_factor(service_sid=simulator.add_service(service_sid="VA" + "e" * 32).sid)
    entries = [entry(f"factor-{number}", factor) for number, factor in enumerate((*first, other))]
    return write_config(folder / "config.toml", {"main": account_of(simulator)}, entries, polling=polling)


def services(page: Scrape) -> dict[str, float]:
    return {sample.labels["service_sid"]: sample.value for sample in page.samples(EXISTS)}


@pytest.mark.usefixtures("brisk")
async def test_a_deleted_service_shows_until_it_is_found_again(
    simulator: Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    clock = LeapingClock()
    path = config_of(simulator, tmp_path)
    gone = next(iter(simulator.factors.values())).service_sid
    async with running(path, clock=clock) as exporter:
        clock.leap(31)
        page = await exporter.shows(lambda page: page.counts()["verified"] == 4)
        assert services(page) == {}
        simulator.delete_service(gone)
        page = await exporter.shows(lambda page: page.counts()["not_found"] == 3 and services(page))
        assert services(page) == {gone: 0}
        assert page.value("twilio_verify_api_requests_total", operation="service", code="404") == 1
        assert page.value("twilio_verify_api_paused", account="main") == 0
        assert page.failures() == {}
        simulator.restore_service(gone)
        clock.leap(60)
        await exporter.shows(
            lambda page: page.value("twilio_verify_api_requests_total", operation="service", code="200") == 1
        )
        page = await exporter.shows(lambda page: page.counts()["verified"] == 4)
        assert services(page) == {gone: 1}
        clock.leap(15 * 60)
        await exporter.shows(lambda page: services(page) == {})
    messages = [record.getMessage() for record in caplog.records]
    assert messages.count("service not found") == messages.count("service found again") == 1


@pytest.mark.usefixtures("brisk")
async def test_a_key_that_may_not_read_services_pauses_nobody(simulator: Simulator, tmp_path: Path) -> None:
    clock = LeapingClock()
    path = config_of(simulator, tmp_path)
    simulator.faults.add(Fault(status=403, operation=Endpoint.SERVICE))
    deleted = next(iter(simulator.factors))
    simulator.delete(deleted)
    async with running(path, clock=clock) as exporter:
        clock.leap(31)
        await exporter.shows(
            lambda page: page.value("twilio_verify_api_requests_total", operation="service", code="403") == 1
        )
        clock.leap(3600)
        page = await exporter.shows(
            lambda page: page.counts() == {"verified": 3, "unverified": 0, "not_found": 1, "unknown": 0}
        )
        assert services(page) == {}
        assert page.value("twilio_verify_api_paused", account="main") == 0
        assert page.value("twilio_verify_credentials_valid", account="main") == 1
        assert simulator.calls.by_code["service", "403"] == 1


@pytest.mark.usefixtures("brisk")
async def test_a_stop_ends_a_request_for_a_service(simulator: Simulator, tmp_path: Path) -> None:
    clock = LeapingClock()
    path = config_of(simulator, tmp_path, shutdown_timeout="100ms")
    simulator.faults.add(Fault(FaultKind.STALL_BEFORE_HEADERS, operation=Endpoint.SERVICE))
    simulator.delete(next(iter(simulator.factors)))
    async with running(path, clock=clock):
        clock.leap(31)

        async def requested() -> int:
            return sum(simulator.calls.by_operation().get("fetch", {}).values()) * simulator.calls.in_flight

        await until(requested, bool)


@pytest.mark.usefixtures("brisk")
async def test_a_reload_forgets_a_service_that_is_no_longer_watched(simulator: Simulator, tmp_path: Path) -> None:
    clock = LeapingClock()
    path = config_of(simulator, tmp_path)
    kept, *_ = simulator.factors.values()
    simulator.delete_service("VA" + "e" * 32)
    async with running(path, clock=clock) as exporter:
        clock.leap(31)
        await exporter.shows(lambda page: services(page) == {"VA" + "e" * 32: 0})
        write_config(
            path, {"main": account_of(simulator)}, [entry("kept", kept)], polling={"discovery_interval": "1h"}
        )
        await exporter.daemon.reload()
        assert services(await exporter.scrape()) == {}
        assert exporter.daemon.engine.services.policy.interval_seconds == 3600
