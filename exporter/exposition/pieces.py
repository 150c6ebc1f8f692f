"""The exposition as chunks of bytes, each compressed only once until it changes.

A gzip stream can be assembled from parts that were compressed separately if each part ends on a byte boundary (a
flush, RFC 1951 §2.3); only the checksum and the size cover the whole.
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
_CHUNKS_AT_ONCE = 64
_PAUSE_SECONDS = 0.0002
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\xff"
_LAST_BLOCK = b"\x03\x00"
_GZIP_BITS = 31  # the largest window, in a gzip stream


class Alike:
    """A chunk of lines with the same name and value: made when it is read, of label texts that chunks share.

    ``labels`` are the label texts with line feeds between them, ``lines`` is their number.
    """

    __slots__ = ("_labels", "_name", "_size", "value")

    def __init__(self, name: bytes, labels: bytes, lines: int, value: bytes) -> None:
        self._name = name
        self._labels = labels
        self._size = len(labels) + lines * (len(name) + len(value) + 1) + 1
        self.value = value

    def __len__(self) -> int:
        return self._size

    def __bytes__(self) -> bytes:
        between = b" %s\n%s" % (self.value, self._name)
        return b"%s%s %s\n" % (self._name, self._labels.replace(b"\n", between), self.value)


Chunk = bytes | Alike


class Column:
    """Consecutive chunks of the exposition; a chunk is replaced as a whole when it changes."""

    __slots__ = ("_chunks", "_compressed", "_compressed_from")

    def __init__(self, *chunks: Chunk) -> None:
        self._chunks = list(chunks)
        self._compressed: list[bytes | None] = [None] * len(chunks)
        self._compressed_from: list[Chunk | None] = [None] * len(chunks)  # compared by identity

    def __len__(self) -> int:
        return len(self._chunks)

    def __getitem__(self, number: int) -> Chunk:
        return self._chunks[number]

    def __setitem__(self, number: int, chunk: Chunk) -> None:
        self._chunks[number] = chunk
        self._compressed[number] = self._compressed_from[number] = None

    def append(self, chunk: Chunk) -> None:
        """Add a chunk at the end."""
        self._compressed.append(None)
        self._compressed_from.append(None)
        self._chunks.append(chunk)

    def chunks(self) -> list[Chunk]:
        """Return the current chunks."""
        return self._chunks.copy()

    def compressed(self, number: int, chunk: Chunk, text: bytes) -> bytes:
        """Return the compressed form of ``text``, which is that of the present or a recent chunk ``number``.

        Only one thread may call this. Another one may replace chunks meanwhile: the result is then not kept.
        """
        compressed = self._compressed[number] if self._compressed_from[number] is chunk else None
        if compressed is None:
            compressed = _deflate(text)
            if self._chunks[number] is chunk:
                self._compressed[number], self._compressed_from[number] = compressed, chunk
        return compressed


class Snapshot:
    """The exposition at the moment of creation; later changes of its columns don't show. Iterates over chunks."""

    def __init__(self, columns: Iterable[Column]) -> None:
        self._columns = [(column, column.chunks()) for column in columns]

    def __iter__(self) -> Iterator[bytes]:
        return map(bytes, self._chunks())

    def __bytes__(self) -> bytes:
        return b"".join(self)

    def _chunks(self) -> Iterator[Chunk]:
        return chain.from_iterable([chunks for _, chunks in self._columns])

    def size(self) -> int:
        """Return the size in bytes, in time proportional to the number of chunks."""
        return sum(map(len, self._chunks()))

    def gzip(self) -> list[bytes]:
        """Return the gzip stream in parts; may run in a thread while the columns change.

        Up to ``WHOLE_BYTES`` are compressed in one go and not kept. Larger snapshots of the same columns must be
        compressed by one thread only.
        """
        size = self.size()
        if size <= WHOLE_BYTES:
            whole = bytes(self)
            return [_HEADER, _deflate(whole), _end(deflate.crc32(whole), size)]
        parts = [_HEADER]
        checksum = 0
        for column, chunks in self._columns:
            for number, chunk in enumerate(chunks):
                if text := bytes(chunk):
                    checksum = deflate.crc32(text, checksum)
                    parts.append(column.compressed(number, chunk, text))
                if number % _CHUNKS_AT_ONCE == _CHUNKS_AT_ONCE - 1:
                    # The event loop releases the interpreter lock on every TLS operation. Without pauses this
                    # thread would take it every time, for 5 ms if no chunk needs compression.
                    time.sleep(_PAUSE_SECONDS)
        parts.append(_end(checksum, size))
        return parts


def gzipped(parts: Iterable[bytes]) -> bytes:
    """Return these bytes as one gzip stream, compressed in one go."""
    packer = deflate.compressobj(_LEVEL, deflate.DEFLATED, _GZIP_BITS)
    return b"".join([*map(packer.compress, parts), packer.flush()])


def _end(checksum: int, size: int) -> bytes:
    return _LAST_BLOCK + checksum.to_bytes(4, "little") + (size % 2**32).to_bytes(4, "little")


def _deflate(text: bytes) -> bytes:
    """Return the bytes compressed as one part of a stream."""
    compressor = deflate.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    compressed: bytes = compressor.compress(text)
    return compressed + compressor.flush(zlib.Z_FULL_FLUSH)
