"""Another revision's exporter beside this one: the same measurements, in the same run and the same environment."""

from __future__ import annotations

import asyncio
import contextlib
import io
import statistics
import subprocess
import tarfile
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import curve, functions, reloads, startup, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parent.parent
BEFORE, AFTER = "before", "after"


@contextlib.contextmanager
def tree_of(revision: str) -> Iterator[Path]:
    """Unpack a revision's files into a temporary folder until the end of the block; raises SystemExit."""
    packed = subprocess.run(
        ("git", "-C", str(ROOT), "archive", "--format=tar", revision), check=False, capture_output=True
    )
    if packed.returncode:
        raise SystemExit(f"--compare {revision}: {packed.stderr.decode().strip()}")
    with tempfile.TemporaryDirectory(prefix="verify-factor-exporter-before-") as folder:
        with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as files:
            files.extractall(folder, filter="data")
        yield Path(folder)


def pieces(before: Path, sizes: Mapping[str, Any]) -> dict[str, Callable[[], Any]]:
    """Return what is measured of both trees, by name; ``sizes`` has the numbers that :mod:`benchmarks` chose."""
    trees = {BEFORE: before, AFTER: ROOT}
    factors, rounds, seconds, rate = (sizes[key] for key in ("factors", "rounds", "seconds", "rate"))
    many = sizes["many"]
    return {
        "fetch": lambda: asdict(asyncio.run(whole.side_by_side(trees, factors, rounds, seconds, rate))),
        "startup": lambda: {name: startup.measure(rounds, tree) for name, tree in trees.items()},
        "many": lambda: {
            name: startup.measure_many(many, sizes["many_rounds"], tree) for name, tree in trees.items()
        },
        "functions": lambda: {
            name: asdict(asyncio.run(functions.measure(factors, rate, sizes["profile_seconds"], tree=tree)))
            for name, tree in trees.items()
        },
        "reload": lambda: {
            name: {
                what: asdict(of)
                for what, of in asyncio.run(
                    reloads.measure_both(many, rate, settled=sizes["settled_seconds"], tree=tree)
                ).items()
            }
            for name, tree in trees.items()
        },
        "full": lambda: {
            name: asdict(asyncio.run(curve.point(many, sizes["point_seconds"], tree=tree)))
            for name, tree in trees.items()
        },
    }


def rows(measured: Mapping[str, Any]) -> list[tuple[str, str, float, float]]:
    """Return what was compared: a name, a unit, and the numbers before and after."""
    found: list[tuple[str, str, float, float]] = []

    def medians(part: Mapping[str, Mapping[str, Sequence[float]]], what: str, named: str | None = None) -> None:
        before, after = (statistics.median(part[name][what]) for name in (BEFORE, AFTER))
        found.append((named or what, "ms", before * 1e3, after * 1e3))

    if "fetch" in measured:
        of = {name: statistics.median(times) for name, times in measured["fetch"]["seconds"].items()}
        memory = measured["fetch"]["memory_mb"]
        found.append(("CPU per fetch", "µs", of[BEFORE] * 1e6, of[AFTER] * 1e6))
        if poller := of.get(whole.GO_POLLER):
            found.append(("CPU per fetch / that of the poller in Go", "", of[BEFORE] / poller, of[AFTER] / poller))
        found.append((f"resident memory, {measured['factors']:,} factors", "MB", memory[BEFORE], memory[AFTER]))
    if "full" in measured:
        before, after = measured["full"][BEFORE], measured["full"][AFTER]
        many = f"{measured['many_factors']:,} factors"
        found += [
            (f"resident memory, {many}", "MB", before["memory_mb"], after["memory_mb"]),
            (f"CPU per fetch, {many}", "µs", *(of["cpu_seconds_per_fetch"] * 1e6 for of in (before, after))),
        ]
    for what in measured.get("reload", {}).get(AFTER, ()):
        before, after = (measured["reload"][name][what] for name in (BEFORE, AFTER))
        found += [
            (f"reload, {what}: {title}", "ms", before[key] * 1e3, after[key] * 1e3)
            for key, title in (
                ("longest_stall", "longest stall"),
                ("longest_scrape", "longest scrape"),
                ("longest_without_fetch", "longest time without a fetch"),
                ("seconds", "duration"),
            )
        ]
    if "startup" in measured:
        for what in ("import the libraries", "first scrape of ten factors"):
            medians(measured["startup"], what)
    if "many" in measured:
        for what in measured["many"][AFTER]:
            medians(
                measured["many"],
                what,
                what if "factors" in what else f"{what}, {measured['many_factors']:,} factors",
            )
    return found
