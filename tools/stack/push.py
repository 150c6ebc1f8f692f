"""Pushes notifications to a phone, by a topic of ntfy (https://docs.ntfy.sh/publish/)."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tools.stack.receiver import Notification

_SECONDS = 30.0


def title_of(notification: Notification) -> str:
    """Return a notification in one line: what happened, the alert, and the factor or the number of alerts."""
    labels = notification.message["commonLabels"]
    what = labels.get("severity", "") if notification.firing else "resolved"
    count = f", {len(notification.alerts)} alerts" if len(notification.alerts) > 1 else ""
    return f"{what} {notification.alertname} {labels.get('factor', '')}".rstrip() + count


@contextlib.asynccontextmanager
async def pushing(url: str) -> AsyncIterator[Callable[[Notification], None]]:
    """Return what pushes a notification to the topic at ``url``; an error is printed."""
    pushes: set[asyncio.Task[None]] = set()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(_SECONDS), trust_env=True) as session:

        def push(notification: Notification) -> None:
            task = asyncio.create_task(_push(session, url, notification))
            pushes.add(task)
            task.add_done_callback(pushes.discard)

        try:
            yield push
        finally:
            for task in pushes:
                task.cancel()
            await asyncio.gather(*pushes, return_exceptions=True)


async def _push(session: aiohttp.ClientSession, url: str, notification: Notification) -> None:
    annotations = notification.alerts[0]["annotations"]
    urgent = notification.firing and notification.message["commonLabels"].get("severity") == "critical"
    headers = {
        "Title": title_of(notification),
        "Priority": "urgent" if urgent else "default",
        "Click": annotations["runbook_url"],
    }
    try:
        async with session.post(url, data=annotations["description"].encode(), headers=headers) as answer:
            answer.raise_for_status()
    except (aiohttp.ClientError, TimeoutError) as error:
        print(f"stack: not pushed: {error or type(error).__name__}", file=sys.stderr, flush=True)
