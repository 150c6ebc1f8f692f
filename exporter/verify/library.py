"""The transport of a library: what goes through a proxy goes through it, and what the lean one is measured by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
from httpx_aiohttp import AiohttpTransport

from exporter.verify.resolver import DaemonThreadResolver
from exporter.verify.transport import IDLE_CONNECTION_SECONDS

if TYPE_CHECKING:
    import ssl

    import httpx
    from aiohttp.client_reqrep import ConnectionKey
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace


class _Connector(aiohttp.TCPConnector):
    """Sockets that are used again only where nothing came that was not asked for (RFC 9112 §9.2).

    aiohttp keeps what comes on an idle connection as the answer to the next request, and then each further answer
    as that to the request after (its issue 13656). The method has no public name; a test sends such an answer.
    """

    async def _get(self, key: ConnectionKey, traces: list[Trace]) -> Connection | None:
        for protocol, _since in self._conns.get(key, ()):
            if protocol.should_close:
                protocol.close()  # what is closed is not given out
        return await super()._get(key, traces)


class _Response(aiohttp.ClientResponse):
    """An answer without its reason phrase: httpx-aiohttp fails for one that isn't UTF-8, and nobody reads it."""

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        await super().start(connection)
        self.reason = ""
        return self


def library_transport(
    *, max_connections: int, context: ssl.SSLContext, proxy: httpx.Proxy | None = None
) -> httpx.AsyncBaseTransport:
    """Return aiohttp's sockets under httpx's interface.

    It survives a cancelled request and costs a fraction of httpx's stock pool. Idle connections are kept for
    90 s, so that a burst finds those of the one before.
    """

    def session() -> aiohttp.ClientSession:
        connector = _Connector(
            limit=max_connections,
            ssl=context,
            keepalive_timeout=IDLE_CONNECTION_SECONDS,
            resolver=DaemonThreadResolver(),
        )
        opened = aiohttp.ClientSession(
            connector=connector,
            response_class=_Response,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            trust_env=False,
        )
        # aiohttp repeats an idempotent request once when a connection breaks; retries have one owner here.
        # The switch has no public name; a test counts the requests on the wire.
        opened._retry_connection = False  # noqa: SLF001  see above
        return opened

    return AiohttpTransport(verify=context, proxy=proxy, client=session)
