"""``/-/healthy`` and ``/-/ready``: never authenticated, and the only paths on ``web.health_listen_address``.

Apart from routes.py because the second web server serves these paths and no other.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from aiohttp import web

from exporter.config.last_good import FILES
from exporter.config.watchlist import source_place

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from exporter.web.exporter_view import ExporterView

HEALTH_PATHS = ("/-/healthy", "/-/ready")
OWN_HEADERS = MappingProxyType({"Server": "verify-factor-exporter", "X-Content-Type-Options": "nosniff"})


class Health:
    """The handlers of one exporter."""

    def __init__(self, exporter: ExporterView) -> None:
        self._exporter = exporter

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the paths."""
        handlers: tuple[Callable[[web.Request], Awaitable[web.StreamResponse]], ...] = (self.healthy, self.ready)
        for path, handler in zip(HEALTH_PATHS, handlers, strict=True):
            router.add_get(path, handler)

    async def healthy(self, _request: web.Request) -> web.Response:
        """Return 200 while the scheduler runs."""
        if self._exporter.healthy():
            return web.Response(text="healthy\n")
        return web.Response(status=503, text="not healthy: the scheduler has not run for 15 s\n")

    async def ready(self, _request: web.Request) -> web.Response:
        """Return 200 once the first fetch of every factor has ended, but not on the last good watchlist."""
        if self._exporter.ready():
            return web.Response(text="ready\n")
        why = "first fetches are in progress"
        if self._exporter.draining:
            why = "stopping"
        elif self._exporter.config.fallback is not None:
            why = f"{_unusable(self._exporter.config.fallback.sources)}; see the log"
        elif unloaded := self._exporter.config.unloaded:
            why = f"{_named(unloaded)} can't be loaded; see the log"
        return web.Response(status=503, text=f"not ready: {why}\n")


def _unusable(sources: Sequence[str]) -> str:
    """Return which sources can't be used, and what stands in for them."""
    what = ["the watchlist files"] if FILES in sources else []
    if urls := [source for source in sources if source != FILES]:
        what.append(_named(urls))
    return f"{' and '.join(what)} can't be used, and the last good watchlist stands in for them"


def _named(sources: Sequence[str]) -> str:
    return ", ".join(source_place(name) for name in sources)


def health_application(exporter: ExporterView) -> web.Application:
    """Return an application with these paths only."""
    application = web.Application()
    Health(exporter).add_to(application.router)
    application.on_response_prepare.append(set_own_headers)
    return application


async def set_own_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """Set the headers that every response has."""
    response.headers.update(OWN_HEADERS)
