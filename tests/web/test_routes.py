"""What all paths have in common: methods, headers, errors; and the health paths."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import pytest

from tests.support.running_exporter import LeapingClock
from tests.support.served_exporter import VERIFIED, entries, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.served_exporter import ServedExporter

PATHS = ("/metrics", "/", "/api/v1/factors", "/api/v1/accounts", "/-/healthy", "/-/ready", "/-/verified")


@pytest.fixture
def clock() -> LeapingClock:
    return LeapingClock()


@pytest.fixture
async def running(tmp_path: Path, clock: LeapingClock) -> AsyncIterator[ServedExporter]:
    async with serving(tmp_path, entries("factor"), clock=clock) as served:
        yield served


@pytest.mark.parametrize("path", [*PATHS, "/nowhere", "/?page=x"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS"])
async def test_no_response_shows_versions_or_allows_other_origins(
    running: ServedExporter, path: str, method: str
) -> None:
    reply = await running.request(
        path, method, Origin="https://elsewhere.example", Access_Control_Request_Method="GET"
    )

    assert reply.headers.getall("Server") == ["verify-factor-exporter"]
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert not [name for name in reply.headers if name.lower().startswith("access-control-")]
    assert "Set-Cookie" not in reply.headers


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
async def test_other_methods_get_405(running: ServedExporter, path: str, method: str) -> None:
    reply = await running.request(path, method)

    assert reply.status == 405
    assert set(reply.headers["Allow"].split(",")) == {"GET", "HEAD"}
    assert reply.text == "405: Method Not Allowed"


@pytest.mark.parametrize(
    "path",
    ["/nowhere", "/metrics/", "/METRICS", "//metrics", "/%2e%2e/etc/passwd", "/api/v1/", "/favicon.ico", "/<b>"],
)
async def test_an_unknown_path_is_404_in_plain_text(running: ServedExporter, path: str) -> None:
    reply = await running.request(path, Accept="text/html")

    assert (reply.status, reply.text) == (404, "404: Not Found")
    assert reply.headers["Content-Type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize("accept", ["text/html", "*/*"])
async def test_an_internal_error_shows_no_traceback(
    running: ServedExporter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, accept: str
) -> None:
    def broken() -> bool:
        raise RuntimeError("a made-up error")

    monkeypatch.setattr(running.daemon.readiness, "healthy", broken)
    with caplog.at_level(logging.ERROR):
        reply = await running.request("/-/healthy", Accept=accept)

    assert reply.status == 500
    assert "made-up" not in reply.text
    assert "Traceback" not in reply.text
    assert "routes.py" not in reply.text
    [record] = caplog.records
    assert record.exc_info is not None


@pytest.mark.parametrize(
    "request_", [b"\x16\x03\x01\x02\x00\x01", b"GARBAGE\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"y" * 9000]
)
async def test_invalid_http_is_not_logged_as_an_error(
    running: ServedExporter, caplog: pytest.LogCaptureFixture, request_: bytes
) -> None:
    host, port = running.url.removeprefix("http://").split(":")
    with caplog.at_level(logging.INFO):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(request_ + b"\r\n\r\n")
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        alive = await running.request("/metrics")

    assert answer.startswith(b"HTTP/1.0 400 ")
    assert b"Traceback" not in answer
    assert not caplog.records
    assert alive.status == 200


async def test_health_depends_on_the_scheduler(running: ServedExporter, clock: LeapingClock) -> None:
    first = await running.request("/-/healthy")
    clock.leap(14)
    late = await running.request("/-/healthy")
    clock.leap(2)
    silent = await running.request("/-/healthy")
    running.daemon.engine.poller.dispatch()
    again = await running.request("/-/healthy")

    assert [(reply.status, reply.text) for reply in (first, late, silent, again)] == [
        (200, "healthy\n"),
        (200, "healthy\n"),
        (503, "not healthy: the scheduler has not run for 15 s\n"),
        (200, "healthy\n"),
    ]


async def test_readiness_depends_on_the_first_fetches(running: ServedExporter, clock: LeapingClock) -> None:
    running.daemon.readiness.start()
    starting = await running.request("/-/ready")
    clock.leap(300)
    ready = await running.request("/-/ready")
    running.daemon.readiness.draining = True
    stopping = await running.request("/-/ready")

    assert [(reply.status, reply.text) for reply in (starting, ready, stopping)] == [
        (503, "not ready: first fetches are in progress\n"),
        (200, "ready\n"),
        (503, "not ready: stopping\n"),
    ]


async def test_the_telemetry_path_is_configurable(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("factor"), web={"telemetry_path": "/all/metrics"}) as running:
        running.apply("factor", VERIFIED)
        assert (await running.request("/all/metrics")).status == 200
        assert (await running.request("/metrics")).status == 404


@pytest.mark.parametrize(
    "path", ["/metrics", "/api/v1/factors", "/api/v1/factors/no/such/one", "/api/v1/openapi.json", "/-/verified"]
)
async def test_no_cache_stores_values(running: ServedExporter, path: str) -> None:
    assert (await running.request(path)).headers["Cache-Control"] == "no-store"
