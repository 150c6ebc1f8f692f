"""The virtual loop itself: the tests of this folder stand on it."""

from __future__ import annotations

import asyncio
import gc

import pytest

from tests.support.virtual_time import (
    START,
    DeadlockError,
    in_virtual_time,
    run_virtual,
    virtual_clock,
    virtual_loop,
)


def test_a_day_of_sleep_takes_no_time() -> None:
    async def sleep() -> float:
        await asyncio.sleep(86_400 * 3)  # a hang, were it three days of wall time
        return virtual_loop().time()

    assert run_virtual(sleep()) == pytest.approx(86_400 * 3)


@in_virtual_time
async def test_timers_fire_in_order_and_at_their_time() -> None:
    loop = virtual_loop()
    fired: list[tuple[str, float]] = []

    def fire(name: str) -> None:
        fired.append((name, loop.time()))

    for name, delay in (("late", 2.5), ("early", 0.5), ("middle", 1.0)):
        loop.call_later(delay, fire, name)
    await asyncio.sleep(3)
    assert fired == [("early", 0.5), ("middle", 1.0), ("late", 2.5)]


def test_a_deadlock_is_reported() -> None:
    async def wait_for_ever() -> None:
        await asyncio.sleep(5)
        await asyncio.Event().wait()

    with pytest.raises(DeadlockError, match="at 5 s"):
        run_virtual(wait_for_ever())


def test_an_error_that_nobody_retrieved_fails_the_test() -> None:
    async def fail() -> None:
        raise ValueError("unseen")

    async def lose_a_task() -> None:
        task = asyncio.create_task(fail())
        await asyncio.sleep(1)
        del task
        gc.collect()

    with pytest.raises(AssertionError, match=r"never retrieved.*unseen"):
        run_virtual(lose_a_task())


def test_tasks_left_behind_are_cancelled() -> None:
    ended: list[str] = []

    async def linger() -> None:
        try:
            await asyncio.sleep(1_000)
        finally:
            ended.append("linger")

    async def leave() -> asyncio.Task[None]:
        task = asyncio.create_task(linger())
        await asyncio.sleep(0)
        return task

    assert run_virtual(leave()).cancelled()
    assert ended == ["linger"]


@in_virtual_time
async def test_the_clock_follows_the_loop() -> None:
    clock = virtual_clock()
    await asyncio.sleep(90)
    assert clock.moment() == (START + 90, START + 90)


@in_virtual_time
async def test_a_step_of_the_wall_clock_moves_no_steady_time() -> None:
    loop, step = virtual_loop(), 0.0
    clock = virtual_clock(lambda: START + loop.time() + step)
    await asyncio.sleep(10)
    step = -7_200.0
    assert clock.moment() == (START + 10 - 7_200, START + 10)
