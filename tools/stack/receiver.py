"""A receiver of Alertmanager's webhooks: who was told of what, and when."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tools.stack.programs import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

_LARGEST_BYTES = 64 * 2**20  # thousands of alerts with their annotations


@dataclass(frozen=True, slots=True)
class Page:
    """One message of Alertmanager: its receiver, what it says, and the Unix time it came at."""

    receiver: str
    message: dict[str, Any]
    at_seconds: float

    @property
    def firing(self) -> bool:
        """Whether it tells of trouble, and not of its end."""
        return bool(self.message["status"] == "firing")

    @property
    def alertname(self) -> str:
        """The alert that it is about; a group has one."""
        return str(self.message["groupLabels"].get("alertname", ""))

    @property
    def alerts(self) -> list[dict[str, Any]]:
        """Its alerts, with labels and annotations."""
        found: list[dict[str, Any]] = self.message["alerts"]
        return found


@dataclass(slots=True)
class Receiver:
    """Takes what is sent to ``url`` and a receiver's name, and keeps it."""

    url: str = ""
    pages: list[Page] = field(default_factory=list)
    on_page: list[Callable[[Page], None]] = field(default_factory=list)

    def firing(self, receiver: str | None = None, alertname: str | None = None) -> list[Page]:
        """Return the messages of trouble, all or those of a receiver and of an alert."""
        return [
            page
            for page in self.pages
            if page.firing and receiver in (None, page.receiver) and alertname in (None, page.alertname)
        ]

    async def _take(self, request: web.Request) -> web.Response:
        page = Page(request.match_info["receiver"], await request.json(), time.time())
        self.pages.append(page)
        for tell in self.on_page:
            tell(page)
        return web.Response(text="ok")  # what Slack says, too


@contextlib.asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """Listen on a free port of loopback until the end of the block."""
    receiver = Receiver()
    app = web.Application(client_max_size=_LARGEST_BYTES)
    app.router.add_post("/{receiver}", receiver._take)  # noqa: SLF001  its own
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, LOOPBACK, 0).start()
        host, port = runner.addresses[0][:2]
        receiver.url = f"http://{host}:{port}"
        yield receiver
    finally:
        await runner.cleanup()
