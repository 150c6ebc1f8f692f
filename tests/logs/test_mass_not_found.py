"""A service most of whose factors return 404 is reported once."""

from __future__ import annotations

import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from exporter.logs.mass_not_found import FEWEST_FACTORS, MassNotFound, MassNotFoundDetector
from tests.support.factors import key


def reported(
    watch: MassNotFoundDetector, numbers: range, *, now: float = 1000.0, of: int = 20
) -> list[MassNotFound]:
    """Return what is reported when these factors return 404 at the same time."""
    found = (watch.not_found(key(number), now, 300.0, of) for number in numbers)
    return [one for one in found if one is not None]


def test_more_than_half_is_reported_once() -> None:
    watch = MassNotFoundDetector()
    assert reported(watch, range(10)) == []
    assert reported(watch, range(10, 11)) == [MassNotFound(11, 20, 300.0)]
    assert reported(watch, range(11, 20)) == []


@pytest.mark.parametrize(("of", "lines"), [(9, 0), (10, 1)])
def test_a_small_service_is_not_reported(of: int, lines: int) -> None:
    assert len(reported(MassNotFoundDetector(), range(of), of=of)) == lines


def test_the_same_factor_counts_once() -> None:
    watch = MassNotFoundDetector()
    for _ in range(30):
        assert reported(watch, range(10)) == []
    assert len(watch) == 10


def test_a_404_older_than_the_interval_does_not_count() -> None:
    watch = MassNotFoundDetector()
    assert reported(watch, range(10), now=1000.0) == []
    assert reported(watch, range(10, 20), now=1300.0) == [], "ten within the interval, of twenty"
    assert reported(watch, range(20, 21), now=1300.0, of=21) == [MassNotFound(11, 21, 300.0)]


def test_just_within_the_interval_counts() -> None:
    watch = MassNotFoundDetector()
    assert reported(watch, range(10), now=1000.0) == []
    assert reported(watch, range(10, 11), now=1299.9) == [MassNotFound(11, 20, 300.0)]


def test_the_longest_interval_of_the_missing_factors_counts() -> None:
    watch = MassNotFoundDetector()
    watch.not_found(key(0), 1000.0, 3600.0, 20)
    reported(watch, range(1, 10), now=1000.0)
    assert reported(watch, range(10, 11), now=4000.0) == [MassNotFound(11, 20, 3600.0)]


def test_it_is_reported_again_only_after_fewer_than_half_are_missing() -> None:
    watch = MassNotFoundDetector()
    assert len(reported(watch, range(11))) == 1
    watch.found(key(0), 20)
    assert reported(watch, range(1)) == [], "ten of twenty are half"
    for number in range(2):
        watch.found(key(number), 20)
    assert reported(watch, range(2)) == [MassNotFound(11, 20, 300.0)]


def test_found_factors_do_not_count() -> None:
    watch = MassNotFoundDetector()
    reported(watch, range(10))
    for number in range(10):
        watch.found(key(number), 20)
        watch.found(key(number), 20)
    assert len(watch) == 0
    assert reported(watch, range(10, 20)) == []


@pytest.mark.slow
def test_memory_is_bounded_with_a_hundred_thousand_factors() -> None:
    watch, lines = MassNotFoundDetector(), 0
    keys = [key(number) for number in range(100_000)]
    for round_ in range(3):
        for number, one in enumerate(keys):
            lines += watch.not_found(one, 1000.0 * round_ + number / 1000, 300.0, len(keys)) is not None
        assert len(watch) == len(keys)
        for one in keys:
            watch.found(one, len(keys))
    assert lines == 3
    assert len(watch) == 0
    assert len(watch._recent) <= len(keys)


class AnySequence(RuleBasedStateMachine):
    """Compares the detector with a plain count over all factors."""

    FACTORS = 12
    INTERVAL = 10.0

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.watch = MassNotFoundDetector()
        self.missing_since: dict[int, float] = {}
        self.reported = False

    @rule(seconds=st.sampled_from([0.0, 0.5, 3.0, 9.5, 10.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(first=st.integers(0, FACTORS - 1), count=st.integers(1, FACTORS))
    def lose(self, first: int, count: int) -> None:
        for number in range(first, min(first + count, self.FACTORS)):
            self.missing_since.setdefault(number, self.now)
            lately = sum(at > self.now - self.INTERVAL for at in self.missing_since.values())
            is_new = key(number) not in self.watch
            report = self.watch.not_found(key(number), self.now, self.INTERVAL, self.FACTORS)
            due = is_new and not self.reported and 2 * lately > self.FACTORS >= FEWEST_FACTORS
            assert report == (MassNotFound(lately, self.FACTORS, self.INTERVAL) if due else None)
            self.reported |= due

    @rule(number=st.integers(0, FACTORS - 1), least=st.sampled_from([0, 1, math.inf]))
    def find(self, number: int, least: float) -> None:
        for each in (
            [number] if least == 0 else list(self.missing_since) if least == math.inf else [number, number - 1]
        ):
            known = self.missing_since.pop(each, None) is not None
            self.watch.found(key(each), self.FACTORS)
            if known and 2 * len(self.missing_since) < self.FACTORS:
                self.reported = False

    @invariant()
    def it_knows_the_missing_factors(self) -> None:
        assert len(self.watch) == len(self.missing_since)
        assert all(key(number) in self.watch for number in self.missing_since)


AnySequence.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAnySequence = AnySequence.TestCase
