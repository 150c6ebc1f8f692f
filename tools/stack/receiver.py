"""A webhook receiver for Alertmanager that records every notification."""

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
class Notification:
    """A notification from Alertmanager: its receiver, its content, and the Unix time of its arrival."""

    receiver: str
    message: dict[str, Any]
    at_seconds: float

    @property
    def firing(self) -> bool:
        """Whether it reports firing alerts, not resolved ones."""
        return bool(self.message["status"] == "firing")

    @property
    def alertname(self) -> str:
        """The name of its alerts; a group has one."""
        return str(self.message["groupLabels"].get("alertname", ""))

    @property
    def alerts(self) -> list[dict[str, Any]]:
        """Its alerts, with labels and annotations."""
        found: list[dict[str, Any]] = self.message["alerts"]
        return found


@dataclass(slots=True)
class Receiver:
    """Records notifications that are sent to ``url`` plus a receiver's name."""

    url: str = ""
    notifications: list[Notification] = field(default_factory=list)
    on_notification: list[Callable[[Notification], None]] = field(default_factory=list)

    def firing(self, receiver: str | None = None, alertname: str | None = None) -> list[Notification]:
        """Return the firing notifications, optionally only those of a receiver or an alert."""
        return [
            notification
            for notification in self.notifications
            if notification.firing
            and receiver in (None, notification.receiver)
            and alertname in (None, notification.alertname)
        ]

    async def _take(self, request: web.Request) -> web.Response:
        notification = Notification(request.match_info["receiver"], await request.json(), time.time())
        self.notifications.append(notification)
        for callback in self.on_notification:
            callback(notification)
        return web.Response(text="ok")  # like Slack


@contextlib.asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """Listen on a free loopback port for the duration of the block."""
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
