"""The end: SIGTERM and SIGINT to a process with requests in flight."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING

import pytest

from exporter.config import load
from exporter.daemon.daemon import Daemon
from exporter.simulator import Fault, FaultKind
from tests.support.config_files import account_of, entry, write_config
from tests.support.processes import PATIENCE_SECONDS
from tests.support.running_exporter import Process, becomes, until

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.simulator import Simulator

pytestmark = pytest.mark.slow

SHUTDOWN_SECONDS = 1.0
LONG = "1h"  # a test that waited for it would fail by its patience


async def test_a_signal_ends_it_in_time_though_a_request_stalls(simulator: Simulator, tmp_path: Path) -> None:
    async def ends(number: signal.Signals) -> None:
        stalls = simulator.add_factor()
        simulator.faults.add(Fault(FaultKind.STALL_BEFORE_HEADERS, factor_sid=stalls.sid))
        fine = simulator.add_factor()
        path = write_config(
            tmp_path / f"{number.name}.toml",
            {"main": account_of(simulator)},
            [entry("stalls", stalls), entry("fine", fine)],
            polling={"timeout": LONG, "shutdown_timeout": "1s"},
        )
        async with Process.run(path) as exporter:
            await exporter.shows(lambda page: page.factor("verified", "fine") == 1)
            await becomes(lambda: simulator.calls.by_factor[stalls.sid] == 1)
            signalled = time.time()
            exporter.signal(number)
            assert await exporter.ended() == 0
            assert time.time() - signalled >= SHUTDOWN_SECONDS, "the request had its time"
            assert "Traceback" not in exporter.log
            assert "level=error" not in exporter.log
            assert exporter.log.splitlines()[-1].endswith("msg=stopped")
        assert simulator.calls.by_factor[stalls.sid] == 1

    await asyncio.gather(ends(signal.SIGTERM), ends(signal.SIGINT))


async def test_it_answers_scrapes_while_it_drains(simulator: Simulator, tmp_path: Path) -> None:
    """A request that ends in time still counts; a second signal ends the wait for the other."""
    stalls, slow = simulator.add_factor(), simulator.add_factor()
    simulator.faults.add(Fault(FaultKind.STALL_BEFORE_HEADERS, factor_sid=stalls.sid))
    simulator.faults.add(Fault(FaultKind.LATENCY, seconds=10.0, factor_sid=slow.sid))
    entries = [entry("stalls", stalls), entry("slow", slow)]
    entries += [entry(f"fine-{number}", simulator.add_factor()) for number in range(4)]
    path = write_config(
        tmp_path / "config.toml",
        {"main": account_of(simulator)},
        entries,
        polling={"timeout": LONG, "shutdown_timeout": LONG},
    )
    async with Process.run(path) as exporter:
        await becomes(lambda: simulator.calls.by_factor.keys() >= {stalls.sid, slow.sid})
        exporter.signal(signal.SIGTERM)
        await until(lambda: exporter.get("/-/ready"), lambda got: got == (503, "not ready: stopping\n"))
        page = await exporter.shows(lambda page: page.value("twilio_verify_api_in_flight") == 2)
        called = simulator.calls.total
        assert page.factor("up", "slow") is None

        page = await exporter.shows(lambda page: page.factor("verified", "slow") == 1)
        assert page.value("twilio_verify_api_in_flight") == 1
        assert page.factor("up", "stalls") is None
        assert page.factor("verified", "slow") == 1
        assert simulator.calls.total == called, "the others fell due, and no attempt begins after the signal"
        assert await exporter.status("/-/ready") == 503
        assert await exporter.status("/-/healthy") == 200

        exporter.signal(signal.SIGTERM)
        assert await exporter.ended() == 0
        assert "Traceback" not in exporter.log
        assert "level=error" not in exporter.log
    assert simulator.calls.total == called


@pytest.mark.usefixtures("brisk")
async def test_a_second_signal_ends_the_wait(simulator: Simulator, tmp_path: Path) -> None:
    simulator.faults.add(Fault(FaultKind.STALL_BEFORE_HEADERS))
    path = write_config(
        tmp_path / "config.toml",
        {"main": account_of(simulator)},
        [entry("stalls", simulator.add_factor())],
        polling={"timeout": LONG, "shutdown_timeout": LONG},
    )
    daemon = Daemon(load(path, environ={}, flags={}))
    await daemon.start()
    running = asyncio.create_task(daemon.run())
    await becomes(lambda: simulator.calls.in_flight == 1)
    daemon.request_stop()
    await becomes(lambda: daemon.readiness.draining)
    assert not daemon.readiness.ready()
    done, _ = await asyncio.wait((running,), timeout=0.3)
    assert not done, "the request has its time"
    daemon.request_stop()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await running
    assert simulator.calls.total == 1
    [record] = daemon.engine.ledger
    assert record.last_seconds is None, "its answer is dropped: it was no failure"


async def test_without_requests_in_flight_it_ends_at_once(simulator: Simulator, tmp_path: Path) -> None:
    path = write_config(
        tmp_path / "config.toml",
        {"main": account_of(simulator)},
        [entry("fine", simulator.add_factor())],
        polling={"shutdown_timeout": LONG},
    )
    async with Process.run(path, "--log.level", "debug", environ={"PYTHONASYNCIODEBUG": "1"}) as exporter:
        await exporter.shows(lambda page: page.factor("verified", "fine") == 1)
        exporter.signal(signal.SIGTERM)
        assert await exporter.ended() == 0
        assert "Traceback" not in exporter.log
        assert "was never" not in exporter.log
        assert "unclosed" not in exporter.log.lower()
