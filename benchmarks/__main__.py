"""``python -m benchmarks``: run the benchmarks and write docs/performance.json, docs/performance.md and the plots.

Takes up to 40 minutes. ``--only NAME`` repeats one benchmark and keeps the numbers of the others. ``million`` and
``compare`` run only by name: half an hour for each number of factors that is tried, and 25 minutes. A
benchmark that fails is reported at the end, and its former numbers stay.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import (
    compare,
    curve,
    document,
    full,
    functions,
    history,
    million,
    pages,
    reloads,
    scrape,
    startup,
    whole,
)
from benchmarks.noise import beside
from benchmarks.report import table
from exporter import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parent.parent
RATE = curve.RATE  # fetches per second of 100,000 factors at an interval of 5 minutes


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured, and for how long."""

    factors: int = 10_000
    many: int = 100_000
    rate: float = RATE
    rounds: int = 5
    seconds: float = 12.0
    scrape_sizes: tuple[int, ...] = (1_000, 10_000, 100_000)
    curve_sizes: tuple[int, ...] = curve.SIZES
    curve_seconds: float = curve.SECONDS
    full_seconds: float = 840.0  # after the first fetches
    full_scrape_every: float = full.SCRAPE_SECONDS
    profile_seconds: float = 40.0
    settled_seconds: float = 30.0  # before and after a reload
    million_counts: tuple[int, ...] = million.COUNTS
    million_interval: float = million.INTERVAL_SECONDS
    million_seconds: float = million.SECONDS
    million_scrape_every: float = million.SCRAPE_SECONDS


# To try the benchmarks: the same work, too little of it to measure anything.
_QUICK = Extent(
    factors=100,
    many=200,
    rate=20.0,
    rounds=1,
    seconds=4.0,
    scrape_sizes=(100,),
    curve_sizes=(10, 100),
    curve_seconds=8.0,
    full_seconds=12.0,
    full_scrape_every=2.0,
    profile_seconds=4.0,
    settled_seconds=5.0,
    million_counts=(300,),
    million_interval=6.0,
    million_seconds=15.0,
    million_scrape_every=3.0,
)


def _measurements(of: Extent) -> dict[str, Callable[[], Any]]:
    """Return the benchmarks by name, those first that take less time."""

    def scrapes() -> Any:
        measured = {}
        for factors in of.scrape_sizes:
            size, times = scrape.measure(factors, of.rounds if factors < 100_000 else min(of.rounds, 3))
            print(table(f"{factors:,} factors, {size / 1e6:.1f} MB, text format", "ms", times), flush=True)
            measured[str(factors)] = {"bytes": size, "seconds": times}
        return measured

    def points() -> Any:
        return {str(size): asdict(asyncio.run(curve.point(size, of.curve_seconds))) for size in of.curve_sizes}

    def full_size() -> Any:
        measuring = full.measure(of.many, of.many / of.rate, of.full_seconds, scrape_every=of.full_scrape_every)
        return {str(of.many): asdict(asyncio.run(measuring))}

    def long_reloads() -> Any:
        both = asyncio.run(reloads.measure_both(of.many, of.rate, settled=of.settled_seconds))
        return {what: asdict(result) for what, result in both.items()}

    def shards() -> Any:
        return [
            asdict(result)
            for result in million.step_down(
                of.million_counts,
                lambda count: asyncio.run(
                    million.measure(
                        count,
                        interval=of.million_interval,
                        seconds=of.million_seconds,
                        scrape_every=of.million_scrape_every,
                    )
                ),
            )
        ]

    return {
        "startup": lambda: startup.measure(of.rounds + 2),
        "many": lambda: startup.measure_many(of.many, min(of.rounds, 3)),
        "whole": lambda: asdict(asyncio.run(whole.measure(of.factors, of.rounds, of.seconds, of.rate))),
        "functions": lambda: asdict(asyncio.run(functions.measure(of.factors, of.rate, of.profile_seconds))),
        "scrape": scrapes,
        "reload": long_reloads,
        "pages": lambda: asdict(asyncio.run(pages.measure(of.many, of.rounds, of.rate))),
        "curve": points,
        "full": full_size,
        "million": shards,
    }


BY_NAME_ONLY = ("million", "compare")
NAMES = (*_measurements(_QUICK), "compare")


@dataclass(slots=True)
class Run:
    """A run of several benchmarks, of which some may fail."""

    failures: list[str] = field(default_factory=list)
    stopped: bool = False

    def stop(self, *_: object) -> None:
        """End the run, as the handler of SIGINT and SIGTERM; every process that it has started ends, too."""
        self.stopped = True
        raise KeyboardInterrupt

    def attempt(self, name: str, measure: Callable[[], Any]) -> Any:
        """Return a measurement, or nothing if it fails: this is reported, and noted in ``failures``."""
        print(f"== {name} {datetime.now(UTC):%H:%M:%S}", flush=True)
        try:
            return measure()
        except (Exception, SystemExit):  # noqa: BLE001 - the other benchmarks have their numbers
            if self.stopped:  # what fails after Ctrl-C fails because of it
                raise KeyboardInterrupt from None
            traceback.print_exc()
            self.failures.append(name)
            return None


def _commit() -> str | None:
    """Return the checkout's commit, with ``-dirty`` if the exporter was changed; nothing outside a checkout."""

    def git(*words: str) -> str:
        done = subprocess.run(("git", "-C", str(ROOT), *words), check=False, capture_output=True, text=True)
        return done.stdout.strip()

    commit = git("rev-parse", "--short=12", "HEAD")
    return (commit and commit + ("-dirty" if git("status", "--porcelain", "--", "exporter") else "")) or None


def _compared(revision: str, of: Extent, run: Run) -> dict[str, Any]:
    """Measure this tree and that of another revision, piece by piece."""
    sizes = {
        **{key: getattr(of, key) for key in ("factors", "rounds", "seconds", "rate", "many", "profile_seconds")},
        "settled_seconds": of.settled_seconds,
        "point_seconds": of.curve_seconds,
        "many_rounds": min(of.rounds, 3),
    }
    found: dict[str, Any] = {"revision": revision, "factors": of.factors, "many_factors": of.many}
    with compare.tree_of(revision) as before:
        for name, measure in compare.pieces(before, sizes).items():
            if (measured := run.attempt(f"compare: {name}", measure)) is not None:
                found[name] = measured
    return found


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", choices=NAMES, action="append", help="run this benchmark; may be repeated")
    parser.add_argument("--compare", metavar="REVISION", help="also run this revision's exporter: before and after")
    parser.add_argument("--million-factors", type=int, nargs="+", metavar="N", help="tried until one holds")
    parser.add_argument("--million-seconds", type=float, metavar="SECONDS", help="how long each number is tried")
    parser.add_argument("--quick", action="store_true", help="try the benchmarks with small sizes; no file changes")
    arguments = parser.parse_args()
    if arguments.only and "compare" in arguments.only and not arguments.compare:
        parser.error("--only compare needs --compare REVISION")
    return arguments


def main() -> None:
    """Run the benchmarks and write the numbers and the page."""
    arguments = _arguments()
    run = Run()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, run.stop)
    of = _QUICK if arguments.quick else Extent()
    if arguments.million_factors:
        of = replace(of, million_counts=tuple(arguments.million_factors))
    if arguments.million_seconds:
        of = replace(of, million_seconds=arguments.million_seconds)
    measurements = _measurements(of)
    chosen = arguments.only or [name for name in measurements if name not in BY_NAME_ONLY]
    if arguments.compare:
        measurements["compare"] = lambda: _compared(arguments.compare, of, run)
        chosen = [*(name for name in chosen if name != "compare"), "compare"]
    with tempfile.TemporaryDirectory(prefix="verify-factor-exporter-quick-") as folder:
        docs = document.DOCS
        if arguments.quick:
            docs = Path(folder)
            shutil.copytree(document.DOCS / "images", docs / "images")
            for name in (document.NUMBERS, document.COMPARISON, history.HISTORY):
                if name.exists():
                    shutil.copy(name, docs)
        try:
            _measure(chosen, measurements, docs, run)
        except KeyboardInterrupt:
            sys.exit("interrupted: the numbers until now are written")
        if arguments.quick and (page := docs / document.PAGE.name).exists():
            print(page.read_text(encoding="utf-8"))
    if run.failures:
        sys.exit(f"failed, their former numbers stay: {', '.join(run.failures)}")


def _measure(chosen: list[str], measurements: dict[str, Callable[[], Any]], docs: Path, run: Run) -> None:
    """Run the chosen benchmarks; after each of them, write all files."""
    commit = _commit()
    for name in chosen:
        measured = run.attempt(name, lambda of=measurements[name]: beside(of))  # type: ignore[misc]  # mypy infers no lambda with a default
        if measured is None:
            continue
        result, noise = measured
        record = {
            "measured": result,
            "noise": asdict(noise),
            "date": datetime.now(UTC).date().isoformat(),
            "commit": commit,
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        }
        run.attempt(f"{name}: write the page", lambda: document.write(docs, name, record, __version__))  # noqa: B023 - called at once
    print(f"written: {docs / document.PAGE.name}", flush=True)


if __name__ == "__main__":
    main()
