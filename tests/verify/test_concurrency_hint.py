"""Twilio's own count of an account's requests: how it is read, and what the throttle makes of it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from exporter.polling.throttle import CROWDED_STEPS, GROW_AFTER_SECONDS, Throttle
from exporter.verify.answers import parse_concurrent_requests

# Reading


@pytest.mark.parametrize(("text", "count"), [("1", 1), (" 37 ", 37), ("999999", 999999)])
def test_a_count_is_read(text: str, count: int) -> None:
    assert parse_concurrent_requests({"twilio-concurrent-requests": text}) == count


@pytest.mark.parametrize(
    "text", ["", "0", "00", "01", "-1", "+1", "1.0", "1e3", "1 000", "1, 2", "1000000", "9" * 5000, "٣", "nan"]
)
def test_an_invalid_count_is_none(text: str) -> None:
    assert parse_concurrent_requests({"twilio-concurrent-requests": text}) is None


def test_without_the_header_there_is_none() -> None:
    assert parse_concurrent_requests({}) is None


@given(st.text(max_size=20))
def test_reading_never_raises_and_keeps_its_range(text: str) -> None:
    count = parse_concurrent_requests({"twilio-concurrent-requests": text})
    assert count is None or 1 <= count < 1_000_000


# What it does to the recovery after a 429


def limited(hint: int | None, *, at: float = 1000.0, concurrency: int = 8) -> Throttle:
    """Return a throttle whose account met a 429 at a moment, with Twilio's count."""
    of = Throttle(requests_per_second=100, max_concurrency=concurrency)
    of.hinted(at, hint)
    of.rate_limited(at, started=at - 1, pause_seconds=1.0)
    return of


def grown(of: Throttle, hint: int | None, *, seconds: int, since: int = 1000) -> list[tuple[int, int]]:
    """Return when the limit changed and to what, where each second an answer brings this count."""
    limits = [(0, of.limit)]
    for now in range(since + 1, since + seconds + 1):
        of.hinted(float(now), hint)
        of.delay(float(now))
        if of.limit != limits[-1][1]:
            limits.append((now - since, of.limit))
    return limits[1:]


EVERY_STEP = [(30, 5), (60, 6), (90, 7), (120, 8)]


@pytest.mark.parametrize("hint", [None, 1, 2, 98], ids=["no count", "ours alone", "ours", "room"])
def test_without_other_clients_the_limit_grows_every_time(hint: int | None) -> None:
    assert grown(limited(100), hint, seconds=400) == EVERY_STEP


def test_beside_busy_clients_the_limit_grows_slowly() -> None:
    assert grown(limited(100), 99, seconds=1300) == [(300, 5), (600, 6), (900, 7), (1200, 8)]


def test_when_other_clients_have_gone_the_limit_grows_normally() -> None:
    of = limited(100)
    assert grown(of, 120, seconds=200) == []
    assert grown(of, 3, seconds=200, since=1200) == [(10, 5), (40, 6), (70, 7), (100, 8)]


def test_a_count_that_is_mostly_our_own_does_not_slow_growth() -> None:
    of = limited(8)
    for _ in range(3):
        of.begin(1000.0)
    assert grown(of, 8, seconds=400) == EVERY_STEP, "8 is not more than twice our 4"
    of = limited(9)
    for _ in range(3):
        of.begin(1000.0)
    assert grown(of, 9, seconds=290) == []


def test_an_old_count_does_not_slow_growth() -> None:
    of = limited(100)
    of.hinted(1001.0, 100)
    limits = []
    for now in range(1000, 1125):
        of.delay(float(now))
        limits.append(of.limit)
    assert [limits[after] for after in (29, 30, 60, 90, 120)] == [4, 4, 5, 6, 7], "one step is skipped"


def test_a_429_without_a_count_leaves_nothing_to_compare_with() -> None:
    assert grown(limited(None), 500, seconds=400) == EVERY_STEP
    of = Throttle(requests_per_second=100, max_concurrency=8)
    of.hinted(900.0, 50)
    of.rate_limited(1000.0, started=999.0, pause_seconds=1.0)
    assert grown(of, 500, seconds=400) == EVERY_STEP, "the count was another answer's"


class HintedAndPlain(RuleBasedStateMachine):
    """One throttle gets Twilio's counts and the other does not; all other events reach both."""

    @initialize(concurrency=st.integers(1, 9))
    def begin_account(self, concurrency: int) -> None:
        self.now, self.calm_since, self.concurrency = 1000.0, 0.0, concurrency
        self.with_counts = Throttle(requests_per_second=10, max_concurrency=concurrency)
        self.plain = Throttle(requests_per_second=10, max_concurrency=concurrency)

    @rule(seconds=st.sampled_from([0.0, 0.3, 1.0, 15.0, 29.9, 30.0, 75.0, 400.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def a_request_starts(self) -> None:
        if self.with_counts.delay(self.now) == 0.0:
            self.with_counts.begin(self.now)
            self.plain.begin(self.now)

    @precondition(lambda self: self.with_counts.in_flight)
    @rule(count=st.none() | st.integers(1, 30), limited=st.booleans())
    def a_request_is_answered(self, count: int | None, limited: bool) -> None:
        for of in (self.with_counts, self.plain):
            of.end(0.1)
        self.with_counts.hinted(self.now, count)
        if limited:
            self.calm_since = self.now
            for of in (self.with_counts, self.plain):
                of.rate_limited(self.now, started=self.now, pause_seconds=1.0)

    @invariant()
    def counts_only_slow_growth_and_never_prevent_it(self) -> None:
        for of in (self.with_counts, self.plain):
            of.delay(self.now)
        assert 1 <= self.with_counts.limit <= self.plain.limit <= self.concurrency
        assert self.with_counts.paused_until == self.plain.paused_until
        steps = (self.now - self.calm_since) // GROW_AFTER_SECONDS
        assert self.with_counts.limit >= min(self.concurrency, steps // (CROWDED_STEPS + 1))


HintedAndPlain.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestHintedAndPlain = HintedAndPlain.TestCase
