"""What an account may spend: rate, concurrency, pause, and what a 429 does to them."""

from __future__ import annotations

import bisect
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from exporter.polling.throttle import (
    ASSUMED_LATENCY_SECONDS,
    GROW_AFTER_SECONDS,
    ListingPace,
    Throttle,
    budget,
    listing_budget,
)

ULPS = 1e-6  # what floating point may be off by at the times used here


def throttle(rate: float = 10.0, concurrency: int = 4) -> Throttle:
    return Throttle(requests_per_second=rate, max_concurrency=concurrency)


def start(of: Throttle, now: float) -> float:
    """Start one request as soon as it may, let it end at once, and return when that was."""
    delay = of.delay(now)
    assert delay is not None
    of.begin(now + delay)
    of.end(0.0)
    return now + delay


# Rate


def starts(rate: float, count: int) -> list[float]:
    """The moments at which a caller that never rests starts its requests."""
    of, now, moments = throttle(rate), 1000.0, []
    for _ in range(count):
        now = start(of, now)
        moments.append(now)
    return moments


@pytest.mark.parametrize("rate", [1.0, 2.0, 10.0, 100.0])
def test_a_whole_rate_is_kept_in_every_second(rate: float) -> None:
    moments = starts(rate, int(5 * rate) + 1)
    assert moments[:: int(rate)] == pytest.approx([1000.0 + second for second in range(6)])
    assert most_in_any(1.0, moments) == rate


@pytest.mark.parametrize(("rate", "most"), [(1.5, 2), (2.5, 3), (9.9, 10), (10.1, 11)])
def test_a_broken_rate_is_kept_on_average_and_rounded_up_in_any_second(rate: float, most: int) -> None:
    moments = starts(rate, 20 * most + 1)
    assert most_in_any(1.0, moments) == most
    assert (len(moments) - 1) / (moments[-1] - moments[0]) == pytest.approx(rate)


@pytest.mark.parametrize("rate", [0.5, 0.1, 1 / 3, 0.9])
def test_below_one_a_second_the_starts_are_even(rate: float) -> None:
    assert starts(rate, 5) == pytest.approx([1000.0 + number / rate for number in range(5)])


def test_an_unused_rate_is_not_saved_up() -> None:
    of = throttle(rate=2.0)
    assert [start(of, now) for now in (0.0, 100.0, 100.0, 100.0)] == [0.0, 100.0, 100.0, 101.0]


def most_in_any(seconds: float, moments: list[float]) -> int:
    """Return how many of the moments, in order, lie at most in one window of this length, its end excluded."""
    return max(
        bisect.bisect_left(moments, moment + seconds - ULPS) - position for position, moment in enumerate(moments)
    )


# Concurrency


def test_slots() -> None:
    of = throttle(concurrency=2)
    of.begin(0.0)
    assert of.delay(0.0) == 0.0
    of.begin(0.0)
    assert of.delay(0.0) is None
    assert of.in_flight == 2
    of.end(0.1)
    assert of.delay(0.1) == 0.0


def test_full_concurrency_is_reported_before_the_rate_and_the_pause() -> None:
    of = throttle(rate=1.0, concurrency=1)
    of.begin(0.0)
    of.rate_limited(0.0, started=0.0, pause_seconds=60.0)
    assert of.delay(0.0) is None


# 429


def test_a_429_pauses_and_halves() -> None:
    of = throttle(concurrency=5)
    of.rate_limited(100.0, started=99.0, pause_seconds=7.0)
    assert of.limit == 2
    assert [of.paused(now) for now in (99.9, 106.9, 107.0)] == [True, True, False]
    assert of.delay(100.0) == 7.0
    assert of.delay(107.0) == 0.0


def test_a_shorter_pause_does_not_end_a_longer_one() -> None:
    of = throttle()
    of.rate_limited(100.0, started=99.0, pause_seconds=60.0)
    of.rate_limited(101.0, started=99.0, pause_seconds=1.0)
    assert of.paused_until == 160.0
    of.rate_limited(102.0, started=99.0, pause_seconds=90.0)
    assert of.paused_until == 192.0


def test_the_429s_of_one_burst_halve_once() -> None:
    of = throttle(concurrency=8)
    for now in (100.0, 100.1, 100.2, 100.3):
        of.rate_limited(now, started=99.9, pause_seconds=1.0)
    assert of.limit == 4


def test_the_429_of_a_request_that_began_after_the_last_one_halves_again_down_to_one() -> None:
    of = throttle(concurrency=8)
    limits = []
    for now in (100.0, 102.0, 104.0, 106.0, 108.0):
        of.delay(now)
        of.rate_limited(now + 0.5, started=now, pause_seconds=1.0)
        limits.append(of.limit)
    assert limits == [4, 2, 1, 1, 1]


def test_calm_brings_one_slot_back_every_half_minute() -> None:
    of = throttle(concurrency=8)
    of.rate_limited(1000.0, started=999.0, pause_seconds=1.0)
    grown = []
    for now in (1029.9, 1030.0, 1059.9, 1060.0, 1090.0, 1120.0, 1150.0, 9999.0):
        of.delay(now)
        grown.append(of.limit)
    assert grown == [4, 5, 5, 6, 7, 8, 8, 8]


def test_slots_come_back_after_a_long_time_without_requests() -> None:
    of = throttle(concurrency=8)
    of.rate_limited(1000.0, started=999.0, pause_seconds=1.0)
    of.delay(1075.0)
    assert of.limit == 6
    of.delay(1090.0)
    assert of.limit == 7


def test_a_late_429_of_the_same_burst_starts_the_calm_again() -> None:
    of = throttle(concurrency=8)
    of.rate_limited(1000.0, started=999.0, pause_seconds=1.0)
    of.rate_limited(1020.0, started=999.0, pause_seconds=1.0)
    of.delay(1049.9)
    assert of.limit == 4
    of.delay(1050.0)
    assert of.limit == 5


# Budget


def test_the_latency_is_the_mean_of_the_first_twenty_then_follows() -> None:
    of = throttle()
    for number in range(20):
        assert of.latency_seconds is None
        of.begin(0.0)
        of.end(0.1 if number % 2 else 0.3)
    assert of.latency_seconds == pytest.approx(0.2)
    for _ in range(200):
        of.begin(0.0)
        of.end(2.0)
    assert of.latency_seconds == pytest.approx(2.0, abs=0.01)


def test_the_budget_is_the_lesser_of_rate_and_slots() -> None:
    assert budget(10.0, 4, 0.3) == 10.0
    assert budget(100.0, 4, 0.5) == 8.0
    assert budget(5.0, 1, 0.0) == 5.0
    of = throttle(rate=100.0, concurrency=3)
    assert of.budget_requests_per_second == pytest.approx(3 / ASSUMED_LATENCY_SECONDS)
    for _ in range(20):
        of.begin(0.0)
        of.end(0.05)
    assert of.budget_requests_per_second == pytest.approx(60.0)
    of.rate_limited(1.0, started=0.0, pause_seconds=1.0)
    assert of.budget_requests_per_second == pytest.approx(20.0)


# Any sequence of events


class AnySequence(RuleBasedStateMachine):
    """Time passes, requests start where they may, end, and are answered with 429."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.starts: list[float] = []
        self.started: list[float] = []

    @initialize(rate=st.sampled_from([0.2, 0.9, 1.0, 1.5, 2.0, 2.5, 3.0, 7.3, 10.0]), concurrency=st.integers(1, 9))
    def begin_account(self, rate: float, concurrency: int) -> None:
        self.throttle = Throttle(requests_per_second=rate, max_concurrency=concurrency)
        self.rate, self.concurrency = rate, concurrency
        self.halved_at = -math.inf
        self.last_429, self.limit_then = -math.inf, concurrency

    @rule(seconds=st.sampled_from([0.0, 0.001, 0.05, 0.3, 1.0, 29.9, 30.0, 75.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(count=st.integers(1, 12))
    def start_what_may_start(self, count: int) -> None:
        for _ in range(count):
            if self.throttle.delay(self.now) == 0.0:
                self.start()

    @rule()
    def wait_as_told_then_start(self) -> None:
        delay = self.throttle.delay(self.now)
        if delay is None:
            assert self.throttle.in_flight >= self.throttle.limit
            return
        assert delay >= 0
        self.now += delay
        again = self.throttle.delay(self.now)
        assert again is not None
        assert again <= ULPS
        self.start()

    def start(self) -> None:
        assert not self.throttle.paused(self.now + ULPS)
        self.throttle.begin(self.now)
        self.starts.append(self.now)
        self.started.append(self.now)
        assert len(self.started) <= self.throttle.limit

    @precondition(lambda self: self.started)
    @rule(latest=st.booleans())
    def a_request_ends(self, latest: bool) -> None:
        began = self.started.pop(-1 if latest else 0)
        self.throttle.end(self.now - began)

    @precondition(lambda self: self.started)
    @rule(latest=st.booleans(), pause=st.sampled_from([1.0, 12.5, 300.0]))
    def a_request_is_answered_429(self, latest: bool, pause: float) -> None:
        began = self.started.pop(-1 if latest else 0)
        self.throttle.end(self.now - began)
        before, until = self.throttle.limit, self.throttle.paused_until
        self.throttle.rate_limited(self.now, started=began, pause_seconds=pause)
        if began >= self.halved_at:
            assert self.throttle.limit == max(1, before // 2)
            self.halved_at = self.now
        else:
            assert self.throttle.limit == before
        assert self.throttle.paused_until == max(until, self.now + pause)
        self.last_429, self.limit_then = self.now, self.throttle.limit

    @invariant()
    def the_rate_is_kept(self) -> None:
        if self.starts:
            whole = math.ceil(self.rate)
            assert most_in_any(whole / self.rate, self.starts) <= whole
            assert most_in_any(1.0, self.starts) <= whole

    @invariant()
    def the_slots_are_kept(self) -> None:
        if hasattr(self, "throttle"):
            assert self.throttle.in_flight == len(self.started)
            assert 1 <= self.throttle.limit <= self.concurrency

    @invariant()
    def slots_grow_back_only_in_calm(self) -> None:
        if hasattr(self, "throttle"):
            self.throttle.delay(self.now)
            calm = min(1e6, (self.now - self.last_429) / GROW_AFTER_SECONDS)
            least, most = (self.limit_then + math.floor(calm + off) for off in (-ULPS, ULPS))
            assert min(self.concurrency, least) <= self.throttle.limit <= min(self.concurrency, most)


AnySequence.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAnySequence = AnySequence.TestCase


def test_a_request_without_an_answer_does_not_change_the_pace() -> None:
    of = Throttle(requests_per_second=100, max_concurrency=4)
    for _ in range(30):
        of.begin(0.0)
        of.end(None)
    assert of.latency_seconds is None
    assert of.in_flight == 0


@pytest.mark.parametrize(
    ("others", "listings"), [(0, 5.25), (1, 4.75), (9, 0.75), (9.5, 0.5), (10, 0.5), (1000, 0.5)]
)
def test_listings_may_use_a_twentieth_of_the_budget_and_half_of_what_is_left(
    others: float, listings: float
) -> None:
    assert listing_budget(10, others) == pytest.approx(listings)


rates = st.floats(0.01, 1000)


@given(st.floats(0.1, 1000), st.floats(0, 1000))
def test_listings_have_their_twentieth_and_never_take_more_than_half_of_what_is_left(
    total: float, others: float
) -> None:
    listings = listing_budget(total, others)
    assert listings >= total / 20
    left = total - others
    if left > total / 20:
        assert listings <= total / 20 + left / 2 + ULPS
        assert others + listings <= total + ULPS, "fetches that fit without listings fit with them"
    else:
        assert listings == pytest.approx(total / 20)


@given(st.lists(st.tuples(st.floats(0, 5), rates), min_size=1, max_size=60))
def test_listing_requests_are_spaced_out_at_the_rate_of_their_moment(steps: list[tuple[float, float]]) -> None:
    pace, now = ListingPace(), 1_800_000_000.0
    starts: list[tuple[float, float]] = []
    for passed, rate in steps:
        now += passed
        wait = pace.reserve(now, rate)
        assert wait >= 0
        if starts:
            earliest = starts[-1][0] + 1 / starts[-1][1]
            assert now + wait == pytest.approx(max(now, earliest), abs=1e-3), "neither too soon nor too late"
        starts.append((now + wait, rate))


def test_an_account_that_has_listed_nothing_for_long_lists_without_a_burst() -> None:
    pace = ListingPace()
    assert [pace.reserve(0.0, 2.0) for _ in range(3)] == [0.0, 0.5, 1.0]
    assert [pace.reserve(100.0, 2.0) for _ in range(3)] == [0.0, 0.5, 1.0]
    assert pace.reserve(200.0, math.inf) == 0
    assert pace.reserve(200.0, math.inf) == 0
