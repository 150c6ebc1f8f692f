"""Whether the factors of a whole service turn 404 together, which one factor's end does not explain. Pure."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from exporter.watched import FactorKey

FEWEST_FACTORS = 10


class MassNotFound(NamedTuple):
    """Of ``factors`` of a service, ``not_found`` turned 404 within ``within_seconds``."""

    not_found: int
    factors: int
    within_seconds: float


class ServiceWatch:
    """The factors of one service that are not found, and when each of them turned so.

    The interval that counts is the longest one of those that turned. Times are seconds of one monotonic clock;
    each call costs the same, however many factors there are, but for those that leave the interval once.
    """

    def __init__(self) -> None:
        self._gone: dict[FactorKey, int] = {}  # the number of the turn
        self._turned: deque[tuple[float, int, FactorKey]] = deque()
        self._turns = 0
        self._lately = 0
        self._within_seconds = 0.0
        self._told = False

    def __len__(self) -> int:
        return len(self._gone)

    def __contains__(self, key: FactorKey) -> bool:
        return key in self._gone

    def lost(self, key: FactorKey, now: float, interval_seconds: float, factors: int) -> MassNotFound | None:
        """Take a 404 for one of ``factors``; return what there is to tell: once, until half of them are found.

        ``interval_seconds`` is the time between two looks at the factor while it is found.
        """
        if key in self._gone:
            return None
        self._turns += 1
        self._gone[key] = self._turns
        self._turned.append((now, self._turns, key))
        self._lately += 1
        self._within_seconds = max(self._within_seconds, interval_seconds)
        while self._turned[0][0] <= now - self._within_seconds:
            _, turn, other = self._turned.popleft()
            if self._gone.get(other) == turn:
                self._lately -= 1
        if self._told or factors < FEWEST_FACTORS or 2 * self._lately <= factors:
            return None
        self._told = True
        return MassNotFound(self._lately, factors, self._within_seconds)

    def found(self, key: FactorKey, factors: int) -> None:
        """Take the end of a factor's 404: another answer, or nobody watches it any more."""
        turn = self._gone.pop(key, None)
        if turn is None:
            return
        if self._turned and self._turned[0][1] <= turn:
            self._lately -= 1
        if 2 * len(self._gone) < factors:
            self._told = False
