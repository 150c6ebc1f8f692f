"""Pieces of a page, and their compression: a piece that did not change is not compressed again.

A gzip stream may be put together from parts that were compressed apart, as long as each ends at a byte's border
(RFC 1951 §2.3, a flush): only its checksum and its size are of the whole.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

try:
    from isal import isal_zlib as deflate
except ImportError:  # no wheel for this machine
    deflate = zlib  # type: ignore[misc]

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

WHOLE_BYTES = 1 << 16
_LEVEL = 1
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\xff"
_LAST_BLOCK = b"\x03\x00"


class Piece:
    """Some bytes of a page that are replaced when they change; ``packed`` keeps ``packed_of`` compressed."""

    __slots__ = ("packed", "packed_of", "text")

    def __init__(self, text: bytes = b"") -> None:
        self.text = text
        self.packed: bytes | None = None
        self.packed_of: bytes | None = None

    def replace(self, text: bytes) -> None:
        """Hold other bytes from now on."""
        self.text = text
        self.packed = self.packed_of = None


def texts(pieces: Iterable[Piece]) -> list[bytes]:
    """Return the bytes of the pieces as they are at this moment."""
    return [piece.text for piece in pieces]


def gzip(pieces: Iterable[Piece], moment: Collection[bytes]) -> list[bytes]:
    """Return the gzip stream of a moment's bytes, in parts; may run in a thread while the pieces change.

    ``moment`` is what :func:`texts` returned of the same pieces. A page of no more than WHOLE_BYTES is compressed
    as one, and nothing of it is kept; larger pages that share pieces are for one thread alone.
    """
    size = sum(map(len, moment))
    if size <= WHOLE_BYTES:
        whole = b"".join(moment)
        return [_HEADER, _deflate(whole), _end(deflate.crc32(whole), size)]
    parts = [_HEADER]
    checksum = 0
    for piece, text in zip(pieces, moment, strict=True):
        if not text:
            continue
        checksum = deflate.crc32(text, checksum)
        packed = piece.packed if piece.packed_of is text else None
        if packed is None:
            packed = _deflate(text)
            if piece.text is text:  # if it changes just now, what is kept is of no use, and no harm
                piece.packed, piece.packed_of = packed, text
        parts.append(packed)
    parts.append(_end(checksum, size))
    return parts


def _end(checksum: int, size: int) -> bytes:
    return _LAST_BLOCK + checksum.to_bytes(4, "little") + (size % 2**32).to_bytes(4, "little")


def _deflate(text: bytes) -> bytes:
    """Return the bytes compressed, as a part of a stream that goes on."""
    compressor = deflate.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed: bytes = compressor.compress(text)
    return packed + compressor.flush(zlib.Z_FULL_FLUSH)
