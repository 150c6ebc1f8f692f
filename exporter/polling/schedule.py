"""When each factor is due. Pure: a calendar of due times; the clock is passed in.

A factor's place in its interval (its phase) is a hash of its key. The load is therefore flat, a restart causes
no burst, and the cadence never drifts: due times are multiples of the interval, shifted by the phase.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Generic, TypeVar

from exporter.polling.calendar import Calendar

if TYPE_CHECKING:
    from collections.abc import Iterator

K = TypeVar("K", bound="tuple[str, str, str]")

FIRST_FETCH_SECONDS = 30.0


def phase(key: tuple[str, str, str]) -> float:
    """Return a factor's or an entity's fixed place in its interval, as a fraction in [0, 1)."""
    digest = hashlib.blake2b("\0".join(key).encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big") / 2**48  # few enough bits for a float: never rounded up to 1


def due_after(after: float, interval_seconds: float, fraction: float) -> float:
    """Return the first due time later than ``after`` of a factor with this interval and phase, in seconds."""
    number = math.floor(after / interval_seconds - fraction) + 1
    due = (number + fraction) * interval_seconds
    while due <= after:  # rounding, for clocks far from zero
        number += 1
        due = (number + fraction) * interval_seconds
    return due


def first_fetch_spread(count: int, demand: float, budget: float) -> float:
    """Return the seconds over which ``count`` first fetches are spread so that an account stays within its budget.

    ``demand`` is what the regular fetches need, ``budget`` what the account may use, both in requests per second.
    Infinite where the regular fetches need the whole budget: first fetches then wait for their regular due time.
    """
    spare = budget - demand
    if spare <= 0:
        return math.inf
    return max(FIRST_FETCH_SECONDS, count / spare)


class Schedule(Generic[K]):
    """The due time of every factor, or of every entity; what was popped is out until it is put back.

    Times are seconds of one monotonic clock that is aligned with the epoch.
    """

    def __init__(self) -> None:
        self._due: dict[K, float | None] = {}  # None while a fetch is queued or in flight
        self._calendar: Calendar[K] = Calendar(self._due.get)

    def __len__(self) -> int:
        return len(self._due)

    def __contains__(self, key: K) -> bool:
        return key in self._due

    def add(self, key: K, now: float, interval_seconds: float, spread_seconds: float) -> float:
        """Watch a factor; return its first due time, within ``min(interval, spread)`` from now."""
        wait = due_after(now, interval_seconds, phase(key)) - now
        if spread_seconds < interval_seconds:
            # The order of the regular due times, compressed: the second fetch is at the regular time.
            wait *= spread_seconds / interval_seconds
        return self._put(key, now + wait)

    def remove(self, key: K) -> None:
        """Stop watching a factor, whether waiting, queued or in flight."""
        self._due.pop(key, None)

    def pop_due(self, now: float) -> Iterator[tuple[K, float]]:
        """Take out every factor that is due at ``now``, earliest first, with its due time."""
        for key, due in self._calendar.take(now):
            self._due[key] = None
            yield key, due

    def put_back(self, key: K, now: float, interval_seconds: float, *, soon: bool = False) -> None:
        """Plan the next due time after ``now`` of a factor whose fetch has ended; ignored for unwatched ones.

        Where it ended without learning anything, it is due ``soon``, like a first fetch.
        """
        if key not in self._due:
            return
        if soon:
            self.add(key, now, interval_seconds, FIRST_FETCH_SECONDS)
        else:
            self._put(key, due_after(now, interval_seconds, phase(key)))

    def bring_forward(self, key: K, now: float, interval_seconds: float) -> None:
        """Make a waiting factor due at its next time after ``now`` where that is earlier than before."""
        due = self._due.get(key)
        if due is not None:
            earlier = due_after(now, interval_seconds, phase(key))
            if earlier < due:
                self._put(key, earlier)

    def next_due(self, key: K, after: float, interval_seconds: float) -> float:
        """Return the due time after ``after`` that the factor would have at this interval."""
        return due_after(after, interval_seconds, phase(key))

    def waiting(self, key: K) -> float | None:
        """Return when the factor is next due, ``None`` while it is queued, in flight or not watched."""
        return self._due.get(key)

    @property
    def places(self) -> int:
        """How many calendar places the due times take, abandoned ones included."""
        return self._calendar.places

    def _put(self, key: K, due: float) -> float:
        self._due[key] = due
        self._calendar.put(key, due)
        if self._calendar.places > 2 * len(self._due):  # places of factors that moved or are no longer watched
            self._calendar.rebuild(self._due)
        return due
