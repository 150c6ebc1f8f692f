"""``/probe``: fetches one watched factor now and returns its metrics; disabled unless ``web.enable_probe``.

The pages offer the same fetch as "Check now", with the same rules: :meth:`Probe.refusal` and :meth:`Probe.fetch`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from aiohttp import web

from exporter.polling.probe import ProbeResult
from exporter.web.hosts import host_refusal
from exporter.web.negotiation import OPENMETRICS_CONTENT_TYPE, TEXT_CONTENT_TYPE, accepts_openmetrics
from exporter.web.parameters import (
    CROSS_SITE,
    account_name,
    is_cross_site,
    read_header,
    read_query,
    seconds_header,
    service_sid,
    text,
)

if TYPE_CHECKING:
    from exporter.polling.record import FactorRecord
    from exporter.watched import FactorKey
    from exporter.web.exporter_view import ExporterView

LONGEST_NAME = 128
DEFAULT_SECONDS = 30.0
LONGEST_SECONDS = 120.0
MOST_WAITING = 20  # fewer than the server's limit of requests, so that probes can't block the pages
_MARGIN_SECONDS = 0.5
_DISABLED = "disabled: web.enable_probe is false\n"
_MOST_CANDIDATES = 20

FACTOR = text("factor", "The factor's name.", longest=LONGEST_NAME, required=True, example="payments-oncall-push")
ACCOUNT = account_name("Only a factor of this account; required if several factors have the name.")
SERVICE_SID = service_sid("Only a factor of this service; required if several factors have the name.")
TIMEOUT = seconds_header(
    "X-Prometheus-Scrape-Timeout-Seconds",
    f"The client's timeout; Prometheus sends it with every scrape. The response comes {_MARGIN_SECONDS} s before "
    f"it, or after half of it if it is under {2 * _MARGIN_SECONDS:g} s, and within {LONGEST_SECONDS:g} s at most. "
    f"Without it, within {DEFAULT_SECONDS:g} s.",
)
PARAMETERS = (FACTOR, ACCOUNT, SERVICE_SID, TIMEOUT)


class Probe:
    """The handler of one exporter."""

    def __init__(self, exporter: ExporterView) -> None:
        self._exporter = exporter
        self._waiting = 0

    async def answer(self, request: web.Request) -> web.Response:
        """Fetch the factor and return its metrics; 503 while its account is paused, 504 if it takes too long."""
        exporter = self._exporter
        if (why := self.refusal(request)) is not None:
            return web.Response(status=403, text=why)
        query = read_query(request, PARAMETERS)
        within = _within(read_header(request, TIMEOUT))
        found = exporter.names.find(query["factor"], query["account"], query["service_sid"])
        if not found:
            return web.Response(status=404, text="factor: no such factor is watched; see /api/v1/factors\n")
        if len(found) > 1:
            return web.Response(status=400, text=_candidates(found))
        key = found[0].watched.key
        paused = found[0].watched.paused
        probed = ProbeResult.KNOWN if paused else await self.fetch(key, within)
        match probed:
            case None:
                return _unavailable(f"too many probes at once: {MOST_WAITING} are waiting; retry later", 1.0)
            case ProbeResult.PAUSED:
                return _unavailable(
                    "the account is paused; see /api/v1/accounts",
                    exporter.pause_seconds(key.account),
                )
            case ProbeResult.STOPPED:
                return _unavailable("not fetched: the exporter is stopping, or the account was removed", 1.0)
            case ProbeResult.TIMED_OUT:
                return web.Response(
                    status=504,
                    text=f"no outcome within {within:g} s; the fetch goes on: see /metrics for its outcome\n",
                )
        openmetrics = accepts_openmetrics(", ".join(request.headers.getall("Accept", ())))
        body = exporter.factor_exposition(key, openmetrics=openmetrics)
        if body is None:
            return web.Response(status=404, text="factor: no longer watched\n")
        headers = {
            "Content-Type": OPENMETRICS_CONTENT_TYPE if openmetrics else TEXT_CONTENT_TYPE,
            "Vary": "Accept",
            "Cache-Control": "no-store",
        }
        return web.Response(body=body, headers=headers)

    def refusal(self, request: web.Request) -> str | None:
        """Return why a request must not cause a fetch, ``None`` if it may."""
        settings = self._exporter.config.settings.web
        if not settings.enable_probe:
            return _DISABLED
        if (why := host_refusal(request, settings.allowed_hosts)) is not None:
            return why
        return CROSS_SITE if is_cross_site(request) else None

    async def fetch(self, key: FactorKey, within: float) -> ProbeResult | None:
        """Fetch a factor now, within this time in seconds; ``None`` if too many wait for a fetch already."""
        if self._waiting >= MOST_WAITING:
            return None
        self._waiting += 1
        try:
            return await self._exporter.probe(key, within)
        finally:
            self._waiting -= 1


def _within(timeout: float | None) -> float:
    """Return how long a probe may take so that the response arrives before the client's timeout."""
    if timeout is None:
        return DEFAULT_SECONDS
    return min(max(timeout - _MARGIN_SECONDS, timeout / 2), LONGEST_SECONDS)


def _candidates(found: list[FactorRecord]) -> str:
    lines = ["factor: several factors have this name; select one with account and service_sid:\n"]
    for record in found[:_MOST_CANDIDATES]:
        key = record.watched.key
        query = {"factor": record.watched.name, "account": key.account, "service_sid": key.service_sid}
        lines.append(f"/probe?{urlencode(query)}\n")
    if len(found) > _MOST_CANDIDATES:
        lines.append(f"and {len(found) - _MOST_CANDIDATES} more\n")
    return "".join(lines)


def _unavailable(why: str, retry_seconds: float) -> web.Response:
    headers = {"Retry-After": str(max(1, math.ceil(retry_seconds)))}
    return web.Response(status=503, text=f"{why}\n", headers=headers)
