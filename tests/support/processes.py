"""Processes that tests start: each in a group of its own, which is killed and waited for when its block ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

PATIENCE_SECONDS = 300.0  # makes a hang a failure; no test asserts a duration with it


@contextlib.asynccontextmanager
async def spawned(
    *command: str, stop: signal.Signals | None = None, **options: Any
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a command until the end of the block; ``options`` are those of ``asyncio.create_subprocess_exec``.

    At the end, ``stop`` is sent and the process has time to exit; then its whole group is killed. That holds for a
    test that fails or is cancelled, too.
    """
    options = {"stdin": asyncio.subprocess.DEVNULL, **options}
    started = await asyncio.create_subprocess_exec(*command, start_new_session=True, **options)
    try:
        yield started
        if stop is not None and started.returncode is None:
            started.send_signal(stop)
            async with asyncio.timeout(PATIENCE_SECONDS):
                await started.wait()
    finally:
        kill_group(started.pid)
        await started.wait()


async def output_of(
    *command: str, input_bytes: bytes = b"", within: float = PATIENCE_SECONDS, **options: Any
) -> tuple[int, bytes, bytes]:
    """Run a command to its end; return its exit status and what it wrote to standard output and standard error."""
    pipe = asyncio.subprocess.PIPE
    options = {"stdin": pipe, "stdout": pipe, "stderr": pipe, **options}
    async with spawned(*command, **options) as started, asyncio.timeout(within):
        out, err = await started.communicate(input_bytes)
    assert started.returncode is not None
    return started.returncode, out, err or b""


@contextlib.contextmanager
def popen(*command: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a command until the end of the block, without an event loop; ``options`` are those of ``Popen``."""
    options = {"stdin": subprocess.DEVNULL, "text": True, **options}
    with subprocess.Popen(command, start_new_session=True, **options) as started:
        try:
            yield started
        finally:
            kill_group(started.pid)


def kill_group(leader: int) -> None:
    """Kill what is left of the process group with this leader."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)
