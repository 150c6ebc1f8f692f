"""Running a daemon until a signal asks it to stop; shared by ``run`` and ``demo``."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import signal
from typing import TYPE_CHECKING

from exporter.web.server.sockets import ListenError

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.daemon.daemon import Daemon

try:
    import uvloop
except ImportError:  # another platform or another Python: the standard loop does the same, at a higher cost
    uvloop = None  # type: ignore[assignment]  # a module, or none

if TYPE_CHECKING:
    from collections.abc import Coroutine


_GARBAGE_THRESHOLDS = (10_000, 20, 50)  # a burst of fetches holds some thousands of objects for a moment


def freeze_gc() -> None:
    """Take what the process has made so far out of the garbage collector's rounds.

    A watchlist of 100,000 factors is a million objects that live on, and each full round would walk them all.
    """
    gc.collect()
    trim_memory()
    gc.freeze()
    gc.set_threshold(*_GARBAGE_THRESHOLDS)


def trim_memory() -> None:
    """Give the system what the C library keeps of freed memory: a twentieth, with lines that change all the time.

    Takes some milliseconds where 100,000 factors are watched.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)


def run_to_end(main: Coroutine[object, object, None]) -> None:
    """Run a coroutine to its end, on uvloop where there is one: a fetch costs a third less CPU there."""
    with asyncio.Runner(loop_factory=None if uvloop is None else uvloop.new_event_loop) as runner:
        runner.run(main)


_ENDING = (signal.SIGTERM, signal.SIGINT)


def nothing() -> None:
    """Do nothing."""


async def serve(daemon: Daemon, started: Callable[[], None] = nothing) -> None:
    """Run a daemon until SIGTERM or SIGINT; a second signal ends the wait for requests under way.

    SIGHUP asks it to reload. ``started`` is called as soon as it listens; raises :class:`ListenError` else.
    """
    loop = asyncio.get_running_loop()
    for number in _ENDING:
        loop.add_signal_handler(number, daemon.request_stop)
    loop.add_signal_handler(signal.SIGHUP, daemon.request_reload)
    try:
        await _start(daemon)
        started()
        await daemon.run()
    finally:
        for number in (*_ENDING, signal.SIGHUP):
            loop.remove_signal_handler(number)


async def _start(daemon: Daemon) -> None:
    try:
        await daemon.start()
    except ListenError:
        await daemon.engine.poller.drain(0)
        raise
