"""How long a fetch waits between its attempts, and how many it may make."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.polling.backoff import attempts_allowed, backoff_seconds, longest_fetch_seconds
from exporter.verify.outcome import Reason

RETRIED = {
    Reason.RATE_LIMITED,
    Reason.SERVER_ERROR,
    Reason.TIMEOUT,
    Reason.CONNECT,
    Reason.DNS,
    Reason.TLS,
}


class Highest(random.Random):
    """A random source that always draws the most."""

    def random(self) -> float:
        return 1.0


@pytest.mark.parametrize(
    ("attempts", "most"),
    [(1, 1.0), (2, 2.0), (3, 4.0), (4, 8.0), (5, 16.0), (6, 30.0), (7, 30.0), (2000, 30.0)],
)
def test_the_longest_pause_doubles_up_to_the_cap(attempts: int, most: float) -> None:
    assert backoff_seconds(attempts, Highest()) == most


@given(attempts=st.integers(1, 10_000), seed=st.integers())
def test_a_pause_keeps_its_range(attempts: int, seed: int) -> None:
    assert 0.0 <= backoff_seconds(attempts, random.Random(seed)) <= min(30.0, 2.0 ** min(attempts - 1, 5))


def test_the_jitter_is_full() -> None:
    rng = random.Random(1)
    drawn = [backoff_seconds(3, rng) for _ in range(2000)]
    assert min(drawn) < 0.05
    assert max(drawn) > 3.95
    assert 1.8 < sum(drawn) / len(drawn) < 2.2


@pytest.mark.parametrize("max_attempts", [1, 2, 3, 7])
def test_attempts_by_reason(max_attempts: int) -> None:
    allowed = {reason: attempts_allowed(reason, max_attempts) for reason in Reason}
    expected = {reason: max_attempts if reason in RETRIED else 1 for reason in Reason}
    assert allowed == {**expected, Reason.DECODE: min(2, max_attempts)}


@pytest.mark.parametrize(("max_attempts", "seconds"), [(1, 10.0), (2, 21.0), (3, 33.0), (7, 131.0)])
def test_the_longest_fetch(max_attempts: int, seconds: float) -> None:
    assert longest_fetch_seconds(max_attempts, 10.0) == seconds


@given(max_attempts=st.integers(1, 3000), timeout=st.floats(0.001, 100), seed=st.integers())
def test_no_fetch_takes_longer_than_the_longest(max_attempts: int, timeout: float, seed: int) -> None:
    rng = random.Random(seed)
    pauses = sum(backoff_seconds(attempts, rng) for attempts in range(1, max_attempts))
    assert pauses + max_attempts * timeout <= longest_fetch_seconds(max_attempts, timeout)
