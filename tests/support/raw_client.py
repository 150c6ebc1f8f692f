"""An HTTP client that shows the received bytes and how the connection ended."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from tests.support.processes import PATIENCE_SECONDS

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from exporter.simulator import SimulatedFactor, Simulator


def fetch_path(factor: SimulatedFactor) -> str:
    return f"{list_path(factor)}/{factor.sid}"


def list_path(factor: SimulatedFactor) -> str:
    return f"/v2/Services/{factor.service_sid}/Entities/{factor.identity}/Factors"


class Connection(asyncio.Protocol):
    """The received bytes, and how the connection ended: ``closed`` or ``reset``."""

    def __init__(self) -> None:
        self.received = b""
        self.ending: str | None = None
        self.transport: asyncio.Transport | None = None
        self._news = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.received += data
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ending = "closed" if exc is None else "reset"
        self._news.set()

    async def until(self, expected: bytes) -> bytes:
        """Wait until these bytes are received, and return everything received."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while expected not in self.received:
                assert self.ending is None, self.received
                self._news.clear()
                await self._news.wait()
        return self.received

    async def end(self) -> str:
        """Wait for the end of the connection, and return how it ended."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.ending is None:
                self._news.clear()
                await self._news.wait()
        return self.ending

    def leave(self) -> None:
        """Abort the connection, as a client does after its timeout."""
        assert self.transport is not None
        self.transport.abort()


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete HTTP response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def basic(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


async def open_to(simulator: Simulator, tls: ssl.SSLContext | None = None) -> Connection:
    """Open a connection without sending anything."""
    address = urlsplit(simulator.base_url)
    assert address.hostname is not None
    assert address.port is not None
    _, connection = await asyncio.get_running_loop().create_connection(
        Connection, address.hostname, address.port, ssl=tls
    )
    return connection


async def settled(condition: Callable[[], object]) -> None:
    """Wait until a counter of the simulator has the expected value."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110  counts have no event to wait for
            await asyncio.sleep(0.001)


async def send_request(
    simulator: Simulator,
    path: str,
    *,
    method: str = "GET",
    authorization: str | None = None,
    body: bytes = b"",
    tls: ssl.SSLContext | None = None,
) -> Connection:
    """Open a connection and send one request; with credentials by default."""
    connection = await open_to(simulator, tls)
    if authorization is None:
        authorization = basic(simulator.username, simulator.password)
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: {urlsplit(simulator.base_url).netloc}\r\n"
        f"Authorization: {authorization}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    assert connection.transport is not None
    connection.transport.write(head.encode() + body)
    return connection


async def get(
    simulator: Simulator,
    path: str,
    *,
    method: str = "GET",
    authorization: str | None = None,
    document: object = None,
    body: bytes = b"",
    tls: ssl.SSLContext | None = None,
) -> Reply:
    """Send one request and return the complete response."""
    if document is not None:
        body = json.dumps(document).encode()
    connection = await send_request(simulator, path, method=method, authorization=authorization, body=body, tls=tls)
    assert await connection.end() == "closed"
    return parse(connection.received)


def parse(received: bytes) -> Reply:
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert len(body) == int(headers.get("Content-Length", "0"))
    return Reply(int(first.split()[1]), headers, body)
