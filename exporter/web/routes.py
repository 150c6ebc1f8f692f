"""The paths of the web server and their answers."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from heapq import nsmallest
from typing import TYPE_CHECKING, Protocol

from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined

from exporter import __version__
from exporter.exposition.negotiation import (
    OPENMETRICS_CONTENT_TYPE,
    TEXT_CONTENT_TYPE,
    accepts_gzip,
    accepts_openmetrics,
)
from exporter.exposition.pieces import gzip, texts
from exporter.polling.ledger import STATUSES
from exporter.web.health import Health, Probed, name_server
from exporter.web.lifecycle import Lifecycle, Reloadable
from exporter.web.views import urgency, view

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from exporter.exposition.pieces import Piece
    from exporter.exposition.telemetry import AccountGauges
    from exporter.polling.ledger import Ledger
    from exporter.web.views import AccountView

_BATCH_BYTES = 1 << 18
_INLINE_GZIP_BYTES = 1 << 16
_PAGE_FACTORS = 200
_API_FACTORS = 1000
_CONTENT_SECURITY = "default-src 'none'; style-src 'self' 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"


class Exporter(Reloadable, Probed, Protocol):
    """What the web server needs of the daemon."""

    ledger: Ledger

    def exposition(self, *, openmetrics: bool) -> list[Piece]:
        """Return the pieces of a scrape."""

    def withdraw_stale(self) -> None:
        """Withdraw every status that is stale by now."""

    def accounts(self) -> Mapping[str, AccountGauges]:
        """Return the gauges of each account."""

    def account_views(self) -> list[AccountView]:
        """Return what is shown of each account."""

    def status_counts(self) -> Mapping[tuple[str, str], Mapping[str, int]]:
        """Return the number of factors by (account, service SID) and status."""


class Routes:
    """The handlers of one exporter."""

    def __init__(self, exporter: Exporter, telemetry_path: str) -> None:
        self._exporter = exporter
        self._telemetry_path = telemetry_path
        # Its own thread: the pool of the event loop belongs to whoever blocks in it.
        self._packer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="gzip")
        templates = Environment(
            loader=PackageLoader("exporter.web"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
        )
        templates.filters.update(moment=_moment, iso=_iso, age=_age, duration=_duration)
        self._status = templates.get_template("status.html")

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

    async def status(self, request: web.Request) -> web.Response:
        """Answer with the status page: what is wrong first."""
        exporter = self._exporter
        page = _number(request, "page", 1, 1)
        exporter.withdraw_stale()
        total = len(exporter.ledger)
        pages = max(1, -(-total // _PAGE_FACTORS))
        page = min(page, pages)
        first = nsmallest(page * _PAGE_FACTORS, exporter.ledger, key=urgency)[(page - 1) * _PAGE_FACTORS :]
        counts = {status: sum(of.get(status, 0) for of in exporter.status_counts().values()) for status in STATUSES}
        text = self._status.render(
            version=__version__,
            telemetry_path=self._telemetry_path,
            factors=[view(record) for record in first],
            counts=counts,
            accounts=exporter.accounts(),
            page=page,
            pages=pages,
            total=total,
            now=datetime.now(UTC).timestamp(),
        )
        return web.Response(
            text=text, content_type="text/html", headers={"Content-Security-Policy": _CONTENT_SECURITY}
        )

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


def make_application(exporter: Exporter, *, telemetry_path: str) -> web.Application:
    """Return the web application of an exporter."""
    routes = Routes(exporter, telemetry_path)
    application = web.Application()
    application.on_response_prepare.append(name_server)
    application.on_cleanup.append(routes.close)
    application.router.add_get(telemetry_path, routes.metrics)
    application.router.add_get("/", routes.status)
    application.router.add_get("/api/v1/factors", routes.factors)
    application.router.add_get("/api/v1/accounts", routes.accounts)
    Health(exporter).add_to(application.router)
    Lifecycle(exporter).add_to(application.router)
    return application


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


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _age(seconds: float) -> str:
    """Return a time span in the largest unit of which there are at least two."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
