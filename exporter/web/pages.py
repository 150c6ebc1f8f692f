"""The HTML pages: the status page, a factor's page, and their static files. Their texts are in templates/."""

from __future__ import annotations

import asyncio
import functools
import hashlib
from difflib import get_close_matches
from importlib import resources
from itertools import islice
from typing import TYPE_CHECKING

from aiohttp import web

from exporter.config.last_good import FILES
from exporter.exposition.pieces import gzipped
from exporter.polling.record import COUNTED_TYPES
from exporter.threads import in_daemon_thread
from exporter.watched import FactorKey, canonical_sid
from exporter.web import plot, promql, views
from exporter.web.check import check
from exporter.web.history import FULL, FULL_FACTORS, SHORT
from exporter.web.links import links
from exporter.web.negotiation import accepts_gzip
from exporter.web.parameters import ParameterError
from exporter.web.selection import Query, select
from exporter.web.status_bar import BAR_SECONDS, listed, status_bar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jinja2 import Environment

    from exporter.polling.record import FactorRecord
    from exporter.watched import WatchedFactor
    from exporter.web.check import Checked
    from exporter.web.exporter_view import ExporterView
    from exporter.web.links import Link
    from exporter.web.probe import Probe
    from exporter.web.views import AccountView, Row

_STATIC = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
_YEAR_SECONDS = 31_536_000
_IMMUTABLE = f"max-age={_YEAR_SECONDS}, immutable"
_FACTOR_PATH = "/factors/{account:[^/]+}/{service_sid:[^/]+}/{factor:[^/]+}"
_CANDIDATES = 5
_MOST_LABEL_NAMES = 100  # to choose from
_MOST_COMPARED = 500
_BATCH = 5000
_PIECES = 300  # of a page, before other tasks run
CONTENT_SECURITY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


class Pages:
    """The pages of one exporter."""

    def __init__(self, exporter: ExporterView, telemetry_path: str, probe: Probe) -> None:
        self._exporter = exporter
        self._probe = probe
        self._telemetry_path = telemetry_path.lstrip("/")
        folder = resources.files("exporter.web") / "static"
        self._static = {name: (folder / name).read_bytes() for name in _STATIC}
        self._hashes = {name: hashlib.sha256(body).hexdigest()[:12] for name, body in self._static.items()}
        self._templates: Environment | None = None

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the paths."""
        router.add_get("/", self.status)
        router.add_get(_FACTOR_PATH, self.factor)
        router.add_post(_FACTOR_PATH, self.check)
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
        by_type = exporter.ledger.type_counts.values()
        types = {counted for counts in by_type for (counted, _), number in counts.items() if number}
        return await self._render(
            request,
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
            links_of=self._links_of(),
            types=[counted for counted in COUNTED_TYPES if counted in types or counted == query.type],
            label_names=selection.label_names[:_MOST_LABEL_NAMES],
        )

    async def factor(self, request: web.Request) -> web.Response:
        """Serve a factor's page, or 404 with the factors that may have been meant."""
        record = self._find(request)
        return await self._missing(request) if record is None else await self._factor(request, record)

    async def check(self, request: web.Request) -> web.Response:
        """Fetch a factor now, if ``/probe`` would, and serve its page with the result."""
        if (why := self._probe.refusal(request)) is not None:
            return web.Response(status=403, text=why)
        record = self._find(request)
        checked = None if record is None else await check(self._exporter, self._probe, record)
        record = self._find(request)  # a reload may have removed it meanwhile
        return await self._missing(request) if record is None else await self._factor(request, record, checked)

    async def _missing(self, request: web.Request) -> web.Response:
        place = request.match_info
        similar = await _similar(list(self._exporter.ledger), place["factor"])
        return await self._render(
            request,
            "missing.html",
            status=404,
            root="../../../",
            query=Query.kept(request.query),
            account=place["account"],
            service_sid=place["service_sid"],
            name=place["factor"],
            candidates=[(candidate, views.path_of(candidate)) for candidate in similar],
        )

    async def _factor(
        self, request: web.Request, record: FactorRecord, checked: Checked | None = None
    ) -> web.Response:
        exporter = self._exporter
        exporter.withdraw_stale()
        fetches = exporter.history.of(record.watched.key)
        statuses, moment = exporter.ledger.history, exporter.clock.moment()
        periods = statuses.periods(record, moment)
        accounts = self._accounts()
        row = self._row(record, accounts)
        services = accounts[record.watched.key.account].service_exists
        response = await self._render(
            request,
            "factor.html",
            status=200 if checked is None else checked.status,
            root="../../../",
            query=Query.kept(request.query),
            row=row,
            links=self._links_of()(record.watched),
            can_check=exporter.config.settings.web.enable_probe and record.watched.polled,
            checked="" if checked is None else checked.text,
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
            periods=listed(periods),
            periods_bar=status_bar(periods),
            periods_since=max(statuses.since_seconds, periods[0].start_seconds),
        )
        if checked is not None and checked.retry_seconds is not None:
            response.headers["Retry-After"] = str(checked.retry_seconds)
        return response

    def _links_of(self) -> Callable[[WatchedFactor], list[Link]]:
        """Return what gives the links of a factor, as they are configured now."""
        return functools.partial(links, self._exporter.config.settings.web.external_links)

    def _find(self, request: web.Request) -> FactorRecord | None:
        """Return the factor of this account and service that has this name, or else this SID."""
        account, service_sid, name = (request.match_info[part] for part in ("account", "service_sid", "factor"))
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
        bar = status_bar(exporter.ledger.history.periods(record, exporter.clock.moment(), BAR_SECONDS))
        return views.row_of(record, exporter.next_fetch_seconds(key), failure, accounts, bar)

    async def _render(
        self, request: web.Request, template: str, *, root: str, status: int = 200, **values: object
    ) -> web.Response:
        """Render a page; ``root`` is the relative path from it to the status page, so that any URL prefix works.

        Pages hold no secret, so compressing them beside text from the query (BREACH) reveals none.
        """
        if self._templates is None:
            self._templates = await in_daemon_thread(_page_templates, name="templates")
        pieces = self._templates.get_template(template).generate(
            root=root,
            static={name: f"{root}static/{name}?{digest}" for name, digest in self._hashes.items()},
            telemetry_path=self._telemetry_path,
            now=self._exporter.clock.wall(),
            **values,
        )
        packed = accepts_gzip(", ".join(request.headers.getall("Accept-Encoding", ())))
        written: list[bytes] = []
        while batch := list(islice(pieces, _PIECES)):
            written.append("".join(batch).encode("utf-8", "replace"))
            await asyncio.sleep(0)
        return web.Response(
            status=status,
            body=gzipped(written) if packed else b"".join(written),
            content_type="text/html",
            charset="utf-8",
            headers={
                "Content-Security-Policy": CONTENT_SECURITY,
                # With no-referrer, a browser sends the form of a factor's page with `Origin: null`.
                "Referrer-Policy": "same-origin",
                "Cache-Control": "no-store",
                "Vary": "Accept-Encoding",
                **({"Content-Encoding": "gzip"} if packed else {}),
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


def _page_templates() -> Environment:
    from exporter.web.page_templates import page_templates  # noqa: PLC0415  # Jinja takes long to import

    return page_templates()
