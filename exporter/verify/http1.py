"""The lean transport: HTTP/1.1 over asyncio's sockets and llhttp, without what a general client must be ready for.

It does GETs to one origin, one at a time on each connection, and nothing else: no redirects, cookies, proxies or
retries. Under httpx's interface, so that any other transport can take its place.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from typing import TYPE_CHECKING

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
    failure_of,
    whole,
)

if TYPE_CHECKING:
    Answered = tuple[int, list[tuple[bytes, bytes]], bytes | BodyError]

MAX_HEAD_BYTES = 1 << 16
_SECOND_ADDRESS_AFTER_SECONDS = 0.25  # RFC 8305 §5
_PORTS = {"http": 80, "https": 443}


class LeanTransport(httpx.AsyncBaseTransport):
    """Sends requests to one origin over at most ``max_connections`` connections.

    An idle connection is kept for 90 s; one is used again only where nothing came on it that was not asked for
    (RFC 9112 §9.2). What ends a request early closes its connection. Raises :class:`AttemptError`, and of opening a
    connection what the socket and TLS raise.
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
        self._known: httpx.URL | None = None  # of a request before: it is the origin
        self._headers: httpx.Headers | None = None  # of a request before, and
        self._lines = b""  # what they are on the wire
        self._context = context if url.scheme == "https" else None
        self._max_body_bytes = max_body_bytes
        self._resolver = DaemonThreadResolver()
        self._room = asyncio.Semaphore(max_connections)
        self._idle: list[_Connection] = []
        self._busy: set[_Connection] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a GET and return its answer, body and all."""
        head = self._head(request)
        async with self._room:
            connection = self._kept() or await self._connect()
            self._busy.add(connection)
            try:
                code, headers, body = await connection.ask(head, self._max_body_bytes)
            finally:
                self._busy.discard(connection)
                if connection.reusable:
                    connection.idle_since = asyncio.get_running_loop().time()
                    self._idle.append(connection)
                else:
                    connection.close()
        return whole(request, code, headers, body)

    def _head(self, request: httpx.Request) -> bytes:
        """Return the request as it goes over the wire; raises :class:`ValueError` for one to another origin."""
        target, address = (
            (request.target, request.origin) if isinstance(request, Get) else (request.url.raw_path, request.url)
        )
        if address is not self._known:
            if request.method != "GET" or _origin(address) != self._origin:
                raise ValueError("the lean transport does GETs to the origin that it was made for")
            self._known = address
        if request.headers is not self._headers:
            self._headers = request.headers
            self._lines = b"".join(b"%b: %b\r\n" % pair for pair in request.headers.raw) + b"\r\n"
        return b"GET %b HTTP/1.1\r\n%b" % (target, self._lines)

    def _kept(self) -> _Connection | None:
        """Return the connection that was used last, if it can be used again."""
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
        """Close every connection; a request under way fails."""
        for connection in (*self._idle, *self._busy):
            connection.close()
        self._idle.clear()


class _Connection(asyncio.Protocol):
    """One connection: one request at a time."""

    _transport: asyncio.Transport

    def __init__(self) -> None:
        self.reusable = True
        self.idle_since = 0.0
        self._exchange: _Exchange | None = None

    async def ask(self, head: bytes, max_body_bytes: int) -> Answered:
        """Send a request and return code, headers and body of its answer."""
        exchange = self._exchange = _Exchange(max_body_bytes)
        self._transport.write(head)
        try:
            answered = await exchange.answer
            self.reusable &= exchange.leaves_reusable
        except BaseException:
            self.reusable = False
            raise
        finally:
            self._exchange = None
            exchange.end()
        return answered

    def close(self) -> None:
        """Close at once: nothing that is still to come is wanted."""
        self.reusable = False
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the socket."""
        self._transport = transport  # type: ignore[assignment]  # a Transport, as the protocol is no datagrams'

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        if self._exchange is None or self._exchange.answer.done():
            self.close()  # not asked for: it would be taken for the next answer
        else:
            self._exchange.feed(data)

    def eof_received(self) -> None:
        """See the other side close; what is still under way ends with the connection."""
        self.reusable = False

    def connection_lost(self, error: Exception | None) -> None:
        """End what is under way."""
        self.reusable = False
        if self._exchange is not None and not self._exchange.answer.done():
            self._exchange.closed(error)


class _Exchange:
    """One answer as it is parsed; ``leaves_reusable`` says whether another one may follow on its connection."""

    def __init__(self, max_body_bytes: int) -> None:
        self.answer: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()
        self.leaves_reusable = True
        self._parser = httptools.HttpResponseParser(self)
        self._max_body_bytes = max_body_bytes
        self._idle_bytes = 0
        self._head_bytes = 0
        self._code = 0  # until the head of the answer is whole, and it is no interim one
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: Body | None = None
        self._whole: Answered | None = None
        self._framed = False

    def feed(self, data: bytes) -> None:
        """Take what came."""
        self._idle_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail("the answer is not HTTP")  # even one that was whole before: more came than it announced
        # Since the last piece of a body: a status line, interim answers, chunk extensions or trailers without end.
        if self._whole is None and self._idle_bytes > 2 * MAX_HEAD_BYTES:
            self._fail("the answer is not HTTP")
        if self._whole is not None and not self.answer.done():
            self.answer.set_result(self._whole)

    def closed(self, error: Exception | None) -> None:
        """Take the end of the connection."""
        if isinstance(error, ssl.SSLError):  # in TLS 1.3 a refused client certificate is told behind the handshake
            self.answer.set_exception(failure_of(error))
        elif isinstance(error, OSError) and error.errno and error.errno > 0:
            self._fail(os.strerror(error.errno).lower())
        elif not self._code:
            self._fail("closed before the answer was whole")
        elif self._framed or error is not None:
            self._fail("the body is cut short")
        else:  # the end of the connection is the end of the body
            self._finish()
            if self._whole is not None:
                self.answer.set_result(self._whole)

    def end(self) -> None:
        """Let go of the parser, which holds on to this."""
        del self._parser

    # What the parser calls

    def on_message_begin(self) -> None:
        """See an answer begin; a second one was not asked for, and which of them is meant nobody can tell."""
        if self._whole is not None:
            self._fail("the answer is not HTTP")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; what comes behind a body is none (RFC 9110 §6.5.1)."""
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > MAX_HEAD_BYTES:
            self._fail("the answer is not HTTP")
        elif not self._code:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Take the head of an answer, and see how its body comes."""
        code = self._parser.get_status_code()
        if code < 200 or self._code:
            return
        self._code = code
        encoding = b""
        for name, value in self._headers:
            match name.lower():
                case b"content-length" | b"transfer-encoding":
                    self._framed = True
                case b"content-encoding":
                    encoding = value
        try:
            self._body = Body(encoding.decode("latin-1"), self._max_body_bytes)
        except BodyError as error:
            self._unusable(error)

    def on_body(self, chunk: bytes) -> None:
        """Take a piece of the body."""
        self._idle_bytes = 0
        if self._body is None:
            return
        try:
            self._body.feed(chunk)
        except BodyError as error:
            self._unusable(error)

    def on_message_complete(self) -> None:
        """Take the end of an answer; of an interim one (1xx) only that the real one is still to come."""
        if not self._code:
            self._headers.clear()
            return
        self.leaves_reusable &= self._parser.should_keep_alive()
        self._finish()

    def _finish(self) -> None:
        if self._body is None:
            return
        try:
            self._whole = (self._code, self._headers, self._body.finish())
        except BodyError as error:
            self._unusable(error)
        self._body = None

    def _unusable(self, error: BodyError) -> None:
        """Answer without the body; what is left of it is not waited for."""
        self.leaves_reusable = False
        self._body = None
        self._whole = (self._code, self._headers, error)

    def _fail(self, words: str) -> None:
        if not self.answer.done():
            self.answer.set_exception(AttemptError(Reason.CONNECT, f"the connection failed: {words}"))


def _origin(url: httpx.URL) -> tuple[str, str, int]:
    return url.scheme, url.host, url.port or _PORTS[url.scheme]
