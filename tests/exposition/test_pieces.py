"""The compression of a page in pieces: one good stream, and nothing compressed twice."""

from __future__ import annotations

import builtins
import gzip as library
import importlib
import sys
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.exposition import pieces as module
from exporter.exposition.pieces import Piece, gzip, texts

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take small pages for large ones, but in the one test that is about them."""
    monkeypatch.setattr(module, "WHOLE_BYTES", -1)


def stream(pieces: list[Piece]) -> bytes:
    return b"".join(gzip(pieces, texts(pieces)))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=2000), max_size=8), st.data())
def test_what_is_unpacked_is_the_page(contents: list[bytes], data: st.DataObject) -> None:
    pieces = [Piece(content) for content in contents]
    assert library.decompress(stream(pieces)) == b"".join(contents)
    for _ in range(3):
        if pieces:
            data.draw(st.sampled_from(pieces)).replace(data.draw(st.binary(max_size=2000)))
        packed = stream(pieces)
        assert library.decompress(packed) == b"".join(texts(pieces))
        once = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)  # as clients do that know of one stream only
        assert once.decompress(packed) == b"".join(texts(pieces))
        assert once.eof
        assert once.unused_data == b""


def test_what_did_not_change_is_not_compressed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    compressed: list[bytes] = []
    deflate = module._deflate

    def watch(text: bytes) -> bytes:
        compressed.append(text)
        return deflate(text)

    monkeypatch.setattr(module, "_deflate", watch)
    pieces = [Piece(b"one"), Piece(b""), Piece(b"two")]
    stream(pieces)
    stream(pieces)
    assert compressed == [b"one", b"two"]
    pieces[0].replace(b"three")
    assert library.decompress(stream(pieces)) == b"threetwo"
    assert compressed == [b"one", b"two", b"three"]


def test_a_moment_is_packed_as_it_was_though_a_piece_has_changed_since() -> None:
    pieces = [Piece(b"one"), Piece(b"two")]
    moment = texts(pieces)
    stream(pieces)
    pieces[0].replace(b"changed")
    assert library.decompress(b"".join(gzip(pieces, moment))) == b"onetwo"
    assert library.decompress(stream(pieces)) == b"changedtwo"


def test_lines_that_look_alike_get_small() -> None:
    lines = [b'twilio_verify_factor_up{account="main",factor="factor-%04d"} 1.0\n' % n for n in range(480)]
    pieces = [Piece(b"".join(lines[n : n + 24])) for n in range(0, len(lines), 24)]
    assert len(stream(pieces)) < sum(map(len, lines)) / 5


@pytest.mark.parametrize("size", [0, 1, 1000, 32768, 32769])
def test_small_pages_are_compressed_as_one(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(module, "WHOLE_BYTES", 32768)
    pieces = [Piece(b"x" * (size // 2)), Piece(b"x" * (size - size // 2))]
    assert library.decompress(stream(pieces)) == b"x" * size
    assert (pieces[1].packed is None) == (size <= 32768)


@pytest.fixture
def without_isal(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    find = builtins.__import__

    def refuse(name: str, *arguments: Any, **options: Any) -> Any:
        if name.startswith("isal"):
            raise ImportError(name)
        return find(name, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "__import__", refuse)
        patch.delitem(sys.modules, "isal.isal_zlib", raising=False)
        importlib.reload(module)
    yield
    importlib.reload(module)


def test_zlib_does_where_there_is_no_isal(without_isal: None) -> None:
    assert vars(module)["deflate"] is zlib
    vars(module)["WHOLE_BYTES"] = -1
    pieces = [module.Piece(b"one" * 100), module.Piece(b"two")]
    assert library.decompress(b"".join(module.gzip(pieces, module.texts(pieces)))) == b"one" * 100 + b"two"
