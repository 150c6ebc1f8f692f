"""The boundary to the network: limits every attempt in time and size, and determines the reason of a failure.

Libraries time the phases of a request, so a slowly trickling body never times out, and they map most failures to
one class. Here one timeout covers the attempt from connecting to the last byte, and the reason comes from the
chain of causes. Nothing outside this module cancels a request, except the watchdog for requests that exceed their
timeout.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import zlib
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import aiohttp
import httpx

from exporter.verify.outcome import Reason

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Iterator

    from exporter.verify.request import Get

T = TypeVar("T")

MAX_BODY_BYTES = 1 << 20
IDLE_CONNECTION_SECONDS = 90.0
READ = "exporter.body"
"""The extension of a response whose body :func:`whole` has read already."""
LOCATION = "exporter.location"
"""The extension with the ``Location`` of a response; empty if there is none, or more than one."""

_DETAILS = {
    Reason.TIMEOUT: "no complete answer in time",
    Reason.CONNECT: "the connection failed",
    Reason.DNS: "the host name could not be resolved",
    Reason.TLS: "the TLS handshake failed",
}
_CLOSED = "the connection failed: closed by the exporter"
_TIMER_SECONDS = 0.001  # the resolution of timers: one may fire this early


class Reply(NamedTuple):
    """A complete response: its status, what :func:`read_headers` returns of its headers, and its decoded body."""

    code: int
    headers: dict[str, str]
    body: bytes = b""


class AttemptError(httpx.TransportError):
    """A failed attempt: its reason, and the detail in words.

    ``answer`` is the response, without body, if status and headers arrived and only the body is unusable.
    """

    def __init__(self, reason: Reason, detail: str, answer: Reply | None = None) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.answer = answer


class DirectTransport(httpx.AsyncBaseTransport):
    """A transport that also sends requests without a response of httpx, whose construction costs more."""

    @abstractmethod
    async def get(self, request: Get, limit: TimeLimit) -> Reply:
        """Send a request within the time limit, and return the complete response.

        Raises :class:`AttemptError`, ``TimeoutError``, and the errors of sockets and TLS.
        """


class BoundedTransport(httpx.AsyncBaseTransport):
    """Limits every attempt in time and size; ``inner`` does the work.

    Returns responses with their body read and decompressed, and raises :class:`AttemptError` for every failed
    attempt. An unusable body (too large, or not decompressible) fails an attempt only with status 200; with any
    other status the body is left empty.
    """

    def __init__(
        self,
        inner: httpx.AsyncBaseTransport,
        *,
        timeout_seconds: float,
        max_body_bytes: int = MAX_BODY_BYTES,
    ) -> None:
        self._inner = inner
        self._limit = TimeLimit(timeout_seconds)
        self._max_body_bytes = max_body_bytes
        self._closed = False

    async def get(self, request: Get) -> Reply:
        """Send one request and return the complete response."""
        if not isinstance(self._inner, DirectTransport):
            return reply_of(await self.handle_async_request(request))
        if self._closed:
            raise AttemptError(Reason.CONNECT, _CLOSED)
        try:
            return await self._inner.get(request, self._limit)
        except AttemptError:
            raise
        except Exception as error:
            raise self._failure_of(error) from error

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request and return the complete response."""
        if self._closed:
            raise AttemptError(Reason.CONNECT, _CLOSED)
        try:
            return await self._limit.around(self._send(request))
        except AttemptError:
            raise
        except Exception as error:
            raise self._failure_of(error) from error

    def _failure_of(self, error: Exception) -> AttemptError:
        return AttemptError(Reason.CONNECT, _CLOSED) if self._closed else failure_of(error)

    async def _send(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        if READ in response.extensions:
            return response
        try:
            return await self._read_response(request, response)
        finally:
            await response.aclose()

    async def _read_response(self, request: httpx.Request, response: httpx.Response) -> httpx.Response:
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
        """Close all connections; requests in flight fail immediately, whatever they wait for."""
        self._closed = True
        self._limit.end_all()
        await self._inner.aclose()


class TimeLimit:
    """The time limit of the attempts through one transport; an attempt that exceeds it raises ``TimeoutError``.

    Those that only wait for an answer share one timer: all have the same limit, so the oldest exceeds it first.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._clocks: set[asyncio.Timeout] = set()
        self._answers: dict[asyncio.Future[Any], float] = {}  # until when each is waited for, oldest first
        self._timer: asyncio.TimerHandle | None = None

    async def around(self, work: Coroutine[Any, Any, T]) -> T:
        """Return the result of any work, which is cancelled if it takes too long."""
        clock = asyncio.timeout(self.seconds)
        self._clocks.add(clock)
        try:
            async with clock:
                return await work
        finally:
            self._clocks.discard(clock)

    async def until(self, answer: asyncio.Future[T]) -> T:
        """Return the result of a future."""
        loop = answer.get_loop()
        self._answers[answer] = loop.time() + self.seconds
        if self._timer is None:
            self._timer = loop.call_later(self.seconds, self._end_late)
        try:
            return await answer
        finally:
            del self._answers[answer]

    def _end_late(self) -> None:
        self._timer = None
        for answer, deadline in self._answers.items():
            loop = answer.get_loop()
            if deadline - loop.time() > _TIMER_SECONDS:
                self._timer = loop.call_at(deadline, self._end_late)
                return
            _end(answer)

    def end_all(self) -> None:
        """Let all attempts fail now."""
        for answer in self._answers:
            _end(answer)
        for clock in self._clocks:
            if not clock.expired():
                clock.reschedule(asyncio.get_running_loop().time())


def _end(answer: asyncio.Future[Any]) -> None:
    if not answer.done():
        answer.set_exception(TimeoutError())


# Responses

_READ_HEADERS = {
    name.encode(): name
    for name in (
        "age", "content-encoding", "content-length", "date", "location", "retry-after", "transfer-encoding",
        "twilio-concurrent-requests", "twilio-request-duration", "twilio-request-id",
    )
}  # fmt: skip
_ONCE = frozenset(("date", "location"))


def read_headers(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return the headers that mean something here, by their names in lower case.

    Those that occur more than once are joined (RFC 9110 §5.3), or empty if they may occur only once.
    """
    found: dict[str, str] = {}
    for raw, value in headers:
        name = _READ_HEADERS.get(raw.lower())
        if name is None:
            continue
        if name not in found:
            found[name] = value.decode("latin-1")
        elif name in _ONCE:
            found[name] = ""
        else:
            found[name] += f", {value.decode('latin-1')}"
    return found


def complete(code: int, headers: dict[str, str], body: bytes | BodyError) -> Reply:
    """Return a response; raises :class:`AttemptError` for a 200 with an unusable body."""
    if not isinstance(body, BodyError):
        return Reply(code, headers, body)
    if code == httpx.codes.OK:
        raise AttemptError(Reason.DECODE, f"HTTP 200, but {body}", Reply(code, headers)) from body
    return Reply(code, headers)


def reply_of(response: httpx.Response) -> Reply:
    """Return what a response says whose body is read."""
    headers = read_headers(response.headers.raw)
    if LOCATION in response.extensions:
        headers["location"] = response.extensions[LOCATION]
    return Reply(response.status_code, headers, response.content)


# Bodies


class BodyError(Exception):
    """Why a body is unusable, in words."""


class Body:
    """Collects and decompresses a body; raises :class:`BodyError` as soon as the body is unusable.

    ``encoding`` is the value of ``Content-Encoding``; decompression stops shortly after ``max_bytes``.
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
                raise BodyError("the body has an unsupported content encoding")

    def feed(self, chunk: bytes) -> None:
        """Add the next chunk."""
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
        # zlib keeps all data after the end of the stream, so an endless body would fill the memory.
        if inflate.unused_data:
            raise BodyError("the compressed body has trailing data")
        return inflated

    def finish(self) -> bytes:
        """Return the complete body."""
        if self._inflate is not None and self._fed and not self._inflate.eof:
            raise BodyError("the compressed body is incomplete")
        return bytes(self._bytes)


class _Whole(httpx.Response):
    """A response whose body is read already; ``httpx.Response`` would read its stream again."""

    def __init__(
        self, code: int, headers: list[tuple[bytes, bytes]], body: bytes, request: httpx.Request, location: str
    ) -> None:
        stream = httpx.ByteStream(body)
        extensions = {READ: True, LOCATION: location}
        super().__init__(code, headers=headers, stream=stream, request=request, extensions=extensions)
        self.is_closed = self.is_stream_consumed = True
        self._content = body


# The body is decoded already, and for a location httpx builds the next request even if it isn't followed.
_DROPPED = frozenset((b"content-encoding", b"content-length", b"transfer-encoding", b"location"))


def whole(
    request: httpx.Request, code: int, headers: Iterable[tuple[bytes, bytes]], body: bytes | BodyError
) -> httpx.Response:
    """Return a response with its body read; raises :class:`AttemptError` for a 200 with an unusable body."""
    given = list(headers)
    reply = complete(code, read_headers(given), body)
    kept = [(name, value) for name, value in given if name.lower() not in _DROPPED]
    return _Whole(code, kept, reply.body, request, reply.headers.get("location", ""))


# Reasons of failures


def failure_of(error: BaseException) -> AttemptError:
    """Return the failure of an attempt, with the reason from the whole chain of causes."""
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
    """Return the failure for an unexpected error; its message may contain private data and is left out."""
    return AttemptError(Reason.INTERNAL, f"an unexpected error in the exporter ({type(error).__name__})")


_WAITING = (ssl.SSLWantReadError, ssl.SSLWantWriteError)
"""A handshake that waits for the peer: in Python 3.14 the context of a reset that ends the wait, and no error."""


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes, outermost first, including the members of exception groups."""
    pending, seen = [error], set[int]()
    while pending:
        current = pending.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        if not isinstance(current, _WAITING):
            yield current
        if isinstance(current, BaseExceptionGroup):
            pending.extend(current.exceptions)
        nested = getattr(current, "os_error", None) or getattr(current, "certificate_error", None)
        causes = (current.__cause__, current.__context__, nested)
        pending.extend(cause for cause in causes if isinstance(cause, BaseException))


def _reason_of(error: BaseException) -> Reason:
    chain = list(_chain(error))
    # The first row that matches any error in the chain wins: the most specific ones come first.
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
    # Last: httpx-aiohttp raises ConnectTimeout for refused and closed connections, too.
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
        # Errors that OpenSSL did not raise itself have neither attribute.
        if isinstance(link, ssl.SSLError) and (message := getattr(link, "verify_message", "")):
            return f": {message}"
        if isinstance(link, ssl.SSLError) and (code := getattr(link, "reason", "")):
            return f": {code.lower().replace('_', ' ')}"
    return ""


def _connect_words(error: BaseException) -> str:
    for link in _chain(error):
        match link:
            case aiohttp.ClientProxyConnectionError():
                return ": the proxy is unreachable"
            case aiohttp.ClientHttpProxyError():
                return f": the proxy returned HTTP {link.status}"
            case aiohttp.ClientResponseError() | aiohttp.http_exceptions.HttpProcessingError():
                return ": the response is not HTTP"
            case aiohttp.ServerDisconnectedError() | ConnectionResetError():
                return ": closed before the response was complete"
            case aiohttp.ClientPayloadError() | EOFError():
                return ": the body is incomplete"
            case OSError() if link.errno and link.errno > 0:
                return f": {os.strerror(link.errno).lower()}"  # its own text repeats the address
    return ""
