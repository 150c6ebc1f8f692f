"""Running this machine's Prometheus and Alertmanager as processes on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

LOOPBACK = "127.0.0.1"
START_SECONDS = 60.0  # generous, for busy machines
_STOP_SECONDS = 20.0
_POLL_SECONDS = 0.05
_LOG_LINES = 200


class ProgramError(Exception):
    """A program is missing or exited by itself; the message says which, and what to do."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A program: its names in Debian and elsewhere, and its install command."""

    names: tuple[str, ...]
    install: str

    def find(self) -> str:
        """Return the path of the program; raises :class:`ProgramError` with the install command."""
        for name in self.names:
            if path := shutil.which(name):
                return path
        raise ProgramError(f"{self.names[0]} is not installed: {self.install}")


# RUNLEVEL=1 keeps Debian's packages from starting services on the default ports.
PROMETHEUS = Tool(("prometheus",), "RUNLEVEL=1 apt-get install --no-install-recommends prometheus")
ALERTMANAGER = Tool(
    ("prometheus-alertmanager", "alertmanager"),
    "RUNLEVEL=1 apt-get install --no-install-recommends prometheus-alertmanager",
)


@dataclass(slots=True)
class Program:
    """A running program; ``log`` contains the last lines of its output."""

    name: str
    url: str
    process: asyncio.subprocess.Process
    log: deque[str] = field(default_factory=lambda: deque(maxlen=_LOG_LINES))
    _reading: asyncio.Task[None] | None = field(default=None, repr=False)

    @property
    def address(self) -> str:
        """Host and port."""
        return self.url.removeprefix("http://")

    async def ended(self) -> ProgramError:
        """Wait until the program exits and return that as an error."""
        status = await self.process.wait()
        await self.close()
        return ProgramError(f"{self.name} ended with status {status}:\n{''.join(self.log)}")

    def open(self) -> None:
        """Start reading its output."""
        self._reading = asyncio.create_task(self._read())

    async def close(self) -> None:
        """Wait for the rest of its output, after it has exited."""
        if self._reading is not None:
            await self._reading

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            self.log.append(line.decode(errors="replace"))


def port_or_free(wanted: int = 0) -> int:
    """Return the wanted port on loopback, or a free one if it is taken."""
    with contextlib.suppress(OSError), socket.create_server((LOOPBACK, wanted)) as listening:
        port: int = listening.getsockname()[1]
        return port
    return port_or_free()


@contextlib.asynccontextmanager
async def running(name: str, command: Sequence[str], url: str, ready: str) -> AsyncIterator[Program]:
    """Run a program for the duration of the block, which starts when the path ``ready`` returns 200."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    program = Program(name, url, process)
    program.open()
    try:
        await _answers(program, url + ready)
        yield program
    finally:
        await stop(process)
        await program.close()


async def stop(process: asyncio.subprocess.Process) -> None:
    """Terminate a process; kill it if it takes too long."""
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(_STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def _answers(program: Program, url: str) -> None:
    loop = asyncio.get_running_loop()
    latest = loop.time() + START_SECONDS
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(5)) as session:
        while loop.time() < latest:
            if program.process.returncode is not None:
                raise await program.ended()
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with session.get(url) as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(_POLL_SECONDS)
    raise ProgramError(
        f"{program.name} did not answer at {url} within {START_SECONDS:g} s:\n{''.join(program.log)}"
    )


@contextlib.asynccontextmanager
async def prometheus(
    binary: str, config: Path, data: Path, port: int = 0, *, resend_delay: str = "1m"
) -> AsyncIterator[Program]:
    """Run a Prometheus with this configuration.

    It sends firing alerts again every ``resend_delay``. Alerts that fire in the first seconds, before it has
    discovered the Alertmanager, are only sent then.
    """
    address = f"{LOOPBACK}:{port_or_free(port)}"
    command = (
        binary,
        f"--config.file={config}",
        f"--storage.tsdb.path={data}",
        f"--web.listen-address={address}",
        f"--rules.alert.resend-delay={resend_delay}",
    )
    async with running("prometheus", command, f"http://{address}", "/-/ready") as program:
        yield program


@contextlib.asynccontextmanager
async def alertmanager(binary: str, config: Path, data: Path, port: int = 0) -> AsyncIterator[Program]:
    """Run an Alertmanager with this configuration, without clustering."""
    address = f"{LOOPBACK}:{port_or_free(port)}"
    command = (
        binary,
        f"--config.file={config}",
        f"--storage.path={data}",
        f"--web.listen-address={address}",
        "--cluster.listen-address=",
    )
    async with running("alertmanager", command, f"http://{address}", "/-/ready") as program:
        yield program
