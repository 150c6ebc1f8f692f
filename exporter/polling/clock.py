"""The two clocks of polling: wall time for output, a steady one for ages and due times."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


class Moment(NamedTuple):
    """One moment on two clocks: ``wall`` seconds since the epoch for output, ``steady`` seconds for ages."""

    wall: float
    steady: float


class Clock:
    """Wall time, and a monotonic clock that equalled it when this object was made.

    Phases are places in steady time: they survive a restart, and a step of the wall clock moves none.
    """

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.wall = wall
        self._monotonic = monotonic
        self._offset = wall() - monotonic()

    def steady(self) -> float:
        """Return monotonic seconds, aligned with the epoch."""
        return self._monotonic() + self._offset

    def moment(self) -> Moment:
        """Return the current moment on both clocks, wall time to the millisecond."""
        return Moment(round(self.wall(), 3), self.steady())
