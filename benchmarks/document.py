"""Write docs/performance.md, its plots and the numbers in docs/comparison.md from the numbers of the last run."""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import compare, history
from benchmarks.whole import GO_POLLER, JSON_EXPORTER

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

DOCS = Path(__file__).resolve().parent.parent / "docs"
NUMBERS = DOCS / "performance.json"
PAGE = DOCS / "performance.md"
PLOT = DOCS / "images" / "performance.png"
COMPARISON = DOCS / "comparison.md"

_REQUIRED = {"whole", "scrape", "pages", "full", "startup"}
_OPTIONAL = ("many", "functions", "curve", "million", "reload", "compare", "history")
_TEMPLATE = Path(__file__).with_name("page.md")
_BLOCK = re.compile(r"^<!-- (if|unless) (\w+) -->\n(.*?)^<!-- end -->\n", re.MULTILINE | re.DOTALL)
_LEAST_DRAWN = 1_000  # with fewer factors, the cost per fetch is that of a process that mostly waits
_FUNCTIONS = 25  # in the table; the others have a few samples each


def write(docs: Path, part: str, record: Mapping[str, Any], version: str) -> None:
    """Add the record of a part to the numbers, and write every file that shows them, in the folder ``docs``."""
    file = docs / NUMBERS.name
    numbers: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    numbers[part] = record
    file.write_text(json.dumps(numbers, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if not numbers.keys() >= _REQUIRED:
        return
    entries = history.merged(history.read(docs / history.HISTORY.name), history.entry(numbers, version))
    (docs / history.HISTORY.name).write_text(history.dump(entries), encoding="utf-8")
    history.draw(entries, docs / "images" / history.PLOT.name)
    draw(numbers, docs / "images" / PLOT.name)
    (docs / PAGE.name).write_text(render(numbers, entries), encoding="utf-8")
    comparison = docs / COMPARISON.name
    comparison.write_text(compared_to_others(comparison.read_text(encoding="utf-8"), numbers), encoding="utf-8")


def compared_to_others(text: str, numbers: Mapping[str, Any]) -> str:
    """Return the text of docs/comparison.md with the numbers of the other exporters."""
    whole = numbers["whole"]["measured"]
    medians = {name: statistics.median(times) for name, times in whole["seconds"].items()}
    ours = next(iter(medians.values()))
    of_json = whole.get("json_exporter_memory_mb")
    text = re.sub(
        r"(?m)^\| Memory \| \d+ MB with [\d,]+ factors \| \d+ MB \| [^|]+ \|",
        f"| Memory | {whole['memory_mb']:.0f} MB with {whole['factors']:,} factors "
        f"| {whole['blackbox_memory_mb']:.0f} MB "
        f"| {'not measured' if of_json is None else f'{of_json:.0f} MB'} |",
        text,
    )
    begin, middle, end = text.partition("## json_exporter")
    took = r"took [\d.]+ times the CPU time of a fetch"
    begin = re.sub(took, f"took {_of(medians, 'blackbox') / ours:.1f} times the CPU time of a fetch", begin)
    if JSON_EXPORTER in medians:
        measured = f"took {medians[JSON_EXPORTER] / ours:.1f} times the CPU time of a fetch"
        end = re.sub(took, measured, end.replace("We didn't measure it.", f"A probe {measured}."))
    return begin + middle + end


def render(numbers: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> str:
    """Return docs/performance.md, with the sections of what was measured; ``entries`` are those of the history."""
    whole, full = numbers["whole"]["measured"], numbers["full"]["measured"]
    medians = {name: statistics.median(times) for name, times in whole["seconds"].items()}
    ours = next(iter(medians.values()))
    there = {*numbers, *(["history"] if entries else ())}
    if GO_POLLER in medians:
        there.add("go")
    if JSON_EXPORTER in medians:
        there.add("json")
    template = _BLOCK.sub(
        lambda block: block[3] if (block[2] in there) == (block[1] == "if") else "",
        _TEMPLATE.read_text(encoding="utf-8"),
    )
    optional: dict[str, Callable[[Any], str]] = {
        "many": lambda measured: _times(measured, "ms"),
        "functions": _functions,
        "curve": lambda measured: _curve({**measured, **full}),
        "million": _million,
        "reload": _reloads,
        "compare": _compared,
    }
    tables = {part: show(numbers[part]["measured"]) for part, show in optional.items() if part in numbers}
    return template.format(
        **{**dict.fromkeys(optional, ""), **tables},
        history=_history(entries),
        go_ratio=f"{ours / medians.get(GO_POLLER, ours):.1f}",
        json_ratio=f"{medians.get(JSON_EXPORTER, ours) / ours:.1f}",
        revision=numbers.get("compare", {}).get("measured", {}).get("revision", ""),
        before_functions=_functions_compared(numbers.get("compare", {}).get("measured", {})),
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
        **{f"{name}_date": _measured(numbers.get(name)) for name in (*sorted(_REQUIRED), *_OPTIONAL)},
    )


def _measured(record: Mapping[str, Any] | None) -> str:
    """Return when a part was measured, and the noise of the machine meanwhile."""
    if record is None:
        return ""
    text = f"Measured {record['date']}"
    if (noise := record.get("noise")) is not None:
        text += (
            f"; meanwhile, an idle event loop stalled for at most {noise['longest_stall'] * 1e3:.0f} ms, "
            f"the cores were {noise['busy']:.0%} busy, and the hypervisor took {noise['stolen']:.1%} of their time"
        )
    return text


def _curve(of: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a table with one row per number of factors."""
    titles = (
        *("factors", "interval, s", "fetches/s", "missed", "lag p99, s", "CPU per fetch, µs"),
        *("CPU, share of one core", "memory, MB", "scrape, MB", "scrape, ms", "compressed, ms"),
    )
    lines = [f"| {' | '.join(titles)} |", f"|{'---:|' * len(titles)}"]
    for size in sorted(of, key=int):
        row = of[size]
        times = row["scrape_median"]
        cells = (
            f"{int(size):,}",
            f"{row['interval_seconds']:g}",
            f"{int(size) / row['interval_seconds']:.0f}",
            f"{row['missed']:,}",
            f"{row['lag_p99']:.2f}",
            f"{row['cpu_seconds_per_fetch'] * 1e6:,.0f}",
            f"{row['cpu_share']:.1%}",
            f"{row['memory_mb']:,.0f}",
            f"{row['scrape_bytes'] / 1e6:,.3g}",
            *(f"{times[kind] * 1e3:,.1f}" if kind in times else "" for kind in ("text, identity", "text, gzip")),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _million(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return a table with one column per number of factors that was tried."""
    rows: tuple[tuple[str, Callable[[Mapping[str, Any]], str]], ...] = (
        ("shards", lambda of: f"{of['shards']}"),
        ("interval, s", lambda of: f"{of['interval_seconds']:g}"),
        ("duration after the first fetches, s", lambda of: f"{of['seconds']:,}"),
        ("fetches", lambda of: f"{of['fetches']:,}"),
        ("fetches/s", lambda of: f"{of['fetches'] / of['seconds']:,.0f}"),
        ("missed", lambda of: f"{of['missed']:,}"),
        ("failed", lambda of: f"{of['failed']:g}"),
        ("lag p50, s", lambda of: f"{of['lag_p50']:.2f}"),
        ("lag p99, s", lambda of: f"{of['lag_p99']:.2f}"),
        ("longest lag, s", lambda of: f"{of['lag_max']:.2f}"),
        ("CPU of all shards, with scrapes, cores", lambda of: f"{of['exporters_cpu']:.2f}"),
        ("CPU of nginx, cores", lambda of: f"{of['upstream_cpu']:.2f}"),
        ("CPU of what scrapes, cores", lambda of: f"{of['rest_cpu']:.2f}"),
        ("resident memory of all shards, MB", lambda of: f"{sum(of['memory_mb']):,.0f}"),
        ("resident memory of a shard, at most, MB", lambda of: f"{max(of['memory_mb']):,.0f}"),
        ("the same while it started, MB", lambda of: f"{max(of['memory_peak_mb']):,.0f}"),
        ("start of a shard, median, s", lambda of: f"{statistics.median(of['start']):.1f}"),
        ("scrapes", lambda of: f"{of['scrapes']:,}"),
        ("size of a scrape, compressed, MB", lambda of: f"{of['scrape_bytes'] / 1e6:.1f}"),
        ("scrape, median, ms", lambda of: f"{of['scrape_median'] * 1e3:,.0f}"),
        ("longest scrape, ms", lambda of: f"{of['scrape_max'] * 1e3:,.0f}"),
    )
    lines = [
        f"| | {' | '.join(format(of['factors'], ',') + ' factors' for of in runs)} |",
        f"|---|{'---:|' * len(runs)}",
    ]
    lines += [f"| {name} | {' | '.join(show(of) for of in runs)} |" for name, show in rows]
    return "\n".join(lines)


def _reloads(both: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a table with one column per reload."""
    rows: tuple[tuple[str, Callable[[Mapping[str, Any]], str]], ...] = (
        ("factors", lambda of: f"{of['factors_after']:,}"),
        ("duration of the reload, s", lambda of: f"{of['seconds']:.1f}"),
        ("longest stall of the event loop, ms", lambda of: f"{of['longest_stall'] * 1e3:.0f}"),
        ("stalls of more than 50 ms", lambda of: f"{len(of['stalls_over_50_ms'])}"),
        ("longest scrape, ms", lambda of: f"{of['longest_scrape'] * 1e3:,.0f}"),
        ("longest scrape before, ms", lambda of: f"{of['longest_scrape_before'] * 1e3:,.0f}"),
        ("longest time without a fetch, s", lambda of: f"{of['longest_without_fetch']:.2f}"),
        ("the same before, s", lambda of: f"{of['longest_without_fetch_before']:.2f}"),
        ("resident memory afterwards, MB", lambda of: f"{of['memory_mb']:,.0f}"),
        ("peak, MB", lambda of: f"{of['memory_peak_mb']:,.0f}"),
    )
    lines = [f"| | {' | '.join(both)} |", f"|---|{'---:|' * len(both)}"]
    lines += [f"| {name} | {' | '.join(show(of) for of in both.values())} |" for name, show in rows]
    return "\n".join(lines)


def _functions(measured: Mapping[str, Any]) -> str:
    """Return a table of the functions with the most samples."""
    cost, samples = measured["cpu_seconds_per_fetch"] * 1e6, measured["samples"]
    lines = ["| function | µs per fetch | share |", "|---|---:|---:|"]
    lines += [
        f"| `{name}` | {count / samples * cost:.1f} | {count / samples:.1%} |"
        for name, count in sorted(measured["own"].items(), key=lambda item: -item[1])[:_FUNCTIONS]
    ]
    return "\n".join([*lines, f"| all functions | {cost:.1f} | 100% |"])


def _functions_compared(measured: Mapping[str, Any]) -> str:
    """Return a table of the functions that cost the most, before or after."""
    if "functions" not in measured:
        return ""
    costs: dict[str, dict[str, float]] = {}
    totals: list[float] = []
    for when in (compare.BEFORE, compare.AFTER):
        of = measured["functions"][when]
        totals.append(of["cpu_seconds_per_fetch"] * 1e6)
        costs[when] = {name: count / of["samples"] * totals[-1] for name, count in of["own"].items()}
    before, after = costs[compare.BEFORE], costs[compare.AFTER]
    names = sorted({*before, *after}, key=lambda name: -max(before.get(name, 0.0), after.get(name, 0.0)))
    lines = ["| function | before, µs per fetch | after, µs per fetch |", "|---|---:|---:|"]
    lines += [
        f"| `{name}` | {before.get(name, 0.0):.1f} | {after.get(name, 0.0):.1f} |" for name in names[:_FUNCTIONS]
    ]
    return "\n".join(["", *lines, f"| all functions | {totals[0]:.1f} | {totals[1]:.1f} |", ""])


def _compared(measured: Mapping[str, Any]) -> str:
    """Return a table with what was measured of both revisions."""
    lines = ["| | before | after | after / before |", "|---|---:|---:|---:|"]
    for name, unit, before, after in compare.rows(measured):
        cells = (f"{value:,.{0 if value >= 100 else 1}f} {unit}".strip() for value in (before, after))
        lines.append(f"| {name} | {' | '.join(cells)} | {after / before:.2f} |")
    return "\n".join(lines)


def _history(entries: Sequence[Mapping[str, Any]]) -> str:
    """Return a table with one row per release."""
    titles = [title for _, title in history.PLOTTED]
    lines = [f"| version | date | Python | {' | '.join(titles)} |", f"|---|---|---|{'---:|' * len(titles)}"]
    for of in entries:
        cells = (f"{of[key]:,.3g}" if key in of else "" for key, _ in history.PLOTTED)
        lines.append(f"| {of['version']} | {of['date']} | {of['python']} | {' | '.join(cells)} |")
    return "\n".join(lines)


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


def draw(numbers: Mapping[str, Any], plot: Path = PLOT) -> None:
    """Plot memory, scrape time and fetch cost by number of factors."""
    import matplotlib as mpl  # noqa: PLC0415 - slow to import, and only the bench draws

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415  as above

    points = {**numbers.get("curve", {}).get("measured", {}), **numbers["full"]["measured"]}
    scrapes = numbers["scrape"]["measured"]
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    drawn: tuple[tuple[str, dict[str, float]], ...] = (
        ("Resident memory, MB", {size: of["memory_mb"] for size, of in points.items()}),
        (
            "Scrape of the pre-rendered lines, ms",
            {size: statistics.median(next(iter(of["seconds"].values()))) * 1e3 for size, of in scrapes.items()},
        ),
        (
            "CPU per fetch without scrapes, µs",
            {size: of["cpu_seconds_per_fetch"] * 1e6 for size, of in points.items() if int(size) >= _LEAST_DRAWN},
        ),
    )
    for axis, (title, of_size) in zip(axes, drawn, strict=True):
        sizes = sorted(map(int, of_size))
        values = [of_size[str(size)] for size in sizes]
        axis.plot(sizes, values, marker="o", color="#1f5fa8")
        axis.set(title=title, xlabel="factors", xscale="log", ylim=(0, max(values, default=1) * 1.15))
        axis.margins(x=0.12)
        for size, value in zip(sizes, values, strict=True):
            axis.annotate(f"{value:,.3g}", (size, value), textcoords="offset points", xytext=(0, 7), ha="center")
        axis.grid(alpha=0.3)
    of_scrapes = drawn[1][1].values()
    axes[1].set(yscale="log", ylim=(min(of_scrapes) / 2, max(of_scrapes) * 4))
    figure.savefig(plot, dpi=110)
    plt.close(figure)
