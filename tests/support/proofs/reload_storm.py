"""Reloader under load: one after the other while fetches and scrapes go on.

``python -m tests.support.proofs.reload_storm --times 10000`` prints what it saw as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import tempfile
import threading
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.config import ConfigError
from exporter.simulator import Fault, FaultKind, Simulator
from tests.support.config_files import account_of, entry, write_config
from tests.support.running_exporter import becomes, running

if TYPE_CHECKING:
    from tests.support.running_exporter import Exporter
    from tests.support.scrape import Scrape

FACTORS = 40
SETTLED_SECONDS = 1.5
LEAKED_SECONDS = 20.0  # what is still there after that stays


@dataclass
class Storm:
    """What was seen: ``faults`` is empty when all went well."""

    reloads: int = 0
    refused: int = 0
    scrapes: int = 0
    fetches: int = 0
    connections: int = 0
    leaked: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def note(self, fault: str) -> None:
        """Record an error; only the first few are kept."""
        if len(self.faults) < 10:
            self.faults.append(fault)


class Variants:
    """Configurations that follow each other: names swapped, labels, accounts, services and families changed."""

    def __init__(self, simulator: Simulator, path: Path) -> None:
        self._simulator = simulator
        self._path = path
        services = ["VA" + digit * 32 for digit in "12"]
        self._factors = [simulator.add_factor(service_sid=services[n % 2]) for n in range(FACTORS)]

    def write(self, number: int, *, still: bool = False) -> set[str] | None:
        """Write the next configuration; return the names in it, ``None`` for one that is bad.

        With ``still`` every factor is paused, so that no fetch is in flight while tasks are counted.
        """
        if number % 10 == 9:
            self._path.write_text("[polling]\ninterval = 7\n", encoding="utf-8")
            return None
        chosen = [n for n in range(FACTORS) if (n + number) % 5 or number % 3 == 0]
        shift = number % 4  # the same names on other factors
        account = account_of(self._simulator, max_concurrency=4 + number % 2, requests_per_second=200 + number % 7)
        accounts = {"main": account} | ({"second": account} if number % 4 >= 2 else {})
        entries = [
            entry(
                f"name-{(n + shift) % FACTORS}",
                self._factors[n],
                account="second" if "second" in accounts and n % 4 == 1 else "main",
                labels={"round": str(number % 3)} if n % 2 else {},
                interval="1s" if n % 3 else "2s",
                paused=still or (n == 7 and number % 2 == 1),
            )
            for n in chosen
        ]
        families = ["*"] if number % 6 else ["verified", "up", "info"]
        write_config(self._path, accounts, entries, metrics={"factor_families": families})
        return {str(one["name"]) for one in entries}


async def storm(times: int, *, scrapers: int = 2) -> Storm:
    """Reload this many times, and check every scrape meanwhile."""
    seen = Storm()
    with tempfile.TemporaryDirectory() as folder:
        async with Simulator(seed=1, call_log_size=10) as simulator:
            simulator.faults.add(Fault(FaultKind.LATENCY, seconds=0.02))
            simulator.faults.add(Fault(FaultKind.STATUS, status=503, share=0.05))
            variants = Variants(simulator, Path(folder) / "config.toml")
            names = variants.write(0)
            assert names is not None
            async with running(Path(folder) / "config.toml") as exporter:
                await becomes(lambda: exporter.daemon.engine.poller.first_fetches_pending < FACTORS)
                assert variants.write(0, still=True) == names
                await exporter.daemon.reload()
                before = await settled()
                await _reload_under_scrapes(exporter, variants, names, seen, times, scrapers)
                await becomes(lambda: simulator.calls.total > FACTORS)  # fetches go on
                assert variants.write(0, still=True) == names
                await exporter.daemon.reload()
                after = await settled(before)
            seen.leaked = {name: max(0, after[name] - before[name]) for name in ("tasks", "descriptors", "threads")}
            seen.connections = after["connections"]
            seen.fetches = simulator.calls.total
    return seen


async def _reload_under_scrapes(
    exporter: Exporter, variants: Variants, names: set[str], seen: Storm, times: int, scrapers: int
) -> None:
    applied = [names]  # the names of each configuration, in order
    ended = asyncio.Event()

    async def scrape(openmetrics: bool) -> None:
        while not ended.is_set():
            since = max(0, len(applied) - 2)  # the newest may be about to take over
            page = await exporter.scrape(openmetrics=openmetrics)
            seen.scrapes += 1
            for fault in faults_of(page, applied[since:]):
                seen.note(fault)

    watching = [asyncio.create_task(scrape(bool(n % 2))) for n in range(scrapers)]
    try:
        for number in range(1, times + 1):
            wanted = variants.write(number)
            if wanted is not None:
                applied.append(wanted)
            try:
                await exporter.daemon.reload()
                seen.reloads += 1
                if wanted is None:
                    seen.note("a bad configuration was taken")
            except ConfigError as error:
                seen.refused += 1
                if wanted is not None:
                    seen.note(f"a good configuration was refused: {error}")
    finally:
        ended.set()
        await asyncio.gather(*watching)


def faults_of(page: Scrape, allowed: list[set[str]]) -> list[str]:
    """Return what is wrong with a scrape: samples twice, or factors that are of no one configuration."""
    lines = Counter(line.rpartition(" ")[0] for line in page.text.splitlines() if not line.startswith("#"))
    faults = [f"twice in a scrape: {line}" for line, times in lines.items() if times > 1]
    shown = {sample.labels["factor"] for sample in page.samples("twilio_verify_factor_info")}
    if shown not in allowed:
        faults.append(f"the factors of no one configuration: {sorted(shown)}")
    watched = page.value("twilio_verify_exporter_watchlist_factors")
    if watched != sum(page.counts().values()):
        faults.append("the counts are not the watchlist's")
    if watched != page.total("twilio_verify_factors_by_type"):
        faults.append("the counts by type are not the watchlist's")
    push = sum(page.total("twilio_verify_factors_by_type", factor_type="push", status=s) for s in _EXISTS)
    if page.total("twilio_verify_push_factors") != push:
        faults.append("the counts of push factors differ")
    return faults


_EXISTS = ("verified", "unverified")


async def settled(before: dict[str, int] | None = None) -> dict[str, int]:
    """Return the tasks, descriptors and threads that stay while all else comes and goes.

    Both ends of every connection are in this process: one task and two descriptors each. They are counted apart,
    as a pool may keep one more or one less idle. Where there is more than ``before`` it waits for longer: a fetch
    that waits for its retry is a task, too, and there may be one at any moment.
    """

    def counts() -> dict[str, int]:
        gc.collect()
        names = [task.get_coro().__qualname__ for task in asyncio.all_tasks()]  # type: ignore[union-attr]  # each is a coroutine
        connections = names.count("RequestHandler.start")
        descriptors = sum(1 for _ in Path("/proc/self/fd").iterdir())
        return {
            "connections": connections,
            "tasks": sum(not name.startswith(("RequestHandler.", "Connections.")) for name in names),
            "descriptors": descriptors - 2 * connections,
            "threads": sum(not thread.name.startswith("gzip") for thread in threading.enumerate()),
        }

    loop = asyncio.get_running_loop()
    began = loop.time()
    least = counts()
    while loop.time() < began + SETTLED_SECONDS or (
        before is not None
        and loop.time() < began + LEAKED_SECONDS
        and any(least[name] > before[name] for name in ("tasks", "descriptors", "threads"))
    ):
        await asyncio.sleep(0.05)
        now = counts()
        least = {name: min(least[name], now[name]) for name in least}
    return least


def main() -> None:
    parser = argparse.ArgumentParser(description="reload under load")
    parser.add_argument("--times", type=int, default=10_000)
    print(json.dumps(asdict(asyncio.run(storm(parser.parse_args().times))), indent=2))


if __name__ == "__main__":
    main()
