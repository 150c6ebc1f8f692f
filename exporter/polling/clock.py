"""The clocks of polling: wall time for output, a steady one for ages and due times, and one without suspends."""

from __future__ import annotations

import contextlib
import functools
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

SUSPEND_SECONDS = 10.0
"""A shorter suspend of the system is treated as a delay."""


class Moment(NamedTuple):
    """One moment on two clocks: ``wall`` seconds since the epoch for output, ``steady`` seconds for ages."""

    wall: float
    steady: float


def steady_source() -> Callable[[], float]:
    """Return the monotonic clock that counts a suspend of the system, or the ordinary one where there is none.

    Linux has CLOCK_BOOTTIME: clock_gettime(2).
    """
    clock_id: int | None = getattr(time, "CLOCK_BOOTTIME", None)
    if clock_id is not None:
        with contextlib.suppress(OSError):
            time.clock_gettime(clock_id)
            return functools.partial(time.clock_gettime, clock_id)
    return time.monotonic


class Clock:
    """Wall time, and a monotonic clock that equalled it when this object was made.

    Phases are places in steady time: they survive a restart, and a step of the wall clock moves none. Steady time
    counts a suspend of the system, so that what was known before it ages; timers of the event loop don't. ``awake``
    is the time of those timers; by default it doesn't differ from ``monotonic`` if that is given.
    """

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] | None = None,
        awake: Callable[[], float] | None = None,
    ) -> None:
        self.wall = wall
        self._monotonic = monotonic or steady_source()
        self.awake = awake or monotonic or time.monotonic
        self._offset = wall() - self._monotonic()
        self._slept = self._monotonic() - self.awake()

    def steady(self) -> float:
        """Return monotonic seconds, aligned with the epoch."""
        return self._monotonic() + self._offset

    def moment(self) -> Moment:
        """Return the current moment on both clocks, wall time to the millisecond."""
        return Moment(round(self.wall(), 3), self.steady())

    def suspended_seconds(self) -> float:
        """Return for how many seconds the system has been suspended since this object was made.

        A standstill of the process between the two readings makes it too small, but never too large.
        """
        return self._monotonic() - self.awake() - self._slept


class SuspendWatch:
    """Notices a suspend of the system at the next call after it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen = clock.suspended_seconds()

    def suspended_seconds(self) -> float:
        """Return how long the system was suspended since the last call; 0 for less than :data:`SUSPEND_SECONDS`."""
        before, self._seen = self._seen, max(self._seen, self._clock.suspended_seconds())
        seconds = self._seen - before
        return seconds if seconds >= SUSPEND_SECONDS else 0.0
