"""Pages are compressed for browsers that accept gzip, and are the same pages."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest

from tests.support.served_exporter import SERVICE_SID, VERIFIED, entries, serving, stopped

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.served_exporter import ServedExporter

PAGES = ("/", "/?q=no-such-factor", f"/factors/main/{SERVICE_SID}/f1", f"/factors/main/{SERVICE_SID}/none")


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[ServedExporter]:
    names = [f"f{number}" for number in range(150)]
    async with serving(tmp_path, entries(*names, labels={"team": "ünï"}), clock=stopped()) as served:
        for name in names:
            served.apply(name, VERIFIED)
        yield served


@pytest.mark.parametrize("path", PAGES)
async def test_a_compressed_page_is_the_same_page(running: ServedExporter, path: str) -> None:
    plain = await running.request(path)
    packed = await running.request(path, Accept_Encoding="gzip, deflate, br, zstd")

    assert packed.status == plain.status
    assert gzip.decompress(packed.body) == plain.body
    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers
    assert packed.headers["Vary"] == plain.headers["Vary"] == "Accept-Encoding"
    assert int(packed.headers["Content-Length"]) == len(packed.body)
    assert packed.headers["Content-Type"] == plain.headers["Content-Type"]


async def test_a_full_page_takes_a_fraction(running: ServedExporter) -> None:
    plain = await running.request("/")
    packed = await running.request("/", Accept_Encoding="gzip")
    assert len(packed.body) * 8 < len(plain.body)


@pytest.mark.parametrize("accepted", ["", "identity", "br", "gzip;q=0", "*;q=0"])
async def test_what_is_not_accepted_is_not_sent(running: ServedExporter, accepted: str) -> None:
    reply = await running.request("/", Accept_Encoding=accepted)
    assert "Content-Encoding" not in reply.headers
    assert reply.body.startswith(b"<!DOCTYPE html>")


async def test_head_has_the_headers_of_get(running: ServedExporter) -> None:
    reply = await running.request("/", "HEAD", Accept_Encoding="gzip")
    assert (reply.status, reply.body) == (200, b"")
    assert reply.headers["Content-Encoding"] == "gzip"
