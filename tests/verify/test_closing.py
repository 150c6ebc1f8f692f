"""The end of a client, and of one attempt: at once, and without noise."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import threading
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from exporter.verify.outcome import Failure, Reason
from exporter.verify.transport import AttemptError, BoundedTransport
from tests.support.misbehaving_servers import Wire, then_stalls
from tests.support.processes import PATIENCE_SECONDS
from tests.support.transport_attempts import (
    AMPLE_SECONDS,
    HEAD,
    SHORT_BODY,
    WELL,
    Authority,
    assert_recovers,
    client_of,
    failure,
    tls_url,
    transport_of,
    url_of,
)

if TYPE_CHECKING:
    from exporter.watched import WatchedFactor
    from tests.support.transport_attempts import Authority


pytestmark = pytest.mark.usefixtures("each_transport")


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["resolving", "handshake", "headers", "body"])
async def test_closing_ends_a_request_in_flight_at_once(
    watched: WatchedFactor, authority: Authority, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    loop = asyncio.get_running_loop()
    complaints: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _loop, context: complaints.append(context))
    reached = asyncio.Event()

    given_up = threading.Event()

    def silence(*_args: object, **_options: object) -> list[Any]:
        loop.call_soon_threadsafe(reached.set)
        given_up.wait()
        return []

    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if stage == "body":
            writer.write(SHORT_BODY)
            await writer.drain()
            await asyncio.sleep(0.01)
        reached.set()
        await reader.read()

    async with Wire(stall) as wire:
        base_url = url_of(wire)
        if stage == "resolving":
            monkeypatch.setattr(socket, "getaddrinfo", silence)
            base_url = "http://verify.invalid:80"
        elif stage == "handshake":
            wire.greet = stall
            base_url = tls_url(wire)
        async with client_of(base_url, ca_file=authority.file) as client:
            task = asyncio.create_task(client.fetch_factor(watched))
            await reached.wait()
            async with asyncio.timeout(PATIENCE_SECONDS):  # the request itself has longer
                await client.aclose()
                attempt = await task
        monkeypatch.undo()
        given_up.set()
    assert failure(attempt) == Failure(Reason.CONNECT, "the connection failed: closed by the exporter")
    del task
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []


async def test_closing_while_an_attempt_is_timing_out() -> None:
    timed_out, may_end = asyncio.Event(), asyncio.Event()

    async def slow_to_end(_request: httpx.Request) -> httpx.Response:
        try:
            await asyncio.Event().wait()
        finally:
            timed_out.set()
            await may_end.wait()
        raise AssertionError

    bounded = BoundedTransport(httpx.MockTransport(slow_to_end), timeout_seconds=0.01)
    task = asyncio.create_task(bounded.handle_async_request(httpx.Request("GET", "http://verify.example")))
    await timed_out.wait()
    await bounded.aclose()
    may_end.set()
    with pytest.raises(AttemptError) as caught:
        await task
    assert caught.value.reason is Reason.CONNECT


async def test_an_attempt_after_closing_fails_without_a_request() -> None:
    async with Wire(WELL) as wire:
        bounded = BoundedTransport(
            transport_of(base_url=url_of(wire), max_connections=1), timeout_seconds=AMPLE_SECONDS
        )
        request = httpx.Request("GET", url_of(wire))
        assert (await bounded.handle_async_request(request)).status_code == 200
        await bounded.aclose()
        with pytest.raises(AttemptError) as caught:
            await bounded.handle_async_request(request)
    assert (caught.value.reason, len(wire.requests)) == (Reason.CONNECT, 1)


async def test_a_cancelled_attempt_leaves_the_pool_whole(watched: WatchedFactor) -> None:
    async with Wire(then_stalls(HEAD)) as wire, client_of(url_of(wire)) as client:
        for _ in range(3):
            task = asyncio.create_task(client.fetch_factor(watched))
            await asyncio.sleep(0.02)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            assert task.cancelled()
        await assert_recovers(client, wire, watched)
