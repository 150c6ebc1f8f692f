"""Runs command lines in this process."""

from __future__ import annotations

import contextlib
import signal
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Ran:
    """Exit status and output of a command."""

    status: int
    out: str
    err: str


def status_of(*words: str) -> int:
    """Run a command line and return its exit status."""
    with _hangup_restored():
        try:
            return main(words)
        except SystemExit as ended:
            return ended.code if isinstance(ended.code, int) else -1


@contextlib.contextmanager
def _hangup_restored() -> Iterator[None]:
    """Handle SIGHUP as before at the end: a command expects the end of its process."""
    before = signal.getsignal(signal.SIGHUP)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGHUP, before)
