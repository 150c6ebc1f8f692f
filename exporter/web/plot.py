"""The plot of a factor's last fetches: latency as height, the outcome as a shape; and what it shows in words."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from exporter.verify.outcome import Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.web.history import Fetch

WIDTH, HEIGHT = 760, 130
_EDGE = 12
_STEPS = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)


class Mark(NamedTuple):
    """One fetch: its place, and the shape of its outcome."""

    x: float
    y: float
    shape: str
    fetch: Fetch


class Plot(NamedTuple):
    """The marks, oldest first, the latency that the top stands for, and what is seen in words."""

    marks: list[Mark]
    line: str
    top_seconds: float
    words: str


def plot(recent: Sequence[Fetch]) -> Plot | None:
    """Return the plot of these fetches, newest first as they come; ``None`` where a plot would show nothing."""
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
    return Plot(marks, " ".join(f"{mark.x},{mark.y}" for mark in marks), top, _words(fetches))


def _ceiling(seconds: float) -> float:
    """Return the round number of seconds at or above these."""
    seconds = max(seconds, 0.001)
    unit = 10.0 ** math.floor(math.log10(seconds))
    return next((unit * step for step in _STEPS if unit * step >= seconds), unit * 10)


def _words(fetches: Sequence[Fetch]) -> str:
    durations = sorted(fetch.duration_seconds for fetch in fetches)
    counts = [(str(status).replace("_", " "), sum(f.result is status for f in fetches)) for status in Status]
    counts.append(("failed", sum(fetch.failed for fetch in fetches)))
    told = ", ".join(f"{number} {what}" for what, number in counts if number)
    return (
        f"{len(fetches)} fetches: {told}. The quickest took {duration(durations[0])}, the slowest "
        f"{duration(durations[-1])}, the one in the middle {duration(durations[len(durations) // 2])}."
    )


def duration(seconds: float) -> str:
    """Return a duration in words."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
