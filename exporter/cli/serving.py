"""Running a daemon until a signal asks it to stop; shared by ``run`` and ``demo``."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

from exporter.web.server import ListenError

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.daemon import Daemon

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
        await daemon.poller.drain(0)
        raise
