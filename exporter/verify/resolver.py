"""Name resolution in daemon threads, for both transports.

The system's resolver blocks for tens of seconds when no DNS server answers, which must delay neither other work nor
the exit of the process.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from aiohttp.abc import AbstractResolver, ResolveResult

from exporter.threads import in_daemon_thread

if TYPE_CHECKING:
    from typing import Any

    Found = list[tuple[Any, ...]]


class DaemonThreadResolver(AbstractResolver):
    """Runs the system's resolver in one daemon thread per query; raises its :class:`socket.gaierror`."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a host; link-local IPv6 addresses include their zone."""

        def query() -> Found:
            try:
                return [*socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)]
            except UnicodeError:
                raise socket.gaierror(socket.EAI_NONAME, "not a host name") from None

        return [_result(host, found) for found in await in_daemon_thread(query, name="resolver")]

    async def close(self) -> None:
        """Do nothing: the threads end by themselves or with the process."""


def _result(host: str, found: tuple[Any, ...]) -> ResolveResult:
    family, _, protocol, _, address = found
    literal, port, *rest = address
    if family == socket.AF_INET6 and len(rest) == 2 and rest[1]:
        literal = f"{literal}%{rest[1]}"
    return ResolveResult(
        hostname=host,
        host=literal,
        port=port,
        family=family,
        proto=protocol,
        flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    )
