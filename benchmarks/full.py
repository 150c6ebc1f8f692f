"""Full size: 100,000 factors every 5 minutes for a quarter of an hour; upstream and scrapes share the cores.

The schedule is known in advance (a factor's phase is a hash of its key), so every slot must have an arrival in the
upstream's log. Scrapes run every 15 s and alternate between formats, with and without compression.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import statistics
import sys
import tempfile
import time
from array import array
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

from benchmarks.process import cpu_seconds, memory_mb, running
from benchmarks.steady import judge, quantile
from benchmarks.upstream import SERVICE_SID, free_port, upstream
from benchmarks.watchlist import watchlist
from exporter.polling.schedule import FIRST_FETCH_SECONDS
from exporter.watched import FactorKey

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SCRAPE_SECONDS = 15.0
SPARE_RATE = 1_500  # requests per second of the budget that the regular fetches leave for the first ones
_ROUNDS = 9
SETTLED_SECONDS = 5.0
TEXT, OPENMETRICS = "text/plain", "application/openmetrics-text; version=1.0.0"
_FAILED = re.compile(r"^twilio_verify_fetch_failures_total\{[^}]*\} ([0-9.e+]+)$", re.MULTILINE)
_KINDS = ((TEXT, "identity"), (OPENMETRICS, "gzip"), (TEXT, "gzip"), (OPENMETRICS, "identity"))


@dataclass(frozen=True, slots=True)
class Full:
    """The results: times and CPU in seconds, memory in MB (10⁶ bytes), ``cpu_share`` of one core.

    ``stalls_over_50_ms`` lists the long stalls of the event loop: the seconds since the start, and the duration.
    """

    factors: int
    interval_seconds: float
    seconds: float
    fetches: int
    missed: int
    failed: float
    lag_p50: float
    lag_p99: float
    scrapes: int
    scrape_bytes: int
    scrape_median: Mapping[str, float]
    scrape_cpu: float
    scrape_wall_to_copy: float
    scrape_cpu_to_copy: float
    cpu_seconds_per_fetch: float
    cpu_share: float
    memory_mb: float
    memory_peak_mb: float
    longest_stall: float
    stalls_over_50_ms: list[tuple[float, float]]
    longest_stall_of_an_idle_loop: float


async def scrape(port: int, accept: str, encoding: str) -> tuple[float, int]:
    """Return duration and size in bytes of a scrape; the body is read but not decompressed."""
    headers = {"Accept": accept, "Accept-Encoding": encoding}
    size, began = 0, time.monotonic()
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.get(f"http://127.0.0.1:{port}/metrics", headers=headers) as answer,
    ):
        answer.raise_for_status()
        async for chunk in answer.content.iter_any():
            size += len(chunk)
    return time.monotonic() - began, size


async def _beside_a_copy(pid: int, port: int, file: Path, rounds: int) -> tuple[float, float]:
    """Return the ratios of time and CPU of a scrape to those of a server that copies and writes the same bytes.

    Ratios of medians; scrapes alternate, while the exporter's fetches continue. Text format, uncompressed.
    """
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as answer:
        body = await answer.read()
    await asyncio.to_thread(file.write_bytes, body)
    other = free_port()
    ours: list[tuple[float, float]] = []
    floor: list[tuple[float, float]] = []
    with running(sys.executable, "-m", "benchmarks.peers.copying", str(file), str(other), port=other) as copying:
        for _ in range(rounds):
            for times, process, at in ((ours, pid, port), (floor, copying, other)):
                before = cpu_seconds(process)
                took, _ = await scrape(at, TEXT, "identity")
                times.append((took, cpu_seconds(process) - before))
                await asyncio.sleep(0.5)
    mine, theirs = ([statistics.median(each) for each in zip(*times, strict=True)] for times in (ours, floor))
    return mine[0] / theirs[0], mine[1] / max(theirs[1], 0.01)  # at least one clock tick


async def failures_of(port: int) -> float:
    """Return the number of failed fetches of a running exporter."""
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as answer:
        return failed(await answer.text())


def arrivals_of(log: Path) -> dict[str, array[float]]:
    """Return the times of the requests in nginx's log, by factor SID."""
    by_sid: dict[str, array[float]] = defaultdict(lambda: array("d"))
    with log.open(encoding="ascii") as lines:
        for line in lines:
            moment, _, sid = line.rstrip("\n").partition(" ")
            by_sid[sid].append(float(moment))
    return by_sid


def lateness(
    sids: Sequence[str], arrivals: Mapping[str, Sequence[float]], start: float, end: float, interval: float
) -> tuple[array[float], int]:
    """Return the lag of every fetch with a slot between start and end, and the number of missed ones."""
    lags, missed = array("d"), 0
    for sid in sids:
        late, lost = judge(FactorKey("main", SERVICE_SID, sid), sorted(arrivals.get(sid, ())), start, end, interval)
        lags.extend(late)
        missed += lost
    return lags, missed


def failed(text: str) -> float:
    """Return the number of failed fetches in a text of metrics."""
    return sum(float(found[1]) for found in _FAILED.finditer(text))


def warm_up_seconds(factors: int, interval: float) -> float:
    """Return how long the first fetches take when :data:`SPARE_RATE` is left for them."""
    return min(interval, max(FIRST_FETCH_SECONDS, factors / SPARE_RATE)) + SETTLED_SECONDS


async def measure(
    factors: int,
    interval: float,
    seconds: float,
    *,
    scrape_every: float = SCRAPE_SECONDS,
    copies: int = _ROUNDS,
    tree: Path | None = None,
) -> Full:
    """Run the benchmark for ``seconds`` after the first fetches and return the results.

    The scrape is compared with a copy in ``copies`` rounds. ``tree`` is the source tree of another revision to
    measure.
    """
    rate = factors / interval
    with tempfile.TemporaryDirectory(prefix="verify-factor-exporter-full-") as name:
        folder = Path(name)
        arrivals, stalls, idle = (folder / name for name in ("arrivals.log", "stalls.json", "idle.json"))
        idling = (sys.executable, "-m", "benchmarks.peers.idling", str(idle))
        with upstream(folder, arrivals=arrivals) as server, running(*idling):
            port = free_port()
            listed = watchlist(
                folder / "ours",
                server,
                factors=factors,
                interval_seconds=interval,
                port=port,
                requests_per_second=round(rate + SPARE_RATE),
            )
            command = (sys.executable, "-m", "benchmarks.peers.ticking", str(listed.config), str(stalls))
            with running(*command, port=port, folder=tree) as pid:
                began = time.time()
                await asyncio.sleep(warm_up_seconds(factors, interval))
                cpu, start = cpu_seconds(pid), time.time()
                times: dict[str, list[float]] = defaultdict(list)
                of_scrapes, scrapes, largest = 0.0, 0, 0
                while time.time() < start + seconds:
                    accept, encoding = _KINDS[scrapes % len(_KINDS)]
                    before = cpu_seconds(pid)
                    took, size = await scrape(port, accept, encoding)
                    of_scrapes += cpu_seconds(pid) - before
                    times[f"{'OpenMetrics' if accept is OPENMETRICS else 'text'}, {encoding}"].append(took)
                    scrapes, largest = scrapes + 1, max(largest, size)
                    await asyncio.sleep(max(0.0, start + scrapes * scrape_every - time.time()))
                end = time.time()
                cpu = cpu_seconds(pid) - cpu
                memory, peak = memory_mb(pid)  # before the scrapes without pause below
                wall_ratio, cpu_ratio = await _beside_a_copy(pid, port, folder / "page.txt", copies)
                failures = await failures_of(port)
            await asyncio.sleep(3)  # until nginx has flushed its log
        by_sid = arrivals_of(arrivals)
        stood, beside = (json.loads(file.read_text(encoding="utf-8")) for file in (stalls, idle))
    lags, missed = lateness(listed.factor_sids, by_sid, start, end - SETTLED_SECONDS, interval)
    fetched = sum(start <= moment < end for moments in by_sid.values() for moment in moments)
    return Full(
        factors=factors,
        interval_seconds=interval,
        seconds=round(end - began),
        fetches=sum(map(len, by_sid.values())),
        missed=missed,
        failed=failures,
        lag_p50=quantile(lags, 0.5),
        lag_p99=quantile(lags, 0.99),
        scrapes=scrapes,
        scrape_bytes=largest,
        scrape_median={kind: statistics.median(took) for kind, took in times.items()},
        scrape_cpu=of_scrapes / scrapes,
        scrape_wall_to_copy=wall_ratio,
        scrape_cpu_to_copy=cpu_ratio,
        cpu_seconds_per_fetch=(cpu - of_scrapes) / fetched,
        cpu_share=cpu / (end - start),
        memory_mb=memory,
        memory_peak_mb=peak,
        longest_stall=stood["longest_seconds"],
        stalls_over_50_ms=stood["long_ones"],
        longest_stall_of_an_idle_loop=beside["longest_seconds"],
    )


def main() -> None:
    """Print the results as JSON; the defaults take a quarter of an hour."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--factors", type=int, default=100_000)
    parser.add_argument("--interval", type=float, default=300.0, metavar="SECONDS")
    parser.add_argument("--seconds", type=float, default=900.0)
    arguments = parser.parse_args()
    full = asyncio.run(measure(arguments.factors, arguments.interval, arguments.seconds))
    print(json.dumps(asdict(full), indent=1))


if __name__ == "__main__":
    main()
