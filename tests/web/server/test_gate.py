"""Headers, the rate limit, and how many requests are answered at once."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from exporter.config.addresses import ListenAddress
from exporter.config.webconfig import RateLimit
from exporter.web.server.gate import TokenBucket
from exporter.web.server.limits import Limits
from exporter.web.server.sockets import WebServer
from tests.support.https_exporter import behind, get
from tests.support.running_exporter import becomes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.mark.parametrize("path", ["/metrics", "/", "/nowhere"])
async def test_configured_headers_are_on_every_response(folder: Path, path: str) -> None:
    policy = "default-src 'self'"
    text = (
        "http_server_config:\n  headers:\n    Strict-Transport-Security: max-age=60\n"
        f'    X-Frame-Options: sameorigin\n    Content-Security-Policy: "{policy}"\n'
    )
    async with behind(folder, text) as running:
        headers = (await running.request(path)).headers
        assert headers["Strict-Transport-Security"] == "max-age=60"
        assert headers["X-Frame-Options"] == "sameorigin"
        assert headers.getall("Content-Security-Policy") == [policy]


def test_a_token_bucket() -> None:
    bucket = TokenBucket(RateLimit(2.0, 3), 100.0)
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(now) for now in (101.9, 102.1, 103.0)] == [False, True, False]
    assert [bucket.take(1000.0) for _ in range(4)] == [True, True, True, False]


@pytest.mark.parametrize("burst", ["", "  burst: 0\n", "  burst: -1\n"])
async def test_without_a_burst_every_request_is_refused_but_health_checks(folder: Path, burst: str) -> None:
    async with behind(folder, f"rate_limit:\n  interval: 1ms\n{burst}") as running:
        assert [(await running.request("/metrics")).status for _ in range(3)] == [429] * 3
        assert (await running.request("/-/healthy")).status == 200
        assert (await running.request("/-/ready")).status != 429


async def test_beyond_the_rate_a_request_is_refused_and_health_is_not(folder: Path) -> None:
    async with behind(folder, "rate_limit:\n  interval: 1h\n  burst: 3\n") as running:
        assert [(await running.request("/metrics")).status for _ in range(4)] == [200, 200, 200, 429]
        assert (await running.request("/metrics")).headers["Retry-After"] == "1"
        assert (await running.request("/-/healthy")).status == 200
        await running.daemon.reload()  # the unchanged limit keeps its tokens
        assert (await running.request("/metrics")).status == 429
        (folder / "web.yml").write_text("rate_limit:\n  interval: 1s\n  burst: 5\n")
        await running.daemon.reload()
        assert (await running.request("/metrics")).status == 200


class Slow:
    """An application that responds when the test allows it."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.waiting = 0
        self.application = web.Application()
        for path in ("/metrics", "/", "/-/healthy"):
            self.application.router.add_get(path, self.answer)
        self.application.router.add_get("/large", self.large)

    async def answer(self, request: web.Request) -> web.Response:
        if request.path != "/-/healthy":
            self.waiting += 1
            await self.go.wait()
            self.waiting -= 1
        return web.Response(text="done")

    async def large(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        self.waiting += 1
        with contextlib.suppress(ConnectionError):
            for _ in range(1000):
                await response.write(b"x" * 65536)
        self.waiting -= 1
        return response


@contextlib.asynccontextmanager
async def slow(limits: Limits, telemetry_path: str = "/metrics") -> AsyncIterator[tuple[Slow, WebServer, str]]:
    pages = Slow()
    server = WebServer(pages.application, limits=limits, telemetry_path=telemetry_path)
    await server.start([ListenAddress("127.0.0.1", 0)])
    try:
        yield pages, server, server.addresses[0]
    finally:
        pages.go.set()
        await server.stop()


@pytest.mark.parametrize(("path", "what"), [("/metrics", "scrapes"), ("/", "requests")])
async def test_requests_beyond_the_limit_are_refused(path: str, what: str) -> None:
    async with slow(Limits(scrapes=2, requests=2)) as (pages, _, url):
        in_flight = [asyncio.create_task(get(url + path)) for _ in range(2)]
        await becomes(lambda: pages.waiting == 2)
        assert await get(url + path) == (503, f"too many {what} at once: the limit is 2; try again\n")
        assert (await get(f"{url}/-/healthy"))[0] == 200
        pages.go.set()
        assert [status for status, _ in await asyncio.gather(*in_flight)] == [200, 200]
        other = "/" if path == "/metrics" else "/metrics"
        assert (await get(url + other))[0] == (await get(url + path))[0] == 200


@pytest.mark.slow
async def test_clients_that_read_nothing_do_not_block_scrapes() -> None:
    async with slow(Limits(scrapes=1), "/large") as (pages, server, url):
        host, _, port = url.removeprefix("http://").rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
        writer.write(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        await becomes(lambda: any(one.slow_for() > 1.0 for one in server.connections))
        status, text = await get(f"{url}/large")
        assert (status, len(text)) == (200, 65536 * 1000)
        with contextlib.suppress(ConnectionError):
            while await reader.read(1 << 20):
                pass
        await becomes(lambda: pages.waiting == 0)
        writer.close()
