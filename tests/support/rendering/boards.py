"""Boards in a browser: opened over the Prometheus of a situation, and what they show."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import aiohttp

from tests.support.processes import PATIENCE_SECONDS, output_of, spawned
from tests.support.programs.chromium import PATIENCE_MILLISECONDS
from tests.support.rendering.page import SOURCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from playwright.async_api import Browser

    from tests.support.rendering.situations import Situation

LOOKBACK_SECONDS = 65  # a little more than an evaluation: the backfilled samples have no markers of staleness
_POLL_SECONDS = 0.1
_READ = (SOURCE / "read.js").read_text(encoding="utf-8")
_TALLEST_PIXELS = 8000
# Nothing is asked or loading; a panel in a collapsed row never asks.
_SETTLED = """
async quiet => {
  const done = () => {
    const { panels, running, errors } = window.rendered;
    if (errors.length) return true;
    const shown = [...document.querySelectorAll('[data-viz-panel-key]')].map(one => one.dataset.vizPanelKey);
    if (!panels || running || !shown.length) return false;
    const states = panels();
    return shown.every(key => ['Done', 'Error'].includes(states[key].state));
  };
  for (let since = performance.now(); performance.now() - since < quiet; ) {
    await new Promise(resolve => setTimeout(resolve, 50));
    if (!done()) since = performance.now();
  }
}
"""
_QUIET_MILLISECONDS = 500


@dataclass(frozen=True, slots=True)
class Panel:
    """What one panel shows.

    ``frames`` is the number of results with rows; ``empty`` is the message instead of a graph or table, ``values``
    are the texts and colours of a stat, ``legend`` has the entries with colours and whether some are cut off.
    """

    title: str
    kind: str
    state: str
    frames: int
    error: str
    empty: str | None
    text: str
    columns: list[str]
    rows: list[list[str]]
    links: list[dict[str, str]]
    lanes: list[str]
    values: list[dict[str, str]]
    legend: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ShownBoard:
    """What a board shows: its panels, its failed queries, and errors of the page."""

    uid: str
    json: Mapping[str, Any]
    panels: list[Panel]
    queries: list[dict[str, Any]]
    errors: list[str] = field(default_factory=list)

    def panel(self, title: str) -> Panel:
        """Return a panel by its title."""
        (found,) = (panel for panel in self.panels if panel.title == title)
        return found


@dataclass(frozen=True, slots=True)
class Look:
    """How a board is looked at."""

    width: int = 1440
    theme: str = "dark"
    expanded: bool = True
    variables: Mapping[str, str] = field(default_factory=dict)


@contextlib.asynccontextmanager
async def lived(situation: Situation, folder: Path, prometheus: str) -> AsyncIterator[str]:
    """Run a Prometheus with a situation's history, which is made in the folder if it isn't there; yield its URL."""
    blocks = folder / "tsdb"
    if not blocks.exists():
        command = (sys.executable, "-m", "tests.support.rendering.history", str(situation), str(folder))
        status, out, err = await output_of(*command, cwd=Path(__file__).parents[3])
        assert status == 0, (out + err).decode()
    (folder / "prometheus.yml").write_text("global: {}\n", encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
    flags = (
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={blocks}",
        "--storage.tsdb.retention.time=100y",
        f"--query.lookback-delta={LOOKBACK_SECONDS}s",
        f"--web.listen-address=127.0.0.1:{port}",
    )
    url = f"http://127.0.0.1:{port}"
    with (folder / "prometheus.log").open("wb") as log:
        async with spawned(prometheus, *flags, stop=signal.SIGTERM, stdout=log, stderr=log):
            await _ready(url)
            yield url


async def _ready(url: str) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS), aiohttp.ClientSession() as session:
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(f"{url}/-/ready") as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(_POLL_SECONDS)


async def shown(
    browser: Browser,
    page_url: str,
    board: Mapping[str, Any],
    situation: Situation,
    source: str,
    look: Look = Look(),
    picture: Path | None = None,
) -> ShownBoard:
    """Open a board at the end of a situation and return what it shows; ``picture`` is of the whole board."""
    context = await browser.new_context(viewport={"width": look.width, "height": 1000}, reduced_motion="reduce")
    context.set_default_timeout(2 * PATIENCE_MILLISECONDS)
    try:
        page = await context.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        question = {
            "now": f"{situation.end_seconds * 1000:.0f}",
            "source": source,
            "scrape": f"{situation.scrape_seconds}s",
            "theme": look.theme,
            "expanded": str(look.expanded).lower(),
            "from": situation.time_range,
            "to": "now",
            **{f"var-{name}": value for name, value in look.variables.items()},
        }
        await page.goto(f"{page_url}/d/{board['uid']}?{urlencode(question)}")
        await page.evaluate(_SETTLED, _QUIET_MILLISECONDS)
        # What is out of sight isn't rendered as a whole.
        height = await page.evaluate("document.documentElement.scrollHeight")
        await page.set_viewport_size({"width": look.width, "height": min(height, _TALLEST_PIXELS)})
        await page.evaluate(_SETTLED, _QUIET_MILLISECONDS)
        if picture is not None:
            await page.screenshot(path=picture)
        report = await page.evaluate("({ queries: rendered.queries, errors: rendered.errors })")
        panels = [Panel(**panel) for panel in await page.evaluate(_READ)]
        return ShownBoard(board["uid"], board, panels, report["queries"], errors + report["errors"])
    finally:
        await context.close()
