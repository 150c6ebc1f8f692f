"""The client in use and those it replaced: who is closed, and when."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from exporter.polling.clients import Clients
from exporter.verify.outcome import Answer, Attempt, Status

if TYPE_CHECKING:
    from exporter.watched import WatchedFactor


class Door:
    """A client that is open or closed."""

    def __init__(self) -> None:
        self.closed = 0

    async def fetch_factor(self, _watched: WatchedFactor) -> Attempt:
        return Attempt(Answer(Status.VERIFIED), 0.1, 200)

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
