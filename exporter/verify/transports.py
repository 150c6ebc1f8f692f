"""The transport that is shipped: the lean one, or where there is a proxy the library's."""

from __future__ import annotations

import ssl
from base64 import b64encode
from typing import TYPE_CHECKING
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from exporter.verify.http1 import LeanTransport
from exporter.verify.resolver import DaemonThreadResolver
from exporter.verify.transport import IDLE_CONNECTION_SECONDS
from exporter.watched import is_loopback

if TYPE_CHECKING:
    from pathlib import Path

    from aiohttp.client_reqrep import ConnectionKey
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace


def proxy_of(base_url: str, proxy_url: str = "") -> httpx.Proxy | None:
    """Return the proxy to ``base_url``: at ``proxy_url``, or that of HTTPS_PROXY, HTTP_PROXY and NO_PROXY.

    Raises :class:`ValueError` for one that is neither http nor https.
    """
    address = proxy_url or _environment_proxy(base_url)
    return _proxy(address) if address else None


def _proxy(address: str) -> httpx.Proxy:
    """Return the proxy at an address; its credentials go as a header, the one way that aiohttp keeps."""
    try:
        url = httpx.URL(address if "://" in address else f"http://{address}")
    except httpx.InvalidURL:
        raise ValueError("proxy_url or HTTPS_PROXY is not an address; write it as http://host:port") from None
    if url.scheme not in ("http", "https"):
        raise ValueError(f"proxy_url or HTTPS_PROXY names a {url.scheme} proxy; only http and https are supported")
    proxy = httpx.Proxy(url)
    if proxy.auth is None:
        return proxy
    credentials = b64encode(":".join(proxy.auth).encode()).decode()
    return httpx.Proxy(proxy.url, headers={"Proxy-Authorization": f"Basic {credentials}"})


def _environment_proxy(base_url: str) -> str:
    """Return the proxy that HTTPS_PROXY, HTTP_PROXY and NO_PROXY name for ``base_url``, or an empty string.

    A loopback address is never asked of a proxy from the environment, as in Go: it would be the proxy's own.
    """
    url = httpx.URL(base_url)
    if is_loopback(url.host) or proxy_bypass(url.host) or proxy_bypass(url.netloc.decode()):
        return ""
    return getproxies().get(url.scheme, "")


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


def transport_to(
    *,
    base_url: str,
    max_connections: int,
    ca_file: Path | None = None,
    proxy_url: str = "",
    context: ssl.SSLContext | None = None,
) -> httpx.AsyncBaseTransport:
    """Return the transport to ``base_url``; without a proxy it is the lean one, at a third of the library's CPU.

    ``context`` is that of :func:`usual_authorities`, made once for several; a ``ca_file`` takes its place.
    Raises :class:`OSError` where ``ca_file`` can't be loaded, :class:`ValueError` for a proxy that is neither http
    nor https.
    """
    if ca_file is not None:
        context = ssl.create_default_context(cafile=str(ca_file))
    trusted = context or usual_authorities()
    proxy = proxy_of(base_url, proxy_url)
    if proxy is None:
        return LeanTransport(base_url=base_url, max_connections=max_connections, context=trusted)
    return library_transport(max_connections=max_connections, context=trusted, proxy=proxy)


def usual_authorities() -> ssl.SSLContext:
    """Return a context that trusts the usual certificate authorities; making one takes 30 to 50 ms."""
    return httpx.create_ssl_context()
