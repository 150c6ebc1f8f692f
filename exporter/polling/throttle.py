"""An account's budget: a rate, a concurrency that shrinks after a 429, and a pause. Pure; time is passed in."""

from __future__ import annotations

import math
from collections import deque

GROW_AFTER_SECONDS = 30.0
CROWDED_STEPS = 9
ASSUMED_LATENCY_SECONDS = 0.3
_LATENCY_SAMPLES = 20
_LATENCY_WEIGHT = 0.05


class Throttle:
    """Decides when an account's next request may start.

    At most ``requests_per_second``, rounded up, start in any second, and no more than that rate in the long run
    (below 1: one start every 1/rate seconds). At most ``limit`` are in flight; it halves after a 429 and grows by
    one every 30 s without one, or every 300 s while Twilio's own count says that other programs use up the
    account's concurrency (see :meth:`hinted`).
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
        self._steps_skipped = 0
        self._latency_seconds = ASSUMED_LATENCY_SECONDS
        self._latency_samples = 0

    def configure(self, *, requests_per_second: float, max_concurrency: int) -> None:
        """Change rate and concurrency; a concurrency that a 429 halved stays, unless the new one is smaller."""
        if self.limit == self.max_concurrency:
            self.limit = max_concurrency
        self.limit = min(self.limit, max_concurrency)
        self.requests_per_second, self.max_concurrency = requests_per_second, max_concurrency
        self._starts = deque(self._starts, maxlen=math.ceil(requests_per_second))

    @property
    def _window_seconds(self) -> float:
        return math.ceil(self.requests_per_second) / self.requests_per_second

    def paused(self, now: float) -> bool:
        """Return whether a 429 pauses the account at ``now``."""
        return now < self.paused_until

    def delay(self, now: float) -> float | None:
        """Return the seconds until a request may start: 0 for now, ``None`` while every slot is taken."""
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
        """Count a request that was answered after ``duration_seconds``, ``None`` where it was not answered.

        A request without an answer says nothing about the latency of the API.
        """
        self.in_flight -= 1
        if duration_seconds is None:
            return
        self._latency_samples += 1
        # A plain mean first, so that the first samples count alike, then an exponential one.
        weight = max(1 / self._latency_samples, _LATENCY_WEIGHT)
        self._latency_seconds += weight * (duration_seconds - self._latency_seconds)

    def hinted(self, now: float, concurrent_requests: int | None) -> None:
        """Take Twilio's count of the account's concurrent requests from an answer, ``None`` where it sent none.

        Only a hint. The count at a 429 was too high. While a later answer, at most 30 s old, counts as many or one
        fewer, and more than twice the requests in flight here, other programs use the concurrency, and more
        requests would bring the next 429. Without a count from Twilio this changes nothing.
        """
        self._hint, self._hinted_at = concurrent_requests, now
        # The request that was just answered has ended here, but is in Twilio's count.
        self._crowded = (
            concurrent_requests is not None
            and self._refused_at_hint is not None
            and concurrent_requests + 1 >= self._refused_at_hint
            and concurrent_requests > 2 * (self.in_flight + 1)
        )

    def rate_limited(self, now: float, *, started: float, pause_seconds: float) -> None:
        """Take a 429 to a request that began at ``started``: pause, and halve the concurrency.

        The 429s to requests that were in flight together halve it once: they have the same cause.
        """
        self.paused_until = max(self.paused_until, now + pause_seconds)
        self._calm_since = now
        self._refused_at_hint = self._hint if self._hinted_at == now else None
        self._steps_skipped = 0
        if started >= self._halved_at:
            self.limit = max(1, self.limit // 2)
            self._halved_at = now

    def _grow(self, now: float) -> None:
        while self.limit < self.max_concurrency and now - self._calm_since >= GROW_AFTER_SECONDS:
            self._calm_since += GROW_AFTER_SECONDS
            crowded = self._crowded and self._calm_since - self._hinted_at < GROW_AFTER_SECONDS
            if crowded and self._steps_skipped < CROWDED_STEPS:
                self._steps_skipped += 1
            else:
                self._steps_skipped = 0
                self.limit += 1

    @property
    def latency_seconds(self) -> float | None:
        """The mean duration of the latest requests, ``None`` until 20 have been measured."""
        return self._latency_seconds if self._latency_samples >= _LATENCY_SAMPLES else None

    @property
    def budget_requests_per_second(self) -> float:
        """The smaller of the configured rate and what the slots allow at the measured latency (at first 0.3 s)."""
        latency = self.latency_seconds
        if latency is None:
            latency = ASSUMED_LATENCY_SECONDS
        return budget(self.requests_per_second, self.limit, latency)


def budget(requests_per_second: float, concurrency: int, latency_seconds: float) -> float:
    """Return the requests per second that a rate, a concurrency and a latency in seconds allow together."""
    return min(requests_per_second, concurrency / max(latency_seconds, 0.001))


LISTINGS_ALWAYS = 0.05
"""The share of an account's budget that listings may always use."""

_LISTINGS_OF_REST = 0.5


def listing_budget(budget_requests_per_second: float, other_requests_per_second: float) -> float:
    """Return the requests per second that listings may use: 5 % of the budget, and half of what is left then.

    ``other_requests_per_second`` is what the account's other requests need.
    """
    always = LISTINGS_ALWAYS * budget_requests_per_second
    rest = budget_requests_per_second - always - other_requests_per_second
    return always + _LISTINGS_OF_REST * max(0.0, rest)


class ListingPace:
    """Spaces an account's listing requests out: each takes the time that one may take at the rate of that moment.

    The rate follows :func:`listing_budget`, so it may be another one at each request. All times are seconds of one
    monotonic clock.
    """

    def __init__(self) -> None:
        self._next = -math.inf

    def reserve(self, now: float, requests_per_second: float) -> float:
        """Return the seconds until the next request may start, and count it."""
        start = max(now, self._next)
        self._next = start + 1 / requests_per_second
        return start - now
