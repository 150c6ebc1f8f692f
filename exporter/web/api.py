"""``/api/v1``: factors and accounts as JSON, and the OpenAPI description."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from exporter.polling.record import STATUSES, UNKNOWN
from exporter.watched import canonical_sid
from exporter.web.parameters import account_name, choice, read_query, service_sid, text, whole_number
from exporter.web.probe import LONGEST_NAME
from exporter.web.selection import find
from exporter.web.status_bar import listed
from exporter.web.views import urgency, view

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from exporter.polling.record import FactorRecord
    from exporter.web.exporter_view import ExporterView

MOST_FACTORS = 1000

ACCOUNT = account_name("Only factors of this account.")
SERVICE_SID = service_sid("Only factors of this service.")
STATUS = choice("status", "Only factors with this status.", STATUSES)
NAME = text("name", "Only factors whose name contains this text, ignoring case.", longest=LONGEST_NAME)
LIMIT = whole_number(
    "limit",
    f"How many factors to return, {MOST_FACTORS} at most: a larger value is taken as {MOST_FACTORS}.",
    default=MOST_FACTORS,
    least=1,
)
OFFSET = whole_number("offset", "How many factors to skip.", default=0, least=0)
FACTORS_PARAMETERS = (ACCOUNT, SERVICE_SID, STATUS, NAME, LIMIT, OFFSET)


class Api:
    """The handlers of one exporter."""

    def __init__(self, exporter: ExporterView, description: str) -> None:
        self._exporter = exporter
        self._description = description

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the paths."""
        router.add_get("/api/v1/factors", self.factors)
        router.add_get("/api/v1/factors/{account:[^/]+}/{service_sid:[^/]+}/{factor:[^/]+}", self.factor)
        router.add_get("/api/v1/accounts", self.accounts)
        router.add_get("/api/v1/openapi.json", self.openapi)

    async def factors(self, request: web.Request) -> web.Response:
        """Return one page of the matching factors, problems first."""
        query = read_query(request, FACTORS_PARAMETERS)
        self._exporter.withdraw_stale()
        found = await find(self._exporter.ledger, urgency, _matches(query))
        records = await found.part(query["offset"], min(query["limit"], MOST_FACTORS))
        return web.json_response({"total": found.matched, "factors": [*map(self._shown, records)]})

    async def factor(self, request: web.Request) -> web.Response:
        """Return one factor."""
        read_query(request, ())
        place = request.match_info
        self._exporter.withdraw_stale()
        found = self._exporter.names.find(place["factor"], place["account"], canonical_sid(place["service_sid"]))
        if not found:
            return web.Response(status=404, text="no such factor is watched; see /api/v1/factors\n")
        return web.json_response(self._shown(found[0]) | self._status_history(found[0]))

    def _status_history(self, record: FactorRecord) -> dict[str, Any]:
        history = self._exporter.ledger.history
        periods = history.periods(record, self._exporter.clock.moment())
        return {
            "status_history_since_seconds": round(max(history.since_seconds, periods[0].start_seconds), 3),
            "status_history": [period.as_json() for period in listed(periods)],
        }

    def _shown(self, record: FactorRecord) -> dict[str, Any]:
        return view(record, self._exporter.history.latest(record.watched.key)).as_json()

    async def accounts(self, request: web.Request) -> web.Response:
        """Return every account: its budget, its use, and its pause."""
        read_query(request, ())
        return web.json_response({"accounts": [account.as_json() for account in self._exporter.account_views()]})

    async def openapi(self, request: web.Request) -> web.Response:
        """Return the OpenAPI description of every path except the pages."""
        read_query(request, ())
        return web.Response(text=self._description, content_type="application/json")


def _matches(query: dict[str, Any]) -> Callable[[FactorRecord], bool]:
    account, service, status, name = (query[key] for key in ("account", "service_sid", "status", "name"))
    name = name and name.casefold()

    def matches(record: FactorRecord) -> bool:
        key = record.watched.key
        return (
            account in (None, key.account)
            and service in (None, key.service_sid)
            and status in (None, record.status or UNKNOWN)
            and (name is None or name in record.watched.name.casefold())
        )

    return matches
