"""The one seam to the network: an httpx transport that bounds an attempt as a whole and names its failure.

Library clients time the phases of a request, so that a body that dribbles in is never late, and map most
failures to one class. Here the clock runs from the first byte asked to the last byte read, and the reason
comes from the chain of causes. Nothing outside this module cancels a request, but one
that outlived its bound.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import zlib
from typing import TYPE_CHECKING

import aiohttp
import httpx

from exporter.verify.outcome import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_BODY_BYTES = 1 << 20


class BodyError(Exception):
    """A body that can't be used, in words."""


class Body:
    """Takes the pieces of a body in turn; raises :class:`BodyError` as soon as it can't be used.

    ``encoding`` is the header ``Content-Encoding``; a compressed body is never inflated far beyond ``max_bytes``.
    """

    def __init__(self, encoding: str, max_bytes: int = MAX_BODY_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = bytearray()
        self._fed = False
        match encoding.strip().lower():
            case "" | "identity":
                self._inflate = None
            case "gzip" | "x-gzip" | "deflate":
                self._inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
            case _:
                raise BodyError("the body has a content encoding that was not asked for")

    def feed(self, chunk: bytes) -> None:
        """Take the next piece."""
        if self._inflate is not None:
            chunk = self._inflated(self._inflate, chunk)
        self._bytes += chunk
        if len(self._bytes) > self._max_bytes:
            raise BodyError(f"the body is larger than {self._max_bytes} bytes")

    def _inflated(self, inflate: zlib._Decompress, chunk: bytes) -> bytes:
        self._fed = True
        try:
            inflated = inflate.decompress(chunk, self._max_bytes + 1 - len(self._bytes))
        except zlib.error:
            raise BodyError("the body can't be decompressed") from None
        # zlib keeps all that follows the end of the stream: without this, a body without end would be kept.
        if inflate.unused_data:
            raise BodyError("the compressed body goes on after its end")
        return inflated

    def finish(self) -> bytes:
        """Return the body, whole."""
        if self._inflate is not None and self._fed and not self._inflate.eof:
            raise BodyError("the compressed body is cut short")
        return bytes(self._bytes)


IDLE_CONNECTION_SECONDS = 90.0
READ = "exporter.body"
"""The extension of a response whose body :func:`whole` has read; nothing is left to do for it."""

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
                if READ in response.extensions:
                    return response
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
        body: bytes | BodyError
        try:
            body = await self._read(response)
        except BodyError as error:
            body = error
        return whole(request, response.status_code, response.headers.raw, body)

    async def _read(self, response: httpx.Response) -> bytes:
        body = Body(response.headers.get("content-encoding", ""), self._max_body_bytes)
        if isinstance(response.stream, httpx.AsyncByteStream):
            async for chunk in response.stream:
                body.feed(chunk)
        return body.finish()

    async def aclose(self) -> None:
        """Close every connection; requests under way fail at once, whatever they wait for."""
        self._closed = True
        now = asyncio.get_running_loop().time()
        for clock in self._clocks:
            if not clock.expired():
                clock.reschedule(now)
        await self._inner.aclose()


class _Whole(httpx.Response):
    """An answer whose body has been read: httpx's own would take it for a stream, and read it once more."""

    def __init__(self, code: int, headers: list[tuple[bytes, bytes]], body: bytes, request: httpx.Request) -> None:
        stream = httpx.ByteStream(body)
        super().__init__(code, headers=headers, stream=stream, request=request, extensions={READ: True})
        self.is_closed = self.is_stream_consumed = True
        self._content = body


# The body is already read; and of a redirect httpx would build the next request, whether it is followed or not.
_DROPPED = frozenset((b"content-encoding", b"content-length", b"transfer-encoding", b"location"))


def whole(
    request: httpx.Request, code: int, headers: Iterable[tuple[bytes, bytes]], body: bytes | BodyError
) -> httpx.Response:
    """Return an answer with its body read; raises :class:`AttemptError` for a 200 whose body can't be used."""
    kept = [(name, value) for name, value in headers if name.lower() not in _DROPPED]
    if not isinstance(body, BodyError):
        return _Whole(code, kept, body, request)
    answer = _Whole(code, kept, b"", request)
    if code == httpx.codes.OK:
        raise AttemptError(Reason.DECODE, f"HTTP 200, but {body}", answer) from body
    return answer


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
    """Yield an error and its causes, outermost first; the groups of happy eyeballs are listed too."""
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
