"""``/-/reload`` and ``/-/log-level``: disabled unless ``web.enable_lifecycle`` is true.

Apart from routes.py because these are the only paths that change the running exporter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from exporter.config import ConfigError, LogLevel
from exporter.logs.output import set_level
from exporter.web.hosts import host_refusal
from exporter.web.parameters import CROSS_SITE, is_cross_site

if TYPE_CHECKING:
    from exporter.web.exporter_view import ExporterView

_LONGEST_LEVEL = 16
_DISABLED = "disabled: web.enable_lifecycle is false\n"


class Lifecycle:
    """The handlers of one exporter."""

    def __init__(self, exporter: ExporterView) -> None:
        self._exporter = exporter

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Add the paths."""
        router.add_post("/-/reload", self.reload)
        router.add_put("/-/log-level", self.log_level)

    async def reload(self, request: web.Request) -> web.Response:
        """Reload the configuration; return how many factors changed, or the errors for which it was refused."""
        if (refusal := self._refusal(request)) is not None:
            return refusal
        if self._exporter.draining:
            return web.Response(status=503, text="not reloaded: the exporter is stopping\n")
        try:
            difference = await self._exporter.reload()
        except ConfigError as error:
            return web.Response(status=500, text=f"configuration refused; the old one stays applied:\n{error}\n")
        counts = ", ".join(f"{number} {what}" for what, number in difference._asdict().items())
        unusable = "".join(
            f"a watchlist URL can't be used: {source.problems[0]}\n"
            for source in self._exporter.source_views()
            if source.problems
        )
        return web.Response(text=f"configuration reloaded; factors: {counts}\n{unusable}")

    async def log_level(self, request: web.Request) -> web.Response:
        """Set the log level until the level in the configuration changes."""
        if (refusal := self._refusal(request)) is not None:
            return refusal
        body = b""
        while len(body) <= _LONGEST_LEVEL and (piece := await request.content.read(_LONGEST_LEVEL + 1)):
            body += piece
        text = body.decode("utf-8", "replace").strip().lower()
        if text not in list(LogLevel):
            known = ", ".join(LogLevel)
            return web.Response(status=400, text=f"invalid log level: the body must be one of {known}\n")
        set_level(text)
        return web.Response(text=f"log level set to {text}\n")

    def _refusal(self, request: web.Request) -> web.Response | None:
        settings = self._exporter.config.settings.web
        if not settings.enable_lifecycle:
            return web.Response(status=403, text=_DISABLED)
        if (why := host_refusal(request, settings.allowed_hosts)) is not None:
            return web.Response(status=403, text=why)
        return web.Response(status=403, text=CROSS_SITE) if is_cross_site(request) else None
