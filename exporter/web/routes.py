"""``/metrics``, and the application with all paths."""

from __future__ import annotations

import asyncio
import functools
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from aiohttp import web

from exporter.exposition.pieces import WHOLE_BYTES
from exporter.web import verified
from exporter.web.api import Api
from exporter.web.health import Health, set_own_headers
from exporter.web.lifecycle import Lifecycle
from exporter.web.negotiation import OPENMETRICS_CONTENT_TYPE, TEXT_CONTENT_TYPE, accepts_gzip, accepts_openmetrics
from exporter.web.openapi import describe
from exporter.web.pages import Pages
from exporter.web.probe import Probe
from exporter.web.running_config import RunningConfig

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from exporter.web.exporter_view import ExporterView

_BATCH_BYTES = 1 << 18


class Routes:
    """The handler of ``/metrics``."""

    def __init__(self, exporter: ExporterView) -> None:
        self._exporter = exporter
        # A thread of its own: others may block the default pool of the event loop.
        self._packer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="gzip")

    async def close(self, _application: web.Application) -> None:
        """End the compression thread."""
        self._packer.shutdown(wait=False)

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        """Serve a scrape: the values of one moment, in the negotiated format and encoding."""
        openmetrics = accepts_openmetrics(", ".join(request.headers.getall("Accept", ())))
        packed = accepts_gzip(", ".join(request.headers.getall("Accept-Encoding", ())))
        page = self._exporter.exposition(openmetrics=openmetrics)
        await asyncio.sleep(0)  # the page is fixed from here on, so other tasks may run after every step
        size = page.size()
        body: Iterable[bytes] = page
        headers = {
            "Content-Type": OPENMETRICS_CONTENT_TYPE if openmetrics else TEXT_CONTENT_TYPE,
            "Vary": "Accept, Accept-Encoding",
        }
        if packed:
            headers["Content-Encoding"] = "gzip"
            loop = asyncio.get_running_loop()
            body = page.gzip() if size <= WHOLE_BYTES else await loop.run_in_executor(self._packer, page.gzip)
            size = sum(map(len, body))
        response = web.StreamResponse(headers=headers)
        response.content_length = size
        await response.prepare(request)
        if request.method != "HEAD":
            for batch in _batches(body):
                await response.write(batch)
                await asyncio.sleep(0)  # with a fast client write() never waits, and other tasks would not run
        await response.write_eof()
        return response


def make_application(exporter: ExporterView, *, telemetry_path: str) -> web.Application:
    """Return the web application of an exporter."""
    routes = Routes(exporter)
    application = web.Application()
    application.on_response_prepare.append(set_own_headers)
    application.on_response_prepare.append(functools.partial(_forbid_storing, telemetry_path))
    application.on_cleanup.append(routes.close)
    application.router.add_get(telemetry_path, routes.metrics)
    probe = Probe(exporter)
    application.router.add_get("/probe", probe.answer)
    application.router.add_get("/config", RunningConfig(exporter).answer)
    Api(exporter, json.dumps(describe(telemetry_path))).add_to(application.router)
    Health(exporter).add_to(application.router)
    application.router.add_get(verified.PATH, verified.Verified(exporter).answer)
    Pages(exporter, telemetry_path, probe).add_to(application.router)
    Lifecycle(exporter).add_to(application.router)
    return application


async def _forbid_storing(telemetry_path: str, request: web.Request, response: web.StreamResponse) -> None:
    """Keep caches from answering with values of the past."""
    if request.path == telemetry_path or request.path.startswith("/api/v1/"):
        response.headers["Cache-Control"] = "no-store"


def _batches(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the pieces joined to batches large enough for a write."""
    batch: list[bytes] = []
    size = 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece)
        if size >= _BATCH_BYTES:
            yield b"".join(batch)
            batch, size = [], 0
    yield b"".join(batch)
