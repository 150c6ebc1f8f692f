"""Time of the pages: the answer of the server, and Chromium's first contentful paint, while factors are polled.

The server's time is from the request to the last byte, compressed. The paint is counted from the start of the
navigation in a new browser context, so it includes the server's time, the style sheet and the script.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
from playwright.async_api import async_playwright

from benchmarks.full import SPARE_RATE, warm_up_seconds
from benchmarks.process import found, running
from benchmarks.upstream import SERVICE_SID, free_port, upstream
from benchmarks.watchlist import watchlist

if TYPE_CHECKING:
    from collections.abc import Mapping

    from playwright.async_api import Browser

_TEAMS = 40
_BETWEEN_SECONDS = 1.0
_PAINT = """() => new Promise((done) => new PerformanceObserver((list) => {
  for (const entry of list.getEntriesByName("first-contentful-paint")) done(entry.startTime);
}).observe({ type: "paint", buffered: true }))"""
_FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run")


@dataclass(frozen=True, slots=True)
class Pages:
    """The results: seconds by page and round, and the size of the status page in bytes."""

    factors: int
    page_bytes: int
    compressed_bytes: int
    server: Mapping[str, list[float]]
    first_paint: Mapping[str, list[float]]


async def _served(url: str, encoding: str = "gzip") -> tuple[float, int]:
    """Return duration and size in bytes of an answer that is not decompressed."""
    began = time.monotonic()
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.get(url, headers={"Accept-Encoding": encoding}) as answer,
    ):
        answer.raise_for_status()
        size = len(await answer.read())
    return time.monotonic() - began, size


async def _painted(browser: Browser, url: str) -> float:
    context = await browser.new_context(viewport={"width": 1280, "height": 900})
    page = await context.new_page()
    await page.goto(url)
    milliseconds: float = await page.evaluate(_PAINT)
    await context.close()
    return milliseconds / 1000


async def measure(factors: int, rounds: int, rate: float) -> Pages:
    """Run the benchmark and return the results; every factor is fetched once before, ``rate`` fetches a second."""
    chromium = found("chromium", install="apt-get install chromium")
    with tempfile.TemporaryDirectory(prefix="verify-factor-exporter-pages-") as name:
        folder = Path(name)
        with upstream(folder) as server:
            port = free_port()
            interval = factors / rate
            listed = watchlist(
                folder / "ours",
                server,
                factors=factors,
                interval_seconds=interval,
                port=port,
                requests_per_second=round(rate + SPARE_RATE),
                teams=_TEAMS,
            )
            with running(sys.executable, "-m", "exporter", "run", "--config.file", str(listed.config), port=port):
                await asyncio.sleep(warm_up_seconds(factors, interval))
                home = f"http://127.0.0.1:{port}/"
                paths = {
                    "status page": "",
                    "status page, filtered by label": "?label=team%3Dteam-07",
                    "status page, searched": "?q=factor-00000012",
                    "status page, sorted by latency": "?sort=latency",
                    "page of a factor": f"factors/main/{SERVICE_SID}/factor-000000012",
                }
                times: dict[str, list[float]] = {}
                paints: dict[str, list[float]] = {}
                async with async_playwright() as playwright:
                    browser = await playwright.chromium.launch(executable_path=chromium, args=list(_FLAGS))
                    await _painted(browser, home)  # the browser has started completely
                    for _ in range(rounds):
                        for what, path in paths.items():
                            times.setdefault(what, []).append((await _served(home + path))[0])
                            await asyncio.sleep(_BETWEEN_SECONDS)
                            paints.setdefault(what, []).append(await _painted(browser, home + path))
                            await asyncio.sleep(_BETWEEN_SECONDS)
                    await browser.close()
                _, size = await _served(home, "identity")
                _, compressed = await _served(home)
    return Pages(factors, size, compressed, times, paints)


def main() -> None:
    """Print the results as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--factors", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rate", type=float, default=1_000 / 3, metavar="PER_SECOND")
    arguments = parser.parse_args()
    measured = asyncio.run(measure(arguments.factors, arguments.rounds, arguments.rate))
    print(json.dumps(asdict(measured), indent=1))


if __name__ == "__main__":
    main()
