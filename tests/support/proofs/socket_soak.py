"""Polling over real sockets, one request in twenty failing: memory that stays, and counters that are true.

The exporter is a process of its own, the simulator is in this one. At the end every factor is paused by a reload,
so that both sides stand still when they are compared.
``python -m tests.support.proofs.socket_soak`` prints what was seen.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.simulator import Fault, FaultKind, Simulator
from tests.support.config_files import account_of, entry, write_config
from tests.support.running_exporter import Process, until

if TYPE_CHECKING:
    from exporter.simulator import SimulatedFactor
    from tests.support.scrape import Scrape


@dataclass(frozen=True, slots=True)
class Load:
    """The size of a run: how many factors, how often, for how long."""

    factors: int = 2000
    interval_seconds: float = 20.0
    seconds: float = 1200.0
    warm_up_seconds: float = 300.0
    timeout_seconds: int = 4  # long: what one side gives up, the other may have answered
    seed: int = 1


@dataclass(slots=True)
class Seen:
    """What came of it; ``faults`` is empty when all went well. FactorSnapshot is resident, in bytes."""

    requests: int = 0
    fetches: int = 0
    retries: int = 0
    scrapes: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    missed: int = 0
    memory_warm: float = 0.0
    memory_end: float = 0.0
    faults: list[str] = field(default_factory=list)

    @property
    def growth(self) -> float:
        """Growth of memory after the warm-up, as a share."""
        return self.memory_end / self.memory_warm - 1


FAULTS = (
    Fault(FaultKind.STATUS, status=503, share=0.03),
    Fault(FaultKind.RESET_BEFORE_HEADERS, share=0.01),
    Fault(FaultKind.CLOSE_IN_BODY, share=0.005),
    Fault(FaultKind.BAD_JSON, share=0.002),
    Fault(FaultKind.STALL_BEFORE_HEADERS, share=0.003),
)


async def run(load: Load) -> Seen:
    """Put the exporter under this load and return what was seen."""
    seen, rng = Seen(), random.Random(load.seed)
    async with Simulator(seed=load.seed, call_log_size=1, latency_seconds=0.02) as simulator:
        factors = [simulator.add_factor() for _ in range(load.factors)]
        for fault in FAULTS:
            simulator.faults.add(fault)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "config.toml"
            write(path, simulator, factors, load, paused=False)
            async with Process.run(path) as exporter:
                await observe(exporter, simulator, factors, load, seen, rng)
                simulator.faults.clear()
                write(path, simulator, factors, load, paused=True)
                exporter.signal(signal.SIGHUP)
                await settled(exporter, simulator, load.timeout_seconds + 2.5)  # one that stalls, and a backoff
                compare(await exporter.scrape(), simulator, seen)
                errors = [line for line in exporter.log.splitlines() if "level=error" in line]
                seen.faults.extend(errors[:5])
    return seen


def write(path: Path, simulator: Simulator, factors: list[SimulatedFactor], load: Load, *, paused: bool) -> None:
    """Write the configuration, with all factors paused or none."""
    account = account_of(simulator, requests_per_second=1000, max_concurrency=32)
    entries = [entry(f"factor-{number}", factor, paused=paused) for number, factor in enumerate(factors)]
    # One attempt more than ever fails in a row, and an unusable answer at its usual place in time.
    polling = {
        "interval": f"{round(load.interval_seconds * 1000)}ms",
        "unverified_interval": f"{round(load.interval_seconds * 1000)}ms",
        "not_found_interval": "1s",
        "timeout": f"{load.timeout_seconds}s",
        "max_attempts": 3,
    }
    write_config(path, {"main": account}, entries, polling=polling)


async def observe(
    exporter: Process,
    simulator: Simulator,
    factors: list[SimulatedFactor],
    load: Load,
    seen: Seen,
    rng: random.Random,
) -> None:
    """Flip statuses, scrape, and see that no factor is skipped."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    requested: dict[str, tuple[int, float]] = {}
    while (elapsed := loop.time() - began) < load.seconds:
        for factor in rng.sample(factors, 5):
            simulator.set_status(factor.sid, rng.choice(["verified", "unverified"]))
        page = await exporter.scrape(openmetrics=bool(seen.scrapes % 2))
        seen.scrapes += 1
        seen.memory_end = page.value("process_resident_memory_bytes") or 0.0
        if elapsed < load.warm_up_seconds:
            seen.memory_warm = seen.memory_end
        now = loop.time()
        for factor in factors:
            count, since = requested.get(factor.sid, (-1, now))
            if simulator.calls.by_factor[factor.sid] != count:
                requested[factor.sid] = simulator.calls.by_factor[factor.sid], now
            elif now - since > load.interval_seconds + 3 * load.timeout_seconds + 5 and elapsed > 40:
                seen.missed += 1
                requested[factor.sid] = count, now
        await asyncio.sleep(max(0.0, 1.0 - (loop.time() - now)))


async def settled(exporter: Process, simulator: Simulator, patience_seconds: float) -> None:
    """Wait until the paused configuration is applied and nothing is in flight on either side."""
    await until(exporter.scrape, lambda page: page.value("twilio_verify_exporter_watchlist_factors") == 0)
    loop = asyncio.get_running_loop()
    before, quiet_since = -1, loop.time()
    while loop.time() - quiet_since < patience_seconds:
        if simulator.calls.total != before:
            before, quiet_since = simulator.calls.total, loop.time()
        await asyncio.sleep(0.2)


def compare(page: Scrape, simulator: Simulator, seen: Seen) -> None:
    """See that the exporter counted what the simulator counted."""
    ours = {s.labels["code"]: int(s.value) for s in page.samples("twilio_verify_api_requests_total")}
    theirs = {
        code: count
        for (operation, code), count in simulator.calls.by_code.items()
        if operation == "fetch" and count
    }
    if ours != theirs:
        seen.faults.append(f"requests: {ours} here, {theirs} at the simulator")
    seen.requests = simulator.calls.total
    seen.fetches = int(page.total("twilio_verify_fetches_total"))
    seen.retries = int(page.total("twilio_verify_api_retries_total"))
    seen.failures = {reason: int(count) for reason, count in page.failures().items()}
    if seen.fetches + seen.retries != seen.requests:
        seen.faults.append(f"{seen.fetches} fetches and {seen.retries} retries are not {seen.requests} requests")
    if page.value("twilio_verify_api_in_flight") != 0:
        seen.faults.append("requests are reported in flight")


def main() -> None:
    usual = Load()
    parser = argparse.ArgumentParser(description="polling over real sockets with faults")
    parser.add_argument("--factors", type=int, default=usual.factors)
    parser.add_argument("--interval", type=float, default=usual.interval_seconds)
    parser.add_argument("--seconds", type=float, default=usual.seconds)
    parser.add_argument("--warm-up", type=float, default=usual.warm_up_seconds)
    given = parser.parse_args()
    seen = asyncio.run(run(Load(given.factors, given.interval, given.seconds, given.warm_up)))
    print(json.dumps(asdict(seen) | {"growth": seen.growth}, indent=2))


if __name__ == "__main__":
    main()
