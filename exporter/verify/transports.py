"""Selects the transport of an account: the exporter's own HTTP/1.1 transport, or aiohttp's if there is a proxy."""

from __future__ import annotations

import ssl
from base64 import b64encode
from typing import TYPE_CHECKING
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from exporter.verify.http1 import Http1Transport
from exporter.verify.resolver import DaemonThreadResolver
from exporter.verify.transport import IDLE_CONNECTION_SECONDS
from exporter.watched import is_loopback

if TYPE_CHECKING:
    from pathlib import Path

    from aiohttp.client_reqrep import ConnectionKey
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace


def transport_to(
    *,
    base_url: str,
    max_connections: int,
    ca_file: Path | None = None,
    proxy_url: str = "",
    context: ssl.SSLContext | None = None,
) -> httpx.AsyncBaseTransport:
    """Return the transport to ``base_url``: http1 if there is no proxy, at a third of the CPU of aiohttp's.

    ``context`` can be the result of :func:`usual_authorities`, to share it; ``ca_file`` takes precedence.
    Raises :class:`OSError` if ``ca_file`` can't be loaded, :class:`ValueError` if the proxy is neither http nor
    https.
    """
    if ca_file is not None:
        context = ssl.create_default_context(cafile=str(ca_file))
    trusted = context or usual_authorities()
    proxy = proxy_of(base_url, proxy_url)
    if proxy is None:
        return Http1Transport(base_url=base_url, max_connections=max_connections, context=trusted)
    return aiohttp_transport(max_connections=max_connections, context=trusted, proxy=proxy)


def usual_authorities() -> ssl.SSLContext:
    """Return a context that trusts the default certificate authorities; creating one takes 30 to 50 ms."""
    return httpx.create_ssl_context()


# Proxies


def proxy_of(base_url: str, proxy_url: str = "") -> httpx.Proxy | None:
    """Return the proxy for ``base_url``: ``proxy_url``, else the one from HTTPS_PROXY, HTTP_PROXY and NO_PROXY.

    Raises :class:`ValueError` if its scheme is neither http nor https.
    """
    address = proxy_url or _environment_proxy(base_url)
    return _proxy(address) if address else None


def proxy_name(base_url: str, proxy_url: str = "") -> str:
    """Return the host and port of the proxy for ``base_url``, without credentials; empty if there is none.

    Raises :class:`ValueError` as :func:`proxy_of` does.
    """
    proxy = proxy_of(base_url, proxy_url)
    return "" if proxy is None else proxy.url.netloc.decode("ascii")


def _proxy(address: str) -> httpx.Proxy:
    """Return the proxy at an address, with its credentials as a header, the only form that aiohttp keeps."""
    try:
        url = httpx.URL(address if "://" in address else f"http://{address}")
    except httpx.InvalidURL:
        raise ValueError("proxy_url or HTTPS_PROXY is not a URL; write it as http://host:port") from None
    if url.scheme not in ("http", "https"):
        raise ValueError(f"proxy_url or HTTPS_PROXY names a {url.scheme} proxy; only http and https are supported")
    proxy = httpx.Proxy(url)
    if proxy.auth is None:
        return proxy
    credentials = b64encode(":".join(proxy.auth).encode()).decode()
    return httpx.Proxy(proxy.url, headers={"Proxy-Authorization": f"Basic {credentials}"})


def _environment_proxy(base_url: str) -> str:
    """Return the proxy for ``base_url`` from HTTPS_PROXY, HTTP_PROXY and NO_PROXY, or an empty string.

    Loopback addresses are never requested through a proxy from the environment, as in Go.
    """
    url = httpx.URL(base_url)
    if is_loopback(url.host) or proxy_bypass(url.host) or proxy_bypass(url.netloc.decode()):
        return ""
    return getproxies().get(url.scheme, "")


# The aiohttp transport


class _Connector(aiohttp.TCPConnector):
    """Reuses a connection only if nothing was received while it was idle (RFC 9112 §9.2).

    aiohttp takes data received on an idle connection as the response to the next request, which shifts all later
    responses (aiohttp issue 13656). The method has no public name; a test sends such a response.
    """

    async def _get(self, key: ConnectionKey, traces: list[Trace]) -> Connection | None:
        for protocol, _since in self._conns.get(key, ()):
            if protocol.should_close:
                protocol.close()  # the pool skips closed connections
        return await super()._get(key, traces)


class _Response(aiohttp.ClientResponse):
    """A response without its reason phrase: it is unused, and httpx-aiohttp fails if it isn't UTF-8."""

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        await super().start(connection)
        self.reason = ""
        return self


def aiohttp_transport(
    *, max_connections: int, context: ssl.SSLContext, proxy: httpx.Proxy | None = None
) -> httpx.AsyncBaseTransport:
    """Return a transport that uses aiohttp's connections.

    Unlike httpx's default transport it survives cancelled requests, and it costs a fraction of the CPU. Idle
    connections are kept for 90 s, so that a burst of fetches can reuse those of the previous one.
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
        # aiohttp retries an idempotent request once when a connection breaks; here only a fetch retries.
        # The setting has no public name; a test counts the requests on the wire.
        opened._retry_connection = False  # noqa: SLF001  see above
        return opened

    return AiohttpTransport(verify=context, proxy=proxy, client=session)
