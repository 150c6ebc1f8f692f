"""Time of a scrape: pre-rendered lines, prometheus_client's rendering of the same samples, a copy of the bytes.

Between two scrapes, one twentieth of the factors changes, as with polling every 5 minutes and scraping every
15 seconds. Rendering these changes is measured as well.
"""

from __future__ import annotations

import argparse
import random
import time
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest

from benchmarks.report import table
from exporter.exposition.factors import FactorCollector, FactorExposition, FactorSamples
from exporter.exposition.pieces import Snapshot
from exporter.polling.clock import Moment
from exporter.polling.ledger import Ledger, LedgerPolicy
from exporter.verify.outcome import Answer, Outcome, Status
from exporter.watched import FactorKey, WatchedFactor

if TYPE_CHECKING:
    from collections.abc import Callable

SCRAPES_PER_INTERVAL = 20


def _answer(rng: random.Random) -> Outcome:
    status = Status.VERIFIED if rng.random() < 0.95 else Status.UNVERIFIED
    answer = Answer(status, 1.6e9, 1.6e9 + 5, "push", "YE" + "0" * 32)
    return Outcome(answer, round(rng.uniform(0.05, 0.4), 6))


def measure(factors: int, rounds: int, seed: int = 0) -> tuple[int, dict[str, list[float]]]:
    """Return the size of a scrape in bytes, and for each method the seconds per round."""
    rng = random.Random(seed)
    ledger = Ledger(LedgerPolicy())
    samples = FactorSamples()
    ready = FactorExposition(samples)
    registry = CollectorRegistry()
    registry.register(FactorCollector(samples, lambda: ledger))
    service = f"VA{rng.getrandbits(128):032x}"
    keys = [FactorKey("main", service, f"YF{rng.getrandbits(128):032x}") for _ in range(factors)]
    for number, key in enumerate(keys):
        ready.update(ledger.watch(WatchedFactor(key, f"factor-{number:09d}", f"identity-{number:06d}", 300.0)))
    now = 1.7e9

    def fetch(some: list[FactorKey]) -> None:
        for key in some:
            ledger.apply(key, _answer(rng), Moment(round(now, 3), now))
            ready.update(ledger[key])

    fetch(keys)
    times: dict[str, list[float]] = {}

    def timed(name: str, work: Callable[[], bytes | bytearray | None]) -> bytes | bytearray | None:
        started = time.perf_counter()
        result = work()
        times.setdefault(name, []).append(time.perf_counter() - started)
        return result

    for _ in range(rounds):
        now += 15
        changed = rng.sample(keys, factors // SCRAPES_PER_INTERVAL)
        timed(f"render {len(changed):,} changed factors", lambda some=changed: fetch(some))  # type: ignore[misc]  # mypy infers no lambda with a default
        mine = timed("scrape of the pre-rendered lines", lambda: bytes(Snapshot(ready.columns(openmetrics=False))))
        theirs = timed("generate_latest", lambda: generate_latest(registry))
        if mine != theirs:
            raise SystemExit("the two renderings differ; nothing was measured")
        timed("copy of the same bytes", lambda whole=theirs: bytearray(whole))  # type: ignore[misc]  # mypy infers no lambda with a default
    ordered = {name: times[name] for name in sorted(times, key=lambda name: not name.startswith("scrape"))}
    return len(theirs or b""), ordered


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--factors", type=int, nargs="*", default=[1_000, 10_000])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    for factors in arguments.factors:
        size, times = measure(factors, arguments.rounds)
        title = f"{factors:,} factors, {size / 1e6:.1f} MB, text format, {arguments.rounds} rounds"
        print(table(title, "ms", times), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
