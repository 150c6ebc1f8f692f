"""Daemons share nothing, and leave nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import logging
import threading
from pathlib import Path

import pytest

from exporter.config import load
from exporter.daemon.daemon import Daemon
from exporter.logs.output import LogOutput, Redactor
from exporter.simulator import FactorStatus, Simulator
from tests.support.config_files import account_of, entry, write_config
from tests.support.running_exporter import LeapingClock, becomes, running

TIMES = 20


@pytest.mark.usefixtures("brisk")
async def test_two_daemons_in_one_process_share_nothing(simulator: Simulator, tmp_path: Path) -> None:
    first = [entry(f"first-{number}", simulator.add_factor()) for number in range(3)]
    async with Simulator(seed=8) as other, contextlib.AsyncExitStack() as stack:
        gone = other.add_factor()
        other.delete(gone.sid)
        second = [entry("second", other.add_factor(status=FactorStatus.UNVERIFIED)), entry("gone", gone)]
        one_path = write_config(tmp_path / "one.toml", {"main": account_of(simulator)}, first)
        two_path = write_config(
            tmp_path / "two.toml",
            {"other": account_of(other, password="wrong")},
            second,
            polling={"interval": "2s"},
        )
        one = await stack.enter_async_context(running(one_path))
        two = await stack.enter_async_context(running(two_path))
        page = await one.shows(lambda page: page.counts()["verified"] == 3)
        paused = await two.shows(
            lambda page: page.value("twilio_verify_credentials_valid") == 0 and page.failures()
        )

        assert page.value("twilio_verify_credentials_valid", account="main") == 1
        assert page.value("twilio_verify_api_paused") == 0
        assert page.value("twilio_verify_exporter_watchlist_factors") == 3
        assert page.failures() == {}
        assert 'account="other"' not in page.text
        assert 'factor="second"' not in page.text
        assert paused.counts()["unknown"] == 2
        assert paused.failures().keys() == {"auth"}
        assert paused.factor("interval_seconds", "second") == 2
        assert 'factor="first-0"' not in paused.text
        assert paused.value("twilio_verify_api_requests_total", code="200") is None
        assert one.daemon.telemetry.registry is not two.daemon.telemetry.registry

        await two.daemon.stop()
        before = (await one.scrape()).total("twilio_verify_fetches_total")
        await one.shows(lambda page: page.total("twilio_verify_fetches_total") > before)
        assert await one.status("/-/healthy") == 200


async def test_two_daemons_in_one_process_flush_their_own_log_lines(
    simulator: Simulator, tmp_path: Path, log_restored: None
) -> None:
    path = write_config(tmp_path / "config.toml", {"main": account_of(simulator)}, [])
    streams = io.StringIO(), io.StringIO()
    outputs = [LogOutput(style="logfmt", redact=Redactor(), stream=stream) for stream in streams]
    one, two = (Daemon(load(path, environ={}, flags={}), log_output=output) for output in outputs)
    logging.getLogger().handlers[:] = [output.handler for output in outputs]
    for _ in range(3):
        logging.getLogger("some.library").warning("disk full")
    assert [stream.getvalue().count("disk full") for stream in streams] == [1, 1]
    await one.stop()
    assert [stream.getvalue().count('msg="disk full" repeated=2') for stream in streams] == [1, 0]
    await two.stop()
    assert [stream.getvalue().count('msg="disk full" repeated=2') for stream in streams] == [1, 1]


@pytest.mark.slow
async def test_twenty_lives_leave_nothing_behind(
    simulator: Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_config(
        tmp_path / "config.toml",
        {"main": account_of(simulator)},
        [entry(f"factor-{number}", simulator.add_factor()) for number in range(4)],
        polling={"interval": "1m"},
    )
    handlers = logging.getLogger().handlers[:]

    async def live() -> None:
        clock = LeapingClock()
        async with running(path, clock=clock) as exporter:
            clock.stop()  # or a regular fetch falls due on a slow machine
            clock.leap(30)
            await becomes(lambda: exporter.daemon.engine.poller.first_fetches_pending == 0)
            await exporter.scrape()

    def left() -> tuple[int, int, int]:
        gc.collect()
        return (
            len(list(Path("/proc/self/fd").iterdir())),
            threading.active_count(),
            len(asyncio.all_tasks()),
        )

    await live()
    await settled(simulator)
    before = left()
    for _ in range(TIMES):
        await live()
    await settled(simulator)
    after = left()
    assert after == before, "(file descriptors, threads, tasks)"
    assert simulator.calls.total == 4 * (TIMES + 1)
    assert logging.getLogger().handlers == handlers
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_daemon_that_never_started_leaves_nothing_behind(simulator: Simulator, tmp_path: Path) -> None:
    path = write_config(
        tmp_path / "config.toml", {"main": account_of(simulator)}, [entry("watched", simulator.add_factor())]
    )
    before = asyncio.all_tasks()
    daemon = Daemon(load(path, environ={}, flags={}))
    assert not daemon.readiness.ready()
    await daemon.stop()
    assert asyncio.all_tasks() == before
    assert simulator.calls.total == 0


async def settled(simulator: Simulator) -> None:
    """Wait until the simulator has seen the end of every connection, so that its own are none of those counted."""
    connections = simulator._connections
    assert connections is not None
    await becomes(lambda: not connections.connections)
    for _ in range(3):
        await asyncio.sleep(0.01)
