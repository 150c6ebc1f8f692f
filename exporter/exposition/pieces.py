"""Pieces of a page, and their compression: a piece that did not change is not compressed again.

A gzip stream may be put together from parts that were compressed apart, as long as each ends at a byte's border
(RFC 1951 §2.3, a flush): only its checksum and its size are of the whole.
"""

from __future__ import annotations

import time
import zlib
from itertools import chain
from typing import TYPE_CHECKING

try:
    from isal import isal_zlib as deflate
except ImportError:  # no wheel for this machine
    deflate = zlib  # type: ignore[misc]  # another module with the same functions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

WHOLE_BYTES = 1 << 16
_LEVEL = 1
_PIECES_AT_ONCE = 64
_PAUSE_SECONDS = 0.0002
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\xff"
_LAST_BLOCK = b"\x03\x00"


class Column:
    """Pieces of a page that follow one another: each some bytes, which are replaced when they change."""

    __slots__ = ("_packed", "_packed_of", "_texts")

    def __init__(self, *texts: bytes) -> None:
        self._texts = list(texts)
        self._packed: list[bytes | None] = [None] * len(texts)
        self._packed_of = self._packed.copy()  # the very bytes that were compressed

    def __len__(self) -> int:
        return len(self._texts)

    def __getitem__(self, number: int) -> bytes:
        return self._texts[number]

    def __setitem__(self, number: int, text: bytes) -> None:
        self._texts[number] = text
        self._packed[number] = self._packed_of[number] = None

    def append(self, text: bytes) -> None:
        """Add a piece behind the others."""
        self._packed.append(None)
        self._packed_of.append(None)
        self._texts.append(text)

    def texts(self) -> list[bytes]:
        """Return the bytes of the pieces as they are at this moment."""
        return self._texts.copy()

    def packed(self, number: int, text: bytes) -> bytes:
        """Return the bytes that a piece has, or just had, compressed; only one thread may call this.

        The pieces may change in another one: then what is kept is of no use, and no harm.
        """
        packed = self._packed[number] if self._packed_of[number] is text else None
        if packed is None:
            packed = _deflate(text)
            if self._texts[number] is text:
                self._packed[number], self._packed_of[number] = packed, text
        return packed


class Snapshot:
    """A page as it is at the moment when this is made, whatever becomes of its columns; yields its pieces."""

    def __init__(self, columns: Iterable[Column]) -> None:
        self._columns = [(column, column.texts()) for column in columns]

    def __iter__(self) -> Iterator[bytes]:
        return chain.from_iterable([texts for _, texts in self._columns])

    def __bytes__(self) -> bytes:
        return b"".join(self)

    def size(self) -> int:
        """Return the bytes of the page: a walk over the pieces."""
        return sum(map(len, self))

    def gzip(self) -> list[bytes]:
        """Return the page's gzip stream, in parts; may run in a thread while the columns change.

        A page of no more than WHOLE_BYTES is compressed as one, and nothing of it is kept; larger pages that share
        columns are for one thread alone.
        """
        size = self.size()
        if size <= WHOLE_BYTES:
            whole = bytes(self)
            return [_HEADER, _deflate(whole), _end(deflate.crc32(whole), size)]
        parts = [_HEADER]
        checksum = 0
        for column, texts in self._columns:
            for number, text in enumerate(texts):
                if text:
                    checksum = deflate.crc32(text, checksum)
                    parts.append(column.packed(number, text))
                if number % _PIECES_AT_ONCE == _PIECES_AT_ONCE - 1:
                    # The event loop lets go of the interpreter with each use of TLS; this thread would take it each
                    # time, and keep it for 5 ms where no piece has to be compressed.
                    time.sleep(_PAUSE_SECONDS)
        parts.append(_end(checksum, size))
        return parts


def _end(checksum: int, size: int) -> bytes:
    return _LAST_BLOCK + checksum.to_bytes(4, "little") + (size % 2**32).to_bytes(4, "little")


def _deflate(text: bytes) -> bytes:
    """Return the bytes compressed, as a part of a stream that goes on."""
    compressor = deflate.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed: bytes = compressor.compress(text)
    return packed + compressor.flush(zlib.Z_FULL_FLUSH)
