"""The paths of the web server and their answers."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from heapq import nsmallest
from typing import TYPE_CHECKING, Protocol

from aiohttp import web

from exporter.exposition.negotiation import (
    OPENMETRICS_CONTENT_TYPE,
    TEXT_CONTENT_TYPE,
    accepts_gzip,
    accepts_openmetrics,
)
from exporter.exposition.pieces import gzip, texts
from exporter.web.lifecycle import Lifecycle, Reloadable
from exporter.web.pages import Pages, Shown
from exporter.web.views import urgency, view

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.exposition.pieces import Piece

_BATCH_BYTES = 1 << 18
_INLINE_GZIP_BYTES = 1 << 16
_API_FACTORS = 1000


class Exporter(Reloadable, Shown, Protocol):
    """What the web server needs of the daemon."""

    def exposition(self, *, openmetrics: bool) -> list[Piece]:
        """Return the pieces of a scrape."""

    def healthy(self) -> bool:
        """Return whether the scheduler ticks."""

    def ready(self) -> bool:
        """Return whether the first looks are done."""


class Routes:
    """The handlers of one exporter."""

    def __init__(self, exporter: Exporter) -> None:
        self._exporter = exporter
        # Its own thread: the pool of the event loop belongs to whoever blocks in it.
        self._packer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="gzip")

    async def close(self, _application: web.Application) -> None:
        """Let the thread of this object end."""
        self._packer.shutdown(wait=False)

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        """Answer a scrape: one moment of the world, in the format and encoding that was asked for."""
        openmetrics = accepts_openmetrics(", ".join(request.headers.getall("Accept", ())))
        packed = accepts_gzip(", ".join(request.headers.getall("Accept-Encoding", ())))
        pieces = self._exporter.exposition(openmetrics=openmetrics)
        body = texts(pieces)  # this moment, whatever changes while it is sent
        headers = {
            "Content-Type": OPENMETRICS_CONTENT_TYPE if openmetrics else TEXT_CONTENT_TYPE,
            "Vary": "Accept, Accept-Encoding",
        }
        if packed:
            headers["Content-Encoding"] = "gzip"
            small = sum(map(len, body)) <= _INLINE_GZIP_BYTES
            body = (
                gzip(pieces, body)
                if small
                else await asyncio.get_running_loop().run_in_executor(self._packer, gzip, pieces, body)
            )
        response = web.StreamResponse(headers=headers)
        response.content_length = sum(map(len, body))
        await response.prepare(request)
        if request.method != "HEAD":
            for batch in _batches(body):
                await response.write(batch)
        await response.write_eof()
        return response

    async def factors(self, request: web.Request) -> web.Response:
        """Answer with the factors as JSON, what is wrong first; ``limit`` and ``offset`` page through them."""
        limit = _number(request, "limit", _API_FACTORS, 1)
        offset = _number(request, "offset", 0, 0)
        self._exporter.withdraw_stale()
        ledger = self._exporter.ledger
        records = nsmallest(offset + min(limit, _API_FACTORS), ledger, key=urgency)[offset:]
        return web.json_response({"total": len(ledger), "factors": [view(record).as_json() for record in records]})

    async def accounts(self, _request: web.Request) -> web.Response:
        """Answer with the accounts as JSON: what each may spend, spends, and is held by."""
        return web.json_response({"accounts": [account.as_json() for account in self._exporter.account_views()]})

    async def healthy(self, _request: web.Request) -> web.Response:
        """Answer 200 while the scheduler ticks."""
        if self._exporter.healthy():
            return web.Response(text="healthy\n")
        return web.Response(status=503, text="not healthy: the scheduler has not ticked for 15 s\n")

    async def ready(self, _request: web.Request) -> web.Response:
        """Answer 200 once each factor was looked at."""
        if self._exporter.ready():
            return web.Response(text="ready\n")
        why = "stopping" if self._exporter.draining else "first looks are under way"
        return web.Response(status=503, text=f"not ready: {why}\n")


def make_application(exporter: Exporter, *, telemetry_path: str) -> web.Application:
    """Return the web application of an exporter."""
    routes = Routes(exporter)
    application = web.Application()
    application.on_response_prepare.append(_name_server)
    application.on_cleanup.append(routes.close)
    application.router.add_get(telemetry_path, routes.metrics)
    application.router.add_get("/api/v1/factors", routes.factors)
    application.router.add_get("/api/v1/accounts", routes.accounts)
    application.router.add_get("/-/healthy", routes.healthy)
    application.router.add_get("/-/ready", routes.ready)
    Pages(exporter, telemetry_path).add_to(application.router)
    Lifecycle(exporter).add_to(application.router)
    return application


async def _name_server(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = "verify-factor-exporter"
    response.headers["X-Content-Type-Options"] = "nosniff"


def _number(request: web.Request, name: str, default: int, least: int) -> int:
    text = request.query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 10) or int(text) < least:
        raise web.HTTPBadRequest(text=f"{name}: not a whole number of at least {least}\n")
    return int(text)


def _batches(pieces: list[bytes]) -> Iterator[bytes]:
    """Yield the pieces joined to batches that are worth a write."""
    batch: list[bytes] = []
    size = 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece)
        if size >= _BATCH_BYTES:
            yield b"".join(batch)
            batch, size = [], 0
    yield b"".join(batch)
