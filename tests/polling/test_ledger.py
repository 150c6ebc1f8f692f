"""What is known of each factor: the table of states, what is kept, changes of status, counts."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest

from exporter.exposition import catalogue
from exporter.polling.clock import Moment
from exporter.polling.ledger import Ledger, LedgerPolicy
from exporter.polling.record import STATUSES, UNKNOWN, FactorRecord
from exporter.verify.outcome import Answer, Reason, Status
from tests.support.factors import SERVICES, factor, key, outcome
from tests.support.single_factor import Watched
from tests.support.virtual_time import START

PAIRS = tuple(permutations(Status, 2))

ANSWERED = Answer(
    Status.VERIFIED,
    created_seconds=1e9,
    updated_seconds=1.5e9,
    factor_type="passkeys",
    entity_sid="YE1",
    approved_seconds=1.6e9,
)


def shown(record: FactorRecord) -> dict[str, float]:
    """Return the values that the families of the table of states show, by short name."""
    families = {
        "verified": catalogue.FACTOR_VERIFIED,
        "exists": catalogue.FACTOR_EXISTS,
        "up": catalogue.FACTOR_UP,
        "last_success": catalogue.FACTOR_LAST_SUCCESS,
        "last_verified": catalogue.FACTOR_LAST_VERIFIED,
        "created": catalogue.FACTOR_CREATED,
        "updated": catalogue.FACTOR_UPDATED,
        "status_since": catalogue.FACTOR_STATUS_SINCE,
        "last_approved": catalogue.FACTOR_LAST_APPROVED,
        "duration": catalogue.FACTOR_FETCH_DURATION,
        "failures": catalogue.FACTOR_FETCH_FAILURES,
    }
    values = {name: family.value(record) for name, family in families.items()}
    return {name: value for name, value in values.items() if value is not None}


# The table of states


def test_never_tried() -> None:
    world = Watched()
    assert shown(world.record) == {"failures": 0}
    assert world.counted() == UNKNOWN
    assert world.record.interval_seconds == 300
    assert (world.record.factor_type, world.record.entity_sid) == ("", "")


@pytest.mark.parametrize(("status", "verified"), [(Status.VERIFIED, 1), (Status.UNVERIFIED, 0)])
def test_answered_verified_or_unverified(status: Status, verified: int) -> None:
    world = Watched()
    world.take(outcome(Answer(status, 1e9, 1.5e9), duration=0.25))
    assert shown(world.record) == {
        "verified": verified,
        "exists": 1,
        "up": 1,
        "last_success": START,
        **({"last_verified": START} if verified else {}),
        "created": 1e9,
        "updated": 1.5e9,
        "duration": 0.25,
        "failures": 0,
    }
    assert world.counted() == status


def test_answered_404() -> None:
    world = Watched()
    world.take(ANSWERED)
    world.take(outcome(Status.NOT_FOUND, duration=0.5), after=10)
    assert shown(world.record) == {
        "exists": 0,
        "up": 1,
        "last_success": START + 10,
        "last_verified": START,
        "status_since": START + 10,
        "duration": 0.5,
        "failures": 0,
    }
    assert world.counted() == Status.NOT_FOUND


@pytest.mark.parametrize("reason", Reason)
def test_failed_while_the_last_answer_is_not_stale(reason: Reason) -> None:
    world = Watched()
    world.take(ANSWERED)
    world.take(outcome(reason, duration=3.0), after=10)
    assert shown(world.record) == {
        "verified": 1,
        "exists": 1,
        "up": 0,
        "last_success": START,
        "last_verified": START,
        "created": 1e9,
        "updated": 1.5e9,
        "last_approved": 1.6e9,
        "duration": 3.0,
        "failures": 1,
    }
    assert world.counted() == Status.VERIFIED


def test_failed_after_a_404_keeps_the_404() -> None:
    world = Watched()
    world.take(Status.NOT_FOUND)
    world.take(Reason.TIMEOUT, after=10)
    assert shown(world.record) == {"exists": 0, "up": 0, "last_success": START, "duration": 0.1, "failures": 1}
    assert world.counted() == Status.NOT_FOUND


def test_failed_and_never_answered() -> None:
    world = Watched()
    world.take(Reason.CONNECT)
    world.take(Reason.CONNECT, after=300)
    assert shown(world.record) == {"up": 0, "duration": 0.1, "failures": 2}
    assert world.counted() == UNKNOWN
    assert world.ledger.expire(START + 1e9) == []  # nothing was claimed that could be withdrawn


def test_stale_after_answers_only() -> None:
    world = Watched()
    world.take(ANSWERED)
    assert world.expire(after=900)
    assert shown(world.record) == {
        "up": 1,
        "last_success": START,
        "last_verified": START,
        "duration": 0.1,
        "failures": 0,
    }
    assert world.counted() == UNKNOWN


def test_stale_after_a_failure_and_failing_on() -> None:
    world = Watched()
    world.take(ANSWERED)
    world.take(Reason.SERVER_ERROR, after=300)
    assert world.expire(after=600)
    stale = {"up": 0, "last_success": START, "last_verified": START, "duration": 0.1, "failures": 1}
    assert shown(world.record) == stale
    world.take(outcome(Reason.SERVER_ERROR, duration=2.0), after=60)
    assert shown(world.record) == stale | {"duration": 2.0, "failures": 2}
    assert world.counted() == UNKNOWN


def test_a_stale_404_is_withdrawn_too() -> None:
    world = Watched()
    world.take(Status.NOT_FOUND)
    assert world.expire(after=2_700)
    assert shown(world.record) == {"up": 1, "last_success": START, "duration": 0.1, "failures": 0}


def test_an_answer_after_staleness_shows_all_again() -> None:
    world = Watched()
    world.take(ANSWERED)
    assert world.expire(after=900)
    world.take(ANSWERED, after=1)
    assert shown(world.record)["verified"] == 1
    assert shown(world.record)["created"] == 1e9
    assert world.counted() == Status.VERIFIED


# Since when a status holds


def since(world: Watched) -> float | None:
    return catalogue.FACTOR_STATUS_SINCE.value(world.record)


def test_a_status_whose_beginning_was_not_seen_has_no_beginning() -> None:
    world = Watched()
    for result in (Reason.TIMEOUT, Status.UNVERIFIED, Status.UNVERIFIED, Reason.TIMEOUT):
        world.take(result, after=60)
        assert since(world) is None


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_a_status_begins_with_its_first_answer_and_keeps_its_beginning(before: Status, after: Status) -> None:
    world = Watched()
    world.take(before)
    world.take(Reason.TIMEOUT, after=60)
    world.take(after, after=60)
    for result in (after, Reason.DECODE, after):
        assert since(world) == START + 120
        world.take(result, after=60)
    world.take(before, after=60)
    assert since(world) == START + 360


def test_a_stale_status_has_no_beginning_and_the_same_one_after_it_neither() -> None:
    world = Watched()
    world.take(Status.UNVERIFIED)
    world.take(Status.VERIFIED, after=60)
    assert world.expire(after=900)
    assert since(world) is None
    world.take(Status.VERIFIED, after=60)
    assert since(world) is None, "it may have changed to and fro meanwhile"
    assert world.expire(after=900)
    world.take(Status.UNVERIFIED, after=60)
    assert since(world) == START + 1980


# What is kept and what is not


def test_the_last_verified_time_outlives_everything_but_a_newer_one() -> None:
    world = Watched()
    world.take(Status.VERIFIED)
    for result in (Reason.TIMEOUT, Status.NOT_FOUND, Status.UNVERIFIED, Reason.DECODE, Status.UNVERIFIED):
        world.take(result, after=60)
        assert world.record.last_verified_seconds == START
    assert world.expire(after=10_000)
    assert world.record.last_verified_seconds == START
    world.take(Status.VERIFIED, after=60)
    assert world.record.last_verified_seconds == world.now


def test_dates_are_those_of_the_last_answer() -> None:
    world = Watched()
    world.take(ANSWERED)
    world.take(Answer(Status.VERIFIED, created_seconds=1e9), after=300)
    assert "updated" not in shown(world.record)
    assert shown(world.record)["created"] == 1e9
    world.take(Status.NOT_FOUND, after=300)
    assert "created" not in shown(world.record)


def test_type_and_entity_keep_the_last_known_value() -> None:
    world = Watched()
    world.take(Status.NOT_FOUND)
    assert (world.record.factor_type, world.record.entity_sid) == ("", "")
    world.take(ANSWERED, after=900)
    for result in (Reason.TIMEOUT, Status.NOT_FOUND, Answer(Status.VERIFIED)):
        world.take(result, after=60)
        assert (world.record.factor_type, world.record.entity_sid) == ("passkeys", "YE1")
    assert world.expire(after=10_000)
    assert (world.record.factor_type, world.record.entity_sid) == ("passkeys", "YE1")
    world.take(Answer(Status.VERIFIED, factor_type="totp", entity_sid="YE2"), after=60)
    assert (world.record.factor_type, world.record.entity_sid) == ("totp", "YE2")


def test_the_last_outcome_is_kept_with_its_time() -> None:
    world = Watched()
    taken = outcome(Reason.TLS)
    world.take(taken, after=5)
    assert world.record.failure == taken.result
    assert world.record.last_seconds == world.record.last_steady == START + 5


def test_the_outcome_of_a_factor_no_longer_watched_is_dropped() -> None:
    world = Watched()
    world.ledger.forget(world.key)
    assert world.take(Status.VERIFIED) is None
    assert world.record.status is None
    assert world.ledger.get(world.key) is None
    assert len(world.ledger) == 0


def test_failures_that_are_alike_are_kept_once() -> None:
    ledger = Ledger(LedgerPolicy())
    records = [ledger.watch(factor(number)) for number in range(3)]
    for record, reason in zip(records, (Reason.TIMEOUT, Reason.TIMEOUT, Reason.DNS), strict=True):
        ledger.apply(record.watched.key, outcome(reason), Moment(START, START))
    assert records[0].failure is records[1].failure
    assert [record.failure.reason for record in records if record.failure] == ["timeout", "timeout", "dns"]


# Changes of status


def test_a_first_observation_is_no_change() -> None:
    for status in Status:
        assert Watched().take(status) is None


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_the_six_changes(before: Status, after: Status) -> None:
    world = Watched()
    world.take(before)
    assert world.take(before, after=60) is None
    assert world.take(after, after=60) == (before, after, None)
    assert world.take(after, after=60) is None


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_a_change_is_reported_across_failures_and_staleness(before: Status, after: Status) -> None:
    world = Watched()
    world.take(before)
    assert world.take(Reason.TIMEOUT, after=60) is None
    assert world.expire(after=10_000)
    assert world.take(after, after=60) == (before, after, None)


def test_the_same_status_across_staleness_is_no_change() -> None:
    world = Watched()
    world.take(Status.VERIFIED)
    assert world.expire(after=10_000)
    assert world.take(Status.VERIFIED) is None


def test_a_first_observation_after_failures_is_no_change() -> None:
    world = Watched()
    assert world.take(Reason.TIMEOUT) is None
    assert world.take(Status.NOT_FOUND, after=300) is None


# Counts


def test_counts_are_by_account_and_service_and_leave_paused_factors_out() -> None:
    ledger = Ledger(LedgerPolicy())
    for watched in (factor(1), factor(2, service=1), factor(3, account="other"), factor(4, service=2, paused=True)):
        ledger.watch(watched)
    ledger.apply(key(2, service=1), outcome(Status.VERIFIED), Moment(START, START))
    assert {service: +counts for service, counts in ledger.counts.items()} == {  # type: ignore[operator]  # each is a Counter, which drops its zeros so
        ("main", SERVICES[0]): {UNKNOWN: 1},
        ("main", SERVICES[1]): {Status.VERIFIED: 1},
        ("other", SERVICES[0]): {UNKNOWN: 1},
        ("main", SERVICES[2]): {},  # its service is shown, with zeros
    }
    ledger.forget(key(2, service=1))
    ledger.forget(key(4, service=2))
    assert not any(ledger.counts["main", SERVICES[1]].values())
    assert not any(ledger.counts["main", SERVICES[2]].values())


def push(status: Status = Status.VERIFIED, platform: str = "apn", created: float | None = None) -> Answer:
    return Answer(status, created, factor_type="push", notification_platform=platform)


def types(world: Watched) -> dict[tuple[str, str], int]:
    return {counted: n for counted, n in world.ledger.type_counts["main", SERVICES[0]].items() if n}


def platforms(world: Watched) -> dict[str, int]:
    return {platform: n for platform, n in world.ledger.push_counts["main", SERVICES[0]].items() if n}


@pytest.mark.parametrize(
    ("factor_type", "counted"),
    [
        ("push", "push"),
        ("totp", "totp"),
        ("passkeys", "passkeys"),
        ("", "unknown"),
        ("sms", "other"),
        ("Push", "other"),
        ("unknown", "other"),
        ("other", "other"),
    ],
)
def test_types_are_counted_in_a_closed_list(factor_type: str, counted: str) -> None:
    world = Watched()
    assert types(world) == {("unknown", UNKNOWN): 1}
    world.take(Answer(Status.VERIFIED, factor_type=factor_type))
    assert types(world) == {(counted, Status.VERIFIED): 1}


def test_a_factor_counts_by_its_last_known_type() -> None:
    world = Watched()
    world.take(push())
    for result, status in (
        (Reason.TIMEOUT, Status.VERIFIED),
        (Status.NOT_FOUND, Status.NOT_FOUND),
        (Answer(Status.UNVERIFIED), Status.UNVERIFIED),
    ):
        world.take(result, after=60)
        assert types(world) == {("push", status): 1}
    world.take(Answer(Status.UNVERIFIED, factor_type="totp"), after=60)
    assert types(world) == {("totp", Status.UNVERIFIED): 1}
    assert world.expire(after=10_000)
    assert types(world) == {("totp", UNKNOWN): 1}
    world.ledger.forget(world.key)
    assert types(world) == {}


def test_push_factors_that_exist_count_by_notification_platform() -> None:
    world = Watched()
    assert platforms(world) == {}
    world.take(push(platform="fcm"))
    assert platforms(world) == {"fcm": 1}
    world.take(Reason.TIMEOUT, after=60)
    assert platforms(world) == {"fcm": 1}, "not stale"
    world.take(push(Status.UNVERIFIED, "none"), after=60)
    assert platforms(world) == {"none": 1}
    world.take(Answer(Status.VERIFIED), after=60)
    assert platforms(world) == {"none": 1}, "an answer without a type says nothing"
    world.take(Status.NOT_FOUND, after=60)
    assert platforms(world) == {}
    world.take(push(platform="other"), after=60)
    assert platforms(world) == {"other": 1}
    world.take(Answer(Status.VERIFIED, factor_type="totp"), after=60)
    assert platforms(world) == {}
    world.take(push(), after=60)
    assert world.expire(after=10_000)
    assert platforms(world) == {}
    world.take(push(), after=60)
    world.ledger.forget(world.key)
    assert platforms(world) == {}


def test_a_paused_factor_counts_by_no_type_and_no_platform() -> None:
    world = Watched()
    world.take(push())
    world.ledger.revise(replace(world.record.watched, paused=True), world.moment)
    assert (types(world), platforms(world)) == ({}, {})
    world.ledger.revise(replace(world.record.watched, paused=False), world.moment)
    assert (types(world), platforms(world)) == ({("push", Status.VERIFIED): 1}, {"apn": 1})


def test_counts_of_services_that_are_no_longer_watched_are_dropped() -> None:
    world = Watched()
    world.ledger.forget(world.key)
    world.ledger.know_service("main", SERVICES[1])
    world.ledger.retain({("main", SERVICES[1])}, set())
    for counts in (world.ledger.counts, world.ledger.type_counts, world.ledger.push_counts):
        assert list(counts) == [("main", SERVICES[1])]


# Enrolments


def enrolment(*results: Answer | Status | Reason, wait: float = 60.0) -> float | None:
    """Return what the last of these results, one after each wait, says about the duration of an enrolment."""
    world = Watched()
    changes = [world.take(result, after=wait) for result in results]
    return None if changes[-1] is None else changes[-1].enrolment_seconds


CREATED = START + 30.0
BEGUN, DONE = push(Status.UNVERIFIED, created=CREATED), push(created=CREATED)


def test_an_enrolment_takes_from_the_creation_to_the_first_verified_answer() -> None:
    assert enrolment(BEGUN, DONE) == 120 - 30
    assert enrolment(Status.NOT_FOUND, BEGUN, BEGUN, Reason.TIMEOUT, DONE) == 300 - 30
    assert enrolment(Status.UNVERIFIED, DONE) == 90, "the date of the last answer counts"


def test_an_enrolment_whose_duration_was_not_seen_has_none() -> None:
    assert enrolment(DONE) is None
    assert enrolment(DONE, DONE) is None
    assert enrolment(Reason.TIMEOUT, DONE) is None
    assert enrolment(Status.NOT_FOUND, DONE) is None
    assert enrolment(BEGUN, Status.NOT_FOUND, DONE) is None
    assert enrolment(BEGUN, push()) is None, "no date of creation"
    assert enrolment(BEGUN, push(created=START + 121)) is None, "created later than now: another clock"
    assert enrolment(BEGUN, push(created=START + 120)) == 0


def test_a_factor_that_was_verified_before_is_not_enrolled_again() -> None:
    assert enrolment(BEGUN, DONE, BEGUN, DONE) is None
    assert enrolment(DONE, BEGUN, DONE) is None
    again = START + 150.0
    assert enrolment(BEGUN, DONE, push(Status.UNVERIFIED, created=again), push(created=again)) == 240 - 150


def test_a_stale_answer_before_tells_no_duration() -> None:
    world = Watched()
    world.take(BEGUN)
    assert world.expire(after=10_000)
    change = world.take(DONE, after=1)
    assert change == (Status.UNVERIFIED, Status.VERIFIED, None)


def test_the_statuses_that_are_counted() -> None:
    assert tuple(STATUSES) == ("verified", "unverified", "not_found", "unknown")
