"""Two exporters with one state file: the second waits, without polling, and gives up after a minute."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import functools
import os
import signal
from typing import TYPE_CHECKING

import aiohttp
import pytest

from exporter.config import ConfigError, load
from exporter.daemon.daemon import Daemon
from exporter.state.keeper import StateLockedError
from exporter.state.lock import StateLock
from exporter.web.server.sockets import ListenError
from tests.support.config_files import account_of, entry, write_config
from tests.support.running_exporter import (
    LeapingClock,
    Site,
    becomes,
    running,
    spawned_exporter,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from exporter.simulator import Simulator


@pytest.fixture
def world(simulator: Simulator, tmp_path: Path) -> Path:
    return write_config(
        tmp_path / "config.toml",
        {"main": account_of(simulator)},
        [entry("one", simulator.add_factor())],
        polling={"interval": "1m"},
        state={"file": "state.jsonl"},
    )


@pytest.fixture
def held(world: Path) -> Iterator[StateLock]:
    """The lock, held by somebody else."""
    lock = StateLock(world.with_name("state.jsonl"))
    assert lock.acquire()
    yield lock
    lock.release()


@contextlib.asynccontextmanager
async def starting(world: Path, clock: LeapingClock) -> AsyncIterator[tuple[Daemon, Site, asyncio.Task[None]]]:
    """Start a daemon that has to wait for its state file."""
    read = functools.partial(load, world, environ={}, flags={})
    daemon = Daemon(read(), load=read, clock=clock)
    start = asyncio.create_task(daemon.start())
    await becomes(lambda: daemon.server.addresses)
    async with aiohttp.ClientSession() as session:
        yield daemon, Site(session, daemon.server.addresses[0]), start


@pytest.mark.slow
async def test_the_second_one_waits_and_starts_when_the_first_ends(
    simulator: Simulator, world: Path, held: StateLock, caplog: pytest.LogCaptureFixture
) -> None:
    clock = LeapingClock()
    async with starting(world, clock) as (daemon, site, start):
        clock.leap(59)
        assert await site.status("/-/healthy") == 200
        assert await site.status("/-/ready") == 503
        page = await site.scrape()
        assert page.value("twilio_verify_exporter_watchlist_factors") == 0, "nothing is watched yet"
        with pytest.raises(ConfigError, match="because the exporter is starting"):
            await daemon.reload()
        assert not start.done()
        assert simulator.calls.total == 0
        assert "waiting for the state file" in caplog.text
        held.release()
        await start
        assert await site.status("/-/healthy") == 200
        clock.leap(31)
        await site.shows(lambda page: page.factor("verified", "one") == 1)
        await daemon.stop()
    assert world.with_name("state.jsonl").exists()
    assert world.with_name("state.jsonl.lock").exists()


async def test_it_gives_up_after_a_minute_and_closes_its_sockets(
    simulator: Simulator, world: Path, held: StateLock
) -> None:
    clock = LeapingClock()
    async with starting(world, clock) as (daemon, _site, start):
        clock.leap(61)
        with pytest.raises(StateLockedError) as given_up:
            await start
        await daemon.engine.poller.drain(0)
    file = world.with_name("state.jsonl")
    assert str(given_up.value).startswith(f"{file}: in use by another exporter (process {os.getpid()} on host ")
    assert str(given_up.value).endswith("for more than 60 s; stop that one, or name another file in state.file")
    assert not daemon.server.addresses
    assert simulator.calls.total == 0
    assert not file.exists(), "nothing was saved"


async def test_a_stop_during_the_wait_saves_nothing(simulator: Simulator, world: Path, held: StateLock) -> None:
    async with starting(world, LeapingClock()) as (daemon, _site, start):
        daemon.request_stop()
        await start
        await daemon.run()
    assert simulator.calls.total == 0
    assert not world.with_name("state.jsonl").exists()


async def test_a_signal_ends_the_wait(simulator: Simulator, world: Path, held: StateLock) -> None:
    async with spawned_exporter(world) as process:
        assert process.stderr is not None
        log = ""
        while "waiting for the state file" not in log:
            line = (await process.stderr.readline()).decode()
            assert line, log
            log += line
        process.send_signal(signal.SIGTERM)
        _, rest = await process.communicate()
    assert process.returncode == 0, log + rest.decode()
    assert "Traceback" not in rest.decode()
    assert "msg=stopped" in rest.decode()
    assert simulator.calls.total == 0
    assert not world.with_name("state.jsonl").exists(), "nothing was saved over what the other one has"


async def test_where_locks_are_not_supported_it_warns_and_goes_on(
    simulator: Simulator, world: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_arguments: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", fail)
    async with running(world):
        assert caplog.text.count("state file not locked") == 1
    assert world.with_name("state.jsonl").exists()


async def test_an_address_in_use_leaves_the_lock_free(simulator: Simulator, world: Path, tmp_path: Path) -> None:
    async with running(world) as first:
        port = first.url.rpartition(":")[2]
        other = write_config(
            tmp_path / "other.toml",
            {"main": account_of(simulator)},
            [entry("one", simulator.add_factor())],
            web={"listen_address": f"127.0.0.1:{port}"},
            state={"file": "other.jsonl"},
        )
        daemon = Daemon(load(other, environ={}, flags={}))
        with pytest.raises(ListenError):
            await daemon.start()
        await daemon.engine.poller.drain(0)
    lock = StateLock(tmp_path / "other.jsonl")
    assert lock.acquire()
    lock.release()
