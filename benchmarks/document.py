"""Write docs/performance.md and its plot from the numbers of the last run."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

DOCS = Path(__file__).resolve().parent.parent / "docs"
NUMBERS = DOCS / "performance.json"
PAGE = DOCS / "performance.md"
PLOT = DOCS / "images" / "performance.png"

_PARTS = ("whole", "scrape", "pages", "full", "startup")
_TEMPLATE = Path(__file__).with_name("page.md")


def render(numbers: Mapping[str, Any]) -> str:
    """Return docs/performance.md."""
    whole, full = numbers["whole"]["measured"], numbers["full"]["measured"]
    medians = {name: statistics.median(times) for name, times in whole["seconds"].items()}
    ours = next(iter(medians.values()))
    return _TEMPLATE.read_text(encoding="utf-8").format(
        cores=numbers["whole"]["cores"],
        python=numbers["whole"]["python"],
        factors=f"{whole['factors']:,}",
        rate=f"{whole['rate']:.0f}",
        whole=_times(whole["seconds"], "µs"),
        blackbox_ratio=f"{_of(medians, 'blackbox') / ours:.1f}",
        floor_ratio=f"{ours / _of(medians, 'lower bound: asyncio'):.1f}",
        memory=f"{whole['memory_mb']:.0f}",
        blackbox_memory=f"{whole['blackbox_memory_mb']:.0f}",
        scrape="\n\n".join(
            f"{int(factors):,} factors, {of['bytes'] / 1e6:.1f} MB:\n\n{_times(of['seconds'], 'ms')}"
            for factors, of in numbers["scrape"]["measured"].items()
        ),
        full=_full(full),
        pages=_pages(numbers["pages"]["measured"]),
        startup=_times(numbers["startup"]["measured"], "ms"),
        **{f"{name}_date": f"Measured {numbers[name]['date']}" for name in _PARTS},
    )


def _of(medians: Mapping[str, float], begins: str) -> float:
    return next(value for name, value in medians.items() if name.startswith(begins))


def _times(rounds: Mapping[str, Sequence[float]], unit: str) -> str:
    """Return a table of medians, spreads and ratios to the first row."""
    scale = {"ms": 1e3, "µs": 1e6}[unit]
    first = statistics.median(next(iter(rounds.values())))
    number = len(next(iter(rounds.values())))
    lines = [f"| | median of {number} | spread | ratio |", "|---|---:|---:|---:|"]
    for name, seconds in rounds.items():
        median = statistics.median(seconds)
        spread = f"{min(seconds) * scale:,.2f} – {max(seconds) * scale:,.2f} {unit}"
        lines.append(f"| {name} | {median * scale:,.2f} {unit} | {spread} | {median / first:.2f} |")
    return "\n".join(lines)


def _pages(measured: Mapping[str, Any]) -> str:
    """Return a table with the medians of each page, and the size of the status page."""
    lines = ["| | server, ms | first contentful paint, ms | slowest paint, ms |", "|---|---:|---:|---:|"]
    for name, paints in measured["first_paint"].items():
        server = statistics.median(measured["server"][name])
        lines.append(
            f"| {name} | {server * 1e3:.0f} | {statistics.median(paints) * 1e3:.0f} | {max(paints) * 1e3:.0f} |"
        )
    size, compressed = measured["page_bytes"] / 1e3, measured["compressed_bytes"] / 1e3
    return "\n".join([*lines, "", f"The status page has {size:.0f} kB, compressed {compressed:.0f} kB."])


def _full(full: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a table with one column per number of factors."""
    rows: tuple[tuple[str, Callable[[Mapping[str, Any]], str]], ...] = (
        ("duration, s", lambda of: f"{of['seconds']:,}"),
        ("interval, s", lambda of: f"{of['interval_seconds']:g}"),
        ("fetches", lambda of: f"{of['fetches']:,}"),
        ("missed", lambda of: f"{of['missed']:,}"),
        ("failed", lambda of: f"{of['failed']:g}"),
        ("lag p50, s", lambda of: f"{of['lag_p50']:.2f}"),
        ("lag p99, s", lambda of: f"{of['lag_p99']:.2f}"),
        ("CPU per fetch without scrapes, µs", lambda of: f"{of['cpu_seconds_per_fetch'] * 1e6:.0f}"),
        ("CPU, share of one core, with scrapes", lambda of: f"{of['cpu_share']:.1%}"),
        ("resident memory at the end, MB", lambda of: f"{of['memory_mb']:.0f}"),
        ("size of a scrape, MB", lambda of: f"{of['scrape_bytes'] / 1e6:.1f}"),
        ("scrapes", lambda of: f"{of['scrapes']:,}"),
        ("scrape, text format, ms", lambda of: f"{of['scrape_median']['text, identity'] * 1e3:.1f}"),
        ("scrape, text format, compressed, ms", lambda of: f"{of['scrape_median']['text, gzip'] * 1e3:.1f}"),
        (
            "scrape, OpenMetrics, compressed, ms",
            lambda of: f"{of['scrape_median']['OpenMetrics, gzip'] * 1e3:.1f}",
        ),
        ("time of a scrape / time to copy and write the same bytes", lambda of: f"{of['scrape_wall_to_copy']:.2f}"),
        (
            "longest stall of the event loop after the first minute, ms",
            lambda of: f"{of['longest_stall'] * 1e3:.0f}",
        ),
        ("stalls of more than 50 ms", lambda of: f"{len(of['stalls_over_50_ms'])}"),
        (
            "longest stall of an idle event loop on the same machine, ms",
            lambda of: f"{of['longest_stall_of_an_idle_loop'] * 1e3:.0f}",
        ),
    )
    lines = [
        f"| | {' | '.join(f'{int(size):,} factors' for size in full)} |",
        f"|---|{'---:|' * len(full)}",
    ]
    lines += [f"| {name} | {' | '.join(show(of) for of in full.values())} |" for name, show in rows]
    return "\n".join(lines)


def draw(numbers: Mapping[str, Any]) -> None:
    """Plot memory, scrape time and fetch cost by number of factors."""
    import matplotlib as mpl  # noqa: PLC0415 - slow to import, and only the bench draws

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415  as above

    full = numbers["full"]["measured"]
    sizes = [int(size) for size in full]
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    of_scrape = [next(iter(numbers["scrape"]["measured"][size]["seconds"].values())) for size in full]
    drawn = (
        ("Resident memory, MB", [of["memory_mb"] for of in full.values()]),
        ("Scrape of the pre-rendered lines, ms", [statistics.median(seconds) * 1e3 for seconds in of_scrape]),
        ("CPU per fetch without scrapes, µs", [of["cpu_seconds_per_fetch"] * 1e6 for of in full.values()]),
    )
    for axis, (title, values) in zip(axes, drawn, strict=True):
        axis.plot(sizes, values, marker="o", color="#1f5fa8")
        axis.set(title=title, xlabel="factors", xscale="log", ylim=(0, max(values) * 1.15))
        axis.margins(x=0.12)
        for size, value in zip(sizes, values, strict=True):
            axis.annotate(f"{value:,.3g}", (size, value), textcoords="offset points", xytext=(0, 7), ha="center")
        axis.grid(alpha=0.3)
    axes[1].set(yscale="log", ylim=(min(drawn[1][1]) / 2, max(drawn[1][1]) * 4))
    figure.savefig(PLOT, dpi=110)
