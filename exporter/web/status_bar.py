"""The history of a factor's status on the pages: a bar whose height is the status, and the same in words.

Apart from pages.py because it is pure geometry, tested without a server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from exporter.polling.record import UNKNOWN
from exporter.verify.outcome import Status
from exporter.web.formatting import format_age

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.polling.status_history import Period

BAR_SECONDS = 86_400.0
"""What a bar in a table shows."""
WIDTH, HEIGHT = 288, 16
_HEIGHTS = {Status.VERIFIED: 5, Status.UNVERIFIED: 10, Status.NOT_FOUND: HEIGHT}  # in the order they are drawn
_WORST_FIRST = (Status.NOT_FOUND, Status.UNVERIFIED, UNKNOWN, Status.VERIFIED)
_NARROWEST = 2  # so that a short problem is seen


class Bar(NamedTuple):
    """A bar: its shapes as (status, SVG path), and a text for those who can't see it."""

    shapes: list[tuple[Status, str]]
    description: str


class StatusPeriod(NamedTuple):
    """A period in a list: the status as it is shown, and the one before; wall seconds.

    ``before`` is ``None`` where the period began before the history; ``lasts`` says that it has not ended.
    """

    status: str
    before: str | None
    start_seconds: float
    seconds: float
    lasts: bool

    def as_json(self) -> dict[str, object]:
        """Return the beginning of the period as the JSON object of the API."""
        return {"seconds": round(self.start_seconds, 3), "from": self.before, "to": self.status}


def status_bar(periods: Sequence[Period]) -> Bar:
    """Return the bar of these periods, which are oldest first and cover its whole time."""
    start, end = periods[0].start_seconds, periods[-1].end_seconds
    paths = dict.fromkeys(_HEIGHTS, "")
    for period in periods:
        if period.status is None:
            continue
        left = round((period.start_seconds - start) / (end - start) * WIDTH)
        right = round((period.end_seconds - start) / (end - start) * WIDTH)
        if period.status is not Status.VERIFIED:
            left = min(left, WIDTH - _NARROWEST)
            right = max(right, left + _NARROWEST)
        if left < right:
            height = _HEIGHTS[period.status]
            paths[period.status] += f"M{left} {HEIGHT - height}h{right - left}v{height}H{left}z"
    return Bar([(status, path) for status, path in paths.items() if path], _description(periods))


def _description(periods: Sequence[Period]) -> str:
    totals: dict[str, float] = dict.fromkeys(_WORST_FIRST, 0.0)
    for period in periods:
        totals[period.status or UNKNOWN] += period.end_seconds - period.start_seconds
    parts = [
        f"{status.replace('_', ' ')} for {format_age(round(seconds, 3))}"
        for status, seconds in totals.items()
        if seconds
    ]
    return f"Last {format_age(round(sum(totals.values()), 3))}: {', '.join(parts)}"


def listed(periods: Sequence[Period]) -> list[StatusPeriod]:
    """Return these periods newest first, without the time before the factor was first observed."""
    found: list[StatusPeriod] = []
    before: str | None = None
    for period in periods:
        status = period.status or UNKNOWN
        if before is not None or status != UNKNOWN:
            seconds = period.end_seconds - period.start_seconds
            found.append(StatusPeriod(status, before, period.start_seconds, seconds, period is periods[-1]))
        before = status
    return found[::-1]
