"""How long a fetch waits before it tries again. Pure; the random source is passed in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.verify.outcome import Reason

if TYPE_CHECKING:
    import random

BASE_SECONDS = 1.0
CAP_SECONDS = 30.0
DECODE_ATTEMPTS = 2


def backoff_seconds(attempts: int, rng: random.Random) -> float:
    """Return the pause after the ``attempts``-th attempt: full jitter, base 1 s, cap 30 s."""
    return rng.uniform(0.0, min(CAP_SECONDS, BASE_SECONDS * 2 ** (attempts - 1)))


def attempts_allowed(reason: Reason, max_attempts: int) -> int:
    """Return how many attempts a fetch may make in all when one of them failed for ``reason``."""
    match reason:
        case Reason.DECODE:
            return min(DECODE_ATTEMPTS, max_attempts)
        case Reason.RATE_LIMITED | Reason.SERVER_ERROR | Reason.TIMEOUT | Reason.CONNECT | Reason.DNS | Reason.TLS:
            return max_attempts
    return 1
