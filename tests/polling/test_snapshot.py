"""What is remembered of a factor: values for values, and nothing taken on trust."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.polling.clock import Moment
from exporter.polling.ledger import Ledger, LedgerPolicy
from exporter.polling.snapshot import FactorSnapshot, snapshot_of
from exporter.verify.outcome import Answer, Reason, Status
from tests.support.factors import factor, key, outcome
from tests.support.snapshots import NOW, snapshots

junk = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
fields = st.dictionaries(st.sampled_from([*FactorSnapshot.__dataclass_fields__, "identity"]), junk, max_size=6)


@given(snapshots)
def test_what_is_written_is_read_back(snapshot: FactorSnapshot) -> None:
    assert FactorSnapshot.from_fields(json.loads(json.dumps(snapshot.as_fields()))) == snapshot
    assert snapshot.believable(NOW)


@given(junk | fields)
def test_anything_else_is_left_out(value: object) -> None:
    snapshot = FactorSnapshot.from_fields(value)
    if snapshot is not None:
        assert FactorSnapshot.from_fields(snapshot.as_fields()) == snapshot


@pytest.mark.parametrize(
    "bad",
    [
        {"status": "pending"},
        {"status": 1},
        {"status": "verified"},
        {"answered_seconds": NOW},
        {"status": "verified", "answered_seconds": True},
        {"status": "verified", "answered_seconds": math.nan},
        {"status": "verified", "answered_seconds": math.inf},
        {"status": "verified", "answered_seconds": -1},
        {"failures": 1.5},
        {"failures": -1},
        {"failures": 2**53},
        {"failures": True},
        {"up": 1},
        {"factor_type": "x" * 65},
        {"entity_sid": 7},
        {"entity": None},
        {"slowed": "yes"},
        {"identity": "somebody"},
        {"notification_platform": "hms"},
        {"notification_platform": ""},
        {"notification_platform": ["apn"]},
        [],
        None,
        "verified",
    ],
)
def test_what_cannot_be_is_refused(bad: object) -> None:
    assert FactorSnapshot.from_fields(bad) is None


@pytest.mark.parametrize(
    "name", ["answered_seconds", "last_verified_seconds", "unverified_since_seconds", "not_found_since_seconds"]
)
@pytest.mark.parametrize("seconds", [NOW + 6, 1e8, 0.0])
def test_the_future_and_a_clock_that_was_never_set_are_not_believed(name: str, seconds: float) -> None:
    known = {"status": "verified", "answered_seconds": NOW} | {name: seconds}
    snapshot = FactorSnapshot.from_fields(known)
    assert snapshot is not None
    assert not snapshot.believable(NOW)


def test_a_factor_never_tried_has_nothing_to_remember() -> None:
    assert snapshot_of(Ledger(LedgerPolicy()).watch(factor(0)), Moment(NOW, NOW)) is None


def restart(ledger: Ledger, now: Moment, *, later: float, interval: float = 300.0) -> Ledger:
    """Return a ledger that took up what another knew, after so many seconds on another steady clock."""
    snapshot = snapshot_of(ledger[key(0)], now)
    after = Ledger(LedgerPolicy())
    after.watch(factor(0, interval=interval))
    if snapshot is not None:
        after.restore(key(0), snapshot, Moment(now.wall + later, 5e6))
    return after


def known_after(*results: Answer | Status | Reason) -> tuple[Ledger, Moment]:
    ledger, now = Ledger(LedgerPolicy()), Moment(NOW, 1e6)
    ledger.watch(factor(0))
    for result in results:
        now = Moment(now.wall + 10, now.steady + 10)
        ledger.apply(key(0), outcome(result), now)
    return ledger, now


def test_knowledge_is_taken_up_with_its_real_age() -> None:
    before, now = known_after(
        Status.UNVERIFIED, Answer(Status.VERIFIED, 1.0, 2.0, "passkeys", "YE1", 3.0), Reason.TIMEOUT
    )
    after = restart(before, now, later=100)
    old, new = before[key(0)], after[key(0)]
    for name in (
        "status", "last_status", "up", "failures", "last_verified_seconds", "duration_seconds", "created_seconds",
        "updated_seconds", "approved_seconds", "status_since_seconds", "status_change_seen", "factor_type",
        "entity_sid", "notification_platform", "slowed", "interval_seconds", "answered_interval_seconds",
    ):  # fmt: skip
        assert getattr(new, name) == getattr(old, name), name
    assert new.answered_seconds == old.answered_seconds is not None
    assert new.answered_steady == 5e6 - 110
    assert after.counts["main", key(0).service_sid] == {"unknown": 0, "verified": 1}
    assert after.expire(5e6 + 789) == []
    assert after.expire(5e6 + 791) == [key(0)], "900 s after the answer, which was 110 s before"


def test_a_status_that_is_stale_by_now_is_not_claimed() -> None:
    before, now = known_after(Status.UNVERIFIED, Answer(Status.VERIFIED, 1.0, 2.0, "passkeys", "YE1", 3.0))
    after = restart(before, now, later=901)
    record = after[key(0)]
    assert record.status is None
    assert record.created_seconds is record.approved_seconds is None
    assert record.last_status is Status.VERIFIED
    assert record.answered_seconds is not None
    assert record.last_verified_seconds == now.wall
    assert after.counts["main", key(0).service_sid] == {"unknown": 1}
    assert after.expire(9e6) == []


def test_a_change_across_the_restart_is_a_change() -> None:
    before, now = known_after(Status.VERIFIED)
    after = restart(before, now, later=2000)
    change = after.apply(key(0), outcome(Status.UNVERIFIED), Moment(now.wall + 2001, 5e6 + 1))
    assert change == (Status.VERIFIED, Status.UNVERIFIED, None)


def test_a_change_without_a_time_was_not_seen() -> None:
    before, now = known_after(Status.UNVERIFIED, Status.VERIFIED)
    snapshot = snapshot_of(before[key(0)], now)
    assert snapshot is not None
    after = Ledger(LedgerPolicy())
    record = after.watch(factor(0))
    after.restore(key(0), replace(snapshot, status_since_seconds=None), now)
    assert (record.status_since_seconds, record.status_change_seen) == (now.wall, False)


PUSH = Answer(Status.UNVERIFIED, NOW - 100, factor_type="push", notification_platform="fcm")


def test_the_aggregates_are_taken_up() -> None:
    before, now = known_after(PUSH)
    after = restart(before, now, later=100)
    service = "main", key(0).service_sid
    assert +Counter(after.type_counts[service]) == {("push", "unverified"): 1}
    assert +Counter(after.push_counts[service]) == {"fcm": 1}
    stale = restart(before, now, later=901)
    assert +Counter(stale.type_counts[service]) == {("push", "unknown"): 1}
    assert +Counter(stale.push_counts[service]) == {}


def test_an_enrolment_goes_on_over_a_restart_unless_it_is_stale() -> None:
    before, now = known_after(PUSH)
    for later, seconds in ((100, 100 + 110.0), (901, None)):
        after = restart(before, now, later=later)
        done = outcome(replace(PUSH, status=Status.VERIFIED))
        change = after.apply(key(0), done, Moment(now.wall + later, 5e6))
        assert change == (Status.UNVERIFIED, Status.VERIFIED, seconds)


def test_a_snapshot_of_an_earlier_version_has_no_notification_platform() -> None:
    before, now = known_after(PUSH)
    snapshot = snapshot_of(before[key(0)], now)
    assert snapshot is not None
    fields = snapshot.as_fields()
    del fields["notification_platform"]
    old = FactorSnapshot.from_fields(fields)
    assert old is not None
    after = Ledger(LedgerPolicy())
    after.watch(factor(0))
    after.restore(key(0), old, now)
    service = "main", key(0).service_sid
    assert +Counter(after.type_counts[service]) == {("push", "unverified"): 1}
    assert +Counter(after.push_counts[service]) == {}, "unknown until the next answer"
    after.apply(key(0), outcome(PUSH), now)
    assert +Counter(after.push_counts[service]) == {"fcm": 1}


def test_the_window_of_an_unverified_factor_goes_on() -> None:
    before, now = known_after(Status.UNVERIFIED)
    after = restart(before, now, later=100)
    assert after[key(0)].interval_seconds == 60
    after.apply(key(0), outcome(Status.UNVERIFIED), Moment(now.wall + 3601, 5e6 + 3501))
    assert after[key(0)].interval_seconds == 300


def test_the_window_of_a_missing_factor_goes_on() -> None:
    before, now = known_after(Status.NOT_FOUND)
    after = restart(before, now, later=100)
    assert after[key(0)].interval_seconds == 60
    after.apply(key(0), outcome(Status.NOT_FOUND), Moment(now.wall + 899, 5e6 + 799))
    assert after[key(0)].interval_seconds == 60
    after.apply(key(0), outcome(Status.NOT_FOUND), Moment(now.wall + 900, 5e6 + 800))
    assert after[key(0)].interval_seconds == 900


def test_a_factor_that_was_missing_for_long_does_not_become_newly_missing() -> None:
    before, now = known_after(Status.NOT_FOUND)
    later = Moment(now.wall + 5_000, now.steady + 5_000)
    before.apply(key(0), outcome(Status.NOT_FOUND), later)
    assert restart(before, later, later=100)[key(0)].interval_seconds == 900


def test_an_interval_that_was_slowed_stays_so() -> None:
    before, now = known_after(Reason.BAD_REQUEST)
    after = restart(before, now, later=1)
    assert after[key(0)].interval_seconds == 900
    assert after[key(0)].up is False


def test_a_new_interval_counts_for_what_is_stale() -> None:
    before, now = known_after(Status.VERIFIED)
    assert restart(before, now, later=1000, interval=600)[key(0)].status is Status.VERIFIED
    assert restart(before, now, later=1000, interval=30)[key(0)].status is None


def test_a_status_that_was_withdrawn_is_not_claimed_again_by_a_longer_interval() -> None:
    before, now = known_after(Answer(Status.VERIFIED, 1.0, 2.0))
    assert before.expire(now.steady + 900) == [key(0)]
    after = restart(before, Moment(now.wall + 900, now.steady + 900), later=1, interval=86_400)
    assert after[key(0)].status is None
    assert after[key(0)].last_status is Status.VERIFIED


@pytest.mark.parametrize(
    "results", [(Status.VERIFIED, Status.UNVERIFIED), (Reason.TIMEOUT,), (Status.VERIFIED, Reason.TIMEOUT)]
)
def test_a_beginning_in_the_future_is_not_saved(results: tuple[Status | Reason, ...]) -> None:
    ledger, now = known_after(*results)
    record = ledger[key(0)]
    if record.answered_seconds is not None:
        record.answered_seconds = now.wall - 86_400  # answered again after the wall clock was set back
        record.last_verified_seconds = None
    snapshot = snapshot_of(record, Moment(now.wall - 86_400, now.steady))
    assert snapshot is not None
    assert snapshot.status_since_seconds is None
    assert snapshot.failing_since_seconds is None
    assert not snapshot.status_change_seen
    assert snapshot.believable(now.wall - 86_400)
