"""The backoff: how long a fetch waits before a retry, and how many attempts it has. Pure; ``rng`` is passed in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.verify.outcome import Reason

if TYPE_CHECKING:
    import random

BASE_SECONDS = 1.0
CAP_SECONDS = 30.0
DECODE_ATTEMPTS = 2


def backoff_seconds(attempts: int, rng: random.Random) -> float:
    """Return the wait after the ``attempts``-th attempt: full jitter, base 1 s, cap 30 s."""
    return rng.uniform(0.0, _longest_wait(attempts))


def attempts_allowed(reason: Reason, max_attempts: int) -> int:
    """Return how many attempts a fetch may make in total when one of them failed for ``reason``."""
    match reason:
        case Reason.DECODE:
            return min(DECODE_ATTEMPTS, max_attempts)
        case Reason.RATE_LIMITED | Reason.SERVER_ERROR | Reason.TIMEOUT | Reason.CONNECT | Reason.DNS | Reason.TLS:
            return max_attempts
    return 1


def longest_fetch_seconds(max_attempts: int, timeout_seconds: float) -> float:
    """Return how long a fetch takes at most: every attempt timed out, every wait had its maximum."""
    waits = sum(_longest_wait(attempts) for attempts in range(1, max_attempts))
    return max_attempts * timeout_seconds + waits


def _longest_wait(attempts: int) -> float:
    # A small exponent: the cap is reached long before a float overflows.
    return min(CAP_SECONDS, BASE_SECONDS * 2.0 ** min(attempts - 1, 16))
