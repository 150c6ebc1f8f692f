"""Keys by the second in which they are due: a key takes a place in a list, and no object of its own.

Otherwise the garbage collector would traverse a hundred thousand small tuples again and again, as every fetch makes
a new one, while the event loop waits.
"""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

K = TypeVar("K", bound="tuple[str, ...]")


class Calendar(Generic[K]):
    """Returns the keys that are due; ``due_of`` returns a key's time, ``None`` where it has none.

    The owner keeps the times. A place that a key left for another time is ignored when it comes up; ``places``
    counts these, too.
    """

    def __init__(self, due_of: Callable[[K], float | None]) -> None:
        self._due_of = due_of
        self._seconds: dict[int, list[K]] = {}
        self._order: list[int] = []  # a heap of the seconds that have keys
        self.places = 0

    def put(self, key: K, due: float) -> None:
        """Give a key a place at its new time."""
        second = math.floor(due)
        keys = self._seconds.get(second)
        if keys is None:
            self._seconds[second] = [key]
            heapq.heappush(self._order, second)
        else:
            keys.append(key)
        self.places += 1

    def take(self, now: float) -> Iterator[tuple[K, float]]:
        """Yield the keys due at ``now`` and their times, earliest first; the owner must clear a time at once."""
        while self._order and self._order[0] <= now:
            second = heapq.heappop(self._order)
            keys = self._seconds.pop(second)
            self.places -= len(keys)
            # A key that left and came back has two places: it is taken once.
            times = {key: due for key in keys if (due := self._due_of(key)) is not None and due // 1 == second}
            ready = sorted((due, key) for key, due in times.items() if due <= now)
            for key, due in times.items():
                if due > now:
                    self.put(key, due)
            left = iter(ready)
            try:
                for due, key in left:
                    if self._due_of(key) == due:
                        yield key, due
            finally:  # nothing is lost where the caller stops early
                for due, key in left:
                    self.put(key, due)
            if second + 1 > now:
                return

    def rebuild(self, keys: Iterable[K]) -> None:
        """Drop the abandoned places; ``keys`` are all keys."""
        self._seconds, self._order, self.places = {}, [], 0
        for key in keys:
            if (due := self._due_of(key)) is not None:
                self.put(key, due)
