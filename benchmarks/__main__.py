"""``python -m benchmarks``: run every benchmark and write docs/performance.json and docs/performance.md.

Takes half an hour. ``--only NAME`` repeats one benchmark and keeps the numbers of the others.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from benchmarks import full, pages, scrape, startup, whole
from benchmarks.document import NUMBERS, PAGE, draw, render
from benchmarks.report import table

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES = (1_000, 10_000, 100_000)
RATE = 1_000 / 3  # fetches per second of 100,000 factors at an interval of 5 minutes
_ROUNDS = 5


def _whole() -> Any:
    return asdict(asyncio.run(whole.measure(10_000, _ROUNDS, 12.0, RATE)))


def _scrape() -> Any:
    measured = {}
    for factors in SIZES:
        size, times = scrape.measure(factors, _ROUNDS)
        print(table(f"{factors:,} factors, {size / 1e6:.1f} MB, text format", "ms", times), flush=True)
        measured[str(factors)] = {"bytes": size, "seconds": times}
    return measured


def _full() -> Any:
    seconds = {1_000: 75.0, 10_000: 90.0, 100_000: 900.0}
    return {str(size): asdict(asyncio.run(full.measure(size, size / RATE, seconds[size]))) for size in SIZES}


def _pages() -> Any:
    return asdict(asyncio.run(pages.measure(SIZES[-1], _ROUNDS + 2, RATE)))


def _startup() -> Any:
    return startup.measure(_ROUNDS + 2)


_MEASUREMENTS: dict[str, Callable[[], Any]] = {
    "whole": _whole,
    "scrape": _scrape,
    "pages": _pages,
    "startup": _startup,
    "full": _full,
}


def main() -> None:
    """Run the benchmarks and write the numbers and the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", choices=_MEASUREMENTS, action="append")
    chosen = parser.parse_args().only or list(_MEASUREMENTS)
    numbers: dict[str, Any] = json.loads(NUMBERS.read_text(encoding="utf-8")) if NUMBERS.exists() else {}
    for name in chosen:
        print(f"== {name}", flush=True)
        numbers[name] = {
            "measured": _MEASUREMENTS[name](),
            "date": datetime.now(UTC).date().isoformat(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        }
        NUMBERS.write_text(json.dumps(numbers, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if numbers.keys() >= _MEASUREMENTS.keys():
        draw(numbers)
        PAGE.write_text(render(numbers), encoding="utf-8")
        print(f"written: {PAGE}")


if __name__ == "__main__":
    main()
