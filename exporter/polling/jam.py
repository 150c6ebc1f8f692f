"""Whether an account's client is jammed, so that a fresh one is worth a try. Pure; time is passed in."""

from __future__ import annotations

import math
from enum import StrEnum

STUCK_SECONDS = 5.0
SILENT_SECONDS = 60.0
SILENT_ATTEMPTS = 10
ROTATION_SECONDS = 300.0


class Jam(StrEnum):
    """Why a client is replaced."""

    STUCK = "stuck"
    """A request was still under way long after its own bound."""
    SILENT = "silent"
    """Nothing was answered any more, whatever the status."""


class JamWatch:
    """Decides when an account's client is replaced by a fresh one: new pool, new name look-up, new TLS.

    That is when a request outlived its bound, or when 10 attempts in a row, and twice as many as may be under way
    at once, brought no answer over at least 60 s. An outage looks the same: no more than once in five minutes.
    Times are seconds of one monotonic clock.
    """

    def __init__(self) -> None:
        self._unanswered = 0
        self._silent_since = math.inf
        self._rotated_at = -math.inf

    def heard(self, now: float, *, answered: bool) -> None:
        """Take the end of an attempt through the client in use; an answer of any status shows that it works."""
        if answered:
            self.renewed()
            return
        self._unanswered += 1
        self._silent_since = min(self._silent_since, now)

    def due(self, now: float, *, stuck: bool, max_concurrency: int) -> Jam | None:
        """Return why the client is to be replaced now, ``None`` where it is not."""
        if now - self._rotated_at < ROTATION_SECONDS:
            return None
        if stuck:
            return Jam.STUCK
        silent = self._unanswered >= max(SILENT_ATTEMPTS, 2 * max_concurrency)
        return Jam.SILENT if silent and now - self._silent_since >= SILENT_SECONDS else None

    def renewed(self) -> None:
        """Begin anew to count: the client is another one, or it brought an answer."""
        self._unanswered = 0
        self._silent_since = math.inf

    def rotated(self, now: float) -> None:
        """Take a replacement, or the attempt at one, that :meth:`due` asked for."""
        self.renewed()
        self._rotated_at = now
