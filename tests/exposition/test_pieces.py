"""Compression in chunks: one valid gzip stream, and no chunk compressed twice."""

from __future__ import annotations

import builtins
import gzip as library
import importlib
import itertools
import sys
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.exposition import pieces as module
from exporter.exposition.pieces import Alike, Column, Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compress small pages in chunks, too, except in the test that is about small pages."""
    monkeypatch.setattr(module, "WHOLE_BYTES", -1)


@pytest.fixture
def compressed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What was compressed, in order."""
    seen: list[bytes] = []
    deflate = module._deflate

    def watch(text: bytes) -> bytes:
        seen.append(text)
        return deflate(text)

    monkeypatch.setattr(module, "_deflate", watch)
    return seen


def stream(*columns: Column) -> bytes:
    return b"".join(Snapshot(columns).gzip())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.binary(max_size=2000), max_size=4), max_size=4), st.data())
def test_decompressing_returns_the_page(contents: list[list[bytes]], data: st.DataObject) -> None:
    columns = [Column(*texts) for texts in contents]
    assert library.decompress(stream(*columns)) == b"".join(itertools.chain(*contents))
    for _ in range(3):
        if columns:
            column = data.draw(st.sampled_from(columns))
            number = data.draw(st.integers(0, len(column)))
            if number == len(column):
                column.append(data.draw(st.binary(max_size=2000)))
            else:
                column[number] = data.draw(st.binary(max_size=2000))
        packed = stream(*columns)
        page = b"".join(map(bytes, itertools.chain(*[column.chunks() for column in columns])))
        assert library.decompress(packed) == page == bytes(Snapshot(columns))
        once = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)  # as clients do that know of one stream only
        assert once.decompress(packed) == page
        assert once.eof
        assert once.unused_data == b""


def test_unchanged_chunks_are_not_compressed_again(compressed: list[bytes]) -> None:
    lines, other = Column(b"one", b""), Column(b"two")
    stream(lines, other)
    stream(lines, other)
    assert compressed == [b"one", b"two"]
    lines[0] = b"three"
    assert library.decompress(stream(lines, other)) == b"threetwo"
    assert compressed == [b"one", b"two", b"three"]


def test_lines_with_one_value_are_made_of_labels_when_they_are_read(compressed: list[bytes]) -> None:
    alike = Alike(b"up", b'{factor="a"}\n{factor="b"}', 2, b"1.0")
    text = b'up{factor="a"} 1.0\nup{factor="b"} 1.0\n'
    assert (bytes(alike), len(alike)) == (text, len(text))
    column = Column(alike, b"other\n")
    assert bytes(Snapshot([column])) == text + b"other\n" == library.decompress(stream(column))
    assert Snapshot([column]).size() == len(text) + 6
    stream(column)
    assert compressed == [text, b"other\n"]
    column[0] = Alike(b"up", b'{factor="a"}', 1, b"0.0")
    assert library.decompress(stream(column)) == b'up{factor="a"} 0.0\nother\n'


def test_a_snapshot_is_compressed_as_it_was_when_made() -> None:
    column = Column(b"one", b"two")
    moment = Snapshot([column])
    stream(column)
    column[0] = b"changed"
    column.append(b"new")
    assert bytes(moment) == library.decompress(b"".join(moment.gzip())) == b"onetwo"
    assert moment.size() == 6
    assert library.decompress(stream(column)) == b"changedtwonew"


def test_similar_lines_compress_well() -> None:
    lines = [b'twilio_verify_factor_up{account="main",factor="factor-%04d"} 1.0\n' % n for n in range(480)]
    column = Column(*[b"".join(lines[n : n + 24]) for n in range(0, len(lines), 24)])
    assert len(stream(column)) < sum(map(len, lines)) / 5


@pytest.mark.parametrize("size", [0, 1, 1000, 32768, 32769])
def test_small_pages_are_compressed_whole(
    monkeypatch: pytest.MonkeyPatch, compressed: list[bytes], size: int
) -> None:
    monkeypatch.setattr(module, "WHOLE_BYTES", 32768)
    assert library.decompress(stream(Column(b"x" * (size // 2), b"x" * (size - size // 2)))) == b"x" * size
    assert len(compressed) == (1 if size <= 32768 else 2)


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


def test_zlib_replaces_a_missing_isal(without_isal: None) -> None:
    assert vars(module)["deflate"] is zlib
    vars(module)["WHOLE_BYTES"] = -1
    page = module.Snapshot([module.Column(b"one" * 100, b"two")])
    assert library.decompress(b"".join(page.gzip())) == b"one" * 100 + b"two"
