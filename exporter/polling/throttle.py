"""What an account may spend: a rate, a concurrency that shrinks on 429, and a pause. Pure; time is passed in."""

from __future__ import annotations

import math
from collections import deque

GROW_AFTER_SECONDS = 30.0
CROWDED_TURNS = 9
ASSUMED_LATENCY_SECONDS = 0.3
_LATENCY_SAMPLES = 20
_LATENCY_WEIGHT = 0.05


class Throttle:
    """Decides when an account's next request may start.

    At most ``requests_per_second``, rounded up, start in any second, and no more than that rate in the long run
    (below one: one start each 1/rate seconds). At most ``limit`` are under way at once; it halves on a 429 and
    grows by one after each 30 s without one, or only at each tenth of these turns while Twilio's own count says
    that others use up what the account may have under way (see :meth:`hinted`).
    All times are seconds of one monotonic clock.
    """

    def __init__(self, *, requests_per_second: float, max_concurrency: int) -> None:
        self.requests_per_second = requests_per_second
        self.max_concurrency = max_concurrency
        self.limit = max_concurrency
        self.in_flight = 0
        self.paused_until = -math.inf
        self._starts: deque[float] = deque(maxlen=math.ceil(requests_per_second))
        self._halved_at = -math.inf
        self._calm_since = -math.inf
        self._hint: int | None = None
        self._hinted_at = -math.inf
        self._crowded = False
        self._refused_at_hint: int | None = None
        self._turns_passed = 0
        self._latency_seconds = ASSUMED_LATENCY_SECONDS
        self._latency_samples = 0

    def configure(self, *, requests_per_second: float, max_concurrency: int) -> None:
        """Take another rate and concurrency; a concurrency that a 429 halved stays, where it is the lesser."""
        if self.limit == self.max_concurrency:
            self.limit = max_concurrency
        self.limit = min(self.limit, max_concurrency)
        self.requests_per_second, self.max_concurrency = requests_per_second, max_concurrency
        self._starts = deque(self._starts, maxlen=math.ceil(requests_per_second))

    @property
    def _window_seconds(self) -> float:
        return math.ceil(self.requests_per_second) / self.requests_per_second

    def paused(self, now: float) -> bool:
        """Whether a 429 holds the account at ``now``."""
        return now < self.paused_until

    def delay(self, now: float) -> float | None:
        """Return the seconds until a request may start, 0 for now, ``None`` while every slot is taken."""
        self._grow(now)
        if self.in_flight >= self.limit:
            return None
        wait = max(0.0, self.paused_until - now)
        if len(self._starts) == self._starts.maxlen:
            wait = max(wait, self._starts[0] + self._window_seconds - now)
        return wait

    def begin(self, now: float) -> None:
        """Count a request that starts at ``now``."""
        self.in_flight += 1
        self._starts.append(now)

    def end(self, duration_seconds: float | None) -> None:
        """Count a request that was answered after ``duration_seconds``; ``None``: it never was.

        A request without an answer says nothing of the API's pace.
        """
        self.in_flight -= 1
        if duration_seconds is None:
            return
        self._latency_samples += 1
        # A plain mean first, so that the first samples count alike, then an exponential one.
        weight = max(1 / self._latency_samples, _LATENCY_WEIGHT)
        self._latency_seconds += weight * (duration_seconds - self._latency_seconds)

    def hinted(self, now: float, concurrent_requests: int | None) -> None:
        """Take how many requests of the account Twilio saw at once with an answer, ``None`` where it did not say.

        Only a hint. The count at a 429 is what was too much: while a later answer, not older than one turn to grow,
        counts within one of that, and more than twice what is under way from here, the room is others', and
        taking more of it would bring the next 429. Where Twilio doesn't count, nothing is different.
        """
        self._hint, self._hinted_at = concurrent_requests, now
        # The request that was just answered has ended here, and is in Twilio's count.
        self._crowded = (
            concurrent_requests is not None
            and self._refused_at_hint is not None
            and concurrent_requests + 1 >= self._refused_at_hint
            and concurrent_requests > 2 * (self.in_flight + 1)
        )

    def rate_limited(self, now: float, *, started: float, pause_seconds: float) -> None:
        """Take a 429 to a request that began at ``started``: pause, and halve the concurrency.

        The answers to requests that were under way together count as one: they tell of the same excess.
        """
        self.paused_until = max(self.paused_until, now + pause_seconds)
        self._calm_since = now
        self._refused_at_hint = self._hint if self._hinted_at == now else None
        self._turns_passed = 0
        if started >= self._halved_at:
            self.limit = max(1, self.limit // 2)
            self._halved_at = now

    def _grow(self, now: float) -> None:
        while self.limit < self.max_concurrency and now - self._calm_since >= GROW_AFTER_SECONDS:
            self._calm_since += GROW_AFTER_SECONDS
            crowded = self._crowded and self._calm_since - self._hinted_at < GROW_AFTER_SECONDS
            if crowded and self._turns_passed < CROWDED_TURNS:
                self._turns_passed += 1
            else:
                self._turns_passed = 0
                self.limit += 1

    @property
    def latency_seconds(self) -> float | None:
        """The mean duration of the latest requests, ``None`` until 20 have been measured."""
        return self._latency_seconds if self._latency_samples >= _LATENCY_SAMPLES else None

    @property
    def budget_requests_per_second(self) -> float:
        """The lesser of the configured rate and what the slots carry at the measured latency (at first 0.3 s)."""
        latency = self.latency_seconds
        if latency is None:
            latency = ASSUMED_LATENCY_SECONDS
        return budget(self.requests_per_second, self.limit, latency)


def budget(requests_per_second: float, concurrency: int, latency_seconds: float) -> float:
    """Return the requests a second that a rate, a concurrency and a latency in seconds leave together."""
    return min(requests_per_second, concurrency / max(latency_seconds, 0.001))
