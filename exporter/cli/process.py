"""Runs a daemon until a signal stops it; shared by ``run`` and ``demo``."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import gc
import resource
import signal
import sys
from typing import TYPE_CHECKING, Any, TypeVar

from exporter.cli.hangup import Hangup
from exporter.state.keeper import StateLockedError
from exporter.web.server.sockets import ListenError

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.daemon.daemon import Daemon

try:
    import uvloop
except ImportError:  # no uvloop for this platform or Python: asyncio's own loop works, too, at a higher cost
    uvloop = None  # type: ignore[assignment]  # a module, or none

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")

FEWEST_DESCRIPTORS = 32
_M_ARENA_MAX = -8  # in malloc.h of glibc
_SWITCH_SECONDS = 0.0005  # by which a thread that computes delays the event loop after every TLS operation
_GARBAGE_THRESHOLDS = (10_000, 20, 50)  # a burst of fetches briefly creates thousands of objects


def freeze_gc() -> None:
    """Exclude all present objects from garbage collection.

    A watchlist of 100,000 factors is a million permanent objects, which every full collection would traverse.
    """
    gc.collect()
    trim_memory()
    gc.freeze()
    gc.set_threshold(*_GARBAGE_THRESHOLDS)


def trim_memory() -> None:
    """Return freed memory from the C library to the system: about 5 % when lines change all the time.

    Takes a few milliseconds with 100,000 factors.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):  # a C library other than glibc
        ctypes.CDLL(None).malloc_trim(0)


def share_heap() -> None:
    """Let threads that start from now on allocate from the main thread's heap, where freed memory is used again.

    By default, glibc makes heaps for threads, such as the one that compresses scrapes: 3 % of the memory.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):  # a C library other than glibc
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def too_few_descriptors() -> str:
    """Return what is wrong with the limit of open files, or an empty string: below it, not even a start works."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY or limit >= FEWEST_DESCRIPTORS:
        return ""
    return f"the limit of open files is {limit}; raise it to at least {FEWEST_DESCRIPTORS} (ulimit -n)"


def run_to_end(main: Coroutine[object, object, None]) -> None:
    """Run a coroutine to its end, on uvloop if installed, where a fetch costs a third less CPU."""
    share_heap()
    sys.setswitchinterval(_SWITCH_SECONDS)
    with asyncio.Runner(loop_factory=None if uvloop is None else uvloop.new_event_loop) as runner:
        runner.run(main)


_ENDING = (signal.SIGTERM, signal.SIGINT)


def nothing() -> None:
    """Do nothing."""


async def unless_stopped(work: Coroutine[Any, Any, T]) -> T | None:
    """Return what ``work`` returns, or None if SIGTERM or SIGINT arrives first."""
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    for number in _ENDING:
        loop.add_signal_handler(number, task.cancel)
    try:
        await asyncio.wait((task,))
    finally:
        task.cancel()
        for number in _ENDING:
            loop.remove_signal_handler(number)
    return None if task.cancelled() else task.result()


async def serve(daemon: Daemon, started: Callable[[], None] = nothing, hangup: Hangup | None = None) -> None:
    """Run a daemon until SIGTERM or SIGINT; a second signal ends the wait for requests in flight.

    SIGHUP reloads the configuration; one that ``hangup`` remembers does so once the daemon is up. ``started`` is
    called once it listens. Raises ListenError and StateLockedError.
    """
    loop = asyncio.get_running_loop()
    if hangup is None:
        hangup = Hangup()
        hangup.install()
    for number in _ENDING:
        loop.add_signal_handler(number, daemon.request_stop)
    try:
        await _start(daemon)
        started()
        hangup.deliver(functools.partial(loop.call_soon_threadsafe, daemon.request_reload))
        await daemon.run()
    finally:
        hangup.ignore()
        for number in _ENDING:
            loop.remove_signal_handler(number)


async def _start(daemon: Daemon) -> None:
    try:
        await daemon.start()
    except (ListenError, StateLockedError):
        await daemon.engine.poller.drain(0)
        raise
