"""The client in use and those it replaced: which one is closed, and when; and stuck requests."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from exporter.polling.clients import Clients
from exporter.polling.record import FactorRecord
from exporter.polling.request import FactorFetch
from exporter.verify.outcome import Answer, Attempt, Failure, Reason, Status
from tests.support.factors import factor
from tests.support.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.polling.clients import ClientInUse, FactorClient
    from exporter.polling.request import ApiRequest
    from exporter.watched import WatchedEntity, WatchedFactor


class FakeClient:
    """A client that is open or closed."""

    def __init__(self) -> None:
        self.closed = 0

    async def fetch_factor(self, _watched: WatchedFactor) -> Attempt:
        return Attempt(Answer(Status.VERIFIED), 0.1, 200)

    async def list_factors(self, _entity: WatchedEntity, page_query: str | None = None) -> Attempt:
        raise NotImplementedError(page_query)

    async def list_entities(self, service_sid: str, page_query: str | None = None) -> Attempt:
        raise NotImplementedError(service_sid, page_query)

    async def fetch_service(self, service_sid: str) -> Attempt:
        raise NotImplementedError(service_sid)

    async def request_token(self) -> Attempt:
        raise NotImplementedError

    async def aclose(self) -> None:
        await asyncio.sleep(0)
        self.closed += 1


def new_request() -> FactorFetch:
    watched = factor(1)
    return FactorFetch(FactorRecord(watched), watched)


def clients_of(client: FactorClient, *, new_client: Callable[[], FactorClient] | None = None) -> Clients:
    """Return clients that abandon no request."""
    return Clients("main", client, abandon=unexpected, stuck_after_seconds=15.0, new_client=new_client)


def unexpected(_used: ClientInUse, _request: ApiRequest) -> None:
    raise AssertionError("no request is stuck")


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_client_that_was_replaced_closes_after_its_last_request() -> None:
    old, new = FakeClient(), FakeClient()
    clients = clients_of(old)
    requests = [new_request() for _ in range(3)]
    first, second = (clients.begin(request, 0.0) for request in requests[:2])
    assert first is second
    clients.replace(new)
    third = clients.begin(requests[2], 0.0)
    assert third.client is new
    assert (first.replaced, first.void, third.replaced) == (True, False, False)
    clients.end(third, requests[2])
    clients.end(first, requests[0])
    await settle()
    assert old.closed == 0
    clients.end(second, requests[1])
    await settle()
    assert (old.closed, new.closed) == (1, 0)


async def test_without_requests_it_closes_at_once() -> None:
    old = FakeClient()
    clients_of(old).replace(FakeClient())
    await settle()
    assert old.closed == 1


async def test_it_may_be_closed_under_its_requests() -> None:
    old, request = FakeClient(), new_request()
    clients = clients_of(old)
    used = clients.begin(request, 0.0)
    clients.replace(FakeClient(), at_once=True)
    await settle()
    assert old.closed == 1
    clients.end(used, request)
    await settle()
    assert old.closed == 1


async def test_the_answers_from_another_api_are_void() -> None:
    clients = clients_of(FakeClient())
    used = clients.begin(new_request(), 0.0)
    clients.replace(FakeClient(), void=True)
    assert used.void
    assert not clients.begin(new_request(), 0.0).void


async def test_at_the_end_all_are_closed_once() -> None:
    fakes = [FakeClient() for _ in range(3)]
    clients = clients_of(fakes[0])
    for fake in fakes[1:]:
        clients.begin(new_request(), 0.0)
        clients.replace(fake)
    await clients.aclose()
    await settle()
    assert [fake.closed for fake in fakes] == [1, 1, 1]


@in_virtual_time
async def test_a_client_that_neither_closes_nor_ends_delays_the_end_by_two_seconds_at_most() -> None:
    class NeverClosing(FakeClient):
        async def aclose(self) -> None:
            await asyncio.Event().wait()

    clients = clients_of(NeverClosing())
    began = asyncio.get_running_loop().time()
    await clients.aclose()
    await clients.aclose()
    assert asyncio.get_running_loop().time() - began <= 2
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@in_virtual_time
async def test_a_client_that_fails_to_close_is_forgotten() -> None:
    class Broken(FakeClient):
        async def aclose(self) -> None:
            raise OSError

    clients = clients_of(Broken())
    clients.replace(Broken())
    await asyncio.sleep(0)
    await clients.aclose()


# Stuck requests


class Request:
    """A request that ends after some seconds, and survives a number of cancellations before that."""

    def __init__(self, clients: Clients, seconds: float, *, endures: int = 0) -> None:
        self._loop = asyncio.get_running_loop()
        self._seconds = seconds
        self._endures = endures
        self.request = new_request()
        self.used = clients.begin(self.request, self._loop.time())
        self.request.task = self._loop.create_task(self._send(clients))

    async def _send(self, clients: Clients) -> None:
        end = self._loop.time() + self._seconds
        try:
            while (rest := end - self._loop.time()) > 0:
                try:
                    await asyncio.sleep(rest)
                except asyncio.CancelledError:
                    if self._endures == 0:
                        raise
                    self._endures -= 1
        finally:
            clients.end(self.used, self.request)


@in_virtual_time
async def test_a_request_is_cancelled_at_the_second_check() -> None:
    clients, loop = clients_of(FakeClient()), asyncio.get_running_loop()
    sent = Request(clients, 1000)
    await asyncio.sleep(15.1)
    assert not clients.cancel_stuck(loop.time())
    assert clients.cancel_stuck(loop.time())
    await settle()
    assert sent.request.task.cancelled()
    attempt = sent.request.timed_out(loop.time())
    assert isinstance(attempt.result, Failure)
    assert (attempt.result.reason, attempt.code, attempt.duration_seconds) == (Reason.TIMEOUT, None, 15.1)
    assert not clients.cancel_stuck(loop.time())


@in_virtual_time
async def test_a_retry_of_a_request_that_was_cancelled_is_not_stuck() -> None:
    clients, loop = clients_of(FakeClient()), asyncio.get_running_loop()
    sent = Request(clients, 1000)
    await asyncio.sleep(15.1)
    clients.cancel_stuck(loop.time())
    clients.cancel_stuck(loop.time())
    await settle()
    clients.begin(sent.request, loop.time())
    assert not clients.cancel_stuck(loop.time())
    assert not clients.cancel_stuck(loop.time())


@in_virtual_time
async def test_one_that_endures_keeps_its_slot_until_its_client_is_closed() -> None:
    old, loop = FakeClient(), asyncio.get_running_loop()
    abandoned: list[tuple[ClientInUse, ApiRequest]] = []
    clients = Clients(
        "main", old, abandon=lambda used, request: abandoned.append((used, request)), stuck_after_seconds=15.0
    )
    sent = Request(clients, 1000, endures=1)
    await asyncio.sleep(15.1)
    for _ in range(5):
        clients.cancel_stuck(loop.time())
        await asyncio.sleep(10)
    assert not sent.request.task.done()
    assert clients.cancel_stuck(loop.time()), "as long as it is there"
    assert abandoned == []
    clients.replace(FakeClient(), at_once=True)
    await asyncio.sleep(1.1)
    assert abandoned == [(sent.used, sent.request)]
    assert old.closed == 1
    await asyncio.sleep(1000)
    assert (old.closed, len(abandoned)) == (1, 1)


@in_virtual_time
async def test_one_that_ends_within_a_second_of_the_close_is_not_abandoned() -> None:
    clients, loop = clients_of(FakeClient()), asyncio.get_running_loop()
    sent = Request(clients, 16, endures=1)
    await asyncio.sleep(15.1)
    clients.cancel_stuck(loop.time())
    clients.cancel_stuck(loop.time())
    clients.replace(FakeClient(), at_once=True)
    await asyncio.sleep(2)  # `unexpected` would fail the test
    assert sent.request.task.done()
