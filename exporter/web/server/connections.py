"""Connections: how many there may be, how long each may take, and which client certificates are accepted."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from enum import IntEnum
from typing import TYPE_CHECKING, Any, cast

from aiohttp.web_protocol import RequestHandler

from exporter.config.tls import is_allowed
from exporter.logs.output import fields
from exporter.web.health import OWN_HEADERS
from exporter.web.server.peers import KnownPeers

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

    from aiohttp import web
    from aiohttp.streams import StreamReader

    from exporter.web.server.limits import Limits

log = logging.getLogger(__name__)

SLOW_SECONDS = 1.0
"""After how long a client that doesn't read may be disconnected in favour of others."""

_SWALLOWED_BYTES = 1 << 16
_LINGER_SECONDS = 1.0
_PLAIN_TEXT = b"this address requires TLS: use https instead of http\n"
_PLAIN_HTTP = (  # not even the method is read: HTTP/1.0 is what every client understands
    b"HTTP/1.0 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n"
    + b"".join(f"{name}: {value}\r\n".encode() for name, value in OWN_HEADERS.items())
    + f"Content-Length: {len(_PLAIN_TEXT)}\r\n\r\n".encode()
    + _PLAIN_TEXT
)


class Stage(IntEnum):
    """What a connection is doing."""

    NEW = 0  # no request yet
    IDLE = 1  # between two requests
    BUSY = 2  # a request is being answered


class Standing(IntEnum):
    """How much a connection matters when there are too many: the lowest is closed first."""

    NEW = 0
    IDLE = 1
    KNOWN_NEW = 2  # of a client that scraped lately, and has sent no request for a second
    KNOWN_IDLE = 3
    SLOW = 4  # the client reads too slowly
    BUSY = 5  # or a new one of a client that scraped lately
    KNOWN_BUSY = 6


class Connection(RequestHandler):
    """One connection of aiohttp's server, with deadlines.

    aiohttp has no limits for the head, the body and a slow reader, so its protocol class is subclassed. That is an
    internal of aiohttp: requirements.lock pins its version, and tests/web/server covers every override.
    """

    __slots__ = (
        "_deadline",
        "_head_bytes",
        "_payload",
        "_pool",
        "_wire",
        "peer",
        "since",
        "slow_since",
        "stage",
        "when_answered",
    )

    def __init__(self, pool: Connections, server: web.Server, **options: Any) -> None:
        super().__init__(server, **options)
        self._pool = pool
        self._wire: asyncio.Transport | None = None
        self._payload: StreamReader | None = None
        self._head_bytes = 0
        self.peer = ""  # the address of the client
        self.stage = Stage.NEW
        self.since = self._loop.time()
        self.slow_since: float | None = None
        self._deadline: float | None = None
        self.when_answered: Callable[[Connection], None] | None = None

    # Called by asyncio and aiohttp

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start, unless the client's certificate has none of the allowed names."""
        self._wire = wire = cast("asyncio.Transport", transport)
        self.since = self._loop.time()
        self._deadline = self.since + self._pool.limits.head_seconds
        if self._pool.is_allowed_in(wire):
            super().connection_made(wire)
        else:
            self.close()  # makes aiohttp ignore further data
            wire.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the connection."""
        self._wire = None
        self._pool.forget(self)
        self._answered()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Receive data; the head of a request is limited in size and time."""
        if self.stage is not Stage.BUSY and data:
            if self._head_bytes > self._pool.limits.head_bytes:
                self.abort()
                return
            if self._deadline is None:
                self._deadline = self._loop.time() + self._pool.limits.head_seconds
            self._head_bytes += len(data)
        super().data_received(data)

    def eof_received(self) -> bool:  # type: ignore[override]  # aiohttp never keeps a connection open
        """Return whether to keep the connection: a client that sends no more may still read its response."""
        payload = self._messages[-1][1] if self._messages else self._payload
        waiting = bool(self._messages) or self.stage is Stage.BUSY
        complete = payload is None or payload.is_eof()
        tls = self._wire is None or self._wire.get_extra_info("sslcontext") is not None  # has no half-closed state
        if tls or not waiting or not complete:
            return False
        self.close()  # after the response
        return True

    def began(self, payload: StreamReader) -> None:
        """Note that the head of a request is complete and its answer begins."""
        self.stage = Stage.BUSY
        self.since = self._loop.time()
        self._head_bytes = 0
        self._payload = None if payload.is_eof() else payload
        self._deadline = None if self._payload is None else self.since + self._pool.limits.body_seconds

    def log_access(self, *_request_and_answer: object) -> None:
        """Note that a response is written.

        aiohttp has no hook for that; it calls this after every response, with or without an access log.
        """
        self.stage = Stage.IDLE
        self.since = self._loop.time()
        self._deadline = self._payload = None
        self._answered()
        if not self.writing_paused:
            self.slow_since = None

    def _answered(self) -> None:
        if self.when_answered is not None:
            self.when_answered(self)
            self.when_answered = None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Add the headers of every response to error responses, for which aiohttp sends no signal."""
        response = super().handle_error(request, status, exc, message)
        response.headers.update({**OWN_HEADERS, **self._pool.headers})
        return response

    def pause_writing(self) -> None:
        """Note that the client reads more slowly than the exporter sends."""
        super().pause_writing()
        if self.slow_since is None:
            self.slow_since = self._loop.time()

    def resume_writing(self) -> None:
        """Go on sending; the deadline of the response stays."""
        super().resume_writing()
        if self.stage is not Stage.BUSY:
            self.slow_since = None

    def slow_for(self) -> float:
        """Return for how many seconds the client has read too slowly."""
        return 0.0 if self.slow_since is None else self._loop.time() - self.slow_since

    # Closing

    def overdue(self, now: float) -> bool:
        """Return whether a deadline has passed."""
        if self._payload is not None and self._payload.is_eof():
            self._payload = self._deadline = None
        if self._deadline is None and self._wire is not None and self._wire.is_closing():
            self._deadline = now + self._pool.limits.close_seconds  # the client may never read the rest
        slow = self.slow_since is not None and now >= self.slow_since + self._pool.limits.send_seconds
        return slow or (self._deadline is not None and now >= self._deadline)

    def abort(self) -> None:
        """Close at once, whatever is in flight."""
        if self._wire is not None:
            self._wire.abort()


async def _first_byte(accepted: socket.socket) -> bytes:
    """Return the first byte that a client sends, and leave it to be read; empty if the client sends none."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(accepted, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(accepted)
    return accepted.recv(1, socket.MSG_PEEK)


async def _refuse_plain_http(accepted: socket.socket) -> None:
    """Send 400 as plain text, and read until the client closes: data left unread would reset the connection."""
    loop = asyncio.get_running_loop()
    await loop.sock_recv(accepted, _SWALLOWED_BYTES)
    await loop.sock_sendall(accepted, _PLAIN_HTTP)
    accepted.shutdown(socket.SHUT_WR)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_SECONDS):
            while await loop.sock_recv(accepted, _SWALLOWED_BYTES):
                pass


class Connections:
    """All connections of one server: admits, limits and closes them.

    ``names`` returns the subject alternative names of which a client's certificate must have one, or None.
    """

    def __init__(self, limits: Limits, names: Callable[[], frozenset[str] | None]) -> None:
        self.limits = limits
        self._names = names
        self._open: dict[Connection, socket.socket] = {}
        self.peers = KnownPeers()
        self._tasks: set[asyncio.Task[None]] = set()
        self.headers: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Connection]:
        return iter(self._open)

    def admit(
        self,
        accepted: socket.socket,
        peer: str,
        make: Callable[[], Connection],
        context: ssl.SSLContext | None,
    ) -> None:
        """Serve an accepted socket of the client at an address; at the limit of connections, close another one."""
        if len(self._open) >= self.limits.connections and not self.make_room(peer):
            self.warn("connection refused because all are busy", limit=self.limits.connections)
            accepted.close()
            return
        connection = make()
        connection.peer = peer
        self._open[connection] = accepted
        task = asyncio.get_running_loop().create_task(self._start(accepted, connection, context))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _start(self, accepted: socket.socket, connection: Connection, context: ssl.SSLContext | None) -> None:
        loop = asyncio.get_running_loop()
        started = False
        try:
            if context is None:
                await loop.connect_accepted_socket(lambda: connection, accepted)
                started = True
                return
            latest = loop.time() + self.limits.handshake_seconds
            async with asyncio.timeout_at(latest):
                first = await _first_byte(accepted)
                if first.isalpha():  # a request line; a TLS record begins with a number below 32
                    await _refuse_plain_http(accepted)
                    log.debug("plain HTTP refused on a TLS address")
                    return
            await loop.connect_accepted_socket(
                lambda: connection,
                accepted,
                ssl=context,
                ssl_handshake_timeout=max(latest - loop.time(), 0.001),
                ssl_shutdown_timeout=self.limits.close_seconds,
            )
            started = True
        except (OSError, TimeoutError) as error:  # a failed handshake is an OSError, too
            log.debug("connection failed", extra=fields(reason=str(error) or type(error).__name__))
        finally:
            if not started:
                self.forget(connection)
                accepted.close()

    def make_room(self, peer: str = "") -> bool:
        """Close the connection that matters least, in favour of a new one from this address.

        Returns whether there was one. Only clients that scraped lately may end the request of another.
        """
        now = asyncio.get_running_loop().time()
        least = Standing.BUSY if self.peers.knows(peer, now) else Standing.SLOW
        standing, _, victim = min(
            ((*self._standing(connection, now), connection) for connection in self._open),
            key=lambda found: found[:2],
            default=(None, 0.0, None),
        )
        if standing is None or victim is None or standing > least:
            return False
        self.warn("longest waiting connection closed at the limit", limit=self.limits.connections)
        self._close(victim)
        return True

    def _standing(self, connection: Connection, now: float) -> tuple[Standing, float]:
        """Return how much a connection matters, and since when."""
        known = self.peers.knows(connection.peer, now)
        since = connection.since
        if connection.stage is Stage.NEW:
            if known:
                return (Standing.KNOWN_NEW if now - since >= SLOW_SECONDS else Standing.BUSY), since
            return Standing.NEW, since
        if connection.stage is Stage.IDLE:
            return (Standing.KNOWN_IDLE if known else Standing.IDLE), since
        if connection.slow_since is not None and connection.slow_for() >= SLOW_SECONDS:
            return Standing.SLOW, connection.slow_since
        return (Standing.KNOWN_BUSY if known else Standing.BUSY), since

    def sweep(self, now: float) -> None:
        """Close the connections whose deadline has passed."""
        for connection in [one for one in self._open if one.overdue(now)]:
            self._close(connection)

    async def close(self) -> None:
        """Close every connection."""
        for connection in list(self._open):
            self._close(connection)
        if self._tasks:
            await asyncio.wait(self._tasks)

    def forget(self, connection: Connection) -> None:
        """Drop a closed connection."""
        self._open.pop(connection, None)

    def is_allowed_in(self, transport: asyncio.Transport) -> bool:
        """Return whether the names in a client's certificate allow it to connect."""
        names = self._names()
        if names is None or transport.get_extra_info("sslcontext") is None:
            return True
        if is_allowed(transport.get_extra_info("peercert"), names):
            return True
        self.warn("client certificate not in client_allowed_sans")
        return False

    @staticmethod
    def warn(message: str, **details: object) -> None:
        """Log a warning that may repeat; the message is constant, so that the log can collapse it."""
        log.warning(message, extra=fields(**details))

    def _close(self, connection: Connection) -> None:
        accepted = self._open.pop(connection, None)
        connection.abort()
        if accepted is not None and accepted.fileno() != -1:
            try:
                accepted.shutdown(socket.SHUT_RDWR)  # ends a TLS handshake, too, which has no transport yet
            except OSError:
                return
