"""Whether an account's credentials are good, and when to ask again if not. Pure; time is passed in."""

from __future__ import annotations

PROBE_SECONDS = 30.0
PROBE_CAP_SECONDS = 600.0


class CredentialGuard:
    """The state of one account's credentials.

    ``valid`` is ``None`` before the first answer. A confirmed refusal pauses the account; probes follow after
    30 s, doubling to 10 min, until one is answered. Times are seconds of one monotonic clock.
    """

    def __init__(self) -> None:
        self.valid: bool | None = None
        self.paused = False
        self.probe_at = 0.0
        self._wait_seconds = PROBE_SECONDS

    def heard(self, code: int | None) -> None:
        """Take the HTTP status of any answer: one that is no refusal shows good credentials, but in a pause."""
        if code is not None and code not in (401, 403) and not self.paused:
            self.valid = True

    def pause(self, now: float) -> None:
        """Take a confirmed refusal."""
        self.paused, self.valid = True, False
        self._wait_seconds = PROBE_SECONDS
        self.probe_at = now + self._wait_seconds

    def probe_failed(self, now: float) -> None:
        """Take a probe that was not answered: wait twice as long."""
        self._wait_seconds = min(2 * self._wait_seconds, PROBE_CAP_SECONDS)
        self.probe_at = now + self._wait_seconds

    def changed(self, now: float) -> None:
        """Take new credentials: probe at once, and from the shortest wait again if they are refused too."""
        self._wait_seconds = PROBE_SECONDS / 2
        self.probe_at = now

    def resume(self) -> None:
        """Take a probe that was answered."""
        self.paused, self.valid = False, True
