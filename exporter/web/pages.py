"""The pages for people: the status page, a factor's page, and the files that they load."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime
from difflib import get_close_matches
from importlib import resources
from itertools import islice
from typing import TYPE_CHECKING

from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined

from exporter import __version__
from exporter.watched import canonical_sid
from exporter.web import plot, promql
from exporter.web import views as rows
from exporter.web.history import FULL, FULL_FACTORS, SHORT
from exporter.web.selection import LONGEST_TEXT, SORTS, STATES, Query, QueryError, select
from exporter.web.views import TROUBLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.polling.record import FactorRecord
    from exporter.web.exporter_view import ExporterView
    from exporter.web.views import AccountView, Row

REFRESH_SECONDS = 10
_STATIC = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
_YEAR_SECONDS = 31_536_000
_FOR_EVER = f"max-age={_YEAR_SECONDS}, immutable"
_CANDIDATES = 5
_MOST_COMPARED = 500
_BATCH = 5000
_PIECES = 300  # of a page, between two turns of others
CONTENT_SECURITY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


class Pages:
    """The pages of one exporter."""

    def __init__(self, exporter: ExporterView, telemetry_path: str) -> None:
        self._exporter = exporter
        self._telemetry_path = telemetry_path.lstrip("/")
        folder = resources.files("exporter.web") / "static"
        self._static = {name: (folder / name).read_bytes() for name in _STATIC}
        self._hashes = {name: hashlib.sha256(body).hexdigest()[:12] for name, body in self._static.items()}
        self._templates = Environment(
            loader=PackageLoader("exporter.web"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(moment=_moment, iso=_iso, span=rows.span, duration=plot.duration)
        self._templates.globals.update(
            version=__version__,
            refresh_seconds=REFRESH_SECONDS,
            state_words=rows.STATE_WORDS,
            states=STATES,
            sorts=SORTS,
            trouble=TROUBLE,
            longest_text=LONGEST_TEXT,
        )

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the paths."""
        router.add_get("/", self.status)
        router.add_get("/factors/{account:[^/]+}/{service_sid:[^/]+}/{factor:[^/]+}", self.factor)
        router.add_get("/static/{name}", self.static)

    async def static(self, request: web.Request) -> web.Response:
        """Answer with a file that the pages load; its address changes with its content."""
        name = request.match_info["name"]
        if name not in self._static:
            raise web.HTTPNotFound
        return web.Response(
            body=self._static[name],
            content_type=_STATIC[name],
            charset="utf-8",
            headers={"Cache-Control": _FOR_EVER if request.query_string == self._hashes[name] else "no-cache"},
        )

    async def status(self, request: web.Request) -> web.Response:
        """Answer with the status page: what is wrong first."""
        try:
            query = Query.of(request.query)
        except QueryError as error:
            raise web.HTTPBadRequest(text=f"{error}\n") from error
        exporter = self._exporter
        exporter.withdraw_stale()
        selection = await select(exporter.ledger, query, exporter.next_fetch_seconds)
        accounts = self._accounts()
        services = sorted({(key[1], key[0]) for key in exporter.ledger.counts})
        return await self._answer(
            "status.html",
            root="",
            query=query,
            selection=selection,
            rows=[self._row(record, accounts) for record in selection.records],
            accounts=sorted(accounts.values(), key=lambda account: (not account.paused, account.stretch <= 1)),
            notices=rows.notices(accounts.values()),
            services=services,
        )

    async def factor(self, request: web.Request) -> web.Response:
        """Answer with one factor's page, or say which ones there are."""
        exporter = self._exporter
        exporter.withdraw_stale()
        query = Query.kept(request.query)
        asked = (request.match_info["account"], request.match_info["service_sid"], request.match_info["factor"])
        records = list(exporter.ledger)
        record = await _find(records, asked)
        if record is None:
            near = await _near(records, asked)
            candidates = [(candidate, rows.path_of(candidate)) for candidate in near]
            return await self._answer(
                "missing.html", status=404, root="../../../", query=query, asked=asked, candidates=candidates
            )
        fetches = exporter.history.of(record.watched.key)
        row = self._row(record, self._accounts())
        return await self._answer(
            "factor.html",
            root="../../../",
            query=query,
            row=row,
            fetches=fetches,
            plot=plot.plot(fetches.recent),
            plot_size=(plot.WIDTH, plot.HEIGHT),
            queries=promql.queries(row.record, exporter.factors.samples.families),
            depth=exporter.history.depth,
            full=FULL,
            short=SHORT,
            full_factors=FULL_FACTORS,
            known_since=exporter.history.since_seconds,
        )

    def _accounts(self) -> dict[str, AccountView]:
        return {account.account: account for account in self._exporter.account_views()}

    def _row(self, record: FactorRecord, accounts: Mapping[str, AccountView]) -> Row:
        key = record.watched.key
        exporter = self._exporter
        failure = exporter.history.last_failure(key)
        return rows.row_of(record, exporter.next_fetch_seconds(key), failure, accounts)

    async def _answer(self, template: str, *, root: str, status: int = 200, **values: object) -> web.Response:
        """Return a page; ``root`` leads from its address to the status page's, below whatever prefix."""
        pieces = self._templates.get_template(template).generate(
            root=root,
            static={name: f"{root}static/{name}?{digest}" for name, digest in self._hashes.items()},
            telemetry_path=self._telemetry_path,
            now=self._exporter.clock.wall(),
            **values,
        )
        written: list[str] = []
        while batch := list(islice(pieces, _PIECES)):
            written += batch
            await asyncio.sleep(0)
        return web.Response(
            status=status,
            body="".join(written).encode("utf-8", "replace"),
            content_type="text/html",
            charset="utf-8",
            headers={
                "Content-Security-Policy": CONTENT_SECURITY,
                "Referrer-Policy": "no-referrer",
                "Cache-Control": "no-store",
            },
        )


async def _find(records: list[FactorRecord], asked: tuple[str, str, str]) -> FactorRecord | None:
    """Return the factor of this account and service that has this name, or this SID."""
    account, service_sid, name = asked[0], canonical_sid(asked[1]), asked[2]
    by_sid: FactorRecord | None = None
    for number, record in enumerate(records, 1):
        watched = record.watched
        if watched.key.account == account and watched.key.service_sid == service_sid:
            if watched.name == name:
                return record
            if watched.key.factor_sid == canonical_sid(name):
                by_sid = record
        if number % _BATCH == 0:
            await asyncio.sleep(0)
    return by_sid


async def _near(records: list[FactorRecord], asked: tuple[str, str, str]) -> list[FactorRecord]:
    """Return the factors that may be meant: of this name or SID elsewhere, then of a name that looks alike."""
    name = asked[2].casefold()
    same: list[FactorRecord] = []
    alike: dict[str, FactorRecord] = {}
    for number, record in enumerate(records, 1):
        own = record.watched.name.casefold()
        if own == name or record.watched.key.factor_sid.casefold() == name:
            same.append(record)
        elif len(alike) < _MOST_COMPARED and (own[:2] == name[:2] or name in own or own[-4:] == name[-4:]):
            alike.setdefault(own, record)
        if number % _BATCH == 0:
            await asyncio.sleep(0)
    close = get_close_matches(name, alike, n=_CANDIDATES, cutoff=0.5)
    return [*same, *(alike[own] for own in close)][:_CANDIDATES]


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
