"""The stop: no new attempt, requests under way get some time, and nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING

import pytest

from exporter.verify.outcome import Reason, Status
from tests.support.factors import factors, key
from tests.support.polling_harness import LATENCY, Reply, Rig
from tests.support.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from exporter.watched import WatchedFactor


async def drained(rig: Rig, seconds: float = 8.0) -> float:
    """Drain, check that nothing is left behind, and return how long it took."""
    for client in rig.clients.values():
        client.forbid("polling stops")
    began = rig.now
    await rig.poller.drain(seconds)
    took = rig.now - began
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert all(client.closed_at is not None for client in rig.clients.values())
    rig.poller.dispatch()
    await asyncio.sleep(3_600)  # a request, or a lost exception, fails the test
    gc.collect()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    return took


@in_virtual_time
async def test_with_nothing_in_flight_the_stop_takes_no_time() -> None:
    rig = Rig(factors(5))
    assert await drained(rig) == 0
    assert rig.client.calls == []


@in_virtual_time
async def test_requests_in_flight_may_finish_and_are_applied() -> None:
    rig = Rig(factors(10), concurrency=4)
    rig.client.rule = lambda _watched: Reply(Status.UNVERIFIED, latency=5)
    rig.offer(*(key(n) for n in range(10)))
    await asyncio.sleep(2)
    assert await drained(rig) == pytest.approx(3)
    assert [ended.what for ended in rig.diary.fetches] == [Status.UNVERIFIED] * 4
    assert sum(record.status is Status.UNVERIFIED for record in rig.ledger) == 4
    assert rig.throttle.in_flight == 0
    assert rig.client.closed_at == pytest.approx(5)


@in_virtual_time
async def test_requests_that_take_too_long_are_closed_and_their_answers_dropped() -> None:
    rig = Rig(factors(3))
    rig.client.rule = lambda watched: Reply(latency=2 if watched.key == key(0) else 60)
    rig.offer(*(key(n) for n in range(3)))
    await asyncio.sleep(1)
    assert await drained(rig, 8) == pytest.approx(8)
    assert [ended.key for ended in rig.diary.fetches] == [key(0)]
    assert [rig.ledger[key(n)].last_seconds is None for n in range(3)] == [False, True, True]
    assert rig.client.closed_at == pytest.approx(9)
    assert len(rig.diary.attempts) == 1
    assert rig.throttle.in_flight == 0


@in_virtual_time
async def test_a_client_that_does_not_end_its_requests_is_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(factors(3))
    rig.client.deaf = True
    rig.client.rule = lambda _watched: Reply(latency=3_000)
    rig.offer(*(key(n) for n in range(3)))
    await asyncio.sleep(1)
    assert await drained(rig, 8) == pytest.approx(9.2)
    assert rig.diary.fetches == []
    assert rig.client.open == 0
    assert caplog.records == []


@in_virtual_time
async def test_a_slot_given_just_before_the_stop_begins_no_request() -> None:
    rig = Rig(factors(4))
    rig.offer(*(key(n) for n in range(4)))  # the looks have begun, their requests not yet
    assert rig.throttle.in_flight == 4
    assert await drained(rig) == 0
    assert rig.client.calls == []
    assert rig.diary.fetches == []
    assert rig.throttle.in_flight == 0


@in_virtual_time
async def test_a_fetch_that_waits_for_another_attempt_ends_without_an_outcome() -> None:
    rig = Rig(factors(3, interval=3_600.0), concurrency=1)
    rig.client.will(key(0), Reason.TIMEOUT)
    rig.client.will(key(1), Reply(latency=5))
    rig.offer(key(0))
    await asyncio.sleep(0.5)
    rig.offer(key(1))
    await asyncio.sleep(2)  # the backoff is over, the slot is taken
    assert await drained(rig) == pytest.approx(3)
    assert [ended.key for ended in rig.diary.fetches] == [key(1)]
    assert rig.ledger[key(0)].last_seconds is None
    assert len(rig.client.asked(key(0))) == 1


@pytest.mark.parametrize("reason", [Reason.TIMEOUT, Reason.SERVER_ERROR, Reason.RATE_LIMITED])
@in_virtual_time
async def test_a_request_that_fails_after_the_stop_is_not_tried_again(reason: Reason) -> None:
    rig = Rig(factors(1, interval=3_600.0))
    rig.client.will(key(0), Reply(reason, latency=2, retry_after=1))
    rig.offer(key(0))
    await asyncio.sleep(1)
    assert await drained(rig) == pytest.approx(1)
    assert rig.diary.fetches == []
    assert len(rig.diary.attempts) == 1


@in_virtual_time
async def test_a_request_that_fails_for_good_after_the_stop_is_applied() -> None:
    rig = Rig(factors(1))
    rig.client.will(key(0), Reply(Reason.BAD_REQUEST, latency=2))
    rig.offer(key(0))
    await asyncio.sleep(1)
    assert await drained(rig) == pytest.approx(1)
    assert rig.last(key(0)).what is Reason.BAD_REQUEST


@pytest.mark.parametrize("count", [1, 5])
@in_virtual_time
async def test_a_refusal_after_the_stop_is_not_confirmed_and_pauses_nothing(count: int) -> None:
    rig = Rig(factors(count))
    rig.client.rule = lambda _watched: Reply(Reason.AUTH, latency=2)
    rig.offer(key(0))
    await asyncio.sleep(1)
    assert await drained(rig) == pytest.approx(1)
    assert len(rig.client.calls) == 1
    ended = rig.last(key(0))
    assert (ended.what, ended.outcome.alone) == (Reason.AUTH, False)
    assert rig.diary.refusals == []


@in_virtual_time
async def test_a_confirmation_in_flight_may_finish() -> None:
    rig = Rig(factors(5))
    rig.client.will(key(0), Reason.FORBIDDEN)
    rig.client.rule = lambda _watched: Reply(latency=4)
    rig.offer(key(0))
    await asyncio.sleep(1)
    assert rig.client.open == 1
    assert await drained(rig) == pytest.approx(3 + LATENCY)
    assert rig.last(key(0)).outcome.alone
    assert len(rig.diary.fetches) == 2


@in_virtual_time
async def test_a_confirmation_refused_after_the_stop_plans_no_probe() -> None:
    rig = Rig(factors(5))
    rig.client.rule = lambda _watched: Reply(Reason.AUTH, latency=2)
    rig.offer(key(0))
    await asyncio.sleep(3)
    assert await drained(rig) == pytest.approx(1)
    assert len(rig.client.calls) == 2
    assert rig.account._refusals._timer is None


@in_virtual_time
async def test_a_confirmation_that_takes_too_long_is_dropped_with_its_suspect() -> None:
    rig = Rig(factors(5))
    rig.client.will(key(0), Reason.FORBIDDEN)
    rig.client.rule = lambda _watched: Reply(latency=400)
    rig.offer(key(0))
    await asyncio.sleep(1)
    assert await drained(rig, 3) == pytest.approx(3)
    assert rig.diary.fetches == []


@in_virtual_time
async def test_a_confirmation_that_waits_for_a_slot_is_not_made() -> None:
    rig = Rig(factors(5, interval=3_600.0), concurrency=2)
    rig.client.will(key(0), Reply(Reason.FORBIDDEN, latency=1))
    rig.client.will(key(1), Reply(Reason.RATE_LIMITED, latency=0.5, retry_after=30))
    rig.offer(key(0), key(1))
    await asyncio.sleep(2)
    assert await drained(rig) == pytest.approx(0)
    assert len(rig.client.calls) == 2
    (ended,) = rig.diary.fetches
    assert (ended.key, ended.what, ended.outcome.alone) == (key(0), Reason.FORBIDDEN, False)


@in_virtual_time
async def test_a_verdict_that_waits_for_the_others_ends_with_the_stop() -> None:
    rig = Rig(factors(2))
    rig.client.will(key(0), Reason.FORBIDDEN)
    rig.client.will(key(1), Reply(latency=6))
    rig.offer(key(0), key(1))
    await asyncio.sleep(1)
    assert await drained(rig) == pytest.approx(5)
    assert rig.last(key(0)).outcome.alone is False
    assert rig.last(key(1)).what is Status.VERIFIED
    assert rig.diary.refusals == []


@in_virtual_time
async def test_a_pause_ends_with_the_stop_and_no_probe_follows() -> None:
    rig = Rig(factors(20, interval=60.0))
    rig.client.rule = lambda _watched: Reply(Reason.AUTH)
    await rig.run(20)
    assert rig.account.credentials_valid is False
    planned = rig.account._refusals._timer
    assert planned is not None
    assert await drained(rig) == 0
    assert planned.cancelled()


@pytest.mark.parametrize("latency", [4.0, 400.0])
@in_virtual_time
async def test_a_probe_in_flight_gets_its_time(latency: float) -> None:
    rig = Rig(factors(3))
    rig.client.rule = lambda _watched: Reply(Reason.AUTH)
    rig.offer(key(0))
    await asyncio.sleep(1)
    rig.client.rule = lambda _watched: Reply(latency=latency)
    await asyncio.sleep(30)
    assert rig.client.open == 1
    probe = rig.client.calls[-1].began
    assert await drained(rig) == pytest.approx(min(8, probe + latency - 31))
    assert rig.diary.acceptances == []


@in_virtual_time
async def test_accounts_drain_at_the_same_time() -> None:
    watched = [*factors(3), *factors(3, account="other")]
    rig = Rig(watched)

    def rule(_watched: WatchedFactor) -> Reply:
        return Reply(latency=60)

    for client in rig.clients.values():
        client.rule = rule
    rig.offer(*(one.key for one in watched))
    await asyncio.sleep(1)
    assert await drained(rig, 8) == pytest.approx(8)


@in_virtual_time
async def test_a_second_drain_cuts_the_first_one_short() -> None:
    rig = Rig(factors(3))
    rig.client.rule = lambda _watched: Reply(latency=60)
    rig.offer(*(key(n) for n in range(3)))
    await asyncio.sleep(1)
    first = asyncio.create_task(rig.poller.drain(50))
    await asyncio.sleep(5)
    await rig.poller.drain(0)
    await first
    assert rig.now == pytest.approx(6)
    assert rig.diary.fetches == []
