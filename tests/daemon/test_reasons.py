"""Each way to fail has its reason on /metrics, on a real socket and the shipped transport."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exporter.simulator import Fault, FaultKind, Simulator
from exporter.verify.outcome import Reason
from tests.support.config_files import account_of, entry, write_config
from tests.support.running_exporter import LeapingClock, running

if TYPE_CHECKING:
    from pathlib import Path

HOUR_SECONDS = 3600.0
NOT_FOUND_SECONDS = 2 * HOUR_SECONDS
FAULTS = {
    "stall": (Fault(FaultKind.STALL_BEFORE_HEADERS), Reason.TIMEOUT),
    "stall-in-headers": (Fault(FaultKind.STALL_IN_HEADERS), Reason.TIMEOUT),
    "stall-in-body": (Fault(FaultKind.STALL_IN_BODY), Reason.TIMEOUT),
    "dribble": (Fault(FaultKind.DRIBBLE, seconds=0.05), Reason.TIMEOUT),
    "reset": (Fault(FaultKind.RESET_BEFORE_HEADERS), Reason.CONNECT),
    "closed": (Fault(FaultKind.CLOSE_BEFORE_HEADERS), Reason.CONNECT),
    "half-a-body": (Fault(FaultKind.CLOSE_IN_BODY), Reason.CONNECT),
    "garbage": (Fault(FaultKind.GARBAGE), Reason.CONNECT),
    "html": (Fault(FaultKind.HTML), Reason.DECODE),
    "bad-json": (Fault(FaultKind.BAD_JSON), Reason.DECODE),
    "huge-body": (Fault(FaultKind.HUGE_BODY), Reason.DECODE),
    "gzip-bomb": (Fault(FaultKind.GZIP_BOMB), Reason.DECODE),
    "other-factor": (Fault(FaultKind.OTHER_FACTOR), Reason.DECODE),
    "no-content": (Fault(FaultKind.EMPTY), Reason.DECODE),
    "redirect": (Fault(FaultKind.REDIRECT), Reason.BAD_REQUEST),
    "teapot": (Fault(FaultKind.STATUS, status=418), Reason.BAD_REQUEST),
    "new-status": (Fault(FaultKind.STATUS_UNKNOWN), Reason.UNKNOWN_STATUS),
    "no-status": (Fault(FaultKind.STATUS_MISSING), Reason.UNKNOWN_STATUS),
    "status-500": (Fault(FaultKind.STATUS, status=500), Reason.SERVER_ERROR),
    "html-503": (Fault(FaultKind.HTML, status=503), Reason.SERVER_ERROR),
}
ANSWERED = {"html": 200, "redirect": 307, "teapot": 418, "status-500": 500, "html-503": 503, "no-content": 204}


@pytest.mark.parametrize("attempt_timeout", ["700ms", "60s"])
async def test_each_fault_has_its_reason(simulator: Simulator, tmp_path: Path, attempt_timeout: str) -> None:
    """One service per fault, so that its reason is counted apart; only what never ends has a short timeout."""
    late = attempt_timeout == "700ms"
    faults = {name: of for name, of in FAULTS.items() if (of[1] is Reason.TIMEOUT) == late}
    services: dict[str, str] = {}
    entries = []
    for name, (fault, _) in faults.items():
        services[name] = simulator.add_service(service_sid=f"VA{len(services) + 1:032x}").sid
        entries.append(entry(name, simulator.add_factor(service_sid=services[name])))
        document = {field: getattr(fault, field) for field in ("kind", "status", "seconds")}
        simulator.faults.add(Fault(**document, service_sid=services[name]))
    path = write_config(
        tmp_path / "config.toml",
        {"main": account_of(simulator, max_concurrency=len(faults), requests_per_second=100)},
        entries,
        polling={"interval": "1h", "not_found_interval": "2h", "timeout": attempt_timeout, "max_attempts": 1},
    )
    clock = LeapingClock()
    async with running(path, clock=clock) as exporter:
        clock.leap(30)  # every first fetch is due
        page = await exporter.shows(lambda page: page.total("twilio_verify_fetches_total") == len(faults))

        for name, (_, reason) in faults.items():
            assert page.failures(service_sid=services[name]) == {reason.value: 1}, name
            assert page.factor("up", name) == 0
            assert page.factor("fetch_failures_total", name) == 1
            for claim in ("verified", "exists", "last_success_timestamp_seconds"):
                assert page.factor(claim, name) is None, (name, claim)
            interval = NOT_FOUND_SECONDS if reason.needs_a_change else HOUR_SECONDS
            assert page.factor("interval_seconds", name) == interval, name
        for name, code in ({} if late else ANSWERED).items():
            assert (page.value("twilio_verify_api_requests_total", code=str(code)) or 0) >= 1, name
        unanswered = sum(reason in (Reason.TIMEOUT, Reason.CONNECT) for _, reason in faults.values())
        assert page.value("twilio_verify_api_requests_total", code="none") == unanswered
        assert page.total("twilio_verify_api_requests_total") == len(faults)
        assert page.counts()["unknown"] == len(faults)
        valid = None if late else 1  # unknown until there is an answer
        assert page.value("twilio_verify_credentials_valid") == valid
        assert page.value("twilio_verify_api_paused") == 0
        assert page.value("twilio_verify_api_retries_total") == 0
        assert await exporter.status("/-/healthy") == 200


@pytest.mark.parametrize(
    ("fault", "attempts"),
    [
        (Fault(FaultKind.STATUS, status=503), 3),
        (Fault(FaultKind.RESET_BEFORE_HEADERS), 3),
        (Fault(FaultKind.BAD_JSON), 2),
        (Fault(FaultKind.STATUS_UNKNOWN), 1),
        (Fault(FaultKind.REDIRECT), 1),
    ],
    ids=lambda value: value.kind.value if isinstance(value, Fault) else str(value),
)
async def test_what_is_worth_it_is_tried_again(
    fault: Fault, attempts: int, simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.polling.backoff.BASE_SECONDS", 0.02)
    simulator.faults.add(fault)
    path = write_config(
        tmp_path / "config.toml",
        {"main": account_of(simulator)},
        [entry("faulty", simulator.add_factor())],
        polling={"interval": "1h", "max_attempts": 3},
    )
    clock = LeapingClock()
    async with running(path, clock=clock) as exporter:
        clock.leap(30)
        page = await exporter.shows(lambda page: page.factor("up", "faulty") == 0)
        assert simulator.calls.total == attempts
        assert page.value("twilio_verify_api_retries_total") == attempts - 1
        assert page.total("twilio_verify_api_requests_total") == attempts
        assert page.total("twilio_verify_fetches_total") == 1
        assert page.factor("fetch_failures_total", "faulty") == 1


async def test_a_fault_that_passes_is_no_failure(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.polling.backoff.BASE_SECONDS", 0.02)
    simulator.faults.add(Fault(FaultKind.STATUS, status=502, times=2))
    path = write_config(
        tmp_path / "config.toml",
        {"main": account_of(simulator)},
        [entry("recovers", simulator.add_factor())],
        polling={"interval": "1h"},
    )
    clock = LeapingClock()
    async with running(path, clock=clock) as exporter:
        clock.leap(30)
        page = await exporter.shows(lambda page: page.factor("verified", "recovers") == 1)
        assert page.failures() == {}
        assert page.value("twilio_verify_api_retries_total") == 2
        assert page.value("twilio_verify_api_requests_total", code="502") == 2
        assert page.total("twilio_verify_fetches_total") == 1
