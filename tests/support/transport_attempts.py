"""Attempts on real sockets through either transport, and their expected results."""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from exporter.verify.client import VerifyClient
from exporter.verify.outcome import Answer, Attempt, Failure, Reason, Status
from exporter.verify.transport import BoundedTransport
from exporter.verify.transports import aiohttp_transport, proxy_of, transport_to, usual_authorities
from tests.support.misbehaving_servers import FACTOR, Wire, answer, says
from tests.support.requests import IDENTITY, PASSWORD, USERNAME

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import httpx
    import trustme

    from exporter.watched import WatchedFactor


AMPLE_SECONDS = 300.0
SHORT_SECONDS = 0.2

VERIFIED = Answer(Status.VERIFIED, factor_type="push", notification_platform="other")
WELL = says(answer())
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
SHORT_BODY = answer(FACTOR[:20], length=len(FACTOR))
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"

CLOSED = "the connection failed: closed before the response was complete"
RESET = "the connection failed: connection reset by peer"
CUT_SHORT = "the connection failed: the body is incomplete"
RESET_IN_BODY = f"{RESET}|{CUT_SHORT}"  # whichever the socket reports first
NOT_HTTP = "the connection failed: the response is not HTTP"


@dataclass(frozen=True)
class Authority:
    """A certificate authority, and the file that makes a client trust it."""

    ca: trustme.CA
    file: Path

    def server(self, host: str = "localhost", *, not_after: datetime | None = None) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        long_ago = datetime(2020, 1, 1, tzinfo=UTC)
        self.ca.issue_cert(host, not_before=long_ago, not_after=not_after).configure_cert(context)
        return context


def aiohttp_transport_to(
    *, base_url: str, max_connections: int, ca_file: Path | None = None, proxy_url: str = ""
) -> httpx.AsyncBaseTransport:
    """Return the aiohttp transport, with the parameters of :func:`transport_to`."""
    context = ssl.create_default_context(cafile=ca_file) if ca_file else usual_authorities()
    return aiohttp_transport(max_connections=max_connections, context=context, proxy=proxy_of(base_url, proxy_url))


TRANSPORTS = {"default": transport_to, "aiohttp": aiohttp_transport_to}
made = "default"  # the fixture each_transport changes it


def transport_of(**options: Any) -> httpx.AsyncBaseTransport:
    """Return a transport of the kind that is tested."""
    return TRANSPORTS[made](**options)


@asynccontextmanager
async def client_of(
    base_url: str, *, timeout_seconds: float = AMPLE_SECONDS, max_connections: int = 1, **options: Any
) -> AsyncIterator[VerifyClient]:
    """Yield a client as the daemon builds it, with one connection, so that a stuck one shows at once."""
    transport = transport_of(base_url=base_url, max_connections=max_connections, **options)
    client = VerifyClient(
        base_url=base_url,
        username=USERNAME,
        password=lambda: PASSWORD,
        transport=BoundedTransport(transport, timeout_seconds=timeout_seconds),
    )
    try:
        yield client
    finally:
        await client.aclose()


def url_of(wire: Wire, *, scheme: str = "http", host: str = "127.0.0.1") -> str:
    return f"{scheme}://{host}:{wire.port}"


def failure(attempt: Attempt) -> Failure:
    assert isinstance(attempt.result, Failure), attempt
    for private in (IDENTITY, PASSWORD, USERNAME, "127.0.0.1"):
        assert private not in attempt.result.detail
    return attempt.result


def give_ample_time(client: VerifyClient) -> None:
    """Let a client wait for an answer that comes: a busy machine may take longer than a short timeout."""
    client._transport._limit.seconds = AMPLE_SECONDS  # type: ignore[attr-defined]  # the transport's own clock


async def assert_recovers(client: VerifyClient, wire: Wire, watched: WatchedFactor) -> None:
    """Assert that the very same client is answered as soon as the server behaves."""
    wire.behave, wire.greet = WELL, None
    give_ample_time(client)
    assert (await client.fetch_factor(watched)).result == VERIFIED


def tls_url(wire: Wire) -> str:
    return url_of(wire, scheme="https", host="localhost")


def assert_broken(attempt: Attempt, details: str) -> None:
    result = failure(attempt)
    assert result.reason is Reason.CONNECT
    assert result.detail in details.split("|")
