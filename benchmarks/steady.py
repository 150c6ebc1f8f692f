"""A steady load: the exporter in a separate process, over real sockets, polling a simulator in this process.

The schedule is known in advance (a factor's phase is a hash of its key). Missed and late fetches are found by
comparing it with the arrivals at the simulator, not with what the exporter reports.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import csv
import json
import math
import os
import re
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from prometheus_client.parser import text_string_to_metric_families

from exporter.polling.schedule import FIRST_FETCH_SECONDS, due_after, phase
from exporter.simulator import Simulator
from exporter.watched import FactorKey

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from exporter.simulator import SimulatedFactor

ACCOUNT = "main"
_SETTLED_SECONDS = 2.0  # after the first fetches and before the end, left out of the measurement
_LISTENING = re.compile(rb"msg=listening address=(\S+)")
_CONFIG = """\
[web]
listen_address = "127.0.0.1:0"
[polling]
interval = "{interval_ms}ms"
[accounts.{account}]
account_sid = "{account_sid}"
username = "{username}"
password = "{password}"
base_url = "{base_url}"
requests_per_second = {requests_per_second}
max_concurrency = {max_concurrency}
[watchlist]
files = ["factors.csv"]
"""


@dataclass(frozen=True, slots=True)
class Load:
    """The load on the exporter, and its duration."""

    factors: int = 1_000
    interval_seconds: float = 60.0
    latency_seconds: float = 0.05
    seconds: float = 180.0
    requests_per_second: int = 200
    max_concurrency: int = 16


@dataclass(frozen=True, slots=True)
class Steady:
    """The results, measured after the first fetch of every factor.

    ``lag`` is the time from a slot to the arrival at the simulator, ``histogram_lag`` the lag that the exporter
    reports, both as (p50, p99) in seconds. ``requests_per_second`` is minimum, mean and maximum over all seconds,
    ``fetches_per_factor`` minimum and maximum, including the first fetch.
    """

    fetches: int
    missed: int
    failures: float
    fetches_per_factor: tuple[int, int]
    lag: tuple[float, float]
    histogram_lag: tuple[float, float]
    requests_per_second: tuple[float, float, float]
    cpu_seconds_per_fetch: float

    def report(self, load: Load) -> str:
        """Return the results as text."""
        least, mean, greatest = self.requests_per_second
        fewest, most = self.fetches_per_factor
        latency = f"{load.latency_seconds * 1000:g} ms of latency"
        return "\n".join(
            (
                f"{load.factors:,} factors every {load.interval_seconds:g} s, {latency}, {load.seconds:g} s",
                f"  fetches          {self.fetches:,} ({fewest} to {most} per factor)",
                f"  missed           {self.missed}",
                f"  failed           {self.failures:g}",
                f"  lag              p50 {self.lag[0]:.3f} s, p99 {self.lag[1]:.3f} s",
                f"  lag, histogram   p50 {self.histogram_lag[0]:.3f} s, p99 {self.histogram_lag[1]:.3f} s",
                f"  requests/s       min {least:.0f}, mean {mean:.1f}, max {greatest:.0f}",
                f"  CPU per fetch    {self.cpu_seconds_per_fetch * 1e3:.2f} ms",
            )
        )


async def measure(load: Load) -> Steady:
    """Run the simulator and the exporter under this load and return the results."""
    warm_up = min(load.interval_seconds, FIRST_FETCH_SECONDS) + _SETTLED_SECONDS
    calls = int(load.factors * (load.seconds / load.interval_seconds + 3))
    simulator = Simulator(latency_seconds=load.latency_seconds, call_log_size=calls)
    factors = [simulator.add_factor() for _ in range(load.factors)]
    async with simulator:
        with tempfile.TemporaryDirectory(prefix="verify-factor-exporter-steady-") as folder:
            config = _write_config(Path(folder), simulator, factors, load)
            async with _exporter(config) as url, httpx.AsyncClient(base_url=url, trust_env=False) as client:
                began = time.time()
                await asyncio.sleep(warm_up)
                first = await client.get("/metrics")
                await asyncio.sleep(began + load.seconds - time.time())
                last = await client.get("/metrics")
        arrivals: dict[str, list[float]] = {factor.sid: [] for factor in factors}
        for call in simulator.calls.log:
            arrivals[call.factor_sid].append(call.time)
    before, after = _sums(first), _sums(last)  # parsed only now, because parsing would block the simulator
    start, end = began + warm_up, began + load.seconds
    lags: list[float] = []
    missed = 0
    for factor in factors:
        key = FactorKey(ACCOUNT, factor.service_sid, factor.sid)
        late, lost = judge(key, sorted(arrivals[factor.sid]), start, end - _SETTLED_SECONDS, load.interval_seconds)
        lags += late
        missed += lost
    counts = [len(times) for times in arrivals.values()]
    fetched = after["twilio_verify_fetches_total"] - before["twilio_verify_fetches_total"]
    cpu = after["process_cpu_seconds_total"] - before["process_cpu_seconds_total"]
    tick = after["twilio_verify_exporter_last_tick_timestamp_seconds"]
    return Steady(
        fetches=sum(counts),
        missed=missed,
        failures=after["twilio_verify_fetch_failures_total"],
        fetches_per_factor=(min(counts), max(counts)),
        lag=(quantile(lags, 0.5), quantile(lags, 0.99)),
        histogram_lag=(_histogram_quantile(before, after, 0.5), _histogram_quantile(before, after, 0.99)),
        requests_per_second=_by_second([time for times in arrivals.values() for time in times], start, end, tick),
        cpu_seconds_per_fetch=cpu / max(fetched, 1),
    )


def judge(
    key: FactorKey, arrivals: Sequence[float], start: float, end: float, interval_seconds: float
) -> tuple[list[float], int]:
    """Return the lags of a factor's fetches with slots between start and end, and the number of missed ones."""
    lags: list[float] = []
    missed = 0
    slot = due_after(start, interval_seconds, phase(key))
    while slot < end:
        following = due_after(slot, interval_seconds, phase(key))
        arrived = next((time for time in arrivals if slot <= time < following), None)
        if arrived is None:
            missed += 1
        else:
            lags.append(arrived - slot)
        slot = following
    return lags, missed


def _by_second(calls: Sequence[float], start: float, end: float, tick: float) -> tuple[float, float, float]:
    """Return minimum, mean and maximum of the requests per second.

    Seconds are counted from just before the scheduler's tick, so that one burst falls into one second.
    """
    first = start + (tick - 0.2 - start) % 1.0
    seconds = int(end - first)
    counts = Counter(math.floor(time - first) for time in calls)
    loads = [counts[second] for second in range(seconds)]
    return min(loads), sum(loads) / seconds, max(loads)


def quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


def _histogram_quantile(before: Mapping[str, float], after: Mapping[str, float], share: float) -> float:
    """Return a quantile of the lag that the exporter reports, interpolated within a bucket as Prometheus does."""
    name = "twilio_verify_exporter_schedule_lag_seconds_bucket"
    grown = {text: after[text] - before[text] for text in after if text.startswith(name)}
    buckets = sorted((float(text.removeprefix(name)), count) for text, count in grown.items())
    wanted = share * buckets[-1][1]
    lower, below = 0.0, 0.0
    for upper, count in buckets:
        if count >= wanted and count > below:
            return lower if math.isinf(upper) else lower + (upper - lower) * (wanted - below) / (count - below)
        lower, below = upper, count
    return math.nan


def _sums(answer: httpx.Response) -> Mapping[str, float]:
    """Return the sum of the samples by metric, and for buckets by metric and bound."""
    answer.raise_for_status()
    sums: defaultdict[str, float] = defaultdict(float)
    for metric in text_string_to_metric_families(answer.text):
        for sample in metric.samples:
            sums[sample.name + sample.labels.get("le", "")] += sample.value
    return sums


@contextlib.asynccontextmanager
async def _exporter(config: Path) -> AsyncIterator[str]:
    """Run the exporter in a process until the end of the block; yield its address."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("VERIFY_EXPORTER_")}
    command = (sys.executable, "-m", "exporter", "run", "--config.file", str(config), "--log.format", "logfmt")
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE, env=environ)
    assert process.stderr is not None
    reader: asyncio.Task[bytes] | None = None
    try:
        output = b""
        while not (found := _LISTENING.search(output)):
            line = await process.stderr.readline()
            if not line:
                raise SystemExit(f"the exporter did not start:\n{output.decode()}")
            output += line
        reader = asyncio.create_task(process.stderr.read())
        yield found[1].decode()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
        if reader is not None:
            await reader


def _write_config(folder: Path, simulator: Simulator, factors: Sequence[SimulatedFactor], load: Load) -> Path:
    with (folder / "factors.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("service_sid", "identity", "factor_sid"))
        rows.writerows((factor.service_sid, factor.identity, factor.sid) for factor in factors)
    path = folder / "config.toml"
    text = _CONFIG.format(
        account=ACCOUNT,
        account_sid=simulator.account_sid,
        username=simulator.username,
        password=simulator.password,
        base_url=simulator.base_url,
        interval_ms=round(load.interval_seconds * 1000),
        requests_per_second=load.requests_per_second,
        max_concurrency=load.max_concurrency,
    )
    path.write_text(text, encoding="utf-8")
    return path


def main() -> None:
    """Print the results; the defaults take three minutes."""
    defaults = Load()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--factors", type=int, default=defaults.factors)
    parser.add_argument("--interval", type=float, default=defaults.interval_seconds, metavar="SECONDS")
    parser.add_argument("--latency", type=float, default=defaults.latency_seconds, metavar="SECONDS")
    parser.add_argument("--seconds", type=float, default=defaults.seconds)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    arguments = parser.parse_args()
    load = Load(arguments.factors, arguments.interval, arguments.latency, arguments.seconds)
    steady = asyncio.run(measure(load))
    print(json.dumps(asdict(steady)) if arguments.json else steady.report(load))


if __name__ == "__main__":
    main()
