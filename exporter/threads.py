"""Calls that may block, each in a daemon thread of its own.

The event loop's shared pool would be taken from everything else by a few calls that hang (a name server that is
silent, a file on a lost network share), and the process could not end before they do.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    T = TypeVar("T")


async def in_daemon_thread(call: Callable[[], T], *, name: str) -> T:
    """Return what ``call`` returns, or raise what it raises; nobody waits for it once this is cancelled."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if answer.done():
            return
        if error is None:
            answer.set_result(result)  # type: ignore[arg-type]  # a T where there is no error
        else:
            answer.set_exception(error)

    def work() -> None:
        result: T | None = None
        failure: BaseException | None = None
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits
            failure = error
        try:
            loop.call_soon_threadsafe(settle, result, failure)
        except RuntimeError:  # the loop was closed meanwhile, and nobody waits any more
            return

    threading.Thread(target=work, name=name, daemon=True).start()
    return await answer
