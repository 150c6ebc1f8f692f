"""When each factor is due: phases, due times, first fetches, and the calendar."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from exporter.polling.schedule import FIRST_FETCH_SECONDS, Schedule, due_after, first_fetch_spread, phase
from exporter.watched import FactorKey
from tests.support.factors import key
from tests.support.virtual_time import START

ROUNDING = 2e-6  # seconds: what a float leaves of a moment in this century, over a multiplication

moments = st.floats(0, 4e9)
intervals = st.one_of(st.sampled_from([1.0, 60.0, 300.0, 900.0, 86_400.0]), st.floats(1, 90_000))
relaxed = settings(deadline=None)  # the machine may be busy
fractions = st.integers(0, 2**48 - 1).map(lambda n: n / 2**48)


# Slots


@relaxed
@given(after=moments, interval=intervals, fraction=fractions)
def test_the_next_slot_is_the_first_after_a_moment(after: float, interval: float, fraction: float) -> None:
    slot = due_after(after, interval, fraction)
    assert after < slot <= after + interval + ROUNDING


@relaxed
@given(after=moments, interval=intervals, fraction=fractions)
def test_slots_lie_on_the_grid_of_the_phase(after: float, interval: float, fraction: float) -> None:
    slots = due_after(after, interval, fraction) / interval - fraction
    assert abs(slots - round(slots)) * interval < ROUNDING


@settings(max_examples=30, deadline=None)
@given(interval=intervals, fraction=fractions, start=moments)
def test_from_slot_to_slot_is_one_interval(interval: float, fraction: float, start: float) -> None:
    slot = due_after(start, interval, fraction)
    for _ in range(20):
        after, slot = slot, due_after(slot, interval, fraction)
        assert slot - after == pytest.approx(interval, abs=ROUNDING)


def test_the_cadence_does_not_drift_over_ten_thousand_fetches() -> None:
    fraction = phase(key(1))
    first = slot = due_after(START, 300.0, fraction)
    for step in range(1, 10_001):
        late = slot + (step * 7_919 % 1_000) / 1_000  # dispatches and answers are up to a second late
        slot = due_after(late, 300.0, fraction)
    assert slot == pytest.approx(first + 10_000 * 300.0, abs=ROUNDING)


def test_a_fetch_that_ends_just_before_the_next_due_time_does_not_skip_it() -> None:
    slot = due_after(START, 60.0, 0.25)
    assert due_after(slot - 0.001, 60.0, 0.25) == slot
    assert due_after(slot, 60.0, 0.25) == slot + 60


# Phases


def test_phases_are_uniform() -> None:
    cells = Counter(math.floor(phase(key(n)) * 100) for n in range(10_000))
    chi_square = sum((cells[cell] - 100) ** 2 / 100 for cell in range(100))
    assert 50 < chi_square < 150  # 99 degrees of freedom: mean 99, deviation 14


def test_a_phase_depends_on_the_whole_key_and_on_nothing_else() -> None:
    one = phase(key(1))
    assert phase(key(1)) == one
    assert len({one, phase(key(2)), phase(key(1, account="other")), phase(key(1, service=1))}) == 4


@relaxed
@given(st.tuples(st.text(), st.text(), st.text()))
def test_a_phase_is_less_than_one(parts: tuple[str, str, str]) -> None:
    assert 0 <= phase(type(key(1))(*parts)) < 1


# First fetches


@relaxed
@given(now=moments, interval=intervals, spread=st.one_of(st.just(math.inf), st.floats(1, 90_000)))
def test_a_first_fetch_is_within_the_interval_and_the_spread(now: float, interval: float, spread: float) -> None:
    due = Schedule[FactorKey]().add(key(1), now, interval, spread)
    assert now <= due <= now + min(interval, spread) + ROUNDING


@relaxed
@given(now=moments, interval=intervals, spread=st.floats(1, 90_000))
def test_the_fetch_after_the_first_is_the_regular_one(now: float, interval: float, spread: float) -> None:
    schedule: Schedule[FactorKey] = Schedule()
    due = schedule.add(key(1), now, interval, spread)
    schedule.put_back(key(1), due, interval)
    second = schedule.waiting(key(1))
    assert second is not None
    assert second - due <= interval + ROUNDING
    assert second == due_after(due, interval, phase(key(1)))


@pytest.mark.parametrize(
    ("count", "interval", "budget"),
    [(100, 300.0, 10.0), (1_000, 60.0, 50.0), (5_000, 300.0, 50.0), (20_000, 300.0, 100.0), (2_000, 20.0, 150.0)],
)
def test_first_fetches_and_the_regular_ones_after_them_stay_within_the_budget(
    count: int, interval: float, budget: float
) -> None:
    schedule: Schedule[FactorKey] = Schedule()
    spread = first_fetch_spread(count, count / interval, budget)
    for number in range(count):
        schedule.add(key(number), START, interval, spread)
    first: dict[FactorKey, float] = {}
    starts: Counter[int] = Counter()
    for second in range(math.ceil(interval) + 1):
        for factor, due in schedule.pop_due(START + second):
            first.setdefault(factor, due)
            starts[second] += 1
            schedule.put_back(factor, START + second, interval)
    assert len(first) == count
    assert max(first.values()) <= START + min(interval, spread)
    assert max(starts.values()) <= budget + 5 * math.sqrt(budget)
    seconds = min(interval, spread)
    assert sum(starts[second] for second in range(1, int(seconds) + 1)) <= budget * seconds


def test_first_fetches_are_spread() -> None:
    assert first_fetch_spread(10, demand=1, budget=10) == FIRST_FETCH_SECONDS  # few factors need no shorter spread
    assert first_fetch_spread(900, demand=1, budget=10) == 100  # many: as fast as the spare budget allows
    assert first_fetch_spread(10, demand=10, budget=10) == math.inf  # no spare budget: at the regular slots
    assert first_fetch_spread(10, demand=11, budget=10) == math.inf


# The queue of due times


def test_due_factors_come_out_earliest_first_and_once() -> None:
    schedule: Schedule[FactorKey] = Schedule()
    for number in range(500):
        schedule.add(key(number), START, 60.0, math.inf)
    popped = list(schedule.pop_due(START + 60.001))
    assert len(popped) == len({factor for factor, _ in popped}) == 500
    assert [due for _, due in popped] == sorted(due for _, due in popped)
    assert list(schedule.pop_due(START + 10_000)) == []


def test_a_factor_is_due_at_its_due_time_and_not_before() -> None:
    schedule: Schedule[FactorKey] = Schedule()
    due = schedule.add(key(1), START, 60.0, math.inf)
    assert list(schedule.pop_due(math.nextafter(due, 0))) == []
    assert schedule.waiting(key(1)) == due
    assert list(schedule.pop_due(due)) == [(key(1), due)]
    assert schedule.waiting(key(1)) is None


def test_a_factor_removed_while_it_waits_is_never_due() -> None:
    schedule: Schedule[FactorKey] = Schedule()
    schedule.add(key(1), START, 60.0, math.inf)
    schedule.remove(key(1))
    assert key(1) not in schedule
    assert len(schedule) == 0
    assert schedule.waiting(key(1)) is None
    assert list(schedule.pop_due(START + 1_000)) == []


def test_a_factor_removed_while_in_flight_is_not_put_back() -> None:
    schedule: Schedule[FactorKey] = Schedule()
    schedule.add(key(1), START, 60.0, math.inf)
    assert len(list(schedule.pop_due(START + 60))) == 1
    schedule.remove(key(1))
    schedule.put_back(key(1), START + 61, 60.0)
    assert list(schedule.pop_due(START + 1_000)) == []


def test_a_factor_watched_again_is_not_due_at_its_old_time() -> None:
    schedule: Schedule[FactorKey] = Schedule()
    old = schedule.add(key(1), START, 60.0, math.inf)
    schedule.remove(key(1))
    new = schedule.add(key(1), START + 1, 600.0, math.inf)
    assert new > old
    assert list(schedule.pop_due(old)) == []
    assert list(schedule.pop_due(new)) == [(key(1), new)]


def test_removing_an_unknown_factor_is_no_error() -> None:
    Schedule[FactorKey]().remove(key(1))


def test_bringing_forward_moves_a_waiting_factor_to_an_earlier_slot_only() -> None:
    schedule: Schedule[FactorKey] = Schedule()
    far = schedule.add(key(1), START, 6_000.0, math.inf)
    schedule.bring_forward(key(1), START, 60.0)
    near = schedule.waiting(key(1))
    assert near == schedule.next_due(key(1), START, 60.0) < far
    schedule.bring_forward(key(1), START, 6_000.0)
    assert schedule.waiting(key(1)) == near
    assert [due for _, due in schedule.pop_due(far)] == [near]  # and the old time counts no more
    schedule.bring_forward(key(1), START, 1.0)  # in flight: it is put back at the end of the fetch
    assert schedule.waiting(key(1)) is None
    schedule.bring_forward(key(2), START, 1.0)
    assert key(2) not in schedule


def test_the_calendar_stays_small_however_often_factors_move() -> None:
    schedule: Schedule[FactorKey] = Schedule()
    for step in range(5_000):
        factor = key(step % 10)
        schedule.remove(factor)
        schedule.add(factor, START + step / 1_000, 3_600.0, math.inf)
        schedule.put_back(factor, START + step / 1_000, 7_200.0)
        assert schedule.places <= 2 * len(schedule)
    assert len(list(schedule.pop_due(START + 10_000))) == 10


KEYS = [key(n) for n in range(6)]


class ScheduleMachine(RuleBasedStateMachine):
    """The schedule against a dictionary of due times that is searched from end to end."""

    def __init__(self) -> None:
        super().__init__()
        self.schedule: Schedule[FactorKey] = Schedule()
        self.now = START
        self.due: dict[FactorKey, float | None] = {}

    def _slot(self, factor: FactorKey, interval: float) -> float:
        """Find the next slot by trying them one by one."""
        slot = (math.floor(self.now / interval) - 2 + phase(factor)) * interval
        while slot <= self.now:
            slot += interval
        return slot

    def _same(self, factor: FactorKey, expected: float) -> None:
        due = self.schedule.waiting(factor)
        assert due == pytest.approx(expected, abs=ROUNDING)
        self.due[factor] = due

    @rule(seconds=st.floats(0.001, 100))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule(factor=st.sampled_from(KEYS), interval=intervals, spread=st.one_of(st.just(math.inf), st.floats(1, 600)))
    def add(self, factor: FactorKey, interval: float, spread: float) -> None:
        if factor not in self.due:
            self.schedule.add(factor, self.now, interval, spread)
            wait = self._slot(factor, interval) - self.now
            self._same(factor, self.now + wait * min(1.0, spread / interval))

    @rule(factor=st.sampled_from(KEYS))
    def remove(self, factor: FactorKey) -> None:
        self.schedule.remove(factor)
        self.due.pop(factor, None)

    @rule()
    def pop(self) -> None:
        expected = [(factor, due) for factor, due in self.due.items() if due is not None and due <= self.now]
        assert list(self.schedule.pop_due(self.now)) == sorted(expected, key=lambda pair: (pair[1], pair[0]))
        self.due.update((factor, None) for factor, _ in expected)

    @rule(factor=st.sampled_from(KEYS), interval=intervals)
    def put_back(self, factor: FactorKey, interval: float) -> None:
        self.schedule.put_back(factor, self.now, interval)
        if factor in self.due:
            self._same(factor, self._slot(factor, interval))

    @rule(factor=st.sampled_from(KEYS), interval=intervals)
    def bring_forward(self, factor: FactorKey, interval: float) -> None:
        self.schedule.bring_forward(factor, self.now, interval)
        before = self.due.get(factor)
        if before is not None:
            self._same(factor, min(before, self._slot(factor, interval)))

    @precondition(lambda self: self.due)
    @invariant()
    def knows_the_same(self) -> None:
        assert len(self.schedule) == len(self.due)
        for factor in KEYS:
            assert (factor in self.schedule) == (factor in self.due)
            assert self.schedule.waiting(factor) == self.due.get(factor)
        assert self.schedule.places <= 2 * len(KEYS)


TestScheduleMachine = ScheduleMachine.TestCase
TestScheduleMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
