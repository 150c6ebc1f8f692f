"""The HTML pages: the status page, a factor's page, and their static files. Their texts are in templates/."""

from __future__ import annotations

import asyncio
import hashlib
from difflib import get_close_matches
from importlib import resources
from itertools import islice
from typing import TYPE_CHECKING

from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined

from exporter import __version__
from exporter.config.last_good import FILES
from exporter.watched import FactorKey, canonical_sid
from exporter.web import plot, promql, views
from exporter.web.formatting import format_age, format_iso, format_latency, format_time
from exporter.web.history import FULL, FULL_FACTORS, SHORT
from exporter.web.parameters import ParameterError
from exporter.web.selection import LONGEST_TEXT, SORTS, STATES, Query, select

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.polling.record import FactorRecord
    from exporter.web.exporter_view import ExporterView
    from exporter.web.views import AccountView, Row

REFRESH_SECONDS = 10
_STATIC = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
_YEAR_SECONDS = 31_536_000
_IMMUTABLE = f"max-age={_YEAR_SECONDS}, immutable"
_CANDIDATES = 5
_MOST_COMPARED = 500
_BATCH = 5000
_PIECES = 300  # of a page, before other tasks run
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
        self._templates.filters.update(time=format_time, iso=format_iso, age=format_age, latency=format_latency)
        self._templates.globals.update(
            version=__version__,
            refresh_seconds=REFRESH_SECONDS,
            state_labels=views.STATE_LABELS,
            states=STATES,
            sorts=SORTS,
            attention=views.ATTENTION,
            longest_text=LONGEST_TEXT,
        )

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the paths."""
        router.add_get("/", self.status)
        router.add_get("/factors/{account:[^/]+}/{service_sid:[^/]+}/{factor:[^/]+}", self.factor)
        router.add_get("/static/{name}", self.static)

    async def static(self, request: web.Request) -> web.Response:
        """Serve a static file; the pages link it by a digest of its content, so that caches may keep it."""
        name = request.match_info["name"]
        if name not in self._static:
            raise web.HTTPNotFound
        return web.Response(
            body=self._static[name],
            content_type=_STATIC[name],
            charset="utf-8",
            headers={"Cache-Control": _IMMUTABLE if request.query_string == self._hashes[name] else "no-cache"},
        )

    async def status(self, request: web.Request) -> web.Response:
        """Serve the status page, problems first."""
        try:
            query = Query.of(request.query)
        except ParameterError as error:
            raise web.HTTPBadRequest(text=f"{error}\n") from error
        exporter = self._exporter
        exporter.withdraw_stale()
        selection = await select(exporter.ledger, query, exporter.next_fetch_seconds)
        accounts = self._accounts()
        services = sorted({(key[1], key[0]) for key in exporter.ledger.counts})
        return await self._render(
            "status.html",
            root="",
            query=query,
            selection=selection,
            rows=[self._row(record, accounts) for record in selection.records],
            accounts=sorted(accounts.values(), key=lambda account: (not account.paused, account.stretch <= 1)),
            notices=views.notices(accounts.values()),
            fallback=exporter.config.fallback,
            files_in_fallback=(of := exporter.config.fallback) is not None and FILES in of.sources,
            sources=[source for source in exporter.source_views() if source.up is False],
            refused=exporter.config_refused,
            loaded_seconds=exporter.config_loaded_seconds,
            services=services,
        )

    async def factor(self, request: web.Request) -> web.Response:
        """Serve a factor's page, or 404 with the factors that may have been meant."""
        exporter = self._exporter
        exporter.withdraw_stale()
        query = Query.kept(request.query)
        account, service_sid, name = (request.match_info[part] for part in ("account", "service_sid", "factor"))
        record = self._find(account, service_sid, name)
        if record is None:
            similar = await _similar(list(exporter.ledger), name)
            return await self._render(
                "missing.html",
                status=404,
                root="../../../",
                query=query,
                account=account,
                service_sid=service_sid,
                name=name,
                candidates=[(candidate, views.path_of(candidate)) for candidate in similar],
            )
        fetches = exporter.history.of(record.watched.key)
        accounts = self._accounts()
        row = self._row(record, accounts)
        services = accounts[record.watched.key.account].service_exists
        return await self._render(
            "factor.html",
            root="../../../",
            query=query,
            row=row,
            meaning=views.meaning_of(row.state, services.get(record.watched.key.service_sid)),
            fetches=fetches,
            plot=plot.plot(fetches.recent),
            plot_size=(plot.WIDTH, plot.HEIGHT),
            queries=promql.queries(row.record, exporter.factors.samples.families),
            depth=exporter.history.depth,
            full=FULL,
            short=SHORT,
            full_factors=FULL_FACTORS,
            history_since=exporter.history.since_seconds,
        )

    def _find(self, account: str, service_sid: str, name: str) -> FactorRecord | None:
        """Return the factor of this account and service that has this name, or else this SID."""
        service_sid = canonical_sid(service_sid)
        found = self._exporter.names.find(name, account, service_sid)
        if found:
            return found[0]
        return self._exporter.ledger.get(FactorKey(account, service_sid, canonical_sid(name)))

    def _accounts(self) -> dict[str, AccountView]:
        return {account.account: account for account in self._exporter.account_views()}

    def _row(self, record: FactorRecord, accounts: Mapping[str, AccountView]) -> Row:
        key = record.watched.key
        exporter = self._exporter
        failure = exporter.history.last_failure(key)
        return views.row_of(record, exporter.next_fetch_seconds(key), failure, accounts)

    async def _render(self, template: str, *, root: str, status: int = 200, **values: object) -> web.Response:
        """Render a page; ``root`` is the relative path from it to the status page, so that any URL prefix works."""
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


async def _similar(records: list[FactorRecord], name: str) -> list[FactorRecord]:
    """Return the factors that may be meant: first those of this name or SID elsewhere, then similar names."""
    name = name.casefold()
    same: list[FactorRecord] = []
    similar: dict[str, FactorRecord] = {}
    for number, record in enumerate(records, 1):
        own = record.watched.name.casefold()
        if own == name or record.watched.key.factor_sid.casefold() == name:
            same.append(record)
        elif len(similar) < _MOST_COMPARED and (own[:2] == name[:2] or name in own or own[-4:] == name[-4:]):
            similar.setdefault(own, record)
        if number % _BATCH == 0:
            await asyncio.sleep(0)
    close = get_close_matches(name, similar, n=_CANDIDATES, cutoff=0.5)
    return [*same, *(similar[own] for own in close)][:_CANDIDATES]
