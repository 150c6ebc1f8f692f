"""Calls in daemon threads: their results, their errors, and nobody left waiting."""

from __future__ import annotations

import asyncio
import threading
from typing import NoReturn

import pytest

from exporter.threads import in_daemon_thread
from tests.support.processes import PATIENCE_SECONDS


async def test_returns_what_the_call_returns_and_runs_it_elsewhere() -> None:
    assert await in_daemon_thread(threading.current_thread, name="elsewhere") is not threading.current_thread()
    assert (await in_daemon_thread(threading.current_thread, name="elsewhere")).name == "elsewhere"
    assert (await in_daemon_thread(threading.current_thread, name="elsewhere")).daemon


async def test_raises_what_the_call_raises() -> None:
    def fail() -> NoReturn:
        raise OSError(5, "broken")

    with pytest.raises(OSError, match="broken"):
        await in_daemon_thread(fail, name="failing")


async def test_nobody_waits_for_a_call_that_hangs() -> None:
    hang = threading.Event()
    waiting = asyncio.create_task(in_daemon_thread(hang.wait, name="hanging"))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    hang.set()
    await asyncio.sleep(0.01)  # its result arrives, and nothing waits for it


def test_a_closed_loop_is_not_notified() -> None:
    hang, ended = threading.Event(), threading.Event()

    def late() -> None:
        hang.wait()
        threading.Timer(0.05, ended.set).start()

    async def begin() -> None:
        asyncio.create_task(in_daemon_thread(late, name="late")).cancel()
        task = asyncio.create_task(in_daemon_thread(late, name="late"))
        await asyncio.sleep(0.01)
        task.cancel()

    asyncio.run(begin())
    hang.set()
    assert ended.wait(PATIENCE_SECONDS)
