"""Name resolution in threads of its own.

The system's resolver blocks, for tens of seconds when no name server answers. In asyncio's shared pool it would
take the threads of everything else with it, and the process could not end before it gives up.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import TYPE_CHECKING

from aiohttp.abc import AbstractResolver, ResolveResult

if TYPE_CHECKING:
    from typing import Any

    Found = list[tuple[Any, ...]]


class DaemonThreadResolver(AbstractResolver):
    """Asks the system's resolver in one daemon thread a question; raises :class:`socket.gaierror` as it does."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a host; link-local IPv6 ones with their zone."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Found] = loop.create_future()

        def tell(found: Found | None, error: OSError | None) -> None:
            if not answer.done():
                if error is None:
                    answer.set_result(found or [])
                else:
                    answer.set_exception(error)

        def ask() -> None:
            found: Found | None = None
            error: OSError | None = None
            try:
                found = [*socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)]
            except OSError as raised:
                error = raised
            except UnicodeError:
                error = socket.gaierror(socket.EAI_NONAME, "not a host name")
            try:
                loop.call_soon_threadsafe(tell, found, error)
            except RuntimeError:  # the loop was closed meanwhile, and nobody waits any more
                return

        threading.Thread(target=ask, name="resolver", daemon=True).start()
        return [_result(host, found) for found in await answer]

    async def close(self) -> None:
        """Leave threads to end with the process: nobody waits for them."""


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
