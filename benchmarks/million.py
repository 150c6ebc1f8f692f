"""A million factors in ten shards: nginx, the shards and their scrapes share the cores.

The shards read the same watchlist of one CSV file, and start one after another. Each is scraped once per minute, as
Prometheus does it: OpenMetrics, compressed. Every slot in every factor's schedule is looked up in nginx's log. If a
fetch is missed, fewer factors are tried.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.full import OPENMETRICS, SETTLED_SECONDS, arrivals_of, failures_of, lateness, scrape
from benchmarks.process import cpu_seconds, memory_mb, running
from benchmarks.steady import quantile
from benchmarks.upstream import free_port, upstream
from benchmarks.watchlist import watchlist
from exporter.polling.schedule import FIRST_FETCH_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

COUNTS = (1_000_000, 700_000, 500_000)
SHARDS = 10
INTERVAL_SECONDS = 600.0
SECONDS = 1_200.0
SCRAPE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Million:
    """The results: times in seconds, memory in MB (10⁶ bytes), CPU in cores.

    ``exporters_cpu`` is that of all shards together and includes scrapes; ``rest_cpu`` is that of the benchmark,
    which scrapes. ``start`` is the time until each shard listened, ``scrape_bytes`` the largest compressed scrape.
    """

    factors: int
    shards: int
    interval_seconds: float
    seconds: float
    fetches: int
    missed: int
    failed: float
    lag_p50: float
    lag_p99: float
    lag_max: float
    exporters_cpu: float
    upstream_cpu: float
    rest_cpu: float
    memory_mb: Sequence[float]
    memory_peak_mb: Sequence[float]
    start: Sequence[float]
    scrapes: int
    scrape_bytes: int
    scrape_median: float
    scrape_max: float

    @property
    def held(self) -> bool:
        """Whether no fetch was missed and none failed."""
        return self.fetches > 0 and self.missed == self.failed == 0


def step_down(counts: Iterable[int], run: Callable[[int], Million]) -> list[Million]:
    """Run one count after another until one holds; return all results. A run that breaks is skipped."""
    results: list[Million] = []
    for count in counts:
        try:
            result = run(count)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a smaller count may be possible
            print(f"{count:,} factors: {error!r}", file=sys.stderr, flush=True)
            continue
        results.append(result)
        if result.held:
            break
    if not results:
        raise SystemExit("no number of factors could be measured")
    return results


async def _scrapes(ports: Sequence[int], every: float, start: float, seconds: float) -> tuple[list[float], int]:
    """Scrape each port once per ``every`` seconds, evenly spread; return the durations and the largest size."""
    times: list[float] = []
    largest, number = 0, 0
    while (due := start + number * every / len(ports)) < start + seconds:
        await asyncio.sleep(max(0.0, due - time.time()))
        took, size = await scrape(ports[number % len(ports)], OPENMETRICS, "gzip")
        times.append(took)
        largest, number = max(largest, size), number + 1
    await asyncio.sleep(max(0.0, start + seconds - time.time()))
    return times, largest


async def measure(
    factors: int,
    shards: int = SHARDS,
    interval: float = INTERVAL_SECONDS,
    seconds: float = SECONDS,
    scrape_every: float = SCRAPE_SECONDS,
) -> Million:
    """Run the benchmark for ``seconds`` after the first fetches and return the results."""
    rate = factors / shards / interval
    budget = max(20, round(3 * rate))
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="verify-factor-exporter-million-")))
        arrivals = folder / "arrivals.log"
        with upstream(folder, arrivals=arrivals) as server, contextlib.ExitStack() as exporters:
            listed = watchlist(
                folder / "ours",
                server,
                factors=factors,
                interval_seconds=interval,
                port=free_port(),
                requests_per_second=budget,
            )
            ports: list[int] = []
            pids: list[int] = []
            started: list[float] = []
            for shard in range(shards):
                port, began = free_port(), time.monotonic()
                flags = (
                    *("--config.file", str(listed.config), "--shard", f"{shard}/{shards}"),
                    *("--web.listen-address", f"127.0.0.1:{port}"),
                )
                command = (sys.executable, "-m", "exporter", "run", *flags)
                pids.append(exporters.enter_context(running(*command, port=port)))
                ports.append(port)
                started.append(time.monotonic() - began)
                print(f"shard {shard} of {shards} listens after {started[-1]:.1f} s", flush=True)
            first = max(FIRST_FETCH_SECONDS, factors / shards / (budget - rate))
            await asyncio.sleep(min(interval, first) + SETTLED_SECONDS)
            processes = (*pids, server.pid)
            before = [cpu_seconds(pid, children=pid == server.pid) for pid in processes]
            ours, start = time.process_time(), time.time()
            times, largest = await _scrapes(ports, scrape_every, start, seconds)
            end = time.time()
            rest = time.process_time() - ours
            after = [cpu_seconds(pid, children=pid == server.pid) for pid in processes]
            spent = [late - early for early, late in zip(before, after, strict=True)]
            memory = [memory_mb(pid) for pid in pids]
            failed = sum([await failures_of(port) for port in ports])
            await asyncio.sleep(3)  # until nginx has flushed its log
        by_sid = arrivals_of(arrivals)
    lags, missed = lateness(listed.factor_sids, by_sid, start, end - SETTLED_SECONDS, interval)
    took = end - start
    return Million(
        factors=factors,
        shards=shards,
        interval_seconds=interval,
        seconds=round(took),
        fetches=sum(start <= moment < end for moments in by_sid.values() for moment in moments),
        missed=missed,
        failed=failed,
        lag_p50=quantile(lags, 0.5),
        lag_p99=quantile(lags, 0.99),
        lag_max=max(lags, default=0.0),
        exporters_cpu=sum(spent[:-1]) / took,
        upstream_cpu=spent[-1] / took,
        rest_cpu=rest / took,
        memory_mb=[now for now, _ in memory],
        memory_peak_mb=[most for _, most in memory],
        start=started,
        scrapes=len(times),
        scrape_bytes=largest,
        scrape_median=statistics.median(times),
        scrape_max=max(times),
    )


def main() -> None:
    """Print the results as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--factors", type=int, nargs="*", default=COUNTS, help="tried in this order until one holds"
    )
    parser.add_argument("--shards", type=int, default=SHARDS)
    parser.add_argument("--interval", type=float, default=INTERVAL_SECONDS, metavar="SECONDS")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--scrape-every", type=float, default=SCRAPE_SECONDS, metavar="SECONDS")
    of = parser.parse_args()
    results = step_down(
        of.factors, lambda count: asyncio.run(measure(count, of.shards, of.interval, of.seconds, of.scrape_every))
    )
    print(json.dumps([asdict(result) for result in results], indent=1))


if __name__ == "__main__":
    main()
