"""The plot of a factor's last fetches: latency as height, outcome as shape, and the same in words.

Apart from pages.py because it is pure geometry, tested without a server.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from exporter.verify.outcome import Status
from exporter.web.formatting import format_latency

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.web.history import Fetch

WIDTH, HEIGHT = 760, 130
_EDGE = 12
_STEPS = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)


class Mark(NamedTuple):
    """One fetch: its position, and the shape that stands for its outcome."""

    x: float
    y: float
    shape: str
    fetch: Fetch


class Plot(NamedTuple):
    """The marks, oldest first; the latency at the top of the scale; and a text for those who can't see the plot."""

    marks: list[Mark]
    line: str
    top_seconds: float
    description: str


def plot(recent: Sequence[Fetch]) -> Plot | None:
    """Return the plot of fetches given newest first; ``None`` for fewer than two."""
    if len(recent) < 2:
        return None
    fetches = recent[::-1]
    top = _ceiling(max(fetch.duration_seconds for fetch in fetches))
    step = (WIDTH - 2 * _EDGE) / (len(fetches) - 1)
    marks = [
        Mark(
            round(_EDGE + number * step, 1),
            round(HEIGHT - _EDGE - (HEIGHT - 2 * _EDGE) * fetch.duration_seconds / top, 1),
            "failed" if fetch.failed else str(fetch.result),
            fetch,
        )
        for number, fetch in enumerate(fetches)
    ]
    return Plot(marks, " ".join(f"{mark.x},{mark.y}" for mark in marks), top, _description(fetches))


def _ceiling(seconds: float) -> float:
    """Return the next round number of seconds."""
    seconds = max(seconds, 0.001)
    unit = 10.0 ** math.floor(math.log10(seconds))
    return next((unit * step for step in _STEPS if unit * step >= seconds), unit * 10)


def _description(fetches: Sequence[Fetch]) -> str:
    durations = sorted(fetch.duration_seconds for fetch in fetches)
    counts = [(str(status).replace("_", " "), sum(f.result is status for f in fetches)) for status in Status]
    counts.append(("failed", sum(fetch.failed for fetch in fetches)))
    outcomes = ", ".join(f"{number} {what}" for what, number in counts if number)
    return (
        f"{len(fetches)} fetches: {outcomes}. Latency: minimum {format_latency(durations[0])}, "
        f"median {format_latency(durations[len(durations) // 2])}, maximum {format_latency(durations[-1])}."
    )
