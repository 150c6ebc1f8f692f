"""A server on loopback that answers with watchlists, good and bad ones."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from typing import TYPE_CHECKING, Any, Self

from tests.support.misbehaving_servers import Wire

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Mapping

    from tests.support.misbehaving_servers import Behaviour

JSON = "application/json; charset=utf-8"
MIB = 1 << 20


def document(factors: Iterable[Mapping[str, object]] = (), entities: Iterable[Mapping[str, object]] = ()) -> bytes:
    """Return an answer that lists these entries."""
    return json.dumps({"factors": list(factors), "entities": list(entities)}).encode()


def head(status: str, *headers: str) -> bytes:
    """Return a response up to its body; the body ends with the connection unless a header says otherwise."""
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "Connection: close", "", ""]).encode()


class ListServer:
    """Answers every request as ``behave`` says; ``requests`` are those received, as text."""

    def __init__(self, *, context: ssl.SSLContext | None = None) -> None:
        self.wire = Wire(self._behave, context=context)
        self._secure = context is not None
        self.behave: Behaviour = self._nothing
        self.sent = 0

    async def __aenter__(self) -> Self:
        await self.wire.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.wire.__aexit__(*error)

    @property
    def url(self) -> str:
        return f"{'https' if self._secure else 'http'}://localhost:{self.wire.port}/list"

    @property
    def requests(self) -> list[str]:
        return [request.decode() for request in self.wire.requests]

    async def _behave(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.behave(reader, writer)
        if not writer.is_closing():
            writer.close()

    async def _nothing(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    def answers(
        self, body: bytes, *headers: str, status: str = "200 OK", content_type: str | None = JSON, etag: str = ""
    ) -> None:
        """Answer with this body; with an ETag, a request that has it gets 304."""
        given = [f"Content-Length: {len(body)}", *headers]
        if content_type is not None:
            given.append(f"Content-Type: {content_type}")
        if etag:
            given.append(f"ETag: {etag}")

        async def behave(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if etag and f"if-none-match: {etag}" in self.requests[-1]:
                writer.write(head("304 Not Modified", f"ETag: {etag}"))
            else:
                writer.write(head(status, *given) + body)
            await writer.drain()

        self.behave = behave

    def lists(self, *factors: Mapping[str, object], etag: str = "") -> None:
        """List these factors."""
        self.answers(document(factors), etag=etag)

    def answers_gzip(self, body: bytes) -> None:
        """Answer with this body, compressed."""
        self.answers(gzip.compress(body), "Content-Encoding: gzip")

    def dies(self) -> None:
        """Close every connection without an answer."""
        self.behave = self._nothing

    def streams(self, size: int, *headers: str, declared: bool = False) -> None:
        """Answer with a string of this many bytes in all; only if ``declared``, its length is known at first."""
        length = [f"Content-Length: {size}"] if declared else []

        async def behave(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.sent = 0
            writer.write(head("200 OK", f"Content-Type: {JSON}", *length, *headers))
            left, piece = size, b" " * MIB
            while left:
                writer.write(piece[:left])
                await writer.drain()
                self.sent += min(left, MIB)
                left -= min(left, MIB)

        self.behave = behave

    def bombs(self, mebibytes: int) -> None:
        """Answer with a well compressed body of this size."""
        compress = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16)
        pieces = [compress.compress(b" " * MIB) for _ in range(mebibytes)]
        self.answers(b"".join([*pieces, compress.flush()]), "Content-Encoding: gzip")

    def drips(self, body: bytes) -> None:
        """Send a byte of this body every few milliseconds."""

        async def behave(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(head("200 OK", f"Content-Type: {JSON}", f"Content-Length: {len(body)}"))
            for byte in body:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.01)

        self.behave = behave


def source_table(name: str, url: str, **keys: Any) -> str:
    """Return a ``[[watchlist.http]]`` table in TOML."""
    values = {"name": name, "url": url, **keys}
    return "[[watchlist.http]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
