"""The history of statuses: sparse, bounded, and without a claim about what was not observed.

test_ledger_history.py and test_removed_factors.py compare it with what was shown, for any sequence of events.
"""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from itertools import pairwise

import pytest

from exporter.polling import status_history as module
from exporter.polling.clock import Moment
from exporter.polling.ledger import Ledger, LedgerPolicy
from exporter.polling.removed import RemovedFactors
from exporter.polling.snapshot import snapshot_of
from exporter.polling.status_history import (
    CHANGE_BYTES,
    KEPT_SECONDS,
    MOST_CHANGES,
    MOST_INTERRUPTIONS,
    Period,
    StatusHistory,
)
from exporter.verify.outcome import Reason, Status
from exporter.watched import FactorKey
from tests.support.factors import SERVICES, factor, key, outcome
from tests.support.polling_harness import PollingHarness
from tests.support.snapshots import NOW
from tests.support.virtual_time import in_virtual_time

VERIFIED, UNVERIFIED, NOT_FOUND = Status
STALE_SECONDS = 900.0


def at(seconds: float, *, set_by: float = 0.0) -> Moment:
    """Return a moment so long after the beginning; the wall clock was set by so much since."""
    return Moment(NOW + seconds + set_by, 5e6 + seconds)


def ledger_of(*numbers: int, history: StatusHistory | None = None) -> Ledger:
    ledger = Ledger(LedgerPolicy(), StatusHistory(at(0)) if history is None else history)
    for number in numbers or (1,):
        ledger.watch(factor(number))
    return ledger


def answer(ledger: Ledger, seconds: float, result: Status | Reason, number: int = 1) -> None:
    ledger.apply(key(number), outcome(result), at(seconds))


def known(ledger: Ledger, now: Moment, number: int = 1) -> list[tuple[float, float, str]]:
    """Return the periods since the beginning, in seconds after it."""
    seconds = now.steady - at(0).steady
    periods = ledger.history.periods(ledger[key(number)], now, seconds)
    return [(of.start_seconds - NOW, of.end_seconds - NOW, of.status or "unknown") for of in periods]


def test_each_change_has_its_time_and_what_is_unknown_is_no_status() -> None:
    ledger = ledger_of()
    answer(ledger, 100, VERIFIED)
    answer(ledger, 400, VERIFIED)
    answer(ledger, 500, Reason.TIMEOUT)
    answer(ledger, 600, NOT_FOUND)
    ledger.expire(at(700).steady)
    assert known(ledger, at(700)) == [(0, 100, "unknown"), (100, 600, VERIFIED), (600, 700, NOT_FOUND)]
    ledger.expire(at(10_000).steady)
    stale = 600 + 3 * 300
    answer(ledger, 10_000, NOT_FOUND)
    assert known(ledger, at(10_001))[1:] == [
        *((100, 600, VERIFIED), (600, stale, NOT_FOUND), (stale, 10_000, "unknown"), (10_000, 10_001, NOT_FOUND)),
    ]


def test_without_an_answer_all_of_it_is_unknown() -> None:
    ledger = ledger_of()
    answer(ledger, 5, Reason.TIMEOUT)
    assert known(ledger, at(60)) == [(0, 60, "unknown")]
    assert ledger.history.changes == 0


def test_one_status_takes_no_memory() -> None:
    ledger = ledger_of()
    for number in range(100):
        answer(ledger, 60.0 * number, (VERIFIED, Reason.TIMEOUT)[number % 2])
    assert ledger.history.changes == 0
    assert known(ledger, at(6000)) == [(0, 6000, VERIFIED)]


def test_a_pause_is_unknown() -> None:
    ledger = ledger_of()
    answer(ledger, 10, UNVERIFIED)
    ledger.revise(factor(1, paused=True), at(20))
    answer(ledger, 21, VERIFIED)  # was in flight
    assert known(ledger, at(30)) == [(0, 10, "unknown"), (10, 20, UNVERIFIED), (20, 30, "unknown")]
    ledger.revise(factor(1), at(40))
    assert known(ledger, at(50))[2:] == [(20, 40, "unknown"), (40, 50, VERIFIED)]


def test_an_answer_to_a_paused_factor_is_not_shown_later_either() -> None:
    ledger = ledger_of()
    ledger.revise(factor(1, paused=True), at(1))
    answer(ledger, 2, VERIFIED)
    ledger.revise(factor(1), at(50))
    assert known(ledger, at(60)) == [(0, 50, "unknown"), (50, 60, VERIFIED)]


@pytest.mark.parametrize("set_by", [-86_400.0, -60.0, 60.0, 1e9])
def test_after_a_step_of_the_wall_clock_it_begins_again(set_by: float) -> None:
    ledger = ledger_of()
    answer(ledger, 10, VERIFIED)
    answer(ledger, 20, UNVERIFIED)
    ledger.history.tidy(at(30, set_by=set_by))
    now = at(50, set_by=set_by)
    periods = ledger.history.periods(ledger[key(1)], now, 50.0)
    assert [(round(of.end_seconds - of.start_seconds, 3), of.status) for of in periods] == [
        (30, None),
        (20, UNVERIFIED),
    ]
    assert periods[-1].end_seconds == now.wall
    assert ledger.history.since_seconds == pytest.approx(at(30, set_by=set_by).wall)


def test_a_status_from_before_a_clock_was_set_back_goes_on_after_it() -> None:
    ledger = ledger_of()
    answer(ledger, 10, VERIFIED)
    ledger.history.tidy(at(30, set_by=-3600))
    periods = ledger.history.periods(ledger[key(1)], at(50, set_by=-3600), 50.0)
    assert [(round(of.end_seconds - of.start_seconds, 3), of.status) for of in periods] == [
        (30, None),
        (20, VERIFIED),
    ]


def test_a_clock_that_drifts_changes_nothing() -> None:
    ledger = ledger_of()
    answer(ledger, 10, VERIFIED)
    for seconds in range(100, 1000, 100):
        ledger.history.tidy(at(seconds, set_by=seconds / 1000))
    periods = ledger.history.periods(ledger[key(1)], at(1000, set_by=1), 1000.0)
    assert [of.status for of in periods] == [None, VERIFIED]
    assert periods[1].start_seconds == pytest.approx(NOW + 10, abs=0.01)


# What is kept


def flapping(ledger: Ledger, times: int, number: int = 1, start: float = 0.0) -> None:
    for change in range(times):
        answer(ledger, start + 10.0 * (change + 1), (VERIFIED, UNVERIFIED)[change % 2], number)


def test_the_last_changes_of_a_factor_are_kept() -> None:
    ledger = ledger_of()
    flapping(ledger, 1000)
    assert ledger.history.changes == MOST_CHANGES
    periods = known(ledger, at(10_010))
    assert len(periods) == MOST_CHANGES + 1
    assert periods[0][2] == "unknown"
    assert periods[-1] == (10_000, 10_010, UNVERIFIED)


def test_of_too_many_changes_the_oldest_are_dropped_and_the_history_begins_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MOST_CHANGES_OF_ALL", 100)
    numbers = range(1, 80)
    ledger = ledger_of(*numbers)
    ledger.revise(factor(1, paused=True), at(1))
    answer(ledger, 2, VERIFIED, 1)
    for number in numbers[1:]:
        flapping(ledger, 2, number, start=100.0 * number)
        assert ledger.history.changes <= 100
    since = ledger.history.since_seconds - NOW
    assert since > 100 * 29
    assert known(ledger, at(8_000), 79) == [
        (0, 7_910, "unknown"), (7_910, 7_920, VERIFIED), (7_920, 8_000, UNVERIFIED)
    ]  # fmt: skip
    assert known(ledger, at(8_000), 2) == [
        (0, pytest.approx(since), "unknown"), (pytest.approx(since), 8_000, UNVERIFIED)
    ]  # fmt: skip
    ledger.revise(factor(1), at(8_000))
    assert known(ledger, at(8_001), 1) == [(0, 8_000, "unknown"), (8_000, 8_001, VERIFIED)]


def test_what_is_older_than_a_week_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TIDIED_AT_ONCE", 2)
    ledger = ledger_of(1, 2, 3, 4)
    answer(ledger, 1, VERIFIED, 4)
    ledger.revise(factor(4, paused=True), at(2))
    for number in (1, 2, 3):
        flapping(ledger, 2, number)
    ledger.history.interrupted(5, at(100))
    week = at(KEPT_SECONDS + 1000)
    for _ in range(4):
        ledger.history.tidy(week)
    assert ledger.history.changes == 1, "that the status of a paused factor isn't shown"
    assert known(ledger, week)[0] == (0, 1000, "unknown")
    assert known(ledger, week)[1:] == [(1000, KEPT_SECONDS + 1000, UNVERIFIED)]
    assert ledger.history.saved(week).interruptions == ()
    ledger.forget(key(4))
    ledger.history.tidy(week)
    assert ledger.history.changes == 0


@in_virtual_time
async def test_a_suspend_of_the_system_is_not_observed() -> None:
    env = PollingHarness([factor(1, interval=300)])
    await env.run(40)
    answered = env.ledger[key(1)].answered_steady
    before = env.clock.steady()
    env.clock.suspend(200)
    env.poller.dispatch()
    periods = env.ledger.history.periods(env.ledger[key(1)], env.clock.moment(), 240.0)
    assert [(of.status, round(of.end_seconds - of.start_seconds, 2)) for of in periods[-2:]] == [
        (VERIFIED, round(before - answered, 2)),
        (None, 200),
    ]


# Over restarts and removals


def restarted(ledger: Ledger, now: Moment, *, later: float, paused: bool = False) -> Ledger:
    """Return the ledger of another process, which starts so many seconds after the save."""
    history = StatusHistory(start := Moment(now.wall + later, 77.0))
    saved = ledger.history.saved(now)
    history.restore(saved, now.wall, start)
    after = Ledger(LedgerPolicy(), history)
    snapshot = snapshot_of(ledger[key(1)], now)
    after.watch(factor(1, paused=paused))
    assert snapshot is not None
    after.restore(key(1), snapshot, start)
    return after


def over_restart(ledger: Ledger, start: float, end: float) -> list[tuple[float, float, str]]:
    """Return the periods of another process, in seconds after the beginning."""
    now = Moment(NOW + end, 77.0 + end - start)
    periods = ledger.history.periods(ledger[key(1)], now, end)
    return [
        (round(of.start_seconds - NOW, 3), round(of.end_seconds - NOW, 3), of.status or "unknown") for of in periods
    ]


def test_a_restart_keeps_it_and_leaves_a_gap() -> None:
    ledger = ledger_of()
    answer(ledger, 10, VERIFIED)
    answer(ledger, 20, UNVERIFIED)
    after = restarted(ledger, at(30), later=100)
    assert over_restart(after, 130, 150) == [
        *((0, 10, "unknown"), (10, 20, VERIFIED), (20, 30, UNVERIFIED), (30, 130, "unknown")),
        (130, 150, UNVERIFIED),
    ]


def test_a_status_that_became_stale_in_between_ends_with_the_process() -> None:
    ledger = ledger_of()
    answer(ledger, 10, VERIFIED)
    after = restarted(ledger, at(30), later=5000)
    assert over_restart(after, 5030, 5040) == [(0, 10, "unknown"), (10, 30, VERIFIED), (30, 5040, "unknown")]


def test_a_factor_that_is_paused_after_a_restart_is_unknown_from_then_on() -> None:
    ledger = ledger_of()
    answer(ledger, 10, VERIFIED)
    answer(ledger, 20, UNVERIFIED)
    after = restarted(ledger, at(30), later=100, paused=True)
    assert over_restart(after, 130, 150)[1:] == [(10, 20, VERIFIED), (20, 30, UNVERIFIED), (30, 150, "unknown")]


def test_a_status_that_was_not_shown_is_not_claimed_by_the_next_process() -> None:
    ledger = ledger_of()
    ledger.revise(factor(1, paused=True), at(1))
    answer(ledger, 2, VERIFIED)
    after = restarted(ledger, at(30), later=100)
    assert over_restart(after, 130, 150) == [(0, 130, "unknown"), (130, 150, VERIFIED)]


def test_a_change_during_the_save_has_its_time() -> None:
    ledger = ledger_of()
    answer(ledger, 10, VERIFIED)
    answer(ledger, 20, UNVERIFIED)
    saved = ledger.history.saved(at(25))
    answer(ledger, 26, NOT_FOUND)
    ledger.history.restore(saved, at(30).wall, at(30))
    after = Ledger(LedgerPolicy(), ledger.history)
    after.watch(factor(1))
    snapshot = snapshot_of(ledger[key(1)], at(30))
    assert snapshot is not None
    after.restore(key(1), snapshot, at(130))
    assert known(after, at(131))[1:] == [
        (10, 20, VERIFIED), (20, 26, UNVERIFIED), (26, 131, NOT_FOUND)
    ]  # fmt: skip


def test_a_clock_set_back_a_little_between_two_processes_changes_no_order() -> None:
    ledger = ledger_of()
    answer(ledger, 10, VERIFIED)
    answer(ledger, 20, UNVERIFIED)
    after = restarted(ledger, at(30), later=-3)
    answer_at = Moment(NOW + 28, 78.0)
    after.apply(key(1), outcome(VERIFIED), answer_at)
    periods = after.history.periods(after[key(1)], Moment(NOW + 37, 87.0), 40.0)
    assert [of.status for of in periods] == [None, VERIFIED, UNVERIFIED, VERIFIED]
    assert all(of.start_seconds < of.end_seconds for of in periods)


def test_after_many_restarts_the_history_begins_later() -> None:
    ledger = ledger_of()
    answer(ledger, 10, VERIFIED)
    for number in range(MOST_INTERRUPTIONS + 5):
        ledger.history.interrupted(1, at(100 + 2 * number))
    assert ledger.history.since_seconds == at(100 + 2 * 4).wall
    assert len(known(ledger, at(1000))) == 2 + 2 * MOST_INTERRUPTIONS


def test_a_removed_factor_is_unknown_until_it_is_back() -> None:
    ledger = ledger_of()
    removed = RemovedFactors(3600, ledger.history)
    answer(ledger, 10, VERIFIED)
    removed.keep(ledger.forget(key(1), at(20)), at(20))
    back = removed.take(key(1), at(50).steady)
    assert back is not None
    ledger.watch(factor(1))
    ledger.restore(key(1), back.snapshot, at(50), back.times)
    assert known(ledger, at(60)) == [
        (0, 10, "unknown"), (10, 20, VERIFIED), (20, 50, "unknown"), (50, 60, VERIFIED)
    ]  # fmt: skip


def test_the_history_of_a_forgotten_factor_is_dropped() -> None:
    ledger = ledger_of(1, 2)
    removed = RemovedFactors(3600, ledger.history)
    answer(ledger, 10, VERIFIED)
    removed.keep(ledger.forget(key(1), at(20)), at(20))
    assert ledger.history.changes == 2
    removed.forget_old(at(3700).steady)
    assert ledger.history.changes == 0
    flapping(ledger, 3, 2)
    ledger.forget(key(2))
    assert ledger.history.changes == 0


# Memory


@pytest.mark.slow
@pytest.mark.parametrize(("changes", "most"), [(0, 0), (1, 170), (5, 190), (31, 350)])
def test_a_factor_takes_memory_only_for_its_changes(changes: int, most: int) -> None:
    count = 15_000
    keys = [FactorKey("main", SERVICES[0], f"YF{number:032x}") for number in range(count)]
    ledger = Ledger(LedgerPolicy(), StatusHistory(at(0)))
    records = [ledger.watch(replace(factor(1), key=one)) for one in keys]
    history = StatusHistory(at(0))
    tracemalloc.start()
    try:
        for record in records:
            record.status, record.status_since_seconds = VERIFIED, NOW
        for number in range(changes):
            for record in records:
                before = module.shown_by(record)
                record.status = (UNVERIFIED, VERIFIED)[number % 2]
                history.changed(record, before, at(number + 1.0).steady, begins=True)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert history.changes == count * (changes + 1 if changes else 0)
    assert used / count <= most, "bytes per factor, without its key"


def test_a_change_takes_six_bytes() -> None:
    ledger = ledger_of()
    flapping(ledger, 3)
    [packed] = ledger.history.saved(at(100)).changes.values()
    assert len(packed) == 3 * CHANGE_BYTES


def test_periods_cover_the_time_without_an_overlap() -> None:
    ledger = ledger_of()
    flapping(ledger, 20)
    ledger.history.interrupted(15, at(150))
    ledger.history.interrupted(100, at(400))
    periods: list[Period] = ledger.history.periods(ledger[key(1)], at(500), 600.0)
    assert periods[0].start_seconds == NOW - 100
    assert periods[-1].end_seconds == NOW + 500
    for one, two in pairwise(periods):
        assert one.end_seconds == two.start_seconds
        assert one.status is not two.status
