"""The stop: no new attempt, requests in flight get some time, and nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING

import pytest

from exporter.verify.outcome import Reason, Status
from tests.support.factors import factors, key
from tests.support.polling_harness import LATENCY, PollingHarness, Reply
from tests.support.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from exporter.watched import WatchedFactor


async def drained(env: PollingHarness, seconds: float = 8.0) -> float:
    """Drain, check that nothing is left behind, and return how long it took."""
    for client in env.clients.values():
        client.forbid("polling stops")
    began = env.now
    await env.poller.drain(seconds)
    took = env.now - began
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert all(client.closed_at is not None for client in env.clients.values())
    env.poller.dispatch()
    await asyncio.sleep(3_600)  # a request, or a lost exception, fails the test
    gc.collect()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    return took


@pytest.mark.slow
@in_virtual_time
async def test_with_nothing_in_flight_the_stop_takes_no_time() -> None:
    env = PollingHarness(factors(5))
    assert await drained(env) == 0
    assert env.client.calls == []


@in_virtual_time
async def test_requests_in_flight_may_finish_and_are_applied() -> None:
    env = PollingHarness(factors(10), concurrency=4)
    env.client.rule = lambda _watched: Reply(Status.UNVERIFIED, latency=5)
    env.offer(*(key(n) for n in range(10)))
    await asyncio.sleep(2)
    assert await drained(env) == pytest.approx(3)
    assert [ended.what for ended in env.observed.fetches] == [Status.UNVERIFIED] * 4
    assert sum(record.status is Status.UNVERIFIED for record in env.ledger) == 4
    assert env.throttle.in_flight == 0
    assert env.client.closed_at == pytest.approx(5)


@in_virtual_time
async def test_requests_that_take_too_long_are_closed_and_their_answers_dropped() -> None:
    env = PollingHarness(factors(3))
    env.client.rule = lambda watched: Reply(latency=2 if watched.key == key(0) else 60)
    env.offer(*(key(n) for n in range(3)))
    await asyncio.sleep(1)
    assert await drained(env, 8) == pytest.approx(8)
    assert [ended.key for ended in env.observed.fetches] == [key(0)]
    assert [env.ledger[key(n)].last_seconds is None for n in range(3)] == [False, True, True]
    assert env.client.closed_at == pytest.approx(9)
    assert len(env.observed.attempts) == 1
    assert env.throttle.in_flight == 0


@in_virtual_time
async def test_a_client_that_does_not_end_its_requests_is_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    env = PollingHarness(factors(3))
    env.client.deaf = True
    env.client.rule = lambda _watched: Reply(latency=3_000)
    env.offer(*(key(n) for n in range(3)))
    await asyncio.sleep(1)
    assert await drained(env, 8) == pytest.approx(9.2)
    assert env.observed.fetches == []
    assert env.client.open == 0
    assert caplog.records == []


@in_virtual_time
async def test_a_slot_given_just_before_the_stop_begins_no_request() -> None:
    env = PollingHarness(factors(4))
    env.offer(*(key(n) for n in range(4)))  # the fetches have started, their requests have not
    assert env.throttle.in_flight == 4
    assert await drained(env) == 0
    assert env.client.calls == []
    assert env.observed.fetches == []
    assert env.throttle.in_flight == 0


@in_virtual_time
async def test_a_fetch_that_waits_for_another_attempt_ends_without_an_outcome() -> None:
    env = PollingHarness(factors(3, interval=3_600.0), concurrency=1)
    env.client.will(key(0), Reason.TIMEOUT)
    env.client.will(key(1), Reply(latency=5))
    env.offer(key(0))
    await asyncio.sleep(0.5)
    env.offer(key(1))
    await asyncio.sleep(2)  # the backoff is over, the slot is taken
    assert await drained(env) == pytest.approx(3)
    assert [ended.key for ended in env.observed.fetches] == [key(1)]
    assert env.ledger[key(0)].last_seconds is None
    assert len(env.client.requested_at(key(0))) == 1


@pytest.mark.parametrize("reason", [Reason.TIMEOUT, Reason.SERVER_ERROR, Reason.RATE_LIMITED])
@in_virtual_time
async def test_a_request_that_fails_after_the_stop_is_not_tried_again(reason: Reason) -> None:
    env = PollingHarness(factors(1, interval=3_600.0))
    env.client.will(key(0), Reply(reason, latency=2, retry_after=1))
    env.offer(key(0))
    await asyncio.sleep(1)
    assert await drained(env) == pytest.approx(1)
    assert env.observed.fetches == []
    assert len(env.observed.attempts) == 1


@in_virtual_time
async def test_a_request_that_fails_for_good_after_the_stop_is_applied() -> None:
    env = PollingHarness(factors(1))
    env.client.will(key(0), Reply(Reason.BAD_REQUEST, latency=2))
    env.offer(key(0))
    await asyncio.sleep(1)
    assert await drained(env) == pytest.approx(1)
    assert env.last(key(0)).what is Reason.BAD_REQUEST


@pytest.mark.parametrize("count", [1, 5])
@in_virtual_time
async def test_a_refusal_after_the_stop_is_not_confirmed_and_pauses_nothing(count: int) -> None:
    env = PollingHarness(factors(count))
    env.client.rule = lambda _watched: Reply(Reason.AUTH, latency=2)
    env.offer(key(0))
    await asyncio.sleep(1)
    assert await drained(env) == pytest.approx(1)
    assert len(env.client.calls) == 1
    ended = env.last(key(0))
    assert (ended.what, ended.outcome.alone) == (Reason.AUTH, False)
    assert env.observed.refusals == []


@in_virtual_time
async def test_a_confirmation_in_flight_may_finish() -> None:
    env = PollingHarness(factors(5))
    env.client.will(key(0), Reason.FORBIDDEN)
    env.client.rule = lambda _watched: Reply(latency=4)
    env.offer(key(0))
    await asyncio.sleep(1)
    assert env.client.open == 1
    assert await drained(env) == pytest.approx(3 + LATENCY)
    assert env.last(key(0)).outcome.alone
    assert len(env.observed.fetches) == 2


@in_virtual_time
async def test_a_confirmation_refused_after_the_stop_plans_no_probe() -> None:
    env = PollingHarness(factors(5))
    env.client.rule = lambda _watched: Reply(Reason.AUTH, latency=2)
    env.offer(key(0))
    await asyncio.sleep(3)
    assert await drained(env) == pytest.approx(1)
    assert len(env.client.calls) == 2
    assert env.account._refusals._timer is None


@in_virtual_time
async def test_a_confirmation_that_takes_too_long_is_dropped_with_its_suspect() -> None:
    env = PollingHarness(factors(5))
    env.client.will(key(0), Reason.FORBIDDEN)
    env.client.rule = lambda _watched: Reply(latency=400)
    env.offer(key(0))
    await asyncio.sleep(1)
    assert await drained(env, 3) == pytest.approx(3)
    assert env.observed.fetches == []


@in_virtual_time
async def test_a_confirmation_that_waits_for_a_slot_is_not_made() -> None:
    env = PollingHarness(factors(5, interval=3_600.0), concurrency=2)
    env.client.will(key(0), Reply(Reason.FORBIDDEN, latency=1))
    env.client.will(key(1), Reply(Reason.RATE_LIMITED, latency=0.5, retry_after=30))
    env.offer(key(0), key(1))
    await asyncio.sleep(2)
    assert await drained(env) == pytest.approx(0)
    assert len(env.client.calls) == 2
    (ended,) = env.observed.fetches
    assert (ended.key, ended.what, ended.outcome.alone) == (key(0), Reason.FORBIDDEN, False)


@in_virtual_time
async def test_a_verdict_that_waits_for_the_others_ends_with_the_stop() -> None:
    env = PollingHarness(factors(2))
    env.client.will(key(0), Reason.FORBIDDEN)
    env.client.will(key(1), Reply(latency=6))
    env.offer(key(0), key(1))
    await asyncio.sleep(1)
    assert await drained(env) == pytest.approx(5)
    assert env.last(key(0)).outcome.alone is False
    assert env.last(key(1)).what is Status.VERIFIED
    assert env.observed.refusals == []


@in_virtual_time
async def test_a_pause_ends_with_the_stop_and_no_probe_follows() -> None:
    env = PollingHarness(factors(20, interval=60.0))
    env.client.rule = lambda _watched: Reply(Reason.AUTH)
    await env.run(20)
    assert env.account.credentials_valid is False
    planned = env.account._refusals._timer
    assert planned is not None
    assert await drained(env) == 0
    assert planned.cancelled()


@pytest.mark.parametrize("latency", [4.0, 400.0])
@in_virtual_time
async def test_a_probe_in_flight_gets_its_time(latency: float) -> None:
    env = PollingHarness(factors(3))
    env.client.rule = lambda _watched: Reply(Reason.AUTH)
    env.offer(key(0))
    await asyncio.sleep(1)
    env.client.rule = lambda _watched: Reply(latency=latency)
    await asyncio.sleep(30)
    assert env.client.open == 1
    probe = env.client.calls[-1].began
    assert await drained(env) == pytest.approx(min(8, probe + latency - 31))
    assert env.observed.acceptances == []


@in_virtual_time
async def test_accounts_drain_at_the_same_time() -> None:
    watched = [*factors(3), *factors(3, account="other")]
    env = PollingHarness(watched)

    def rule(_watched: WatchedFactor) -> Reply:
        return Reply(latency=60)

    for client in env.clients.values():
        client.rule = rule
    env.offer(*(one.key for one in watched))
    await asyncio.sleep(1)
    assert await drained(env, 8) == pytest.approx(8)


@in_virtual_time
async def test_a_second_drain_cuts_the_first_one_short() -> None:
    env = PollingHarness(factors(3))
    env.client.rule = lambda _watched: Reply(latency=60)
    env.offer(*(key(n) for n in range(3)))
    await asyncio.sleep(1)
    first = asyncio.create_task(env.poller.drain(50))
    await asyncio.sleep(5)
    await env.poller.drain(0)
    await first
    assert env.now == pytest.approx(6)
    assert env.observed.fetches == []
