"""Cost by number of factors: CPU time per fetch, memory, size and time of a scrape, lag.

The interval grows with the number of factors, so that the rate is at most that of 100,000 factors every 5 minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from benchmarks.full import Full, measure

if TYPE_CHECKING:
    from pathlib import Path

RATE = 1_000 / 3  # fetches per second
SIZES = (10, 100, 1_000, 10_000, 300_000)  # 100,000 is what benchmarks.full measures, for longer
LEAST_INTERVAL_SECONDS = 3.0
SECONDS = 45.0
_SCRAPE_SECONDS = 7.5
_COPIES = 3


def interval_seconds(factors: int, rate: float = RATE) -> float:
    """Return the shortest interval that keeps the rate, at least :data:`LEAST_INTERVAL_SECONDS`."""
    return max(LEAST_INTERVAL_SECONDS, factors / rate)


async def point(factors: int, seconds: float = SECONDS, *, tree: Path | None = None) -> Full:
    """Measure one number of factors for ``seconds`` after the first fetches."""
    interval = interval_seconds(factors)
    return await measure(factors, interval, seconds, scrape_every=_SCRAPE_SECONDS, copies=_COPIES, tree=tree)


def main() -> None:
    """Print the results as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--factors", type=int, nargs="*", default=SIZES)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    arguments = parser.parse_args()
    for factors in arguments.factors:
        print(json.dumps(asdict(asyncio.run(point(factors, arguments.seconds))), indent=1), flush=True)


if __name__ == "__main__":
    main()
