"""Connections: how many there may be, and how long each may take for what."""

from __future__ import annotations

import asyncio
import logging
import socket
from enum import IntEnum
from typing import TYPE_CHECKING, Any, cast

from aiohttp.web_protocol import RequestHandler

from exporter.config.tls import is_allowed
from exporter.logs.output import fields
from exporter.web.health import OWN_HEADERS

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

    from aiohttp import web
    from aiohttp.streams import StreamReader

    from exporter.web.server.limits import Limits

log = logging.getLogger(__name__)

SLOW_SECONDS = 1.0
"""How long a client has let the exporter wait before others go before it."""


class Stage(IntEnum):
    """What a connection does; the first are the first to be closed where there are too many."""

    NEW = 0  # no request yet
    IDLE = 1  # between two requests
    BUSY = 2  # its request is answered


class Connection(RequestHandler):
    """One connection of aiohttp's server that knows how long it may still take."""

    __slots__ = (
        "_deadline",
        "_head_bytes",
        "_payload",
        "_pool",
        "_wire",
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
        self.stage = Stage.NEW
        self.since = self._loop.time()
        self.slow_since: float | None = None
        self._deadline: float | None = None
        self.when_answered: Callable[[Connection], None] | None = None

    # What happens to it

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, unless the client's certificate has none of the names that are let in."""
        self._wire = wire = cast("asyncio.Transport", transport)
        self.since = self._loop.time()
        self._deadline = self.since + self._pool.limits.head_seconds
        if self._pool.lets_in(wire):
            super().connection_made(wire)
        else:
            self.close()  # takes no more in
            wire.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        """End."""
        self._wire = None
        self._pool.forget(self)
        self._answered()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes in; those of a request's head are counted and timed."""
        if self.stage is not Stage.BUSY and data:
            if self._head_bytes > self._pool.limits.head_bytes:
                self.abort()
                return
            if self._deadline is None:
                self._deadline = self._loop.time() + self._pool.limits.head_seconds
            self._head_bytes += len(data)
        super().data_received(data)

    def began(self, payload: StreamReader) -> None:
        """Note that a request's head is complete, and its answer begun."""
        self.stage = Stage.BUSY
        self.since = self._loop.time()
        self._head_bytes = 0
        self._payload = None if payload.is_eof() else payload
        self._deadline = None if self._payload is None else self.since + self._pool.limits.body_seconds

    def log_access(self, *_request_and_answer: object) -> None:
        """Note that an answer is written; aiohttp calls this after each."""
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
        """Answer what is no HTTP, or failed, with the headers of every answer: no signal of aiohttp's does."""
        response = super().handle_error(request, status, exc, message)
        response.headers.update({**OWN_HEADERS, **self._pool.headers})
        return response

    def pause_writing(self) -> None:
        """Note that the client doesn't read as fast as it is sent."""
        super().pause_writing()
        if self.slow_since is None:
            self.slow_since = self._loop.time()

    def resume_writing(self) -> None:
        """Go on sending; the time for the whole answer runs on."""
        super().resume_writing()
        if self.stage is not Stage.BUSY:
            self.slow_since = None

    def slow_for(self) -> float:
        """Return for how many seconds the client has let the exporter wait."""
        return 0.0 if self.slow_since is None else self._loop.time() - self.slow_since

    # Its end

    def overdue(self, now: float) -> bool:
        """Return whether this took longer than it may."""
        if self._payload is not None and self._payload.is_eof():
            self._payload = self._deadline = None
        if self._deadline is None and self._wire is not None and self._wire.is_closing():
            self._deadline = now + self._pool.limits.close_seconds  # what is left may never be taken
        slow = self.slow_since is not None and now >= self.slow_since + self._pool.limits.send_seconds
        return slow or (self._deadline is not None and now >= self._deadline)

    def abort(self) -> None:
        """Close at once, whatever is under way."""
        if self._wire is not None:
            self._wire.abort()


class Connections:
    """All connections of one address: admits them, bounds them, and lets go of them.

    ``names`` gives the alternative names of which a client's certificate must have one, or None.
    """

    def __init__(self, limits: Limits, names: Callable[[], frozenset[str] | None]) -> None:
        self.limits = limits
        self._names = names
        self._open: dict[Connection, socket.socket] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.headers: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Connection]:
        return iter(self._open)

    def admit(
        self, accepted: socket.socket, make: Callable[[], Connection], context: ssl.SSLContext | None
    ) -> None:
        """Serve an accepted socket, in place of a connection that waits if there are too many."""
        if len(self._open) >= self.limits.connections and not self.close_longest_waiting():
            self.tell("connections refused: all are being answered", limit=self.limits.connections)
            accepted.close()
            return
        connection = make()
        self._open[connection] = accepted
        task = asyncio.get_running_loop().create_task(self._begin(accepted, connection, context))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _begin(self, accepted: socket.socket, connection: Connection, context: ssl.SSLContext | None) -> None:
        loop = asyncio.get_running_loop()
        begun = False
        try:
            if context is None:
                await loop.connect_accepted_socket(lambda: connection, accepted)
            else:
                await loop.connect_accepted_socket(
                    lambda: connection,
                    accepted,
                    ssl=context,
                    ssl_handshake_timeout=self.limits.handshake_seconds,
                    ssl_shutdown_timeout=self.limits.close_seconds,
                )
            begun = True
        except (OSError, TimeoutError) as error:  # a handshake that failed is an OSError too
            log.debug("connection not begun", extra=fields(reason=str(error) or type(error).__name__))
        finally:
            if not begun:
                self.forget(connection)
                accepted.close()

    def close_longest_waiting(self) -> bool:
        """Close the connection that waits longest, for a request or to be read; return whether there is one."""
        waiting = [connection for connection in self._open if connection.stage is not Stage.BUSY]
        if waiting:
            victim = min(waiting, key=lambda connection: (connection.stage, connection.since))
        else:  # one that doesn't read its answer waits too
            victim = max(self._open, key=Connection.slow_for)
            if victim.slow_for() < SLOW_SECONDS:
                return False
        self.tell("too many connections: the longest waiting are closed", limit=self.limits.connections)
        self._close(victim)
        return True

    def sweep(self, now: float) -> None:
        """Close what took longer than it may."""
        for connection in [one for one in self._open if one.overdue(now)]:
            self._close(connection)

    async def close(self) -> None:
        """Close every connection."""
        for connection in list(self._open):
            self._close(connection)
        if self._tasks:
            await asyncio.wait(self._tasks)

    def forget(self, connection: Connection) -> None:
        """Let go of a connection that is closed."""
        self._open.pop(connection, None)

    def lets_in(self, transport: asyncio.Transport) -> bool:
        """Return whether a client may come in, by the names in its certificate."""
        names = self._names()
        if names is None or transport.get_extra_info("sslcontext") is None:
            return True
        if is_allowed(transport.get_extra_info("peercert"), names):
            return True
        self.tell("client refused: its certificate has none of client_allowed_sans")
        return False

    @staticmethod
    def tell(message: str, **details: object) -> None:
        """Log a warning that may come often, in constant words: the log folds it."""
        log.warning("%s", message, extra=fields(**details))

    def _close(self, connection: Connection) -> None:
        accepted = self._open.pop(connection, None)
        connection.abort()
        if accepted is not None and accepted.fileno() != -1:
            try:
                accepted.shutdown(socket.SHUT_RDWR)  # ends a handshake too, of which nothing else is at hand
            except OSError:
                return
