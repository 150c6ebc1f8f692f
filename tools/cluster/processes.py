"""Running programs with their output in files, and ending them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

_STOP_SECONDS = 20.0
_POLL_SECONDS = 0.25
_LOG_CHARACTERS = 2000


class ClusterError(Exception):
    """A part of the cluster does not work; the text says which, with the end of its log."""


@contextlib.contextmanager
def running(
    name: str, command: Sequence[str], logs: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program for the duration of the block, in a session of its own: Ctrl-C reaches only the harness."""
    with (logs / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | dict(environment or {}),
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def log_end(logs: Path, name: str) -> str:
    """Return the end of a program's log."""
    return (logs / f"{name}.log").read_text(errors="replace")[-_LOG_CHARACTERS:]


def wait_until(
    true: Callable[[], bool], seconds: float, what: str, details: Callable[[], str] = lambda: ""
) -> None:
    """Wait until a condition is true. Raises ``ClusterError`` with the details after so many seconds."""
    latest = time.monotonic() + seconds
    while not true():
        if time.monotonic() > latest:
            raise ClusterError(f"not within {seconds:g} s: {what}\n{details()}".rstrip())
        time.sleep(_POLL_SECONDS)
