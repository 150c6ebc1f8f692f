"""``/metrics`` over a real socket: format, encoding, length, and robustness."""

from __future__ import annotations

import asyncio
import gzip
import logging
import zlib
from typing import TYPE_CHECKING

import pytest
from prometheus_client import Metric
from prometheus_client.registry import Collector

from exporter.verify.outcome import Failure, Reason
from exporter.watched import FactorKey, WatchedFactor
from tests.support.scrape import Scrape
from tests.support.served_exporter import NOT_FOUND, SERVICE_SID, UNVERIFIED, VERIFIED, entries, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from tests.support.served_exporter import Reply, ServedExporter

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[ServedExporter]:
    async with serving(tmp_path, entries("good", "new", "gone", "failing")) as served:
        served.apply("good", VERIFIED)
        served.apply("new", UNVERIFIED)
        served.apply("gone", NOT_FOUND)
        served.apply("failing", Failure(Reason.TIMEOUT, "no complete answer in time"))
        yield served


def steady(body: bytes) -> bytes:
    """Return the lines of factors, which do not change between two scrapes here."""
    return body.partition(b"# HELP twilio_verify_factor_status_changes")[0]


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/plain", TEXT),
        ("text/html,application/xhtml+xml,*/*;q=0.8", TEXT),
        (PROMETHEUS, OPENMETRICS),
        ("application/openmetrics-text", OPENMETRICS),
        ("application/openmetrics-text;q=0.2,text/plain;q=0.9", TEXT),
        ("application/openmetrics-text;q=0", TEXT),
        ("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited", TEXT),
        (";;;,,,=q=;q=x, \t,", TEXT),
        ("application/openmetrics-text;q=" + "9" * 500, TEXT),
        ("text/plain," * 700, TEXT),
    ],
)
async def test_the_format_is_negotiated(running: ServedExporter, accept: str, content_type: str) -> None:
    reply = await running.request("/metrics", Accept=accept)

    assert reply.status == 200
    assert reply.headers["Content-Type"] == content_type
    assert reply.headers["Vary"] == "Accept, Accept-Encoding"
    assert reply.body.endswith(b"# EOF\n") is (content_type is OPENMETRICS)
    scraped = Scrape(reply.text, openmetrics=content_type is OPENMETRICS)
    assert scraped.counts() == {"verified": 1, "unverified": 1, "not_found": 1, "unknown": 1}
    assert scraped.factor("verified", "good") == 1
    assert scraped.factor("verified", "new") == 0
    assert scraped.factor("exists", "gone") == 0
    assert scraped.factor("up", "failing") == 0


@pytest.mark.parametrize("accept", ["", PROMETHEUS])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("encoding", ["", "gzip", "br, gzip;q=0.5", "*"])
async def test_the_content_length_is_that_of_the_body(
    running: ServedExporter, method: str, accept: str, encoding: str
) -> None:
    reply = await running.request("/metrics", method, Accept=accept, Accept_Encoding=encoding)

    assert reply.status == 200
    assert reply.headers.getall("Content-Length") == [str(int(reply.headers["Content-Length"]))]
    assert "Transfer-Encoding" not in reply.headers
    assert reply.headers.get("Content-Encoding") == ("gzip" if encoding else None)
    if method == "HEAD":
        assert reply.body == b""
        assert int(reply.headers["Content-Length"]) > 1000
    else:
        assert len(reply.body) == int(reply.headers["Content-Length"])


@pytest.mark.parametrize("encoding", ["identity", "gzip;q=0", "br", "gzip;q=none", "gzipp"])
async def test_nothing_is_compressed_unless_accepted(running: ServedExporter, encoding: str) -> None:
    reply = await running.request("/metrics", Accept_Encoding=encoding)

    assert "Content-Encoding" not in reply.headers
    assert reply.body.startswith(b"# HELP ")


async def test_gzip_is_one_member_with_the_same_content(running: ServedExporter) -> None:
    plain = await running.request("/metrics")
    packed = await running.request("/metrics", Accept_Encoding="gzip")

    assert steady(one_member(packed.body)) == steady(plain.body)
    assert len(packed.body) < len(plain.body) / 4


@pytest.mark.parametrize("accept", [b"\xff\xfe\x80", b"text/plain;\xe2\x82\xac=1", b"\x7f" * 50])
async def test_headers_beyond_ascii_do_no_harm(running: ServedExporter, accept: bytes) -> None:
    host, port = running.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAccept-Encoding: " + accept
    writer.write(head + b"\r\nAccept: " + accept + b"\r\n\r\n")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()

    assert answer.split(b" ", 2)[1] in (b"200", b"400")  # the parser may refuse control characters
    assert b"Traceback" not in answer


async def test_an_exposition_beyond_a_mebibyte_comes_whole(running: ServedExporter) -> None:
    many = [
        WatchedFactor(FactorKey("main", SERVICE_SID, f"YF{number:032x}"), f"factor-{number}", "identity-1", 300.0)
        for number in range(100, 2100)
    ]
    running.daemon.engine.poller.watch(many)
    for watched in many:
        running.apply_to(watched.key, VERIFIED)

    plain = await running.request("/metrics", Accept=PROMETHEUS)
    packed = await running.request("/metrics", Accept=PROMETHEUS, Accept_Encoding="gzip")

    assert len(plain.body) == int(plain.headers["Content-Length"]) > 2 << 20
    assert plain.body.endswith(b"# EOF\n")
    assert steady(one_member(packed.body)) == steady(plain.body)
    assert plain.body.count(b"\ntwilio_verify_factor_verified{") == 2002


async def test_every_concurrent_scrape_is_of_one_moment(running: ServedExporter) -> None:
    async def scrape(number: int) -> Reply:
        running.apply("good", UNVERIFIED if number % 2 else VERIFIED)
        return await running.request("/metrics", Accept=PROMETHEUS, Accept_Encoding="gzip" if number % 3 else "")

    replies = await asyncio.gather(*(scrape(number) for number in range(24)))

    for reply in replies:
        assert reply.status == 200
        body = one_member(reply.body) if "Content-Encoding" in reply.headers else reply.body
        scraped = Scrape(body.decode(), openmetrics=True)
        # The gauge of the factor and the counts by status are of the same moment.
        assert scraped.counts()["verified"] == scraped.factor("verified", "good")


class _Broken(Collector):
    def __init__(self, *before: Metric) -> None:
        self._before = before

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        yield from self._before
        raise RuntimeError("a made-up error")


@pytest.mark.parametrize("accept", ["", PROMETHEUS])
@pytest.mark.parametrize("encoding", ["", "gzip"])
async def test_the_factors_are_served_when_our_own_metrics_fail(
    running: ServedExporter, caplog: pytest.LogCaptureFixture, accept: str, encoding: str
) -> None:
    running.daemon.telemetry.registry.register(_Broken(Metric("half", "Half a family.", "gauge")))

    with caplog.at_level(logging.ERROR):
        reply = await running.request("/metrics", Accept=accept, Accept_Encoding=encoding)

    assert reply.status == 200
    text = (one_member(reply.body) if encoding else reply.body).decode()
    scraped = Scrape(text, openmetrics=bool(accept))
    assert scraped.factor("verified", "good") == 1
    assert "twilio_verify_factors" not in scraped
    assert "half" not in text
    assert text.endswith("# EOF\n") is bool(accept)
    [record] = caplog.records
    assert record.getMessage() == "the exporter's own metrics are missing from a scrape: please report this"
    assert record.exc_info is not None


def one_member(packed: bytes) -> bytes:
    """Decompress a gzip body that is one member to its last byte."""
    reader = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    body = reader.decompress(packed)
    assert reader.eof
    assert reader.unused_data == b""
    assert body == gzip.decompress(packed)
    return body
