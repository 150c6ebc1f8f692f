"""The server and its sockets: listens on every configured address, and stops within a bounded time."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from typing import TYPE_CHECKING, Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from exporter.config.webconfig import WebConfig
from exporter.logs.output import fields
from exporter.web.server.connections import Connection, Connections
from exporter.web.server.gate import Gate
from exporter.web.server.limits import Limits
from exporter.web.server.peers import address_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.http_parser import RawRequestMessage
    from aiohttp.streams import StreamReader

    from exporter.config.addresses import ListenAddress

log = logging.getLogger(__name__)

LISTEN_ADDRESS = "web.listen_address"
HEALTH_ADDRESS = "web.health_listen_address"
_BACKLOG = 1024
_AT_A_TIME = 64
_CLOSE_SECONDS = 1.0
_SWEEP_SECONDS = 1.0
_NO_ROOM_SECONDS = 0.2
_SPARE_SECONDS = 0.01
_NONE_WAITING = (BlockingIOError, InterruptedError, ConnectionAbortedError)
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class ListenError(Exception):
    """An address that can't be listened on; the message has a hint, and ``key`` is the key that sets it."""

    def __init__(self, message: str, key: str = LISTEN_ADDRESS) -> None:
        super().__init__(message)
        self.key = key


class _ServerLog(logging.LoggerAdapter[logging.Logger]):
    """The log of aiohttp's server; invalid HTTP and closed connections are client errors, logged at debug."""

    def exception(self, msg: object, *args: object, exc_info: Any = True, **options: Any) -> None:
        level = logging.DEBUG if isinstance(exc_info, HttpProcessingError | ConnectionError) else logging.ERROR
        self.log(level, msg, *args, exc_info=exc_info, **options)


class WebServer:
    """Serves one application on its addresses, by a web config; ``key`` is the key that sets the addresses."""

    def __init__(
        self,
        application: web.Application,
        *,
        config: WebConfig | None = None,
        telemetry_path: str = "/metrics",
        limits: Limits | None = None,
        key: str = LISTEN_ADDRESS,
    ) -> None:
        self._limits = limits or Limits()
        self._config = config or WebConfig()
        self._key = key
        self.connections = Connections(self._limits, lambda: self._config.client_names)
        self._gate = Gate(self._limits, self.connections, telemetry_path=telemetry_path)
        self._gate.use(self._config)
        self._gate.add_to(application)
        self._options: dict[str, Any] = {
            "access_log": None,
            "logger": _ServerLog(logging.getLogger("aiohttp.server")),
            "keepalive_timeout": self._limits.idle_seconds,
            "max_line_size": self._limits.line_bytes,
            "max_field_size": self._limits.line_bytes,
            "max_headers": self._limits.header_lines,
            "auto_decompress": False,  # a small compressed body may be a large one
        }
        self._runner = web.AppRunner(application, handle_signals=False, shutdown_timeout=_CLOSE_SECONDS)
        self._sockets: list[socket.socket] = []
        self._timers: dict[socket.socket | None, asyncio.TimerHandle] = {}
        self._spare = _Spare()
        self._others_from = 0.0  # when the next unknown client may be accepted without room
        # A closed connection frees its descriptor later: not all may be replaced at once.
        self._at_a_time = min(_AT_A_TIME, max(1, self._limits.connections // 8))

    @property
    def addresses(self) -> list[str]:
        """The URL of every socket, one that works on this machine."""
        return [
            url.replace("://[::]:", "://localhost:").replace("://0.0.0.0:", "://localhost:") for url in self.bound
        ]

    @property
    def bound(self) -> list[str]:
        """What every socket is bound to, as a URL: ``http://[::]:10069`` is every address of the machine."""
        scheme = "http" if self._config.tls is None else "https"
        return [_url(opened, scheme) for opened in self._sockets]

    def use(self, config: WebConfig) -> None:
        """Apply a web config; open connections keep the old one."""
        self._config = config
        self._gate.use(config)

    async def start(self, listen: Iterable[ListenAddress]) -> None:
        """Listen on every address, or on none; raises :class:`ListenError`."""
        sockets: list[socket.socket] = []
        try:
            for address in listen:
                sockets.extend(_open(address, self._key))
            await self._runner.setup()
        except BaseException:
            for opened in sockets:
                opened.close()
            await self._runner.cleanup()
            raise
        server = self._runner.server
        assert server is not None  # noqa: S101 - sockets accept only between setup and cleanup
        # aiohttp has no hook for "the head of a request is complete"; it calls its request factory at that moment.
        # An internal: requirements.lock pins aiohttp's version, and tests/web/server fails if that changes.
        server.request_factory = _reporting(server.request_factory)
        self._sockets = sockets
        for opened in sockets:
            opened.setblocking(False)
            self._listen(opened)
        self._sweep()

    async def stop(self) -> None:
        """Stop listening and close every connection."""
        loop = asyncio.get_running_loop()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for opened in self._sockets:
            loop.remove_reader(opened)
            opened.close()
        self._sockets = []
        self._spare.release()
        await self._runner.cleanup()
        await self.connections.close()

    def _listen(self, opened: socket.socket) -> None:
        self._timers.pop(opened, None)
        self._spare.take()
        asyncio.get_running_loop().add_reader(opened, self._accept, opened)

    def _accept(self, opened: socket.socket) -> None:
        """Accept pending connections, a bounded number at a time."""
        for _ in range(self._at_a_time):
            try:
                accepted, address = opened.accept()
            except _NONE_WAITING:
                return
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    log.debug("connection not accepted", extra=fields(reason=error.strerror))
                    return
                self.connections.warn(
                    "file descriptor limit reached", hint="raise the limit of open files (ulimit -n)"
                )
                if not self._accept_without_room(opened):
                    return
            else:
                self._serve(accepted, address_of(address))

    def _accept_without_room(self, opened: socket.socket) -> bool:
        """Accept one connection with the spare descriptor; return whether the next one can be accepted at once.

        Clients that scraped lately are served, in the place of another connection, and others a few per second.
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        if not self.connections.peers.any(now):  # whoever scrapes may be among those that wait
            self.connections.make_room()
            self._pause(opened, _NO_ROOM_SECONDS)
            return False
        self._spare.release()
        try:
            accepted, address = opened.accept()
        except _NONE_WAITING:
            self._spare.take()
            return False
        except OSError:  # somebody else took the descriptor, or it isn't descriptors that are lacking
            self._pause(opened, _NO_ROOM_SECONDS)
            return False
        peer = address_of(address)
        known = self.connections.peers.knows(peer, now)
        if (known or now >= self._others_from) and self.connections.make_room(peer):
            self._others_from = self._others_from if known else now + _NO_ROOM_SECONDS
            self._serve(accepted, peer)
        else:
            accepted.close()
        if self._spare.take():
            return True
        self._pause(opened, _SPARE_SECONDS)  # what was closed is free in the event loop's next round
        return False

    def _pause(self, opened: socket.socket, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(opened)
        self._timers[opened] = loop.call_later(seconds, self._listen, opened)

    def _serve(self, accepted: socket.socket, peer: str) -> None:
        accepted.setblocking(False)
        self.connections.admit(accepted, peer, self._connection, self._config.tls)

    def _connection(self) -> Connection:
        server = self._runner.server
        assert server is not None  # noqa: S101 - sockets accept only between setup and cleanup
        return Connection(self.connections, server, loop=asyncio.get_running_loop(), **self._options)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self.connections.sweep(loop.time())
        self._timers[None] = loop.call_later(_SWEEP_SECONDS, self._sweep)


class _Spare:
    """A descriptor in reserve: without a free one, not even the address of a client can be learnt."""

    def __init__(self) -> None:
        self._descriptor: int | None = None

    def take(self) -> bool:
        """Take a free descriptor into reserve; return whether there is one now."""
        if self._descriptor is None:
            with contextlib.suppress(OSError):
                self._descriptor = os.open(os.devnull, os.O_RDONLY)
        return self._descriptor is not None

    def release(self) -> None:
        """Free the descriptor, if there is one."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _reporting(make: Callable[..., web.BaseRequest]) -> Callable[..., web.BaseRequest]:
    """Return a request factory that reports every request to its connection."""

    def make_reporting(
        message: RawRequestMessage,
        payload: StreamReader,
        connection: Connection,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        connection.began(payload)
        return make(_readable(message), payload, connection, writer, task)

    return make_reporting


def _readable(message: RawRequestMessage) -> RawRequestMessage:
    """Return a request whose Expect header can be quoted: aiohttp's 417 repeats it, and fails on other bytes."""
    if message.headers.get("Expect", "").isascii():
        return message
    headers = message.headers.copy()
    headers["Expect"] = "not ASCII"
    return message._replace(headers=type(message.headers)(headers))


def _open(address: ListenAddress, key: str) -> list[socket.socket]:
    try:
        if address.host is None:
            return [_open_everywhere(address.port)]
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, place = found[0]
        return [socket.create_server(place[:2], family=family, backlog=_BACKLOG)]
    except (socket.gaierror, UnicodeError) as error:  # UnicodeError: a name too long to be resolved
        text = f"{address}: the host name can't be resolved; use an address of this machine"
        raise ListenError(text, key) from error
    except OSError as error:
        setting = "--web.listen-address" if key == LISTEN_ADDRESS else key
        raise ListenError(f"{address}: {_hint(error, setting)}", key) from error


def _open_everywhere(port: int) -> socket.socket:
    """Return a socket that listens on every IPv4 and IPv6 address, or on IPv4 only where there is no IPv6."""
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG)
        except OSError as error:
            if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                raise
    return socket.create_server(("", port), backlog=_BACKLOG)


def _hint(error: OSError, setting: str) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"the port is in use; stop the program that uses it, or set another with {setting}"
        case errno.EACCES:
            return f"not permitted; set a port above 1023 with {setting}"
        case errno.EADDRNOTAVAIL:
            return "not an address of this machine; use one of its addresses, or :PORT for all"
    return f"can't listen: {error.strerror or error}"


def _url(opened: socket.socket, scheme: str) -> str:
    host, port = opened.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
