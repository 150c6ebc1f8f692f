"""An exporter whose factors have ugly names and labels, and a proxy that repeats what each path was served."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from gzip import decompress
from typing import TYPE_CHECKING

from aiohttp import web

from exporter.verify.outcome import Attempt, Failure, Operation, Reason
from tests.support.scrapers.samples import Samples, read
from tests.support.served_exporter import (
    NOT_FOUND,
    REQUEST_ID,
    SERVICE_SID,
    UNVERIFIED,
    VERIFIED,
    entries,
    serving,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.served_exporter import Reply, ServedExporter

# Line breaks and other control characters are refused by the configuration, so they can't be served.
UGLY = (
    "C++ builder",
    "\"quoted\" and 'quoted'",
    "back\\slash",
    "ends with one\\",
    "ends with two\\\\",
    "\\n is no line break",
    'factor="x",team="y"} 1',
    "{braces} [brackets] (parentheses)",
    "# HELP is no comment",
    "a, b; c: d = e | f",
    "Zoë, 日本語, नमस्ते, 🔑",
    "e\u0301 and \u00e9",
    "no\u00a0break",
    "<b>&amp;</b> %20 $1 ${name} {{name}}",
    "0123456789" * 12,
    "3.14",
    "true",
)
TIMEOUT = Failure(Reason.TIMEOUT, "no complete answer in time")
_PASSED_ON = ("Content-Type", "Content-Encoding")


@dataclass(slots=True)
class Proxy:
    """Stands between scrapers and the exporter.

    Every path is served the response to its first scrape, whose headers were the scraper's. A path ``/text/…`` gets
    the text format, whatever the scraper accepts.
    """

    address: str = ""
    replies: dict[str, Reply] = field(default_factory=dict)
    accepted: dict[str, str] = field(default_factory=dict)

    def served(self, path: str) -> Samples:
        """Return the samples that a path was served."""
        reply = self.replies[path]
        body = decompress(reply.body) if reply.headers.get("Content-Encoding") == "gzip" else reply.body
        return read(body.decode())

    def format_of(self, path: str) -> str:
        """Return the format that a path was served, without parameters but its version."""
        return self.replies[path].headers["Content-Type"].removesuffix("; charset=utf-8")


@contextlib.asynccontextmanager
async def ugly_world(folder: Path) -> AsyncIterator[ServedExporter]:
    """Serve a daemon with ugly names and labels, in several states, and with observations in histograms."""
    factors = [
        {**entry, "labels": {"team": value, "tier": value[::-1]}}
        for entry, value in zip(entries(*UGLY), UGLY, strict=True)
    ]
    async with serving(folder, factors) as running:
        telemetry = running.daemon.telemetry
        for seconds in (0.04, 0.212, 0.7, 45.0):
            telemetry.attempted("main", Operation.FETCH, Attempt(VERIFIED, seconds, 200, REQUEST_ID, seconds / 4))
        telemetry.attempted("main", Operation.FETCH, Attempt(TIMEOUT, 10.0))
        telemetry.started(0.003)
        results = (
            (VERIFIED,),
            (UNVERIFIED,),
            (NOT_FOUND,),
            (UNVERIFIED, VERIFIED),
            (VERIFIED, TIMEOUT),
            (TIMEOUT,),
        )
        for number, name in enumerate(UGLY[:-1]):  # the last one was never fetched
            running.apply(name, *results[number % len(results)], duration_seconds=0.1 + number / 7)
        yield running


@contextlib.asynccontextmanager
async def frozen(running: ServedExporter) -> AsyncIterator[Proxy]:
    """Serve what an exporter serves, the same at each scrape of a path."""
    proxy = Proxy()

    async def pass_on(request: web.BaseRequest) -> web.Response:
        proxy.accepted[request.path] = request.headers.get("Accept", "")
        if request.path not in proxy.replies:
            headers = {
                name.replace("-", "_"): request.headers[name]
                for name in ("Accept", "Accept-Encoding")
                if name in request.headers
            }
            if request.path.startswith("/text/"):
                headers["Accept"] = "text/plain;version=0.0.4"
            reply = await running.request("/metrics", "GET", None, **headers)
            proxy.replies.setdefault(request.path, reply)
        reply = proxy.replies[request.path]
        passed_on = {name: reply.headers[name] for name in _PASSED_ON if name in reply.headers}
        return web.Response(status=reply.status, body=reply.body, headers=passed_on)

    runner = web.ServerRunner(web.Server(pass_on, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    proxy.address = f"{host}:{port}"
    try:
        yield proxy
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def source(folder: Path) -> AsyncIterator[Proxy]:
    """Serve an exporter with ugly names and labels by a proxy, after checking that it serves what is configured."""
    async with ugly_world(folder) as running, frozen(running) as proxy:
        yield proxy


def configured(samples: Samples) -> bool:
    """Return whether the samples have each ugly name, with its labels as they are configured."""
    found = {
        (dict(labels).get("factor"), dict(labels).get("team"), dict(labels).get("tier"))
        for (name, labels) in samples
        if name == "twilio_verify_factor_interval_seconds" and ("service_sid", SERVICE_SID) in labels
    }
    return found == {(value, value, value[::-1]) for value in UGLY}
