"""Driving Debian's Chromium; pages are watched for errors and for requests to other hosts."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from playwright.async_api import async_playwright

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser, Page

INSTALL = "apt-get install chromium"
PATIENCE_MILLISECONDS = 60_000
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass(slots=True)
class Visit:
    """An open page, its console output, and the hosts that it sent requests to."""

    page: Page
    console: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)

    def watch(self) -> None:
        """Start recording."""
        self.page.on("console", lambda message: self.console.append(message.text))
        self.page.on("pageerror", lambda error: self.console.append(str(error)))
        self.page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))


@contextlib.asynccontextmanager
async def browser(binary: str) -> AsyncIterator[Browser]:
    """Run a headless browser."""
    async with async_playwright() as playwright:
        opened = await playwright.chromium.launch(
            executable_path=binary, args=list(_FLAGS), timeout=PATIENCE_MILLISECONDS
        )
        try:
            yield opened
        finally:
            await opened.close()


@contextlib.asynccontextmanager
async def visit(
    opened: Browser, url: str, *, width: int = 1280, height: int = 900, **options: Any
) -> AsyncIterator[Visit]:
    """Open a URL in a new context; on exit, assert no errors and no requests to other hosts."""
    context = await opened.new_context(viewport={"width": width, "height": height}, **options)
    context.set_default_timeout(PATIENCE_MILLISECONDS)
    visited = Visit(await context.new_page())
    visited.watch()
    try:
        await visited.page.goto(url)
        yield visited
        assert visited.console == [], visited.console
        assert visited.hosts == {urlsplit(url).netloc}
    finally:
        await context.close()
