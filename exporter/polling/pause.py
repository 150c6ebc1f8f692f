"""Why an account sends nothing but probes, and until when; :attr:`AccountPoller.pause` works it out.

What begins and ends a pause: refused credentials in :mod:`exporter.polling.refusals`, a 429 in
:mod:`exporter.polling.throttle`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class PauseReason(StrEnum):
    """Why an account is paused."""

    CREDENTIALS = "credentials"
    """Its credentials were refused (401, 403)."""

    RATE_LIMITED = "rate_limited"
    """The API answered 429."""


@dataclass(frozen=True, slots=True)
class Pause:
    """The pause of an account; times are steady seconds.

    A pause after a 429 ends at ``until_steady``. One for refused credentials ends with an accepted probe, so only
    the time of the next probe, ``probe_at_steady``, is known.
    """

    reason: PauseReason
    until_steady: float | None = None
    probe_at_steady: float | None = None

    def seconds_left(self, now_steady: float) -> float:
        """Return the seconds until the pause may end: its end, or its next probe; 0 while a probe is in flight."""
        end = self.until_steady if self.until_steady is not None else self.probe_at_steady
        return 0.0 if end is None else max(0.0, end - now_steady)
