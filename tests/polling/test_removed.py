"""What was known of removed factors: back exactly, or forgotten because of its age or number."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import pytest
from hypothesis import given

from exporter.polling import removed as module
from exporter.polling.clock import Moment
from exporter.polling.ledger import Ledger, LedgerPolicy
from exporter.polling.removed import RemovedFactors
from exporter.polling.roster import Difference, Roster
from exporter.polling.snapshot import FactorSnapshot, snapshot_of
from exporter.verify.outcome import Answer, Reason, Status
from exporter.watched import FactorKey
from tests.support.factors import SERVICES, factor, key, outcome
from tests.support.polling_harness import PollingHarness
from tests.support.snapshots import NOW, snapshots
from tests.support.virtual_time import in_virtual_time

DAY = 86400.0


def at(seconds: float, *, set_by: float = 0.0) -> Moment:
    """Return a moment so long after the beginning; the wall clock was set by so much since."""
    return Moment(NOW + seconds + set_by, NOW + seconds)


def answered(*statuses: Status | Reason) -> Ledger:
    """Return a ledger with a factor that was fetched once a minute with these results."""
    ledger = Ledger(LedgerPolicy())
    ledger.watch(factor(1))
    for number, status in enumerate(statuses):
        ledger.apply(key(1), outcome(status), at(60.0 * number))
    return ledger


@given(snapshots)
def test_every_snapshot_comes_back(snapshot: FactorSnapshot) -> None:
    removed = RemovedFactors(1e9)
    removed.restore({key(1): snapshot}, at(0))
    ((_, saved),) = removed.saved().snapshots(at(0))
    since = NOW if snapshot.removed_seconds is None else snapshot.removed_seconds
    assert saved == replace(snapshot, removed_seconds=saved.removed_seconds)
    assert saved.removed_seconds == pytest.approx(since, abs=0.002)
    known = removed.take(key(1), NOW)
    assert known is not None
    assert known.snapshot == replace(snapshot, removed_seconds=None)
    assert removed.take(key(1), NOW) is None


@pytest.mark.parametrize("age", [0.0, DAY - 1, DAY])
def test_it_is_forgotten_after_a_while(age: float) -> None:
    ledger, removed = answered(Status.VERIFIED), RemovedFactors(DAY)
    removed.keep(ledger.forget(key(1)), at(100))
    assert (removed.take(key(1), NOW + 100 + age) is None) == (age == DAY)


def test_nothing_is_kept_of_what_was_never_fetched() -> None:
    removed = RemovedFactors()
    removed.keep(answered().forget(key(1)), at(0))
    assert len(removed) == 0


@pytest.mark.parametrize("set_by", [-DAY, 0.0, DAY])
def test_the_age_is_the_real_one_whatever_the_wall_clock_does(set_by: float) -> None:
    ledger, removed = answered(Status.UNVERIFIED, Reason.TIMEOUT), RemovedFactors(2 * DAY)
    record = ledger.forget(key(1))
    removed.keep(record, at(100))
    now = at(800, set_by=set_by)
    known = removed.take(key(1), now.steady)
    assert known is not None
    again = ledger.watch(factor(1))
    ledger.restore(key(1), known.snapshot, now, known.times)
    assert again.status is Status.UNVERIFIED
    assert again.stale_at == record.stale_at == NOW + 900
    assert again.not_verified_since == record.not_verified_since == NOW
    for name in (
        "last_status",
        "status_since_seconds",
        "failing_since_seconds",
        "failures",
        "up",
        "last_verified_seconds",
    ):
        assert getattr(again, name) == getattr(record, name), name
    assert ledger.expire(NOW + 900) == [key(1)]
    assert again.status_since_seconds == NOW + 900


@pytest.mark.parametrize("statuses", [[Status.VERIFIED], [Status.VERIFIED, Status.NOT_FOUND]])
def test_whether_a_status_was_seen_to_begin_comes_back(statuses: list[Status]) -> None:
    ledger, removed = answered(*statuses), RemovedFactors()
    before = ledger.forget(key(1))
    removed.keep(before, at(100))
    known = removed.take(key(1), NOW + 101)
    assert known is not None
    again = ledger.watch(factor(1))
    ledger.restore(key(1), known.snapshot, at(101), known.times)
    assert again.status_since_seconds == before.status_since_seconds == NOW + 60 * (len(statuses) - 1)
    assert again.status_change_seen == before.status_change_seen == (len(statuses) > 1)


def test_what_became_stale_meanwhile_is_not_claimed() -> None:
    ledger, removed = answered(Status.UNVERIFIED, Status.VERIFIED), RemovedFactors()
    removed.keep(ledger.forget(key(1)), at(100))
    now = at(5000)
    known = removed.take(key(1), now.steady)
    assert known is not None
    again = ledger.watch(factor(1))
    ledger.restore(key(1), known.snapshot, now, known.times)
    assert again.status is None
    assert again.last_status is Status.VERIFIED
    assert (again.status_since_seconds, again.status_change_seen) == (NOW + 60 + 900, True), "as if it had stayed"
    assert again.last_verified_seconds == NOW + 60
    change = ledger.apply(key(1), outcome(Status.UNVERIFIED), at(5001))
    assert change is not None, "the change since the last known status counts"


def test_those_removed_first_are_forgotten_first_where_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_FACTORS", 3)
    removed = RemovedFactors()
    ledger = Ledger(LedgerPolicy())
    for number in range(5):
        ledger.watch(factor(number))
        ledger.apply(key(number), outcome(Status.VERIFIED), at(0))
        removed.keep(ledger.forget(key(number)), at(number))
    assert len(removed) == 5, "a change of the whole list may need more for a moment"
    removed.forget_old(NOW + 5)
    assert [kept for kept, _ in removed.saved().snapshots(at(5))] == [key(2), key(3), key(4)]
    removed.forget_old(NOW + DAY + 2)
    assert [kept for kept, _ in removed.saved().snapshots(at(5))] == [key(3), key(4)]
    removed.forget_old(NOW + DAY + 4)
    assert len(removed) == 0


def test_what_another_process_saved_keeps_its_time_of_removal() -> None:
    removed = RemovedFactors(DAY)
    one = FactorSnapshot(status=Status.VERIFIED, answered_seconds=NOW - 50, failures=3)
    removed.restore(
        {
            key(1): one,
            key(2): replace(one, removed_seconds=NOW - DAY + 10),
            key(3): replace(one, removed_seconds=NOW - DAY),
            key(4): replace(one, removed_seconds=NOW + 4),
        },
        at(0),
    )
    found = dict(removed.saved().snapshots(at(5)))
    assert {kept: of.removed_seconds for kept, of in found.items()} == {
        key(2): NOW - DAY + 10,
        key(1): NOW,
        key(4): NOW,
    }
    assert next(iter(found)) == key(2), "in the order of their removal"
    assert removed.take(key(2), NOW + 10) is None


@in_virtual_time
async def test_a_factor_is_fetched_soon_and_known_at_once() -> None:
    env = PollingHarness([factor(1), factor(2)])
    roster = Roster(env.poller, env.ledger)
    roster.list([factor(1), factor(2)])
    await env.run(400)
    before = snapshot_of(env.ledger[key(2)], env.clock.moment())
    assert before is not None
    assert roster.list([factor(1)]) == Difference(removed=1)
    assert env.ledger.get(key(2)) is None
    await env.run(40)
    fetched = len(env.client.requested_at(key(2)))
    assert roster.list([factor(1), factor(2)]) == Difference(added=1, restored=1)
    assert snapshot_of(env.ledger[key(2)], env.clock.moment()) == before
    assert env.account.first_fetches_pending == 1
    await env.run(31)
    assert len(env.client.requested_at(key(2))) == fetched + 1
    assert env.account.first_fetches_pending == 0


@pytest.mark.slow
def test_a_removed_factor_takes_little_memory() -> None:
    count = 20_000
    ledger = Ledger(LedgerPolicy())
    keys = [FactorKey("main", SERVICES[0], f"YF{number:032x}") for number in range(count)]
    answer = Answer(Status.VERIFIED, 1.7e9, 1.71e9, "push", "YE" + "0" * 32)
    for one in keys:
        ledger.watch(replace(factor(1), key=one))
        ledger.apply(one, outcome(answer), at(0.5))
    removed = RemovedFactors()
    tracemalloc.start()
    try:
        for one in keys:
            removed.keep(ledger[one], at(1))
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used / count < 300, "bytes per factor, without its key"
