"""The client in use and those it replaced: who is closed, and when."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from exporter.polling.clients import Clients
from exporter.verify.outcome import Answer, Attempt, Failure, Reason, Status
from tests.support.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from exporter.watched import WatchedEntity, WatchedFactor


class Door:
    """A client that is open or closed."""

    def __init__(self) -> None:
        self.closed = 0

    async def fetch_factor(self, _watched: WatchedFactor) -> Attempt:
        return Attempt(Answer(Status.VERIFIED), 0.1, 200)

    async def list_factors(self, _entity: WatchedEntity, page_url: str | None = None) -> Attempt:
        raise NotImplementedError(page_url)

    async def aclose(self) -> None:
        await asyncio.sleep(0)
        self.closed += 1


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_client_that_was_replaced_closes_after_its_last_request() -> None:
    old, new = Door(), Door()
    clients = Clients(old)
    async with clients.borrow() as first, clients.borrow() as second:
        assert first is second
        clients.replace(new)
        async with clients.borrow() as third:
            assert third.client is new
        assert not first.void
        await settle()
        assert old.closed == 0
    await settle()
    assert (old.closed, new.closed) == (1, 0)


async def test_without_requests_it_closes_at_once() -> None:
    old = Door()
    clients = Clients(old)
    clients.replace(Door())
    await settle()
    assert old.closed == 1


async def test_it_may_be_closed_under_its_requests() -> None:
    old = Door()
    clients = Clients(old)
    async with clients.borrow():
        clients.replace(Door(), at_once=True)
        await settle()
        assert old.closed == 1
    await settle()
    assert old.closed == 1


async def test_the_answers_of_one_that_asked_elsewhere_are_void() -> None:
    clients = Clients(Door())
    async with clients.borrow() as lease:
        clients.replace(Door(), void=True)
        assert lease.void
    async with clients.borrow() as lease:
        assert not lease.void


async def test_a_request_that_fails_is_over_too() -> None:
    old = Door()
    clients = Clients(old)

    async def fail() -> None:
        async with clients.borrow():
            clients.replace(Door())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    await settle()
    assert old.closed == 1


async def test_at_the_end_all_are_closed_once() -> None:
    doors = [Door() for _ in range(3)]
    clients = Clients(doors[0])
    async with clients.borrow():
        clients.replace(doors[1])
        async with clients.borrow():
            clients.replace(doors[2])
            await clients.aclose()
    await settle()
    assert [door.closed for door in doors] == [1, 1, 1]


# Requests


ANSWER = Attempt(Answer(Status.VERIFIED), 0.1, 200)


async def after(seconds: float, attempt: Attempt = ANSWER, *, endures: int = 0) -> Attempt:
    """Bring an attempt after a while; so many cancellations are endured."""
    end = asyncio.get_running_loop().time() + seconds
    while (rest := end - asyncio.get_running_loop().time()) > 0:
        try:
            await asyncio.sleep(rest)
        except asyncio.CancelledError:
            if endures == 0:
                raise
            endures -= 1
    return attempt


async def request(clients: Clients, begin: Callable[[], Awaitable[Attempt]]) -> Attempt:
    async with clients.borrow() as lease:
        return await lease.result(begin())  # type: ignore[arg-type]  # each of these is a coroutine


@in_virtual_time
async def test_a_request_brings_what_its_client_brings() -> None:
    assert await request(Clients(Door()), lambda: after(5)) is ANSWER


@in_virtual_time
async def test_what_a_client_raises_is_raised() -> None:
    async def fail() -> Attempt:
        raise LookupError

    with pytest.raises(LookupError):
        await request(Clients(Door()), fail)


@in_virtual_time
async def test_who_waits_may_be_cancelled_and_the_request_ends_first() -> None:
    clients, ended = Clients(Door()), []

    async def slow() -> Attempt:
        try:
            return await after(60)
        finally:
            await asyncio.sleep(0.3)
            ended.append(True)

    task = asyncio.create_task(request(clients, slow))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended


@in_virtual_time
async def test_a_request_is_given_up_at_the_second_look() -> None:
    clients = Clients(Door(), 15.0)
    task = asyncio.create_task(request(clients, lambda: after(1000)))
    await asyncio.sleep(15.1)
    assert not clients.give_up_stuck()
    assert clients.give_up_stuck()
    attempt = await task
    assert isinstance(attempt.result, Failure)
    assert (attempt.result.reason, attempt.code, attempt.duration_seconds) == (Reason.TIMEOUT, None, 15.1)
    assert not clients.give_up_stuck()


@in_virtual_time
async def test_an_answer_that_comes_all_the_same_is_taken() -> None:
    clients = Clients(Door(), 15.0)
    task = asyncio.create_task(request(clients, lambda: after(16, endures=1)))
    await asyncio.sleep(15.1)
    clients.give_up_stuck()
    clients.give_up_stuck()
    assert await task is ANSWER


@in_virtual_time
async def test_one_that_endures_keeps_its_slot_until_its_client_is_closed() -> None:
    old = Door()
    clients = Clients(old, 15.0)
    task = asyncio.create_task(request(clients, lambda: after(1000, endures=1)))
    await asyncio.sleep(15.1)
    for _ in range(5):
        clients.give_up_stuck()
        await asyncio.sleep(10)
    assert not task.done()
    assert clients.give_up_stuck(), "as long as it is there"
    clients.replace(Door(), at_once=True)
    await asyncio.sleep(1.1)
    assert isinstance((await task).result, Failure)
    assert old.closed == 1
    await asyncio.sleep(1000)
    assert old.closed == 1


@in_virtual_time
async def test_a_client_that_neither_closes_nor_ends_holds_up_nobody() -> None:
    class Wall(Door):
        async def aclose(self) -> None:
            await asyncio.Event().wait()

    clients = Clients(Wall())
    began = asyncio.get_running_loop().time()
    await clients.aclose()
    await clients.aclose()
    assert asyncio.get_running_loop().time() - began <= 2
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@in_virtual_time
async def test_a_client_that_fails_to_close_is_done_with() -> None:
    class Broken(Door):
        async def aclose(self) -> None:
            raise OSError

    clients = Clients(Broken())
    clients.replace(Broken())
    await asyncio.sleep(0)
    await clients.aclose()
