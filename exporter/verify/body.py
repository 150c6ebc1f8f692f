"""The body of an answer as it comes in: decompressed, and never kept beyond its bound."""

from __future__ import annotations

import zlib

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
