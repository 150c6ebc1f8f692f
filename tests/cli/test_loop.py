"""The loop that the daemon runs on, and what is done with the memory of its start."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import sys

import pytest
import uvloop

from exporter.cli import process as loop
from exporter.cli.process import freeze_gc, run_to_end, share_heap


async def _kind(found: list[type[asyncio.AbstractEventLoop]]) -> None:
    found.append(type(asyncio.get_running_loop()))


def test_it_is_uvloop() -> None:
    found: list[type[asyncio.AbstractEventLoop]] = []
    run_to_end(_kind(found))
    assert found == [uvloop.Loop]


def test_without_uvloop_it_is_the_standard_one(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[type[asyncio.AbstractEventLoop]] = []
    monkeypatch.setattr(loop, "uvloop", None)
    run_to_end(_kind(found))
    assert found
    assert found[0] is not uvloop.Loop


def test_a_thread_that_computes_holds_the_interpreter_for_half_a_millisecond() -> None:
    before = sys.getswitchinterval()
    found: list[float] = []

    async def read() -> None:
        found.append(sys.getswitchinterval())

    try:
        run_to_end(read())
    finally:
        sys.setswitchinterval(before)
    assert found == [pytest.approx(0.0005)]


def test_objects_from_the_start_are_excluded_from_garbage_collection() -> None:
    before = gc.get_threshold()
    gc.unfreeze()
    try:
        freeze_gc()
        assert gc.get_freeze_count() > 10_000
        assert gc.get_threshold() > before
    finally:
        gc.set_threshold(*before)


def test_threads_share_the_heap(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []

    class Glibc:
        def mallopt(self, parameter: int, value: int) -> None:
            asked.append((parameter, value))

    monkeypatch.setattr(ctypes, "CDLL", lambda _name: Glibc())
    share_heap()
    assert asked == [(-8, 1)]  # M_ARENA_MAX in malloc.h


def test_another_c_library_has_no_such_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: object())
    share_heap()
