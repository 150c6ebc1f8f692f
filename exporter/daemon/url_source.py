"""Loads a watchlist from its URL, once; used by the daemon and by commands.

Like Prometheus' http_sd: only a 200 with the content type ``application/json`` counts, and no proxy is used. Unlike
there, redirects are not followed: whoever answers decides what is watched.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import re
import ssl
import zlib
from base64 import b64encode
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx

from exporter.config import SourceAnswer, SourceFailure
from exporter.config.errors import quote
from exporter.config.http_source import LARGEST_ANSWER_BYTES
from exporter.threads import in_daemon_thread
from exporter.verify.answers import parse_redirect_host
from exporter.verify.attempt import USER_AGENT
from exporter.verify.transport import failure_of
from exporter.verify.transports import aiohttp_transport, usual_authorities

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from exporter.config import HttpSource

    Transport = Callable[[HttpSource], httpx.AsyncBaseTransport]

_JSON = re.compile(r'application/json *(; *charset *= *"?utf-8"?)? *', re.IGNORECASE)
_STEP_BYTES = 1 << 18
_CHECK = "check that the server runs and can be reached from here"
_CHECK_LOG = "check the log of the server"


@dataclass(frozen=True, slots=True)
class NotModified:
    """The source's answer is the one whose ``ETag`` was sent."""


SourceResult = SourceAnswer | NotModified | SourceFailure


class SourceTransports:
    """Makes the transports to URL sources; the system's certificate authorities are read once."""

    def __init__(self) -> None:
        self._context: ssl.SSLContext | None = None

    def __call__(self, source: HttpSource) -> httpx.AsyncBaseTransport:
        """Return a transport for one request."""
        if source.authorities:
            context = ssl.create_default_context(cadata=source.authorities)
        else:
            context = self._context = self._context or usual_authorities()
        return aiohttp_transport(max_connections=1, context=context)


async def load_source(source: HttpSource, *, etag: str = "", transport: Transport | None = None) -> SourceResult:
    """Load a source once, within its timeout; returns what is wrong instead of raising it.

    The secret's file is read again before the request. A request that is refused with 401 is sent once more if the
    file has changed meanwhile.
    """
    try:
        async with asyncio.timeout(source.timeout_seconds):
            await _reread(source)
            result = await _request(source, etag, transport or SourceTransports())
            if result is None and await _reread(source):
                result = await _request(source, etag, transport or SourceTransports())
    except _AnswerError as error:
        return error.failure
    except Exception as error:  # noqa: BLE001 - whatever goes wrong with a source, the last good list stays
        detail = failure_of(error).detail
        return SourceFailure(f"can't be loaded: {detail}", _CHECK)
    return result or _of_status(401)


async def load_sources(
    sources: Iterable[HttpSource], *, transport: Transport | None = None, longest_seconds: float = math.inf
) -> dict[str, SourceAnswer | SourceFailure]:
    """Load sources once, all at the same time, and none longer than this; return the result of each by name."""
    chosen = [replace(of, timeout_seconds=min(of.timeout_seconds, longest_seconds)) for of in sources]
    transport = transport or SourceTransports()
    results = await asyncio.gather(*(load_source(source, transport=transport) for source in chosen))
    return {
        source.name: _unexpected_304() if isinstance(result, NotModified) else result
        for source, result in zip(chosen, results, strict=True)
    }


def _unexpected_304() -> SourceFailure:
    return SourceFailure("answers HTTP 304 to a request without an ETag", "check the server or the cache before it")


async def _reread(source: HttpSource) -> bool:
    """Read the secret's file again, in a thread; return whether the secret changed."""
    return source.secret is not None and await in_daemon_thread(source.secret.reread, name="source-secret")


class _AnswerError(Exception):
    """An answer that can't be used."""

    def __init__(self, failure: SourceFailure) -> None:
        super().__init__(failure.problem)
        self.failure = failure


def _error(problem: str, hint: str = "") -> _AnswerError:
    return _AnswerError(SourceFailure(problem, hint))


async def _request(source: HttpSource, etag: str, transport: Transport) -> SourceAnswer | NotModified | None:
    """Send one request; None for a 401. Raises _AnswerError, and whatever the transport raises."""
    one = transport(source)
    try:
        response = await one.handle_async_request(httpx.Request("GET", source.url, headers=_headers(source, etag)))
        try:
            if response.status_code == httpx.codes.UNAUTHORIZED:
                return None
            if response.status_code == httpx.codes.NOT_MODIFIED:
                if not etag:
                    raise _AnswerError(_unexpected_304())
                return NotModified()
            return await _answer(source, response)
        finally:
            await response.aclose()
    finally:
        await one.aclose()


def _headers(source: HttpSource, etag: str) -> dict[str, str]:
    headers = {
        "Host": httpx.URL(source.url).netloc.decode("ascii"),
        "User-Agent": USER_AGENT,
        "Accept": "application/json",
        "Accept-Encoding": "gzip",
        "X-Prometheus-Refresh-Interval-Seconds": f"{source.refresh_interval_seconds:g}",
    }
    if etag:
        headers["If-None-Match"] = etag
    if source.secret is not None and source.username:
        credentials = b64encode(f"{source.username}:{source.secret.current}".encode()).decode()
        headers["Authorization"] = f"Basic {credentials}"
    elif source.secret is not None:
        headers["Authorization"] = f"Bearer {source.secret.current}"
    return headers


def _of_status(code: int, location: str = "", url: str = "") -> SourceFailure:
    """Return the failure for a status other than 200."""
    if 300 <= code < 400:
        host = parse_redirect_host(location, urlsplit(url).netloc.rpartition("@")[2]) or "an unknown host"
        hint = f"it leads to {host}; redirects are not followed: set url to the final address"
        return SourceFailure(f"answers HTTP {code}", hint)
    hints = {
        401: "check bearer_token_file, or username and password_file",
        403: "check the permissions of its credentials",
        404: "check the URL",
    }
    return SourceFailure(f"answers HTTP {code}", hints.get(code, _CHECK_LOG))


async def _answer(source: HttpSource, response: httpx.Response) -> SourceAnswer:
    """Read the answer."""
    headers = response.headers
    if response.status_code != httpx.codes.OK:
        raise _AnswerError(_of_status(response.status_code, headers.get("Location", ""), source.url))
    kind = headers.get("Content-Type", "")
    if not _JSON.fullmatch(kind):
        problem = f"answers with the content type {quote(kind)}" if kind else "answers without a content type"
        raise _error(problem, "send application/json; charset=utf-8; a login page or a proxy may have answered")
    length = headers.get("Content-Length", "")
    encoding = headers.get("Content-Encoding", "").strip().lower()
    if encoding in ("", "identity") and length.isdecimal() and int(length) > LARGEST_ANSWER_BYTES:
        raise _too_large()
    body = _Body(encoding)
    if isinstance(response.stream, httpx.AsyncByteStream):
        async for chunk in response.stream:
            await body.feed(chunk)
    etag = headers.get("ETag", "")
    return SourceAnswer(source.url, body.finish(), body.digest.hexdigest(), etag if etag.isascii() else "")


def _too_large() -> _AnswerError:
    return _error(
        f"answers with more than {LARGEST_ANSWER_BYTES >> 20} MiB",
        "list fewer entries, or split the list into several URLs",
    )


class _Body:
    """Takes a body in small steps: decompresses, counts, digests and compresses it again.

    However large or well compressed an answer is, only its compressed form is in memory.
    """

    def __init__(self, encoding: str) -> None:
        self.digest = hashlib.sha256()
        self._size = 0
        self._compress = zlib.compressobj(1)
        self._pieces: list[bytes] = []
        match encoding:
            case "" | "identity":
                self._inflate = None
            case "gzip" | "x-gzip":
                self._inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
            case _:
                raise _error("answers with an unsupported content encoding", "send gzip, or none")

    async def feed(self, chunk: bytes) -> None:
        """Add a chunk; the event loop gets its turn after each step."""
        if self._inflate is None:
            self._take(chunk)
            return
        piece = b""
        while chunk or len(piece) == _STEP_BYTES:  # after a full step, zlib may hold back more
            try:
                piece = self._inflate.decompress(chunk, _STEP_BYTES)
            except zlib.error:
                raise _error("answers with a body that can't be decompressed") from None
            if self._inflate.unused_data:
                raise _error("answers with data after its compressed body")
            self._take(piece)
            chunk = self._inflate.unconsumed_tail
            await asyncio.sleep(0)

    def _take(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > LARGEST_ANSWER_BYTES:
            raise _too_large()
        self.digest.update(piece)
        if compressed := self._compress.compress(piece):
            self._pieces.append(compressed)

    def finish(self) -> bytes:
        """Return the whole body, compressed."""
        if self._inflate is not None and not self._inflate.eof:
            raise _error("answers with an incomplete body")
        self._pieces.append(self._compress.flush())
        return b"".join(self._pieces)
