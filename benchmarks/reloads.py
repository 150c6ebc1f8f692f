"""Reloads of long lists: the stalls of the event loop, the scrapes and the fetches meanwhile.

The list changes while its factors are fetched, and ``POST /-/reload`` applies it. Stalls are counted from a minute
after the start until the exporter has ended.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

from benchmarks.full import SPARE_RATE, TEXT, arrivals_of, scrape, warm_up_seconds
from benchmarks.process import memory_mb, running
from benchmarks.upstream import free_port, upstream
from benchmarks.watchlist import watchlist

if TYPE_CHECKING:
    from collections.abc import Callable

FACTOR = 10
_TEAMS = 40
_SETTLED_SECONDS = 30.0
_SCRAPE_SECONDS = 2.0
_PATIENCE_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Reload:
    """The results: times in seconds, memory in MB (10⁶ bytes).

    ``longest_scrape`` and ``longest_without_fetch`` are those from the reload until half a minute after it;
    ``before`` the same from before it.
    """

    factors: int
    factors_after: int
    seconds: float
    longest_stall: float
    stalls_over_50_ms: list[tuple[float, float]]
    longest_scrape: float
    longest_scrape_before: float
    longest_without_fetch: float
    longest_without_fetch_before: float
    memory_mb: float
    memory_peak_mb: float


async def _scrapes(port: int, until: Callable[[], bool]) -> float:
    """Scrape every 2 s; return the longest duration."""
    longest = 0.0
    while not until():
        took, _ = await scrape(port, TEXT, "gzip")
        longest = max(longest, took)
        await asyncio.sleep(_SCRAPE_SECONDS)
    return longest


async def _post(url: str) -> float:
    began = time.monotonic()
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(_PATIENCE_SECONDS)) as session,
        session.post(url) as answer,
    ):
        if answer.status != 200:
            raise SystemExit(f"the reload was refused: {await answer.text()}")
    return time.monotonic() - began


async def measure(
    factors: int, interval: float, *, grow: bool, settled: float = _SETTLED_SECONDS, tree: Path | None = None
) -> Reload:
    """Change every label of a list, or let it grow tenfold; ``tree`` is that of another revision."""
    with tempfile.TemporaryDirectory(prefix="verify-factor-exporter-reload-") as name:
        folder = Path(name)
        arrivals, stalls = folder / "arrivals.log", folder / "stalls.json"
        with upstream(folder, arrivals=arrivals) as server:
            port = free_port()
            budget = round(FACTOR * factors / interval + SPARE_RATE)
            listed, longer = (
                watchlist(
                    folder / which,
                    server,
                    factors=number,
                    interval_seconds=interval,
                    port=port,
                    requests_per_second=budget,
                    teams=_TEAMS,
                )
                for which, number in (("ours", factors), ("longer", FACTOR * factors))
            )
            text = listed.config.read_text(encoding="utf-8")
            listed.config.write_text(text.replace("[web]\n", "[web]\nenable_lifecycle = true\n"), encoding="utf-8")
            changed = longer.factors
            if not grow:
                relabelled = listed.factors.read_text(encoding="utf-8").replace(",team-", ",crew-")
                changed.write_text(relabelled, encoding="utf-8")
            command = (sys.executable, "-m", "benchmarks.peers.ticking", str(listed.config), str(stalls))
            with running(*command, port=port, folder=tree) as pid:
                await asyncio.sleep(warm_up_seconds(factors, interval))
                start = time.time()
                before = await _scrapes(port, lambda: time.time() > start + settled)
                changed.replace(listed.factors)
                reloaded = time.time()
                scraping = asyncio.create_task(_scrapes(port, lambda: time.time() > end))
                end = reloaded + _PATIENCE_SECONDS
                took = await _post(f"http://127.0.0.1:{port}/-/reload")
                end = time.time() + settled
                during = await scraping
                memory, peak = memory_mb(pid)
            await asyncio.sleep(3)  # until nginx has flushed its log
        moments = sorted(moment for of_factor in arrivals_of(arrivals).values() for moment in of_factor)
        stood = json.loads(stalls.read_text(encoding="utf-8"))
    return Reload(
        factors=factors,
        factors_after=FACTOR * factors if grow else factors,
        seconds=took,
        longest_stall=stood["longest_seconds"],
        stalls_over_50_ms=stood["long_ones"],
        longest_scrape=during,
        longest_scrape_before=before,
        longest_without_fetch=longest_gap(moments, reloaded, end),
        longest_without_fetch_before=longest_gap(moments, start, reloaded),
        memory_mb=memory,
        memory_peak_mb=peak,
    )


def longest_gap(moments: list[float], start: float, end: float) -> float:
    """Return the longest time without an event between start and end; ``moments`` are sorted."""
    inside = [start, *(moment for moment in moments if start < moment < end), end]
    return max(late - early for early, late in itertools.pairwise(inside))


async def measure_both(
    factors: int, rate: float, *, settled: float = _SETTLED_SECONDS, tree: Path | None = None
) -> dict[str, Reload]:
    """Measure the change of every label at ``rate`` fetches per second, and the growth to that rate."""
    interval = factors / rate
    return {
        "every label changes": await measure(factors, interval, grow=False, settled=settled, tree=tree),
        "ten times as many factors": await measure(
            factors, FACTOR * interval, grow=True, settled=settled, tree=tree
        ),
    }


def main() -> None:
    """Print the results as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--factors", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=1_000 / 3, metavar="PER_SECOND")
    parser.add_argument("--settled", type=float, default=_SETTLED_SECONDS, metavar="SECONDS")
    arguments = parser.parse_args()
    both = asyncio.run(measure_both(arguments.factors, arguments.rate, settled=arguments.settled))
    print(json.dumps({what: asdict(of) for what, of in both.items()}, indent=1))


if __name__ == "__main__":
    main()
