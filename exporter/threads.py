"""Blocking calls, each in a daemon thread of its own.

A few calls that hang (an unresponsive name server, a file on a lost network share) would fill the event loop's
shared thread pool, and the process could not exit before they return.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    T = TypeVar("T")


async def in_daemon_thread(call: Callable[[], T], *, name: str) -> T:
    """Return what ``call`` returns, or raise what it raises; once cancelled, its result is discarded."""
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
        except BaseException as error:  # noqa: BLE001 - the awaiting task raises it
            failure = error
        try:
            loop.call_soon_threadsafe(settle, result, failure)
        except RuntimeError:  # the loop was closed in the meantime: nobody awaits the result
            return

    threading.Thread(target=work, name=name, daemon=True).start()
    return await answer
