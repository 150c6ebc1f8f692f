"""One line per release in docs/performance-history.json, and a plot of it."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.whole import BLACKBOX, GO_POLLER, OURS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DOCS = Path(__file__).resolve().parent.parent / "docs"
HISTORY = DOCS / "performance-history.json"
PLOT = DOCS / "images" / "performance-history.png"

# Key of an entry, and the title of its plot.
PLOTTED = (
    ("fetch_us", "CPU per fetch, µs"),
    ("fetch_to_go", "CPU per fetch / poller in Go"),
    ("memory_10k_mb", "Memory, 10,000 factors, MB"),
    ("memory_100k_mb", "Memory, 100,000 factors, MB"),
    ("scrape_100k_ms", "Scrape, 100,000 factors, ms"),
    ("serving_100k_s", "Start with 100,000 factors, s"),
)


def entry(numbers: Mapping[str, Any], version: str) -> dict[str, Any]:
    """Return the entry of a version: what it was measured with, and the numbers that there are."""
    whole = numbers["whole"]
    costs = {name: statistics.median(times) for name, times in whole["measured"]["seconds"].items()}
    found: dict[str, Any] = {
        "version": version,
        "commit": whole.get("commit"),
        "date": whole["date"],
        "python": whole["python"],
        "cores": whole["cores"],
        "fetch_us": costs[OURS] * 1e6,
        "fetch_to_go": costs[OURS] / costs[GO_POLLER] if costs.get(GO_POLLER) else None,
        "blackbox_to_fetch": costs[BLACKBOX] / costs[OURS],
        "memory_10k_mb": whole["measured"]["memory_mb"],
    }
    if (full := _measured(numbers, "full", "100000")) is not None:
        found |= {
            "memory_100k_mb": full["memory_mb"],
            "scrape_100k_ms": full["scrape_median"]["text, identity"] * 1e3,
            "lag_p99_100k_s": full["lag_p99"],
            "longest_stall_100k_ms": full["longest_stall"] * 1e3,
        }
    if (times := _measured(numbers, "startup", "first scrape of ten factors")) is not None:
        found["first_scrape_ms"] = statistics.median(times) * 1e3
    if (many := _measured(numbers, "many", "first scrape of 100,000 factors")) is not None:
        found["serving_100k_s"] = statistics.median(many)
    both = numbers.get("reload", {}).get("measured", {}).values()
    if both:
        found["longest_stall_of_reloads_ms"] = max(of["longest_stall"] for of in both) * 1e3
    held = [of["factors"] for of in numbers.get("million", {}).get("measured", ()) if not of["missed"]]
    if held:
        found["factors_in_shards"] = max(held)
    return {key: _rounded(value) for key, value in found.items() if value is not None}


def _measured(numbers: Mapping[str, Any], part: str, key: str) -> Any:
    return numbers.get(part, {}).get("measured", {}).get(key)


def _rounded(value: object) -> object:
    """Return a number with four significant digits, which is more than a repetition agrees on."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def merged(entries: Sequence[Mapping[str, Any]], new: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the entries with a new one in the place of that of the same version, or at the end."""
    if all(old["version"] != new["version"] for old in entries):
        return [*entries, new]
    return [new if old["version"] == new["version"] else old for old in entries]


def read(file: Path = HISTORY) -> list[Mapping[str, Any]]:
    """Return the entries of the file, none if there is no file."""
    entries: list[Mapping[str, Any]] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    return entries


def dump(entries: Sequence[Mapping[str, Any]]) -> str:
    """Return the text of the file: JSON with one line per entry."""
    return "[\n" + ",\n".join(json.dumps(of, ensure_ascii=False) for of in entries) + "\n]\n"


def draw(entries: Sequence[Mapping[str, Any]], plot: Path = PLOT) -> None:
    """Plot the numbers by version."""
    import matplotlib as mpl  # noqa: PLC0415 - slow to import, and only the bench draws

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415  as above

    versions = [of["version"] for of in entries]
    figure, grid = plt.subplots(2, 3, figsize=(12, 5.4), layout="constrained")
    for axis, (key, title) in zip(grid.flat, PLOTTED, strict=True):
        values = [of.get(key, math.nan) for of in entries]
        axis.plot(versions, values, marker="o", color="#1f5fa8")
        axis.set(title=title, ylim=(0, max((value for value in values if value == value), default=1) * 1.25))
        axis.margins(x=0.15)
        for version, value in zip(versions, values, strict=True):
            if not math.isnan(value):
                axis.annotate(
                    f"{value:,.3g}", (version, value), textcoords="offset points", xytext=(0, 7), ha="center"
                )
        axis.grid(alpha=0.3)
    figure.savefig(plot, dpi=110)
    plt.close(figure)
