"""The http1 transport: where a response ends, and what does not belong to it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import TYPE_CHECKING

import httpx
import pytest

from exporter.verify.http1 import Http1Transport
from exporter.verify.outcome import Reason
from exporter.verify.request import Get
from tests.support.misbehaving_servers import FACTOR, Wire, answer, says, then_repeats
from tests.support.requests import IDENTITY
from tests.support.transport_attempts import (
    CHUNKED,
    NOT_HTTP,
    VERIFIED,
    Authority,
    assert_broken,
    assert_recovers,
    client_of,
    failure,
    url_of,
)

if TYPE_CHECKING:
    from exporter.watched import WatchedFactor
    from tests.support.misbehaving_servers import Behaviour

GONE = answer(b"{}", status="404 Not Found")


@pytest.mark.parametrize(
    "behave",
    [
        says(answer() + GONE),
        says(answer() + answer()),
        says(answer() + GONE[:-10]),
        says(answer() + b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 300\r\nTwilio-Request-Id: RQother\r\n"),
    ],
    ids=["another's end", "the same again", "most of another", "the head of another"],
)
async def test_two_responses_are_a_failure(watched: WatchedFactor, behave: Behaviour) -> None:
    async with Wire(behave) as wire, client_of(url_of(wire)) as client:
        attempt = await client.fetch_factor(watched)
        assert_broken(attempt, NOT_HTTP)
        assert (attempt.code, attempt.request_id, attempt.retry_after_seconds) == (None, "", None)
        await assert_recovers(client, wire, watched)
    assert wire.accepted == 2


async def test_trailers_are_not_headers(watched: WatchedFactor) -> None:
    chunks = b"%x\r\n%b\r\n0\r\nRetry-After: 3\r\nTwilio-Request-Id: RQlate\r\n\r\n" % (len(FACTOR), FACTOR)
    async with Wire(says(CHUNKED + chunks)) as wire, client_of(url_of(wire)) as client:
        for _ in range(2):
            attempt = await client.fetch_factor(watched)
            assert (attempt.result, attempt.request_id, attempt.retry_after_seconds) == (VERIFIED, "", None)
    assert wire.accepted == 1


@pytest.mark.parametrize(
    "start", [CHUNKED + b"0\r\nX: ", CHUNKED + b"1;"], ids=["trailers", "an extension of a chunk"]
)
async def test_endless_data_outside_the_body_is_a_failure(watched: WatchedFactor, start: bytes) -> None:
    async with Wire(then_repeats(start, b"a" * 4096)) as wire, client_of(url_of(wire)) as client:
        assert_broken(await client.fetch_factor(watched), NOT_HTTP)
        await assert_recovers(client, wire, watched)


def _refuse(listening: socket.socket, context: ssl.SSLContext) -> None:
    """Accept one client and refuse its certificate with the alert of OpenSSL; asyncio's servers send none."""
    accepted, _ = listening.accept()
    with context.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False) as secure:
        with contextlib.suppress(ssl.SSLError):
            secure.do_handshake()
        socket.socket.shutdown(secure, socket.SHUT_WR)
        while socket.socket.recv(secure, 1 << 16):  # what is left unread would reset the connection, alert and all
            pass


async def test_a_missing_client_certificate(watched: WatchedFactor, authority: Authority) -> None:
    context = authority.server()
    context.minimum_version = ssl.TLSVersion.TLSv1_3  # which sends the alert after the handshake
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.file)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        refusing = asyncio.create_task(asyncio.to_thread(_refuse, listening, context))
        url = f"https://localhost:{listening.getsockname()[1]}"
        async with client_of(url, ca_file=authority.file) as client:
            result = failure(await client.fetch_factor(watched))
        await refusing
    assert result.reason is Reason.TLS
    assert "certificate required" in result.detail


async def test_it_sends_requests_to_its_own_origin_only() -> None:
    transport = Http1Transport(base_url="https://verify.example", max_connections=1, context=None)
    for request in (
        httpx.Request("GET", "https://elsewhere.example/"),
        httpx.Request("GET", "http://verify.example/"),
        httpx.Request("POST", "https://verify.example:444/"),
    ):
        with pytest.raises(ValueError, match="only sends requests to its own origin"):
            await transport.handle_async_request(request)


async def test_no_more_connections_than_allowed(watched: WatchedFactor) -> None:
    async with Wire(says(answer())) as wire, client_of(url_of(wire), max_connections=3) as client:
        attempts = await asyncio.gather(*(client.fetch_factor(watched) for _ in range(20)))
    assert [attempt.result for attempt in attempts] == [VERIFIED] * 20
    assert wire.accepted == 3


def test_the_repr_of_a_request_hides_its_url() -> None:
    request = Get(httpx.URL("https://verify.example"), f"/Entities/{IDENTITY}".encode(), httpx.Headers())
    assert IDENTITY not in repr(request)
    assert str(request.url) == f"https://verify.example/Entities/{IDENTITY}"
