"""What time does to a factor: the interval in effect, and the withdrawal of what is stale."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.polling.clock import Moment
from exporter.polling.ledger import Ledger, LedgerPolicy
from exporter.polling.record import UNKNOWN
from exporter.polling.schedule import Schedule
from exporter.verify.outcome import Reason, Status
from tests.support.factors import SERVICES, factor, factors, key, outcome
from tests.support.single_factor import Watched
from tests.support.virtual_time import START

if TYPE_CHECKING:
    from exporter.watched import FactorKey

SLOWING = (Reason.BAD_REQUEST, Reason.DECODE, Reason.UNKNOWN_STATUS)
PASSING = tuple(reason for reason in Reason if reason not in SLOWING)


# Intervals in effect


def test_verified_is_fetched_every_interval() -> None:
    world = Watched()
    world.take(Status.VERIFIED)
    assert world.record.interval_seconds == 300


def test_unverified_is_fetched_more_often_for_its_window_only() -> None:
    world = Watched()
    world.take(Status.UNVERIFIED)
    assert world.record.interval_seconds == 60
    world.take(Status.UNVERIFIED, after=3_599)
    assert world.record.interval_seconds == 60
    world.take(Status.UNVERIFIED, after=1)
    assert world.record.interval_seconds == 300
    world.take(Status.UNVERIFIED, after=300)
    assert world.record.interval_seconds == 300


@pytest.mark.parametrize("other", [Status.VERIFIED, Status.NOT_FOUND])
def test_another_status_opens_the_window_again(other: Status) -> None:
    world = Watched()
    world.take(Status.UNVERIFIED)
    world.take(other, after=3_000)
    world.take(Status.UNVERIFIED, after=1_000)
    assert world.record.interval_seconds == 60
    world.take(Status.UNVERIFIED, after=3_599)
    assert world.record.interval_seconds == 60


def test_failures_and_staleness_do_not_open_the_window_again() -> None:
    world = Watched()
    world.take(Status.UNVERIFIED)
    world.take(Reason.TIMEOUT, after=60)
    assert world.record.interval_seconds == 60
    assert world.expire(after=2_000)
    world.take(Status.UNVERIFIED, after=1_000)
    assert world.record.interval_seconds == 60
    world.take(Reason.TIMEOUT, after=540)
    assert world.record.interval_seconds == 300  # 3,600 s after it was first seen so
    world.take(Status.UNVERIFIED, after=60)
    assert world.record.interval_seconds == 300


def test_unverified_never_slows_a_factor_down() -> None:
    world = Watched(interval=10)
    world.take(Status.UNVERIFIED)
    assert world.record.interval_seconds == 10


@pytest.mark.parametrize(
    ("interval", "at_first", "later"), [(300.0, 60.0, 900.0), (3_600.0, 60.0, 3_600.0), (10.0, 10.0, 900.0)]
)
def test_newly_missing_is_fetched_more_often_and_later_less_often(
    interval: float, at_first: float, later: float
) -> None:
    world = Watched(interval=interval)
    world.take(Status.VERIFIED)
    world.take(Status.NOT_FOUND)
    assert world.record.interval_seconds == at_first
    world.take(Status.NOT_FOUND, after=899)
    assert world.record.interval_seconds == at_first
    world.take(Status.NOT_FOUND, after=1)
    assert world.record.interval_seconds == later
    world.take(Reason.TIMEOUT, after=900)
    assert world.record.interval_seconds == later
    world.take(Status.VERIFIED, after=900)
    assert world.record.interval_seconds == interval


def test_failures_and_staleness_do_not_make_a_factor_newly_missing_again() -> None:
    world = Watched()
    world.take(Status.NOT_FOUND)
    world.take(Reason.TIMEOUT, after=60)
    assert world.record.interval_seconds == 60
    assert world.expire(after=840)
    world.take(Status.NOT_FOUND, after=1)
    assert world.record.interval_seconds == 900


@pytest.mark.parametrize("other", [Status.VERIFIED, Status.UNVERIFIED])
def test_a_factor_found_meanwhile_can_be_newly_missing_again(other: Status) -> None:
    world = Watched()
    world.take(Status.NOT_FOUND)
    world.take(other, after=800)
    world.take(Status.NOT_FOUND, after=800)
    world.take(Status.NOT_FOUND, after=899)
    assert world.record.interval_seconds == 60


def service_of(count: int) -> Ledger:
    ledger = Ledger(LedgerPolicy())
    for n in range(1, count + 1):
        ledger.watch(factor(n))
    return ledger


def interval_after(ledger: Ledger, missing: int, seconds: float) -> float:
    """Return the interval of one of so many factors that were missing together for so long."""
    for at in (START, START + seconds):
        for n in range(1, missing + 1):
            ledger.apply(key(n), outcome(Status.NOT_FOUND), Moment(at, at))
    return ledger[key(missing)].interval_seconds


def test_in_a_mass_404_factors_are_newly_missing_until_fetch_service_has_answered() -> None:
    ledger = service_of(10)
    service = ("main", SERVICES[0])
    ledger.doubt(service, doubted=True)
    assert interval_after(ledger, 6, 3_599) == 60
    ledger.doubt(service, doubted=False)
    ledger.apply(key(6), outcome(Status.NOT_FOUND), Moment(START, START + 3_599))
    assert ledger[key(6)].interval_seconds == 900


@pytest.mark.parametrize(
    ("factors", "missing", "seconds"),
    [(10, 6, 3_600), (10, 5, 900), (9, 9, 900)],
    ids=["for an hour at most", "half is no mass", "nine are no mass"],
)
def test_otherwise_factors_are_newly_missing_for_a_quarter_of_an_hour(
    factors: int, missing: int, seconds: float
) -> None:
    ledger = service_of(factors)
    ledger.doubt(("main", SERVICES[0]), doubted=True)
    ledger.doubt(("main", "VA" + "9" * 32), doubted=True)
    assert interval_after(ledger, missing, seconds) == 900


def test_a_service_without_factors_has_no_mass_404() -> None:
    assert not Ledger(LedgerPolicy()).mass_missing(("main", SERVICES[0]))


@given(
    start=st.floats(1.7e9, 1.8e9),
    number=st.integers(0, 10**6),
    interval=st.floats(1, 7_200),
    unverified=st.floats(1, 600),
    missing_for=st.floats(0, 3_000),
)
def test_a_wrong_404_is_corrected_before_an_alert_and_a_right_one_is_fetched_rarely(
    start: float, number: int, interval: float, unverified: float, missing_for: float
) -> None:
    ledger = Ledger(LedgerPolicy(unverified_interval_seconds=unverified))
    schedule: Schedule[FactorKey] = Schedule()
    watched = factor(number, interval=interval)
    of = watched.key
    ledger.watch(watched)
    schedule.add(of, start, interval, math.inf)
    fetched: list[float] = []
    found = False
    now = first = schedule.waiting(of) or math.nan
    while not found:
        assert list(schedule.pop_due(now)) == [(of, now)]
        fetched.append(now)
        found = now > first + missing_for
        ledger.apply(of, outcome(Status.VERIFIED if found else Status.NOT_FOUND), Moment(now, now))
        schedule.put_back(of, now, ledger[of].interval_seconds)
        now = schedule.waiting(of) or math.nan
    soon = min(interval, unverified)
    for before, after in pairwise(fetched):
        limit = soon if before - first < 900 else max(interval, 900)
        assert after - before <= limit + 1e-3
    assert len(fetched) <= 900 / soon + 3_000 / max(interval, 900) + 4
    if missing_for == 0:
        assert fetched[-1] - first <= soon + 1e-3, "a single wrong 404 holds no longer than that"


@pytest.mark.parametrize("reason", SLOWING)
@pytest.mark.parametrize("answer", [Status.VERIFIED, Status.UNVERIFIED, Status.NOT_FOUND])
def test_what_needs_a_change_slows_a_factor_until_an_answer(reason: Reason, answer: Status) -> None:
    world = Watched()
    world.take(Status.UNVERIFIED)
    world.take(reason, after=60)
    assert world.record.interval_seconds == 900
    for passing in PASSING:
        world.take(passing, after=900)
        assert world.record.interval_seconds == 900
    world.take(answer, after=3_600)
    assert world.record.interval_seconds == {"verified": 300, "unverified": 300, "not_found": 60}[answer]


@pytest.mark.parametrize("reason", [Reason.AUTH, Reason.FORBIDDEN])
def test_a_refusal_of_one_factor_slows_it_until_an_answer(reason: Reason) -> None:
    world = Watched()
    world.take(outcome(reason, alone=True))
    assert world.record.interval_seconds == 900
    world.take(reason, after=900)
    assert world.record.interval_seconds == 900
    world.take(Status.VERIFIED, after=900)
    assert world.record.interval_seconds == 300


@pytest.mark.parametrize("reason", PASSING)
@pytest.mark.parametrize(
    ("before", "kept"), [(Status.VERIFIED, 300), (Status.UNVERIFIED, 60), (Status.NOT_FOUND, 60), (None, 300)]
)
def test_other_failures_keep_the_cadence(reason: Reason, before: Status | None, kept: float) -> None:
    world = Watched()
    if before is not None:
        world.take(before)
    world.take(reason, after=60)
    assert world.record.interval_seconds == kept


def test_stretching_multiplies_every_interval_of_the_account() -> None:
    ledger = Ledger(LedgerPolicy())
    for watched in (factor(1), factor(2), factor(3), factor(4, account="other"), factor(5, paused=True)):
        ledger.watch(watched)
    now = Moment(START, START)
    ledger.apply(key(2), outcome(Status.UNVERIFIED), now)
    ledger.apply(key(3), outcome(Status.NOT_FOUND), now)
    assert ledger.stretch("main", 2.0, now) == [key(1), key(2), key(3)]
    assert [ledger[key(n)].interval_seconds for n in (1, 2, 3)] == [600, 120, 120]
    assert ledger[key(4, account="other")].interval_seconds == 300
    assert ledger.watch(factor(6)).interval_seconds == 600
    ledger.apply(key(1), outcome(Status.UNVERIFIED), now)
    assert ledger[key(1)].interval_seconds == 120
    assert ledger.stretch("main", 2.0, now) == []
    assert ledger.stretch("main", 1.0, now) == [key(1), key(2), key(3), key(6)]
    assert [ledger[key(n)].interval_seconds for n in (1, 2, 3, 6)] == [60, 60, 60, 300]


def test_the_end_of_the_window_is_seen_when_intervals_stretch() -> None:
    world = Watched()
    world.take(Status.UNVERIFIED)
    world.now += 4_000
    world.ledger.stretch("main", 1.5, world.moment)
    assert world.record.interval_seconds == 450


def test_demand_is_what_the_unstretched_intervals_ask() -> None:
    ledger = Ledger(LedgerPolicy())
    for watched in (*factors(30), factor(40, paused=True), factor(41, account="other", interval=1)):
        ledger.watch(watched)
    now = Moment(START, START)
    ledger.apply(key(0), outcome(Status.UNVERIFIED), now)
    expected = 29 / 300 + 1 / 60
    assert ledger.demand("main") == pytest.approx(expected)
    ledger.stretch("main", 7.0, now)
    assert ledger.demand("main") == pytest.approx(expected)
    assert ledger.demand("none") == 0


def test_a_stretch_ends_with_its_account() -> None:
    ledger = Ledger(LedgerPolicy())
    ledger.watch(factor(1))
    ledger.stretch("main", 3.0, Moment(START, START))
    ledger.forget(key(1))
    ledger.drop_account("main")
    assert ledger.watch(factor(1)).interval_seconds == 300
    assert ledger.demand("main") == pytest.approx(1 / 300)


# Staleness


def test_a_status_is_withdrawn_at_its_time_and_not_before() -> None:
    world = Watched()
    world.take(Status.VERIFIED)
    assert not world.expire(after=899.999)
    assert world.record.status is Status.VERIFIED
    assert world.expire(after=0.001)
    assert not world.expire(after=5_000)  # once


def test_stale_after_is_the_policy_s() -> None:
    world = Watched(LedgerPolicy(stale_after=5))
    world.take(Status.VERIFIED)
    assert not world.expire(after=1_499)
    assert world.expire(after=1)


@pytest.mark.parametrize(
    ("answer", "seconds"), [(Status.VERIFIED, 900), (Status.UNVERIFIED, 900), (Status.NOT_FOUND, 900)]
)
def test_the_longer_of_the_interval_and_the_one_in_force_counts(answer: Status, seconds: float) -> None:
    world = Watched()
    world.take(answer)
    assert not world.expire(after=seconds - 1)
    assert world.expire(after=1)


def test_a_stretched_interval_counts() -> None:
    world = Watched()
    world.ledger.stretch("main", 4.0, world.moment)
    world.take(Status.VERIFIED)
    assert not world.expire(after=3_599)
    assert world.expire(after=1)


@pytest.mark.parametrize("later", [0.5, 1.0, 10.0])
def test_an_interval_that_changes_after_the_answer_does_not_count(later: float) -> None:
    world = Watched()
    world.ledger.stretch("main", 2.0, world.moment)
    world.take(Status.VERIFIED)
    world.ledger.stretch("main", later, world.moment)
    world.take(Reason.DECODE, after=100)  # 900 s from here on
    assert not world.expire(after=1_699)
    assert world.expire(after=1)


def test_failures_do_not_put_staleness_off() -> None:
    world = Watched()
    world.take(Status.VERIFIED)
    for _ in range(8):
        world.take(Reason.TIMEOUT, after=100)
    assert not world.expire(after=99)
    assert world.expire(after=1)


def test_an_answer_puts_staleness_off() -> None:
    world = Watched()
    world.take(Status.VERIFIED)
    for _ in range(50):
        world.take(Status.VERIFIED, after=300)
        assert not world.expire(after=599)
    assert not world.expire(after=300)
    assert world.expire(after=1)


def test_a_shorter_staleness_after_a_longer_one_counts() -> None:
    world = Watched()
    world.take(Status.NOT_FOUND)
    world.take(Status.NOT_FOUND, after=900)  # would be stale 2,700 s from now
    world.take(Status.VERIFIED, after=10)
    assert not world.expire(after=899)
    assert world.expire(after=1)
    assert not world.expire(after=5_000)


def test_a_factor_watched_again_is_not_withdrawn_at_its_old_time() -> None:
    world = Watched()
    world.take(Status.VERIFIED)
    world.ledger.forget(world.key)
    world.record = world.ledger.watch(factor(1))
    world.take(Status.VERIFIED, after=600)
    assert not world.expire(after=300)
    assert world.record.status is Status.VERIFIED
    assert not world.expire(after=599)
    assert world.expire(after=1)


def test_a_forgotten_factor_is_not_withdrawn() -> None:
    world = Watched()
    world.take(Status.VERIFIED)
    world.ledger.forget(world.key)
    assert world.ledger.expire(START + 1e6) == []


def test_all_that_is_stale_is_withdrawn_together() -> None:
    ledger = Ledger(LedgerPolicy())
    for number in range(100):
        ledger.watch(factor(number))
        ledger.apply(key(number), outcome(Status.VERIFIED), Moment(START + number, START + number))
    assert set(ledger.expire(START + 949)) == {key(number) for number in range(50)}
    assert ledger.counts["main", SERVICES[0]] == {UNKNOWN: 50, Status.VERIFIED: 50}


@pytest.mark.parametrize("step", [-86_400.0 * 365, -1.0, 86_400.0 * 365])
def test_a_step_of_the_wall_clock_moves_no_age(step: float) -> None:
    world = Watched()
    world.take(Status.UNVERIFIED)
    world.wall_step = step
    assert not world.expire(after=899)
    assert world.expire(after=1)
    world.take(Status.UNVERIFIED, after=2_699)
    assert world.record.interval_seconds == 60
    world.take(Status.UNVERIFIED, after=1)
    assert world.record.interval_seconds == 300
    assert world.record.answered_seconds == world.now + step
    assert world.record.answered_steady == world.now


def test_the_calendar_stays_small_over_thousands_of_answers() -> None:
    ledger = Ledger(LedgerPolicy())
    for watched in factors(10, interval=5):
        ledger.watch(watched)
    statuses = (Status.VERIFIED, Status.NOT_FOUND, Status.UNVERIFIED)
    now = START
    for step in range(5_000):
        now += 1
        ledger.apply(key(step % 10), outcome(statuses[step // 7 % 3]), Moment(now, now))
        if step % 5 == 0:
            ledger.expire(now)
        assert ledger.stale_places <= 2 * len(ledger)
    assert {record.status for record in ledger} != {None}
    claimed = [record.watched.key for record in ledger if record.status is not None]
    assert set(ledger.expire(now + 10_000)) == set(claimed)
    assert {record.status for record in ledger} == {None}
