"""Detects that most factors of a service return 404 at once, which points to a wrong service, not to each factor.

Apart from events.py because the decision is pure, and tested without a log.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from exporter.watched import FactorKey

FEWEST_FACTORS = 10


class MassNotFound(NamedTuple):
    """Of the ``factors`` of a service, ``not_found`` turned 404 within ``within_seconds``."""

    not_found: int
    factors: int
    within_seconds: float


class MassNotFoundDetector:
    """The factors of one service that are not found, and when each of them turned 404.

    Factors count together when they turned 404 within the longest interval of any of them. Times are seconds of
    one monotonic clock. A call takes constant time, plus once for each factor that leaves the interval.
    """

    def __init__(self) -> None:
        self._gone: dict[FactorKey, int] = {}  # the number of the 404
        self._recent: deque[tuple[float, int, FactorKey]] = deque()
        self._number = 0
        self._recent_gone = 0
        self._within_seconds = 0.0
        self._reported = False

    def __len__(self) -> int:
        return len(self._gone)

    def __contains__(self, key: FactorKey) -> bool:
        return key in self._gone

    def not_found(self, key: FactorKey, now: float, interval_seconds: float, factors: int) -> MassNotFound | None:
        """Take a 404 for one of ``factors``; return what to report, once until half of them are found again.

        ``interval_seconds`` is the time between two fetches of the factor while it is found.
        """
        if key in self._gone:
            return None
        self._number += 1
        self._gone[key] = self._number
        self._recent.append((now, self._number, key))
        self._recent_gone += 1
        self._within_seconds = max(self._within_seconds, interval_seconds)
        while self._recent[0][0] <= now - self._within_seconds:
            _, number, other = self._recent.popleft()
            if self._gone.get(other) == number:
                self._recent_gone -= 1
        if self._reported or factors < FEWEST_FACTORS or 2 * self._recent_gone <= factors:
            return None
        self._reported = True
        return MassNotFound(self._recent_gone, factors, self._within_seconds)

    def found(self, key: FactorKey, factors: int) -> None:
        """Take the end of a factor's 404: another answer, or the factor is no longer watched."""
        number = self._gone.pop(key, None)
        if number is None:
            return
        if self._recent and self._recent[0][1] <= number:
            self._recent_gone -= 1
        if 2 * len(self._gone) < factors:
            self._reported = False
