"""Print a measurement: medians, the spread over the rounds, and ratios to the first row."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def table(title: str, unit: str, rounds: Mapping[str, Sequence[float]]) -> str:
    """Return a table of durations in seconds, shown in ``unit`` (``ms`` or ``µs``); ratios compare medians."""
    scale = {"ms": 1e3, "µs": 1e6}[unit]
    width = max(map(len, rounds))
    lines = [title, f"  {'':{width}}  {'median':>12}  {'min – max':>23}  {'ratio':>8}"]
    first = statistics.median(next(iter(rounds.values())))
    for name, seconds in rounds.items():
        median = statistics.median(seconds)
        spread = f"{min(seconds) * scale:,.2f} – {max(seconds) * scale:,.2f}"
        lines.append(f"  {name:{width}}  {median * scale:9,.2f} {unit}  {spread:>23}  {median / first:8.2f}")
    return "\n".join(lines)
