"""The one seam to the network: an httpx transport that bounds an attempt as a whole and names its failure.

Library clients time the phases of a request, so that a body that dribbles in is never late, and map most
failures to one class. Here the clock runs from the first byte asked to the last byte read, and the reason
comes from the chain of causes. Nothing outside this module cancels a request.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import ssl
import zlib
from base64 import b64encode
from typing import TYPE_CHECKING
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from exporter.verify.outcome import Reason
from exporter.verify.resolver import DaemonThreadResolver

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aiohttp.client_reqrep import ConnectionKey
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

MAX_BODY_BYTES = 1 << 20
IDLE_CONNECTION_SECONDS = 90.0

_DETAILS = {
    Reason.TIMEOUT: "no complete answer in time",
    Reason.CONNECT: "the connection failed",
    Reason.DNS: "the host name could not be resolved",
    Reason.TLS: "the TLS handshake failed",
}


_CLOSED = "the connection failed: closed by the exporter"


class AttemptError(httpx.TransportError):
    """An attempt that brought no usable answer: its reason, and the detail in words.

    ``answer`` holds status and headers where they did arrive and only the body is of no use.
    """

    def __init__(self, reason: Reason, detail: str, answer: httpx.Response | None = None) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.answer = answer


class BoundedTransport(httpx.AsyncBaseTransport):
    """Bounds each attempt in time and size, whatever transport does the work below it.

    Raises :class:`AttemptError` for every attempt without a usable answer, and returns the others with their
    body read and decompressed. Only the body of a 200 is believed: that of any other answer is left empty
    where it is too large or can't be decompressed.
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
        self._clocks: set[asyncio.Timeout] = set()
        self._closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request and return its answer whole."""
        if self._closed:
            raise AttemptError(Reason.CONNECT, _CLOSED)
        clock = asyncio.timeout(self._timeout_seconds)
        self._clocks.add(clock)
        try:
            async with clock:
                response = await self._inner.handle_async_request(request)
                try:
                    return await self._answer(request, response)
                finally:
                    await response.aclose()
        except AttemptError:
            raise
        except Exception as error:
            if self._closed:
                raise AttemptError(Reason.CONNECT, _CLOSED) from error
            raise failure_of(error) from error
        finally:
            self._clocks.discard(clock)

    async def _answer(self, request: httpx.Request, response: httpx.Response) -> httpx.Response:
        headers = [(name, value) for name, value in response.headers.raw if name.lower() not in _DROPPED]
        try:
            body = await self._read(response)
        except _BodyError as error:
            answer = httpx.Response(response.status_code, headers=headers, request=request)
            if answer.status_code == httpx.codes.OK:
                raise AttemptError(Reason.DECODE, f"HTTP 200, but {error}", answer) from error
            return answer
        return httpx.Response(response.status_code, headers=headers, content=body, request=request)

    async def _read(self, response: httpx.Response) -> bytes:
        decompress = _decompressor(response.headers.get("content-encoding", ""))
        body = bytearray()
        if isinstance(response.stream, httpx.AsyncByteStream):
            async for chunk in response.stream:
                body += decompress(chunk, self._max_body_bytes + 1 - len(body))
                if len(body) > self._max_body_bytes:
                    raise _BodyError(f"the body is larger than {self._max_body_bytes} bytes")
        decompress.finish()
        return bytes(body)

    async def aclose(self) -> None:
        """Close every connection; requests under way fail at once, whatever they wait for."""
        self._closed = True
        now = asyncio.get_running_loop().time()
        for clock in self._clocks:
            if not clock.expired():
                clock.reschedule(now)
        await self._inner.aclose()


# The body is already read; and of a redirect httpx would build the next request, whether it is followed or not.
_DROPPED = frozenset((b"content-encoding", b"content-length", b"transfer-encoding", b"location"))


class _BodyError(Exception):
    """A body that can't be used, in words."""


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
        try:
            inflated = self._decompressor.decompress(chunk, room)
        except zlib.error:
            raise _BodyError("the body can't be decompressed") from None
        # zlib keeps all that follows the end of the stream: without this, a body without end would be kept.
        if self._decompressor.unused_data:
            raise _BodyError("the compressed body goes on after its end")
        return inflated

    def finish(self) -> None:
        """See that the stream came to its end."""
        if self._fed and not self._decompressor.eof:
            raise _BodyError("the compressed body is cut short")


def _decompressor(encoding: str) -> _Identity | _Inflate:
    match encoding.strip().lower():
        case "" | "identity":
            return _Identity()
        case "gzip" | "x-gzip" | "deflate":
            return _Inflate()
    raise _BodyError("the body has a content encoding that was not asked for")


def failure_of(error: BaseException) -> AttemptError:
    """Return the reason of a failed attempt, read from the whole chain of causes."""
    reason = _reason_of(error)
    match reason:
        case Reason.INTERNAL:
            return unexpected(error)
        case Reason.DNS:
            words = _dns_words(error)
        case Reason.TLS:
            words = _tls_words(error)
        case Reason.CONNECT:
            words = _connect_words(error)
        case _:
            words = ""
    return AttemptError(reason, f"{_DETAILS[reason]}{words}")


def unexpected(error: BaseException) -> AttemptError:
    """Return the failure for an error that nothing outside explains; its message is left out."""
    return AttemptError(Reason.INTERNAL, f"an unexpected error in the exporter ({type(error).__name__})")


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
    ((TimeoutError,), Reason.TIMEOUT),
    (
        (
            OSError,
            EOFError,
            aiohttp.ClientConnectionError,
            aiohttp.ClientPayloadError,
            aiohttp.ClientResponseError,
            aiohttp.http_exceptions.HttpProcessingError,
        ),
        Reason.CONNECT,
    ),
    # Last: httpx-aiohttp calls a connection that was refused or closed a ConnectTimeout.
    ((httpx.TimeoutException,), Reason.TIMEOUT),
    ((httpx.NetworkError, httpx.ProtocolError, httpx.ProxyError), Reason.CONNECT),
)


def _dns_words(error: BaseException) -> str:
    for link in _chain(error):
        if isinstance(link, socket.gaierror) and link.strerror:
            return f": {link.strerror.lower()}"
    return ""


def _tls_words(error: BaseException) -> str:
    for link in _chain(error):
        # Those that OpenSSL did not raise itself have neither attribute.
        if isinstance(link, ssl.SSLError) and (message := getattr(link, "verify_message", "")):
            return f": {message}"
        if isinstance(link, ssl.SSLError) and (code := getattr(link, "reason", "")):
            return f": {code.lower().replace('_', ' ')}"
    return ""


def _connect_words(error: BaseException) -> str:
    for link in _chain(error):
        match link:
            case aiohttp.ClientProxyConnectionError():
                return ": the proxy can't be reached"
            case aiohttp.ClientHttpProxyError():
                return f": the proxy answered {link.status}"
            case aiohttp.ClientResponseError() | aiohttp.http_exceptions.HttpProcessingError():
                return ": the answer is not HTTP"
            case aiohttp.ServerDisconnectedError() | ConnectionResetError():
                return ": closed before the answer was whole"
            case aiohttp.ClientPayloadError() | EOFError():
                return ": the body is cut short"
            case OSError() if link.errno and link.errno > 0:
                return f": {os.strerror(link.errno).lower()}"  # not its own text: that repeats the address
    return ""


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
        self.reason = None
        return self


def library_transport(
    *,
    base_url: str,
    max_connections: int,
    ca_file: Path | None = None,
    proxy_url: str = "",
    context: ssl.SSLContext | None = None,
) -> httpx.AsyncBaseTransport:
    """Return the transport that is shipped: aiohttp's sockets under httpx's interface.

    ``context`` is that of :func:`usual_authorities`, made once for several; a ``ca_file`` takes its place.

    It survives a cancelled request and costs a fraction of httpx's stock pool. Idle connections are kept for
    90 s, so that a burst finds those of the one before. Raises :class:`OSError` where ``ca_file`` can't be
    loaded, :class:`ValueError` for a proxy that is neither http nor https.
    """
    if ca_file is not None:
        context = ssl.create_default_context(cafile=str(ca_file))
    trusted = context or usual_authorities()
    address = proxy_url or _environment_proxy(base_url)

    def session() -> aiohttp.ClientSession:
        connector = _Connector(
            limit=max_connections,
            ssl=trusted,
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
        opened._retry_connection = False  # noqa: SLF001
        return opened

    return AiohttpTransport(verify=trusted, proxy=_proxy(address) if address else None, client=session)


def usual_authorities() -> ssl.SSLContext:
    """Return a context that trusts the usual certificate authorities; making one takes 30 to 50 ms."""
    return httpx.create_ssl_context()


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
    if _is_loopback(url.host) or proxy_bypass(url.host) or proxy_bypass(url.netloc.decode()):
        return ""
    return getproxies().get(url.scheme, "")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
