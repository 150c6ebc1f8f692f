"""Sockets and server: listens on every configured address, and closes within bounds."""

from __future__ import annotations

import errno
import logging
import socket
from typing import TYPE_CHECKING, Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exporter.config.addresses import ListenAddress

_BACKLOG = 128
_KEEPALIVE_SECONDS = 75.0
_CLOSE_SECONDS = 1.0


class ListenError(Exception):
    """An address that can't be listened on; the message names it and the mend."""


class _ServerLog(logging.LoggerAdapter[logging.Logger]):
    """The log of aiohttp's server, in which a request that is not HTTP is no error: anybody can send one."""

    def exception(self, msg: object, *args: object, exc_info: Any = True, **options: Any) -> None:
        level = logging.DEBUG if isinstance(exc_info, HttpProcessingError) else logging.ERROR
        self.log(level, msg, *args, exc_info=exc_info, **options)


class WebServer:
    """Serves one application on any number of addresses."""

    def __init__(self, application: web.Application) -> None:
        self._runner = web.AppRunner(
            application,
            access_log=None,
            logger=_ServerLog(logging.getLogger("aiohttp.server")),
            handle_signals=False,
            keepalive_timeout=_KEEPALIVE_SECONDS,
            shutdown_timeout=_CLOSE_SECONDS,
        )
        self.addresses: list[str] = []

    async def start(self, listen: Iterable[ListenAddress]) -> None:
        """Listen on every address or on none; raises :class:`ListenError`."""
        sockets: list[socket.socket] = []
        try:
            for address in listen:
                sockets.extend(_open(address))
            await self._runner.setup()
            for opened in sockets:
                await web.SockSite(self._runner, opened, backlog=_BACKLOG).start()
        except BaseException:
            for opened in sockets:
                opened.close()
            await self._runner.cleanup()
            raise
        self.addresses = [_url(opened) for opened in sockets]

    async def stop(self) -> None:
        """Stop listening and close every connection."""
        await self._runner.cleanup()


def _open(address: ListenAddress) -> list[socket.socket]:
    try:
        if address.host is None:
            return [_open_everywhere(address.port)]
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, place = found[0]
        return [socket.create_server(place[:2], family=family, backlog=_BACKLOG)]
    except (socket.gaierror, UnicodeError) as error:  # a name that is too long can't even be asked for
        raise ListenError(f"{address}: the host has no address here; listen on one of this machine's") from error
    except OSError as error:
        raise ListenError(f"{address}: {_mend(error)}") from error


def _open_everywhere(port: int) -> socket.socket:
    """Return a socket that listens on every IPv4 and IPv6 address, or on IPv4 where there is no IPv6."""
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG)
        except OSError as error:
            if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                raise
    return socket.create_server(("", port), backlog=_BACKLOG)


def _mend(error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "the port is in use; stop what listens there, or choose another with --web.listen-address"
        case errno.EACCES:
            return "not permitted; choose a port above 1023 with --web.listen-address"
        case errno.EADDRNOTAVAIL:
            return "not an address of this machine; listen on one of its own, or on :PORT for all"
    return f"can't listen: {error.strerror or error}"


def _url(opened: socket.socket) -> str:
    host, port = opened.getsockname()[:2]
    if host in ("::", "0.0.0.0"):  # noqa: S104 - read, not bound: shown as an address one can open
        host = "localhost"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
