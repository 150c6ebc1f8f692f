"""Probes: at once and within the budget; they join a fetch in flight, and never return an old outcome."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from exporter.polling.probe import FRESH_SECONDS, ProbeResult, probe
from exporter.verify.outcome import Reason, Status
from tests.support.factors import factor, factors, key, outcome
from tests.support.polling_harness import LATENCY, PollingHarness, Reply
from tests.support.refusing_api import paused_harness, refuse
from tests.support.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from exporter.watched import FactorKey


async def probe_of(env: PollingHarness, wanted: FactorKey, within: float = 30.0) -> ProbeResult:
    account = env.accounts[wanted.account]
    return await probe(wanted, account=account, ledger=env.ledger, clock=env.clock, within_seconds=within)


@in_virtual_time
async def test_a_factor_is_fetched_now_and_not_again_when_due() -> None:
    env = PollingHarness(factors(2, interval=60.0))
    env.client.will(key(0), Status.UNVERIFIED)
    assert await probe_of(env, key(0)) is ProbeResult.KNOWN
    assert env.ledger[key(0)].status is Status.UNVERIFIED
    assert env.now == pytest.approx(LATENCY)
    assert env.schedule.waiting(key(0)) is not None
    assert len(env.observed.attempts) == 1


@in_virtual_time
async def test_an_answer_younger_than_ten_seconds_is_served_without_a_call() -> None:
    env = PollingHarness(factors(1, interval=3_600.0))
    assert await probe_of(env, key(0)) is ProbeResult.KNOWN
    await asyncio.sleep(FRESH_SECONDS - 0.1)
    assert await probe_of(env, key(0)) is ProbeResult.KNOWN
    assert len(env.client.calls) == 1
    await asyncio.sleep(0.2)
    assert await probe_of(env, key(0)) is ProbeResult.KNOWN
    assert len(env.client.calls) == 2


@in_virtual_time
async def test_a_failure_is_an_end_and_no_answer_that_would_do_for_ten_seconds() -> None:
    env = PollingHarness(factors(1, interval=3_600.0), max_attempts=1)
    env.client.will(key(0), Status.VERIFIED, Reason.SERVER_ERROR)
    await probe_of(env, key(0))
    await asyncio.sleep(FRESH_SECONDS)
    assert await probe_of(env, key(0)) is ProbeResult.KNOWN
    assert env.ledger[key(0)].failure is not None
    assert env.ledger[key(0)].up is False
    assert await probe_of(env, key(0)) is ProbeResult.KNOWN
    assert (len(env.client.calls), env.ledger[key(0)].up) == (3, True)


@in_virtual_time
async def test_probes_during_a_fetch_wait_for_it() -> None:
    env = PollingHarness(factors(1, interval=3_600.0))
    env.client.will(key(0), Reply(latency=5))
    env.offer(key(0))
    await asyncio.sleep(1)
    assert await asyncio.gather(*(probe_of(env, key(0)) for _ in range(20))) == [ProbeResult.KNOWN] * 20
    assert env.now == pytest.approx(5)
    assert len(env.client.calls) == 1


@in_virtual_time
async def test_many_probes_at_once_share_one_fetch() -> None:
    env = PollingHarness(factors(1, interval=3_600.0))
    assert set(await asyncio.gather(*(probe_of(env, key(0)) for _ in range(20)))) == {ProbeResult.KNOWN}
    assert len(env.client.calls) == 1


@in_virtual_time
async def test_whoever_stops_waiting_ends_no_fetch() -> None:
    env = PollingHarness(factors(1, interval=3_600.0))
    env.client.will(key(0), Reply(Status.UNVERIFIED, latency=5))
    impatient, patient = (asyncio.create_task(probe_of(env, key(0))) for _ in range(2))
    await asyncio.sleep(1)
    impatient.cancel()
    assert await patient is ProbeResult.KNOWN
    assert impatient.cancelled()
    assert env.ledger[key(0)].status is Status.UNVERIFIED
    assert env.throttle.in_flight == 0


@in_virtual_time
async def test_a_fetch_that_takes_too_long_goes_on() -> None:
    env = PollingHarness(factors(1, interval=3_600.0))
    env.client.will(key(0), Reply(latency=5))
    assert await probe_of(env, key(0), within=2.0) is ProbeResult.TIMED_OUT
    assert env.now == pytest.approx(2)
    assert env.ledger[key(0)].status is None
    assert await probe_of(env, key(0), within=4.0) is ProbeResult.KNOWN
    assert env.now == pytest.approx(5)
    assert len(env.client.calls) == 1


@in_virtual_time
async def test_what_could_not_begin_in_time_is_not_made() -> None:
    env = PollingHarness(factors(2, interval=3_600.0), concurrency=1)
    env.client.will(key(0), Reply(latency=5))
    env.offer(key(0))
    assert await probe_of(env, key(1), within=2.0) is ProbeResult.TIMED_OUT
    await asyncio.sleep(10)
    assert env.client.requested_at(key(1)) == []
    assert env.schedule.waiting(key(1)) is not None


@in_virtual_time
async def test_a_longer_probe_requests_again_where_the_first_gave_up() -> None:
    env = PollingHarness(factors(2, interval=3_600.0), concurrency=1)
    env.client.will(key(0), Reply(latency=5))
    env.offer(key(0))
    first, second = await asyncio.gather(probe_of(env, key(1), 2.0), probe_of(env, key(1), 20.0))
    assert [first, second] == [ProbeResult.TIMED_OUT, ProbeResult.KNOWN]
    assert env.client.requested_at(key(1)) == pytest.approx([5])


@pytest.mark.parametrize("rate", [1.0, 5.0])
def test_probes_keep_to_the_budget_and_let_due_factors_through(rate: float) -> None:
    @in_virtual_time
    async def run() -> None:
        env = PollingHarness(factors(200, interval=3_600.0), rate=rate)
        due = [key(number) for number in range(20)]
        env.offer(*due)
        asking = [asyncio.create_task(probe_of(env, key(number), 1_000.0)) for number in range(20, 200)]
        await asyncio.sleep(40 / rate)
        begun = sum(bool(env.client.requested_at(number)) for number in due)
        assert begun >= 19, "due factors and probes alternate"
        assert set(await asyncio.gather(*asking)) == {ProbeResult.KNOWN}
        assert env.client.most_in_a_second() <= rate
        assert env.now == pytest.approx(200 / rate, abs=2)

    run()


@in_virtual_time
async def test_a_paused_account_is_reported_at_once_and_sends_nothing() -> None:
    env = await paused_harness()
    calls = len(env.client.calls)
    before = env.now
    assert await probe_of(env, key(3)) is ProbeResult.PAUSED
    assert (env.now, len(env.client.calls)) == (before, calls)


@in_virtual_time
async def test_a_pause_that_begins_meanwhile_is_reported_in_time() -> None:
    env = PollingHarness(factors(2, interval=3_600.0))
    env.client.will(key(0), Reply(Reason.RATE_LIMITED, retry_after=100))
    assert await probe_of(env, key(0), within=3.0) is ProbeResult.PAUSED
    assert env.now == pytest.approx(3)
    assert env.ledger[key(0)].last_seconds is None, "the fetch continues after the pause"
    await asyncio.sleep(101)
    assert env.ledger[key(0)].status is Status.VERIFIED


@in_virtual_time
async def test_a_refusal_is_an_outcome() -> None:
    env = PollingHarness(factors(3, interval=3_600.0))
    env.client.rule = refuse(reason=Reason.AUTH)
    assert await probe_of(env, key(0)) is ProbeResult.KNOWN
    assert env.ledger[key(0)].up is False
    assert await probe_of(env, key(1)) is ProbeResult.PAUSED


@in_virtual_time
async def test_what_is_not_polled_is_not_fetched() -> None:
    env = PollingHarness([factor(0), factor(1, paused=True)])
    assert await probe_of(env, key(1)) is ProbeResult.NOT_POLLED
    assert await probe_of(env, key(9)) is ProbeResult.NOT_POLLED
    env.client.will(key(0), Reply(latency=5))
    asking = asyncio.create_task(probe_of(env, key(0)))
    await asyncio.sleep(1)
    env.forget(key(0))
    assert await asking is ProbeResult.NOT_POLLED
    assert env.client.calls[0].ended == pytest.approx(5), "an answer that nobody wants is dropped, not cut off"


@in_virtual_time
async def test_nothing_begins_while_the_exporter_stops() -> None:
    env = PollingHarness(factors(2, interval=3_600.0), concurrency=1)
    env.client.will(key(0), Reply(latency=5))
    in_flight, waiting = (asyncio.create_task(probe_of(env, key(number))) for number in range(2))
    await asyncio.sleep(1)
    drained = asyncio.create_task(env.poller.drain(30))
    assert await waiting is ProbeResult.STOPPED
    assert await in_flight is ProbeResult.KNOWN
    await drained
    assert env.ledger[key(0)].status is Status.VERIFIED
    assert env.client.requested_at(key(1)) == []


@in_virtual_time
async def test_an_answer_from_before_a_restart_counts_by_its_real_age() -> None:
    env = PollingHarness(factors(1, interval=3_600.0))
    now = env.clock.moment()
    env.ledger.apply(key(0), outcome(Status.VERIFIED), now._replace(steady=now.steady - 3, wall=now.wall - 3))
    assert await probe_of(env, key(0)) is ProbeResult.KNOWN
    assert env.client.calls == []
