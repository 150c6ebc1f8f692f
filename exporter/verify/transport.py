"""The one seam to the network: an httpx transport that bounds an attempt as a whole and names its failure.

Library clients time the phases of a request, so that a body that dribbles in is never late, and map most
failures to one class. Here the clock runs from the first byte asked to the last byte read, and the reason
comes from the chain of causes. Nothing outside this module cancels a request.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import zlib
from typing import TYPE_CHECKING
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from exporter.verify.outcome import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_BODY_BYTES = 1 << 20
IDLE_CONNECTION_SECONDS = 90.0

_DETAILS = {
    Reason.TIMEOUT: "no complete answer in time",
    Reason.CONNECT: "the connection failed",
    Reason.DNS: "the host name could not be resolved",
    Reason.TLS: "the TLS handshake failed",
    Reason.DECODE: "the answer could not be decoded",
    Reason.INTERNAL: "an unexpected error in the exporter",
}


class AttemptError(httpx.TransportError):
    """An attempt that brought no complete answer: its reason, and the detail in words."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class BoundedTransport(httpx.AsyncBaseTransport):
    """Bounds each attempt in time and size, whatever transport does the work below it.

    Raises :class:`AttemptError` for every attempt without a complete answer, and returns the others with
    their body read and decompressed.
    """

    def __init__(
        self,
        inner: httpx.AsyncBaseTransport,
        *,
        timeout_seconds: float,
        max_body_bytes: int = MAX_BODY_BYTES,
    ) -> None:
        self._inner = inner
        self._timeout_seconds = timeout_seconds
        self._max_body_bytes = max_body_bytes

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request and return its answer whole."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                response = await self._inner.handle_async_request(request)
                try:
                    body = await self._read(response)
                finally:
                    await response.aclose()
        except AttemptError:
            raise
        except Exception as error:
            raise failure_of(error) from error
        headers = [(name, value) for name, value in response.headers.raw if name.lower() not in _FRAMING]
        return httpx.Response(response.status_code, headers=headers, content=body, request=request)

    async def _read(self, response: httpx.Response) -> bytes:
        inflate = _decompressor(response.headers.get("content-encoding", ""))
        body = bytearray()
        if isinstance(response.stream, httpx.AsyncByteStream):
            async for chunk in response.stream:
                body += inflate(chunk, self._max_body_bytes + 1 - len(body))
                if len(body) > self._max_body_bytes:
                    raise AttemptError(Reason.DECODE, "the body is larger than 1 MiB")
        inflate.finish()
        return bytes(body)

    async def aclose(self) -> None:
        """Close every connection; requests under way fail at once."""
        await self._inner.aclose()


_FRAMING = frozenset((b"content-encoding", b"content-length", b"transfer-encoding"))


class _Identity:
    """A body that is not compressed."""

    def __call__(self, chunk: bytes, _room: int) -> bytes:
        return chunk

    def finish(self) -> None:
        """Nothing is held back."""


class _Inflate:
    """A gzip or deflate body, never inflated beyond the room that is left."""

    def __init__(self) -> None:
        self._decompressor = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
        self._fed = False

    def __call__(self, chunk: bytes, room: int) -> bytes:
        self._fed = True
        return self._decompressor.decompress(chunk, room)

    def finish(self) -> None:
        if self._fed and not self._decompressor.eof:
            raise zlib.error("the compressed body is cut short")


def _decompressor(encoding: str) -> _Identity | _Inflate:
    match encoding.strip().lower():
        case "" | "identity":
            return _Identity()
        case "gzip" | "x-gzip" | "deflate":
            return _Inflate()
    raise AttemptError(Reason.DECODE, "the body has a content encoding that was not asked for")


def failure_of(error: BaseException) -> AttemptError:
    """Return the reason of a failed attempt, read from the whole chain of causes."""
    reason = _reason_of(error)
    detail = _DETAILS[reason]
    if reason is Reason.INTERNAL:
        detail = f"{detail} ({type(error).__name__})"
    elif reason is Reason.TLS:
        detail = f"{detail}{_tls_words(error)}"
    elif reason is Reason.CONNECT:
        detail = f"{detail}{_connect_words(error)}"
    return AttemptError(reason, detail)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes, outermost first; the groups of happy eyeballs are walked too."""
    pending, seen = [error], set[int]()
    while pending:
        current = pending.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        if isinstance(current, BaseExceptionGroup):
            pending.extend(current.exceptions)
        nested = getattr(current, "os_error", None) or getattr(current, "certificate_error", None)
        causes = (current.__cause__, current.__context__, nested)
        pending.extend(cause for cause in causes if isinstance(cause, BaseException))


def _reason_of(error: BaseException) -> Reason:
    chain = list(_chain(error))
    # The most telling cause wins, wherever in the chain it stands.
    for kinds, reason in _REASONS:
        if any(isinstance(link, kinds) for link in chain):
            return reason
    return Reason.INTERNAL


_REASONS: tuple[tuple[tuple[type[BaseException], ...], Reason], ...] = (
    ((socket.gaierror, aiohttp.ClientConnectorDNSError), Reason.DNS),
    ((ssl.SSLError, ssl.CertificateError, aiohttp.ClientSSLError), Reason.TLS),
    ((zlib.error, httpx.DecodingError), Reason.DECODE),
    ((TimeoutError, httpx.TimeoutException), Reason.TIMEOUT),
    (
        (
            OSError,
            EOFError,
            aiohttp.ClientConnectionError,
            aiohttp.ClientPayloadError,
            aiohttp.ClientResponseError,
            aiohttp.http_exceptions.HttpProcessingError,
            httpx.NetworkError,
            httpx.ProtocolError,
            httpx.ProxyError,
        ),
        Reason.CONNECT,
    ),
)


def _tls_words(error: BaseException) -> str:
    for link in _chain(error):
        if isinstance(link, ssl.SSLCertVerificationError):
            return f": {link.verify_message}"
        if isinstance(link, ssl.SSLError) and link.reason:
            return f": {link.reason.lower().replace('_', ' ')}"
    return ""


def _connect_words(error: BaseException) -> str:
    for link in _chain(error):
        match link:
            case ConnectionRefusedError():
                return ": refused"
            case aiohttp.ClientHttpProxyError():
                return f": the proxy answered {link.status}"
            case aiohttp.ClientResponseError() | aiohttp.http_exceptions.HttpProcessingError():
                return ": the answer is not HTTP"
            case aiohttp.ServerDisconnectedError() | ConnectionResetError():
                return ": closed before the answer was whole"
            case aiohttp.ClientPayloadError() | EOFError():
                return ": the body is cut short"
            case OSError() if link.strerror and link.errno and link.errno > 0:
                return f": {link.strerror.lower()}"
    return ""


def library_transport(
    *,
    base_url: str,
    max_connections: int,
    ca_file: Path | None = None,
    proxy_url: str = "",
) -> httpx.AsyncBaseTransport:
    """Return the transport that is shipped: aiohttp's sockets under httpx's interface.

    It survives a cancelled request and costs a fraction of httpx's stock pool. Idle connections are kept for
    90 s, so that a burst finds those of the one before. Raises :class:`OSError` where ``ca_file`` can't be
    loaded. Must be called with an event loop running.
    """
    context = ssl.create_default_context(cafile=str(ca_file)) if ca_file else httpx.create_ssl_context()
    proxy = proxy_url or _environment_proxy(base_url)

    def session() -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=max_connections,
            ssl=context,
            keepalive_timeout=IDLE_CONNECTION_SECONDS,
        )
        opened = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            trust_env=False,
        )
        # aiohttp repeats an idempotent request once when a connection breaks; retries have one owner here.
        # The switch has no public name; a test counts the requests on the wire.
        opened._retry_connection = False  # noqa: SLF001
        return opened

    return AiohttpTransport(verify=context, proxy=httpx.Proxy(proxy) if proxy else None, client=session)


def _environment_proxy(base_url: str) -> str:
    """Return the proxy that HTTPS_PROXY, HTTP_PROXY and NO_PROXY name for ``base_url``, or an empty string."""
    url = httpx.URL(base_url)
    if proxy_bypass(url.host):
        return ""
    return getproxies().get(url.scheme, "")
