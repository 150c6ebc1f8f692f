"""The exporter's own HTTP/1.1 transport, on asyncio's sockets and llhttp.

It sends GET requests, and POST requests with a small body, to one origin, one at a time per connection; it has no
redirects, cookies, proxies or retries. It implements httpx's interface, so any other transport can replace it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from typing import TYPE_CHECKING, NamedTuple

import httptools
import httpx
from aiohappyeyeballs import start_connection

from exporter.verify.outcome import Reason
from exporter.verify.request import Get
from exporter.verify.resolver import DaemonThreadResolver
from exporter.verify.transport import (
    IDLE_CONNECTION_SECONDS,
    MAX_BODY_BYTES,
    AttemptError,
    Body,
    BodyError,
    DirectTransport,
    complete,
    failure_of,
    read_headers,
    whole,
)

if TYPE_CHECKING:
    from exporter.verify.transport import Reply, TimeLimit


MAX_HEAD_BYTES = 1 << 16
_FRAMING = ("content-length", "transfer-encoding")
_SECOND_ADDRESS_AFTER_SECONDS = 0.25  # RFC 8305 §5
_PORTS = {"http": 80, "https": 443}


class Received(NamedTuple):
    """A response as it was received; ``read`` are the headers that mean something here."""

    code: int
    headers: list[tuple[bytes, bytes]]
    read: dict[str, str]
    body: bytes | BodyError


class Http1Transport(DirectTransport):
    """Sends requests to one origin over at most ``max_connections`` connections.

    An idle connection is kept for 90 s, and reused only if nothing was received on it meanwhile (RFC 9112 §9.2). A
    request that ends early closes its connection. Raises :class:`AttemptError`, and the errors of sockets and TLS
    when a connection is opened.
    """

    def __init__(
        self,
        *,
        base_url: str,
        max_connections: int,
        context: ssl.SSLContext | None,
        max_body_bytes: int = MAX_BODY_BYTES,
    ) -> None:
        url = httpx.URL(base_url)
        self._origin = _origin(url)
        self._seen_url: httpx.URL | None = None  # of a previous request: known to have the right origin
        self._headers: httpx.Headers | None = None  # of a previous request, and
        self._lines = b""  # their encoded form
        self._context = context if url.scheme == "https" else None
        self._max_body_bytes = max_body_bytes
        self._resolver = DaemonThreadResolver()
        self._slots = asyncio.Semaphore(max_connections)
        self._idle: list[_Connection] = []
        self._busy: set[_Connection] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and return the complete response."""
        code, headers, _, body = await self._connect_and_exchange(self._message(request))
        return whole(request, code, headers, body)

    async def get(self, request: Get, limit: TimeLimit) -> Reply:
        """Send a request within the time limit, and return the complete response."""
        message = self._message(request)
        if not self._slots.locked() and (connection := self._reusable_connection()) is not None:
            async with self._slots:  # which doesn't wait
                received = await self._exchange(connection, message, limit)
        else:
            received = await limit.around(self._connect_and_exchange(message))
        return complete(received.code, received.read, received.body)

    async def _connect_and_exchange(self, message: bytes) -> Received:
        """Wait for a slot, and open a connection if there is none, to send a request."""
        async with self._slots:
            connection = self._reusable_connection() or await self._connect()
            return await self._exchange(connection, message)

    async def _exchange(self, connection: _Connection, message: bytes, limit: TimeLimit | None = None) -> Received:
        """Send a request and return the response; the connection is idle or closed then."""
        self._busy.add(connection)
        try:
            answer = connection.send(message, self._max_body_bytes)
            return await (answer if limit is None else limit.until(answer))
        finally:
            self._busy.discard(connection)
            connection.end()
            if connection.reusable:
                connection.idle_since = asyncio.get_running_loop().time()
                self._idle.append(connection)
            else:
                connection.close()

    def _message(self, request: httpx.Request) -> bytes:
        """Return the encoded request; raises :class:`ValueError` if it is not a GET or POST to the origin."""
        target, address = (
            (request.target, request.origin) if isinstance(request, Get) else (request.url.raw_path, request.url)
        )
        if address is not self._seen_url:
            if _origin(address) != self._origin:
                raise ValueError("the http1 transport only sends requests to its own origin")
            self._seen_url = address
        if request.headers is not self._headers:
            self._headers = request.headers
            self._lines = b"".join(b"%b: %b\r\n" % pair for pair in request.headers.raw) + b"\r\n"
        if request.method == "GET":
            return b"GET %b HTTP/1.1\r\n%b" % (target, self._lines)
        if request.method == "POST":
            return b"POST %b HTTP/1.1\r\n%b%b" % (target, self._lines, request.content)
        raise ValueError("the http1 transport only sends GET and POST requests")

    def _reusable_connection(self) -> _Connection | None:
        """Return the most recently used idle connection that is still reusable, or ``None``."""
        oldest = asyncio.get_running_loop().time() - IDLE_CONNECTION_SECONDS
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable and connection.idle_since >= oldest:
                return connection
            connection.close()
        return None

    async def _connect(self) -> _Connection:
        _, host, port = self._origin
        found = await self._resolver.resolve(host, port, socket.AF_UNSPEC)
        addresses = [
            (one["family"], socket.SOCK_STREAM, one["proto"], "", (one["host"], one["port"])) for one in found
        ]
        opened = await start_connection(addresses, happy_eyeballs_delay=_SECOND_ADDRESS_AFTER_SECONDS, interleave=1)
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                _Connection, sock=opened, ssl=self._context, server_hostname=host if self._context else None
            )
        except BaseException:
            opened.close()
            raise
        return connection

    async def aclose(self) -> None:
        """Close all connections; requests in flight fail."""
        for connection in (*self._idle, *self._busy):
            connection.close()
        self._idle.clear()


class _Connection(asyncio.Protocol):
    """One connection, for one request at a time."""

    _transport: asyncio.Transport
    _responses: _Responses

    def __init__(self) -> None:
        self.reusable = True
        self.idle_since = 0.0
        self._answer: asyncio.Future[Received] | None = None  # to the request in flight

    def send(self, message: bytes, max_body_bytes: int) -> asyncio.Future[Received]:
        """Send a request; the result is its response. :meth:`end` must follow."""
        answer = self._answer = self._responses.next(max_body_bytes)
        self._transport.write(message)
        return answer

    def end(self) -> None:
        """End the request, whether it was answered or not."""
        answer, self._answer = self._answer, None
        if answer is None or not answer.done() or answer.cancelled() or answer.exception() is not None:
            self.reusable = False
        else:
            self.reusable &= self._responses.leave_reusable

    def close(self) -> None:
        """Close immediately, discarding data in transit."""
        self.reusable = False
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the asyncio transport."""
        self._responses = _Responses()
        self._transport = transport  # type: ignore[assignment]  # a Transport, as this is not a datagram protocol

    def data_received(self, data: bytes) -> None:
        """Parse received data."""
        if self._answer is None or self._answer.done():
            self.close()  # unrequested data would be taken for the next response
        else:
            self._responses.feed(data)

    def eof_received(self) -> None:
        """Mark the connection as not reusable; a response in flight ends with the connection."""
        self.reusable = False

    def connection_lost(self, error: Exception | None) -> None:
        """End the exchange in progress."""
        self.reusable = False
        if self._answer is not None and not self._answer.done():
            self._responses.closed(error)
        self._responses.end()


class _Responses:
    """The responses of one connection, parsed one after another by one parser; a new one costs as much as parsing.

    ``leave_reusable`` says whether the connection can be reused after the response.
    """

    answer: asyncio.Future[Received]

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._loop = asyncio.get_running_loop()

    def next(self, max_body_bytes: int) -> asyncio.Future[Received]:
        """Expect the response to a request that is sent now, and return it as a future."""
        self.answer = self._loop.create_future()
        self.leave_reusable = True
        self._max_body_bytes = max_body_bytes
        self._idle_bytes = 0
        self._head_bytes = 0
        self._code = 0  # until the headers of the final response are complete
        self._headers: list[tuple[bytes, bytes]] = []
        self._read: dict[str, str] = {}
        self._body: Body | None = None
        self._whole: Received | None = None
        return self.answer

    def feed(self, data: bytes) -> None:
        """Parse received data."""
        self._idle_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail("the response is not HTTP")  # even if it was complete: more data came than announced
        # Bytes since the last body data: an endless status line, interim responses, chunk extensions or trailers.
        if self._whole is None and self._idle_bytes > 2 * MAX_HEAD_BYTES:
            self._fail("the response is not HTTP")
        if self._whole is not None and not self.answer.done():
            self.answer.set_result(self._whole)

    def closed(self, error: Exception | None) -> None:
        """Handle the end of the connection."""
        if isinstance(error, ssl.SSLError):  # TLS 1.3 reports a refused client certificate after the handshake
            self.answer.set_exception(failure_of(error))
        elif isinstance(error, OSError) and error.errno and error.errno > 0:
            self._fail(os.strerror(error.errno).lower())
        elif not self._code:
            self._fail("closed before the response was complete")
        elif error is not None or not self._read.keys().isdisjoint(_FRAMING):
            self._fail("the body is incomplete")
        else:  # the body ends with the connection
            self._finish()
            if self._whole is not None:
                self.answer.set_result(self._whole)

    def end(self) -> None:
        """Drop the parser, which refers to this object."""
        del self._parser

    # Callbacks of the parser

    def on_message_begin(self) -> None:
        """Fail on a second response: it is unknown which of them belongs to the request."""
        if self._whole is not None:
            self._fail("the response is not HTTP")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header; trailers after the body are ignored (RFC 9110 §6.5.1)."""
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > MAX_HEAD_BYTES:
            self._fail("the response is not HTTP")
        elif not self._code:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Note the status code, and how the body is framed and encoded."""
        code = self._parser.get_status_code()
        if code < 200 or self._code:
            return
        self._code = code
        self._read = read_headers(self._headers)
        try:
            self._body = Body(self._read.get("content-encoding", ""), self._max_body_bytes)
        except BodyError as error:
            self._unusable(error)

    def on_body(self, chunk: bytes) -> None:
        """Collect body data."""
        self._idle_bytes = 0
        if self._body is None:
            return
        try:
            self._body.feed(chunk)
        except BodyError as error:
            self._unusable(error)

    def on_message_complete(self) -> None:
        """Finish the response; after an interim one (1xx) wait for the final one."""
        if not self._code:
            self._headers.clear()
            return
        self.leave_reusable &= self._parser.should_keep_alive()
        self._finish()

    def _finish(self) -> None:
        if self._body is None:
            return
        try:
            self._whole = Received(self._code, self._headers, self._read, self._body.finish())
        except BodyError as error:
            self._unusable(error)
        self._body = None

    def _unusable(self, error: BodyError) -> None:
        """Return the response with an error as its body, without waiting for the rest."""
        self.leave_reusable = False
        self._body = None
        self._whole = Received(self._code, self._headers, self._read, error)

    def _fail(self, words: str) -> None:
        if not self.answer.done():
            self.answer.set_exception(AttemptError(Reason.CONNECT, f"the connection failed: {words}"))


def _origin(url: httpx.URL) -> tuple[str, str, int]:
    return url.scheme, url.host, url.port or _PORTS[url.scheme]
