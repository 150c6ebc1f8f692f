"""Exporters that run: in this process, and as a process of their own."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import re
import sys
import time
from typing import TYPE_CHECKING, Any, Self, TextIO, TypeVar

import aiohttp

from exporter.config import Config, load
from exporter.daemon.daemon import Daemon
from exporter.daemon.url_sources import with_first_answers
from exporter.polling.clock import Clock
from exporter.state.watchlist import read as read_last_good
from tests.support.processes import PATIENCE_SECONDS, kill_group, spawned
from tests.support.scrape import Scrape

if TYPE_CHECKING:
    import signal
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    T = TypeVar("T")

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
_POLL_SECONDS = 0.03
_LISTENING = re.compile(r"msg=listening address=(\S+)")


async def until(ask: Callable[[], Awaitable[T]], holds: Callable[[T], object]) -> T:
    """Repeat ``ask`` until ``holds`` accepts its result, and return that result."""
    loop = asyncio.get_running_loop()
    latest = loop.time() + PATIENCE_SECONDS
    while True:
        overdue = loop.time() >= latest
        answer = await ask()
        if holds(answer):
            return answer
        assert not overdue, f"not within {PATIENCE_SECONDS} s; the last answer was:\n{answer}"
        await asyncio.sleep(_POLL_SECONDS)


async def becomes(holds: Callable[[], object]) -> None:
    """Wait until something holds."""

    async def ask() -> object:
        return holds()

    await until(ask, bool)


class LeapingClock(Clock):
    """Both clocks of a daemon, which can be put forward while it runs.

    Its wall clock starts at the same moment each time: phases are places in time, so that a factor falls due as
    long after the start in every run.
    """

    def __init__(self, start_seconds: float = 1_800_000_000.0) -> None:
        self._ahead_seconds = 0.0
        self._asleep_seconds = 0.0
        self._stopped_at: float | None = None
        behind = start_seconds - time.monotonic()
        super().__init__(lambda: self._now() + behind, self._now, lambda: self._now() - self._asleep_seconds)

    def _now(self) -> float:
        now = time.monotonic() if self._stopped_at is None else self._stopped_at
        return now + self._ahead_seconds

    def stop(self) -> None:
        """Stand still, but for leaps: a pause then lasts until the next leap, however slow the machine is."""
        self._stopped_at = time.monotonic()

    def leap(self, seconds: float) -> None:
        """Let time pass at once; what waits for a timer of the event loop doesn't see it."""
        self._ahead_seconds += seconds

    def suspend(self, seconds: float) -> None:
        """Let the system be suspended for a time."""
        self._asleep_seconds += seconds
        self._ahead_seconds += seconds


class Site:
    """An exporter as seen from outside: its pages."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.url = url
        self._session = session

    async def get(self, path: str, **headers: str) -> tuple[int, str]:
        """Return the status and the text of a page."""
        async with self._session.get(self.url + path, headers=headers) as response:
            return response.status, await response.text()

    async def status(self, path: str) -> int:
        """Return the status of a page."""
        return (await self.get(path))[0]

    async def scrape(self, *, openmetrics: bool = False) -> Scrape:
        """Return what /metrics says now."""
        status, text = await self.get("/metrics", **({"Accept": OPENMETRICS} if openmetrics else {}))
        assert status == 200
        return Scrape(text, openmetrics=openmetrics)

    async def shows(self, holds: Callable[[Scrape], object]) -> Scrape:
        """Scrape until what is said holds, and return that scrape."""
        return await until(self.scrape, holds)


class Exporter(Site):
    """A daemon in this process."""

    def __init__(self, session: aiohttp.ClientSession, daemon: Daemon) -> None:
        super().__init__(session, daemon.server.addresses[0])
        self.daemon = daemon


@contextlib.asynccontextmanager
async def running(source: Path | Config, **parts: Any) -> AsyncIterator[Exporter]:
    """Run the daemon of a configuration, or of its file; ``parts`` are an engine's, such as its clock."""
    if isinstance(source, Config):
        daemon = Daemon(source, **parts)
    else:
        read = functools.partial(load, source, environ={}, flags={})
        config = await with_first_answers(read(last_good=read_last_good, fall_back=True), last_good=read_last_good)
        daemon = Daemon(config, load=read, **parts)
    await daemon.start()
    try:
        async with aiohttp.ClientSession() as session:
            yield Exporter(session, daemon)
    finally:
        await daemon.stop()


class Process(Site):
    """``python -m exporter run`` as a process; ``log`` is what it has written on standard error so far."""

    def __init__(self, session: aiohttp.ClientSession, process: asyncio.subprocess.Process) -> None:
        super().__init__(session, "")
        self._process = process
        self._lines: list[str] = []
        self._listening = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    @classmethod
    @contextlib.asynccontextmanager
    async def run(
        cls, path: Path, *flags: str, environ: Mapping[str, str] | None = None, under: Sequence[str] = ()
    ) -> AsyncIterator[Self]:
        """Start the process and wait until it listens; it is killed at the end if it still runs."""
        async with (
            aiohttp.ClientSession() as session,
            spawned_exporter(path, *flags, environ=environ, under=under) as started,
        ):
            exporter = cls(session, started)
            try:
                await exporter._listens()
                yield exporter
            finally:
                kill_group(started.pid)
                await exporter._reader

    @property
    def log(self) -> str:
        return "".join(self._lines)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    async def ended(self) -> int:
        """Wait for the end and return the exit status."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            status = await self._process.wait()
            await self._reader
        return status

    async def _read(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            text = line.decode()
            self._lines.append(text)
            if found := _LISTENING.search(text):
                self.url = found[1]
                self._listening.set()

    async def _listens(self) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            listening = asyncio.create_task(self._listening.wait())
            await asyncio.wait((listening, self._reader), return_when=asyncio.FIRST_COMPLETED)
        listening.cancel()
        assert self.url, f"it ended before it listened:\n{self.log}"


def spawned_exporter(
    path: Path,
    *flags: str,
    environ: Mapping[str, str] | None = None,
    under: Sequence[str] = (),
    stderr: int | TextIO = asyncio.subprocess.PIPE,
) -> contextlib.AbstractAsyncContextManager[asyncio.subprocess.Process]:
    """Run ``python -m exporter run`` with this configuration file, its output in pipes, by way of ``under``."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("VERIFY_EXPORTER_")}
    return spawned(
        *under,
        *(sys.executable, "-m", "exporter", "run", "--config.file", str(path)),
        *flags,
        stdout=asyncio.subprocess.PIPE,
        stderr=stderr,
        env=inherited | dict(environ or {}),
    )
