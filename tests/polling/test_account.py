"""How an account fetches its due factors: attempts, backoff, durations, slots, and factors that go away."""

from __future__ import annotations

import asyncio
import itertools
import math
from typing import TYPE_CHECKING

import pytest

from exporter.verify.outcome import Reason, Status
from tests.support.factors import factor, factors, key
from tests.support.polling_harness import LATENCY, Jitter, PollingHarness, Reply
from tests.support.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from exporter.verify.outcome import Attempt
    from exporter.watched import WatchedFactor

RETRIED = (Reason.TIMEOUT, Reason.CONNECT, Reason.DNS, Reason.TLS, Reason.SERVER_ERROR)
NOT_RETRIED = (*Status, Reason.BAD_REQUEST, Reason.UNKNOWN_STATUS, Reason.INTERNAL)

ONE = key(1)


def harness_of_one(
    *replies: Reply | Status | Reason, interval: float = 3_600.0, **options: int | bool | Jitter
) -> PollingHarness:
    env = PollingHarness([factor(1, interval=interval)], **options)  # type: ignore[arg-type]  # options of PollingHarness by their names
    env.client.will(ONE, *replies)
    return env


# Attempts


@pytest.mark.parametrize("result", NOT_RETRIED)
@in_virtual_time
async def test_what_is_not_retried_takes_one_attempt(result: Status | Reason) -> None:
    env = harness_of_one(result)
    env.offer(ONE)
    await asyncio.sleep(100)
    assert env.client.requested_at(ONE) == [0]
    (ended,) = env.observed.fetches
    assert (ended.what, ended.outcome.attempts, ended.at) == (result, 1, LATENCY)
    assert ended.outcome.duration_seconds == pytest.approx(LATENCY)
    assert env.observed.retries == []
    assert env.ledger[ONE].attempts == 1
    assert env.ledger[ONE].failure == (ended.outcome.result if isinstance(result, Reason) else None)


@pytest.mark.parametrize("reason", RETRIED)
@in_virtual_time
async def test_what_may_pass_is_retried_with_backoff_up_to_the_last_attempt(reason: Reason) -> None:
    env = harness_of_one(*[reason] * 9)
    env.offer(ONE)
    await asyncio.sleep(100)
    assert env.client.requested_at(ONE) == pytest.approx([0, LATENCY + 1, 2 * LATENCY + 3])
    (ended,) = env.observed.fetches
    assert (ended.what, ended.outcome.attempts) == (reason, 3)
    assert ended.outcome.duration_seconds == pytest.approx(3 * LATENCY + 3)
    assert len(env.observed.attempts) == 3
    assert env.observed.retries == pytest.approx(env.client.requested_at(ONE)[1:])
    assert env.ledger[ONE].failures == 1


@in_virtual_time
async def test_the_backoff_is_full_jitter_that_doubles_to_thirty_seconds() -> None:
    env = harness_of_one(*[Reason.TIMEOUT] * 9, interval=86_400.0, max_attempts=9)
    env.offer(ONE)
    await asyncio.sleep(600)
    assert env.observed.fetches[0].outcome.attempts == 9
    assert isinstance(env.jitter, Jitter)
    assert env.jitter.ranges == [(0, top) for top in (1, 2, 4, 8, 16, 30, 30, 30)]


@in_virtual_time
async def test_an_answer_ends_the_attempts() -> None:
    env = harness_of_one(Reason.TIMEOUT, Reason.SERVER_ERROR, Status.UNVERIFIED, max_attempts=5)
    env.offer(ONE)
    await asyncio.sleep(100)
    (ended,) = env.observed.fetches
    assert (ended.what, ended.outcome.attempts, ended.outcome.code) == (Status.UNVERIFIED, 3, 200)
    assert env.ledger[ONE].failures == 0


@pytest.mark.parametrize(("max_attempts", "made"), [(1, 1), (2, 2), (5, 2)])
@in_virtual_time
async def test_an_unreadable_answer_is_retried_once(max_attempts: int, made: int) -> None:
    env = harness_of_one(*[Reason.DECODE] * 9, max_attempts=max_attempts)
    env.offer(ONE)
    await asyncio.sleep(100)
    (ended,) = env.observed.fetches
    assert (ended.what, ended.outcome.attempts) == (Reason.DECODE, made)


@in_virtual_time
async def test_every_reason_says_whether_another_attempt_follows() -> None:
    env = harness_of_one(Reason.TIMEOUT, Reason.DECODE, Status.VERIFIED, max_attempts=5)
    env.offer(ONE)
    await asyncio.sleep(100)
    (ended,) = env.observed.fetches
    assert (ended.what, ended.outcome.attempts) == (Reason.DECODE, 2)


@in_virtual_time
async def test_one_attempt_at_most_means_no_retry() -> None:
    env = harness_of_one(Reason.TIMEOUT, max_attempts=1)
    env.offer(ONE)
    await asyncio.sleep(100)
    assert env.client.requested_at(ONE) == [0]


# Durations and due times


@in_virtual_time
async def test_the_duration_holds_the_backoff_but_not_the_wait_for_a_slot() -> None:
    env = PollingHarness(factors(3, interval=3_600.0), concurrency=1)
    env.client.will(key(0), Reason.TIMEOUT)
    env.client.will(key(1), Reply(latency=20))
    env.offer(key(0))
    env.offer(key(1))
    await asyncio.sleep(60)
    assert env.client.requested_at(key(0)) == pytest.approx([0, LATENCY + 20])
    assert env.last(key(0)).outcome.duration_seconds == pytest.approx(LATENCY + 1 + LATENCY)


@in_virtual_time
async def test_an_attempt_that_could_not_begin_before_the_next_due_time_is_not_made() -> None:
    env = harness_of_one(interval=60.0)
    slot = env.due_after(ONE)
    assert slot > 2
    env.client.will(ONE, Reply(Reason.TIMEOUT, latency=slot - 0.9))  # and 1 s of backoff
    env.offer(ONE)
    await asyncio.sleep(slot - 0.5)
    assert env.client.requested_at(ONE) == [0]
    (ended,) = env.observed.fetches
    assert ended.at == pytest.approx(slot - 0.9)
    assert ended.outcome.duration_seconds == pytest.approx(slot - 0.9)
    assert env.schedule.waiting(ONE) == pytest.approx(env.clock.steady() + 0.5)


@in_virtual_time
async def test_an_attempt_that_can_begin_before_the_next_due_time_is_made() -> None:
    env = harness_of_one(interval=60.0)
    slot = env.due_after(ONE)
    env.client.will(ONE, Reply(Reason.TIMEOUT, latency=slot - 1.1))
    env.offer(ONE)
    await asyncio.sleep(slot + 10)
    assert env.client.requested_at(ONE) == pytest.approx([0, slot - 0.1])
    assert env.last(ONE).what is Status.VERIFIED
    assert env.schedule.waiting(ONE) == pytest.approx(env.clock.steady() - 10 + 60)


@in_virtual_time
async def test_an_attempt_that_finds_no_slot_before_the_next_due_time_is_not_made() -> None:
    env = PollingHarness(factors(2, interval=60.0), concurrency=1)
    slot = env.due_after(key(0))
    assert slot > 2
    env.client.will(key(0), Reason.TIMEOUT)
    env.client.will(key(1), Reply(latency=200))
    env.offer(key(0))
    env.offer(key(1))
    await asyncio.sleep(300)
    assert env.client.requested_at(key(0)) == [0]
    (ended,) = env.observed.of(key(0))
    assert ended.at == pytest.approx(slot, abs=1e-5)
    assert (ended.what, ended.outcome.attempts) == (Reason.TIMEOUT, 1)
    assert ended.outcome.duration_seconds == pytest.approx(LATENCY)


@in_virtual_time
async def test_a_patient_account_retries_past_the_next_due_time() -> None:
    env = harness_of_one(*[Reason.TIMEOUT] * 9, interval=1.0, max_attempts=7, one_shot=True)
    env.offer(ONE)
    await asyncio.sleep(100)
    (ended,) = env.observed.fetches
    assert ended.outcome.attempts == 7


@in_virtual_time
async def test_a_fetch_longer_than_its_interval_leaves_nothing_in_the_queue() -> None:
    env = harness_of_one(Reply(latency=170), interval=60.0)
    await env.run(600)
    requested = env.client.requested_at(ONE)
    assert requested[1] - requested[0] == pytest.approx(180, abs=60)
    assert all(after - before == pytest.approx(60, abs=1) for before, after in itertools.pairwise(requested[1:]))


# Slots


@in_virtual_time
async def test_no_more_requests_are_under_way_than_the_concurrency() -> None:
    env = PollingHarness(factors(50), concurrency=3)
    most = 0

    def rule(_watched: WatchedFactor) -> Reply:
        nonlocal most
        most = max(most, env.client.open + 1)
        return Reply()

    env.client.rule = rule
    env.offer(*(key(n) for n in range(50)))
    assert env.account.queue_length == 47
    await asyncio.sleep(5)
    assert len(env.observed.fetches) == 50
    assert most == 3
    assert env.throttle.in_flight == 0


@in_virtual_time
async def test_due_factors_are_fetched_in_order_of_arrival() -> None:
    env = PollingHarness(factors(20), concurrency=2)
    order = [key(n) for n in (7, 3, 11, 5, 2, 19)]
    for each in order:
        env.offer(each)
    await asyncio.sleep(5)
    assert [call.key for call in env.client.calls] == order


@pytest.mark.parametrize(("rate", "seconds"), [(5.0, 9.0), (0.5, 98.0), (2.5, 19.2)])
@in_virtual_time
async def test_requests_keep_to_the_rate(rate: float, seconds: float) -> None:
    env = PollingHarness(factors(50), rate=rate)
    env.offer(*(key(n) for n in range(50)))
    await asyncio.sleep(200)
    assert len(env.client.calls) == 50
    assert env.client.most_in_a_second() <= math.ceil(rate)
    assert env.client.calls[-1].began == pytest.approx(seconds, abs=LATENCY + 0.001)


@in_virtual_time
async def test_the_lag_is_the_wait_for_a_slot() -> None:
    env = PollingHarness(factors(6), rate=2.0)
    env.offer(*(key(n) for n in range(6)))
    await asyncio.sleep(5)
    assert [lag for _, lag in env.observed.lags] == pytest.approx([0, 0, 1, 1, 2, 2], abs=1e-5)


# First fetches and credentials


@in_virtual_time
async def test_first_fetches_are_counted_until_they_end() -> None:
    env = PollingHarness([*factors(4), factor(9, paused=True)])
    assert env.account.first_fetches_pending == 4
    busy = [env.account.busy]
    env.client.will(key(1), Reason.SERVER_ERROR, Reason.SERVER_ERROR, Reason.SERVER_ERROR)
    env.offer(key(0), key(1))
    busy.append(env.account.busy)
    await asyncio.sleep(1)
    assert env.account.first_fetches_pending == 3  # one answered, the other in its backoff
    await asyncio.sleep(4)
    assert env.account.first_fetches_pending == 2
    busy.append(env.account.busy)
    assert busy == [False, True, False]
    env.offer(key(0))
    await asyncio.sleep(1)
    assert env.account.first_fetches_pending == 2


@pytest.mark.parametrize(
    ("result", "valid"),
    [
        (Status.VERIFIED, True),
        (Status.NOT_FOUND, True),
        (Reason.SERVER_ERROR, True),
        (Reason.RATE_LIMITED, True),
        (Reason.BAD_REQUEST, True),
        (Reason.TIMEOUT, None),
        (Reason.TLS, None),
    ],
)
@in_virtual_time
async def test_any_answer_but_a_refusal_shows_good_credentials(result: Status | Reason, valid: bool | None) -> None:
    env = harness_of_one(result, max_attempts=1)
    assert env.account.credentials_valid is None
    env.offer(ONE)
    await asyncio.sleep(1)
    assert env.account.credentials_valid is valid
    assert not env.account.pause or result is Reason.RATE_LIMITED


# Factors that go away


@in_virtual_time
async def test_the_answer_for_a_factor_removed_meanwhile_is_dropped() -> None:
    env = PollingHarness(factors(2))
    env.offer(key(0), key(1))
    await asyncio.sleep(LATENCY / 2)
    env.forget(key(0))
    await asyncio.sleep(1)
    assert [ended.key for ended in env.observed.fetches] == [key(1)]
    assert len(env.observed.attempts) == 2  # the request was made
    assert key(0) not in env.schedule
    assert env.throttle.in_flight == 0


@in_virtual_time
async def test_a_factor_removed_as_its_fetch_starts_costs_no_slot() -> None:
    env = PollingHarness(factors(2))
    env.offer(key(0), key(1))
    env.forget(key(0))
    await asyncio.sleep(1)
    assert [ended.key for ended in env.observed.fetches] == [key(1)]
    assert env.throttle.in_flight == 0


@in_virtual_time
async def test_a_factor_removed_while_it_waits_for_a_slot_is_not_fetched() -> None:
    env = PollingHarness(factors(3), concurrency=1)
    env.offer(key(0), key(1), key(2))
    env.forget(key(1))
    await asyncio.sleep(1)
    assert sorted(call.key for call in env.client.calls) == sorted((key(0), key(2)))
    assert env.account.first_fetches_pending == 0


@in_virtual_time
async def test_a_factor_watched_again_is_independent_of_its_old_fetch() -> None:
    env = harness_of_one(Reply(Status.UNVERIFIED, latency=20))
    env.offer(ONE)
    await asyncio.sleep(1)
    env.forget(ONE)
    env.poller.watch([factor(1, interval=3_600.0)])
    due = env.schedule.waiting(ONE)
    assert due is not None
    assert 20 < due - env.clock.steady() + env.now < 31  # within the spread of first fetches, after the old answer
    await asyncio.sleep(19.5)
    assert env.schedule.waiting(ONE) == due
    assert env.account.first_fetches_pending == 1
    assert env.ledger[ONE].status is None
    await env.run(30)
    assert env.client.requested_at(ONE) == pytest.approx([0, due - env.clock.steady() + env.now], abs=1)
    assert [ended.what for ended in env.observed.of(ONE)] == [Status.VERIFIED]


@in_virtual_time
async def test_a_factor_watched_again_is_not_fetched_while_its_old_fetch_is_in_flight() -> None:
    env = harness_of_one(Reply(Status.UNVERIFIED, latency=50), interval=60.0)
    env.offer(ONE)
    await asyncio.sleep(1)
    env.forget(ONE)
    env.poller.watch([factor(1, interval=60.0)])
    await env.run(48)  # its new first fetch fell due meanwhile
    assert env.client.requested_at(ONE) == [0]
    assert env.account.first_fetches_pending == 1
    await env.run(62)
    assert len(env.client.requested_at(ONE)) in (2, 3)
    assert {ended.what for ended in env.observed.of(ONE)} == {Status.VERIFIED}
    assert env.account.first_fetches_pending == 0


# What should not happen


@in_virtual_time
async def test_a_client_that_raises_costs_one_fetch_and_no_slot(caplog: pytest.LogCaptureFixture) -> None:
    env = PollingHarness(factors(8), concurrency=2)
    real = env.client.fetch_factor

    async def raise_or_fetch(watched: WatchedFactor) -> Attempt:
        if watched.key in (key(0), key(1), key(2)):
            raise ZeroDivisionError
        return await real(watched)

    env.client.fetch_factor = raise_or_fetch  # type: ignore[method-assign]  # a stand-in for this test
    env.offer(*(key(n) for n in range(8)))
    await asyncio.sleep(1)
    assert len(env.observed.fetches) == 5
    assert env.throttle.in_flight == 0
    assert all(env.schedule.waiting(key(n)) for n in range(8))
    assert caplog.messages == ["unexpected error in a fetch"] * 3
    assert {record.__dict__["fields"]["error"] for record in caplog.records} == {"ZeroDivisionError"}
    caplog.clear()


def test_the_jitter_of_the_harness_covers_the_whole_range() -> None:
    assert Jitter().uniform(0, 8) == 8
    assert Jitter(0.25).uniform(0, 8) == 2
    assert math.isclose(Jitter(0).uniform(0, 8), 0)
