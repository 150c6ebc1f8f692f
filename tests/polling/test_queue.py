"""Whose request is next: the order of an account's requests, holds, lateness, deadlines and the stop."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

import pytest

from exporter.polling.queue import RequestQueue, round_robin
from exporter.polling.throttle import Throttle
from tests.support.factors import key
from tests.support.virtual_time import in_virtual_time, virtual_clock, virtual_loop

if TYPE_CHECKING:
    from exporter.watched import FactorKey


class Queue:
    """RequestQueue over a throttle; what starts is kept and stays in flight until it is ended."""

    def __init__(self, *, rate: float = 1_000.0, concurrency: int = 1) -> None:
        self.throttle = Throttle(requests_per_second=rate, max_concurrency=concurrency)
        self.clock = virtual_clock()
        self.requests = RequestQueue(self.throttle, self.clock, self._start)
        self.started: list[FactorKey | str] = []
        self.lags: list[float] = []
        self.tasks: list[asyncio.Task[bool]] = []

    @property
    def now(self) -> float:
        return self.clock.steady()

    def _start(self, factor: FactorKey, lag_seconds: float) -> None:
        self.throttle.begin(self.now)
        self.started.append(factor)
        self.lags.append(lag_seconds)

    def offer(self, *numbers: int) -> None:
        for number in numbers:
            self.requests.offer(key(number), self.now)

    async def ask(
        self, name: str, *, wait: float = 0.0, deadline: float = math.inf, urgent: bool = False
    ) -> asyncio.Task[bool]:
        """Line up a request that is no due factor's."""

        async def take() -> bool:
            granted = await self.requests.slot(wait, deadline, urgent=urgent)
            if granted:
                self.started.append(name)
            return granted

        task = asyncio.create_task(take())
        self.tasks.append(task)
        await asyncio.sleep(0.001)
        return task

    async def end(self) -> None:
        """End the request in flight."""
        self.throttle.end(0.1)
        self.requests.dispatch()
        await asyncio.sleep(0.001)


@in_virtual_time
async def test_urgent_requests_go_first_then_retries_then_due_factors() -> None:
    queue = Queue()
    queue.offer(1, 2, 3)
    queue.requests.dispatch()
    await queue.ask("retry 1")
    await queue.ask("urgent 1", urgent=True)
    await queue.ask("retry 2")
    await queue.ask("urgent 2", urgent=True)
    for _ in range(6):
        await queue.end()
    assert queue.started == [key(1), "urgent 1", "urgent 2", "retry 1", "retry 2", key(2), key(3)]
    assert queue.throttle.in_flight == 1


@in_virtual_time
async def test_a_factor_offered_twice_keeps_its_place_and_its_due_time() -> None:
    queue = Queue()
    queue.offer(1, 2, 3)
    queue.requests.dispatch()
    await asyncio.sleep(10)
    queue.offer(2)
    assert len(queue.requests) == 2
    assert list(queue.requests) == [key(2), key(3)]
    await queue.end()
    assert queue.started == [key(1), key(2)]
    assert queue.lags[1] == pytest.approx(10)


@in_virtual_time
async def test_a_factor_can_be_withdrawn_once() -> None:
    queue = Queue()
    queue.offer(1, 2)
    assert queue.requests.withdraw(key(1))
    assert not queue.requests.withdraw(key(1))
    queue.requests.dispatch()
    assert queue.started == [key(2)]


@in_virtual_time
async def test_only_urgent_calls_go_in_a_hold() -> None:
    queue = Queue(concurrency=10)
    queue.requests.pause()
    queue.offer(1)
    queue.requests.dispatch()
    await queue.ask("retry")
    await queue.ask("urgent", urgent=True)
    await asyncio.sleep(100)
    assert queue.started == ["urgent"]
    queue.requests.resume()
    await asyncio.sleep(0.001)
    assert queue.started[1:] in (["retry", key(1)], [key(1), "retry"])


@in_virtual_time
async def test_a_hold_that_begins_while_the_rate_is_spent_lasts() -> None:
    queue = Queue(rate=1, concurrency=10)
    queue.offer(1, 2)
    queue.requests.dispatch()
    queue.requests.pause()
    await asyncio.sleep(100)
    assert queue.started == [key(1)]
    queue.requests.resume()
    assert queue.started == [key(1), key(2)]


@in_virtual_time
async def test_the_rate_lets_the_next_one_go_by_itself() -> None:
    queue = Queue(rate=2, concurrency=10)
    begun = virtual_loop().time()
    queue.offer(*range(6))
    queue.requests.dispatch()
    await asyncio.sleep(1.9)
    assert len(queue.started) == 4
    await asyncio.sleep(0.2)
    assert len(queue.started) == 6
    assert queue.lags == pytest.approx([0, 0, 1, 1, 2, 2], abs=1e-5)
    assert virtual_loop().time() - begun == pytest.approx(2.1)


# Lateness


@in_virtual_time
async def test_time_in_a_hold_is_not_lateness() -> None:
    queue = Queue(concurrency=10)
    queue.requests.pause()
    queue.offer(1)
    await asyncio.sleep(500)
    queue.requests.resume()
    assert queue.lags == [0]


@in_virtual_time
async def test_time_in_a_pause_is_not_lateness_and_time_after_it_is() -> None:
    queue = Queue(rate=1, concurrency=10)
    queue.throttle.rate_limited(queue.now, started=queue.now, pause_seconds=60)
    queue.offer(1, 2, 3)
    queue.requests.dispatch()
    await asyncio.sleep(59.9)
    assert queue.started == []
    await asyncio.sleep(10)
    assert queue.lags == pytest.approx([0, 1, 2], abs=1e-5)


@in_virtual_time
async def test_a_release_without_a_hold_forgives_no_lateness() -> None:
    queue = Queue()
    queue.offer(1, 2)
    queue.requests.dispatch()
    await asyncio.sleep(5)
    queue.requests.resume()
    await queue.end()
    assert queue.lags == pytest.approx([0, 5])


# Waiting for a slot


@in_virtual_time
async def test_a_slot_comes_after_the_wait() -> None:
    queue = Queue(concurrency=10)
    task = await queue.ask("retry", wait=30)
    await asyncio.sleep(29.9)
    assert not task.done()
    await asyncio.sleep(0.2)
    assert await task
    assert queue.throttle.in_flight == 1


@in_virtual_time
async def test_no_slot_is_taken_after_the_deadline() -> None:
    queue = Queue()
    queue.offer(1)
    queue.requests.dispatch()
    task = await queue.ask("retry", deadline=queue.now + 10)
    await asyncio.sleep(9.9)
    assert not task.done()
    await asyncio.sleep(0.2)
    assert not await task
    await queue.ask("another")
    await queue.end()
    assert queue.started == [key(1), "another"]  # the refused one is skipped
    assert queue.throttle.in_flight == 1


@in_virtual_time
async def test_a_deadline_that_has_passed_refuses_at_once() -> None:
    queue = Queue(concurrency=10)
    task = await queue.ask("retry", wait=5, deadline=queue.now - 1)
    assert task.done()
    assert not await task


# Quiet


@in_virtual_time
async def test_quiet_comes_when_no_request_is_under_way() -> None:
    queue = Queue(concurrency=2)
    await queue.requests.idle()
    queue.offer(1, 2)
    queue.requests.dispatch()
    waiting = asyncio.create_task(queue.requests.idle())
    await asyncio.sleep(0.001)
    await queue.end()
    assert not waiting.done()
    await queue.end()
    assert waiting.done()


@in_virtual_time
async def test_quiet_comes_with_the_stop() -> None:
    queue = Queue()
    queue.offer(1)
    queue.requests.dispatch()
    waiting = asyncio.create_task(queue.requests.idle())
    await asyncio.sleep(0.001)
    queue.requests.stop()
    await asyncio.sleep(0.001)
    assert waiting.done()
    await queue.requests.idle()


# The stop


@in_virtual_time
async def test_after_the_stop_nothing_starts_and_waits_end() -> None:
    queue = Queue(rate=1, concurrency=2)
    queue.offer(1, 2, 3)
    queue.requests.dispatch()
    backing_off = await queue.ask("backing off", wait=20)
    lined_up = await queue.ask("lined up", urgent=True)
    queue.requests.stop()
    await asyncio.sleep(0.001)
    assert [await backing_off, await lined_up] == [False, False]
    assert len(queue.requests) == 0
    assert not await queue.requests.slot(0.0, math.inf)
    queue.offer(4)
    await queue.end()
    await asyncio.sleep(100)
    assert queue.started == [key(1)]
    assert queue.throttle.in_flight == 0


# Rotation


def test_round_robin_skips_what_is_busy() -> None:
    keys = [key(n) for n in range(3)]
    assert [round_robin(keys, step, ()) for step in range(5)] == [keys[n] for n in (0, 1, 2, 0, 1)]
    assert round_robin(keys, 1, {keys[1]}) == keys[2]
    assert round_robin(keys, 2, {keys[2], keys[0]}) == keys[1]
    assert round_robin(keys, 0, keys) is None
    assert round_robin([], 0, ()) is None


@in_virtual_time
async def test_a_burst_is_sent_in_pieces_with_other_work_in_between() -> None:
    queue = Queue(concurrency=100)
    queue.offer(*range(40))
    seen: list[int] = []
    queue.requests.dispatch()
    for _ in range(5):
        seen.append(len(queue.started))
        queue.requests.dispatch()  # as the end of a request does: that must neither start more now nor put it off
        await asyncio.sleep(0)
    assert seen == [16, 32, 40, 40, 40]


@in_virtual_time
async def test_retries_leave_in_parts_too_and_a_stop_ends_it() -> None:
    queue = Queue(concurrency=100)
    queue.requests.pause()
    for number in range(20):
        await queue.ask(f"retry {number}")
    queue.requests.resume()
    queue.requests.stop()
    await asyncio.sleep(1)
    assert len(queue.started) == 16
