"""What a 429 does: it pauses the whole account, and delays the fetches that fall due meanwhile."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

import pytest

from exporter.polling.ledger import LedgerPolicy
from exporter.verify.outcome import Reason, Status
from tests.support.factors import factor, factors, key
from tests.support.polling_harness import LATENCY, Jitter, PollingHarness, Reply
from tests.support.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from exporter.watched import WatchedFactor

ONE = key(1)


def limited(retry_after: float | None = 20.0, latency: float = LATENCY) -> Reply:
    return Reply(Reason.RATE_LIMITED, latency, retry_after)


@in_virtual_time
async def test_nothing_starts_while_the_account_is_paused() -> None:
    env = PollingHarness(factors(31, interval=86_400.0), concurrency=4)
    env.client.will(key(0), limited(20))
    env.offer(*(key(n) for n in range(30)))
    await env.until(lambda: env.account.pause is not None)
    before = len(env.client.calls)
    env.client.forbid("the account is paused")
    env.offer(key(30))
    await asyncio.sleep(19)
    assert env.account.pause
    env.client.forbid("")
    await asyncio.sleep(5)
    assert not env.account.pause
    assert {ended.what for ended in env.observed.fetches} == {Status.VERIFIED}
    assert len(env.observed.fetches) == 31
    assert len(env.client.calls) == 32
    assert env.client.calls[before].key == key(0)  # the retry goes first
    ((at, pause, limit),) = env.observed.rate_limits
    assert (pause, limit) == (20, 2)
    assert env.client.calls[before].began == pytest.approx(at + 20, abs=1e-5)


@in_virtual_time
async def test_the_fetch_goes_on_after_the_pause_and_its_duration_holds_the_pause() -> None:
    env = PollingHarness([factor(1, interval=3_600.0)])
    env.client.will(ONE, limited(20), limited(5))
    env.offer(ONE)
    await asyncio.sleep(60)
    assert env.client.requested_at(ONE) == pytest.approx([0, 20 + LATENCY, 25 + 2 * LATENCY], abs=1e-5)
    (ended,) = env.observed.fetches
    assert (ended.what, ended.outcome.attempts) == (Status.VERIFIED, 3)
    assert ended.outcome.duration_seconds == pytest.approx(25 + 3 * LATENCY, abs=1e-5)
    assert env.ledger[ONE].failures == 0


@in_virtual_time
async def test_the_last_attempt_may_be_limited_too() -> None:
    env = PollingHarness([factor(1, interval=3_600.0)])
    env.client.will(ONE, *[limited(20)] * 9)
    env.offer(ONE)
    await asyncio.sleep(50)
    (ended,) = env.observed.fetches
    assert (ended.what, ended.outcome.attempts, ended.outcome.code) == (Reason.RATE_LIMITED, 3, 429)
    assert env.account.pause
    await asyncio.sleep(20)
    assert not env.account.pause
    assert len(env.client.calls) == 3


@in_virtual_time
async def test_without_a_readable_retry_after_the_pause_is_the_backoff() -> None:
    env = PollingHarness([factor(1, interval=86_400.0)], max_attempts=4, rng=Jitter(0.5))
    env.client.will(ONE, *[limited(None)] * 9)
    env.offer(ONE)
    await asyncio.sleep(600)
    assert [pause for _, pause, _ in env.observed.rate_limits] == [0.5, 1, 2, 4]
    assert env.client.requested_at(ONE) == pytest.approx(
        [0, 0.5 + LATENCY, 1.5 + 2 * LATENCY, 3.5 + 3 * LATENCY], abs=1e-5
    )


@in_virtual_time
async def test_the_longest_of_several_pauses_counts() -> None:
    env = PollingHarness(factors(3, interval=3_600.0))
    for number, (pause, latency) in enumerate([(60, 0.1), (5, 0.2), (10, 0.3)]):
        env.client.will(key(number), limited(pause, latency))
    env.offer(*(key(n) for n in range(3)))
    await asyncio.sleep(100)
    assert min(call.began for call in env.client.calls[3:]) == pytest.approx(60.1, abs=1e-5)
    assert [ended.what for ended in env.observed.fetches] == [Status.VERIFIED] * 3


@in_virtual_time
async def test_the_concurrency_halves_once_for_a_burst_and_once_more_for_the_next() -> None:
    env = PollingHarness(factors(8, interval=3_600.0), concurrency=8)
    for number in range(8):
        env.client.will(key(number), limited(10, latency=0.1 + number / 10), limited(10))
    env.offer(*(key(n) for n in range(8)))
    await asyncio.sleep(9)
    assert [limit for _, _, limit in env.observed.rate_limits] == [4] * 8
    await asyncio.sleep(3)
    assert [limit for _, _, limit in env.observed.rate_limits[8:]] == [2] * 4


@in_virtual_time
async def test_the_concurrency_grows_again_by_one_every_calm_half_minute() -> None:
    env = PollingHarness(factors(100, interval=60.0), concurrency=8)
    await env.run(65)
    env.client.will(env.client.calls[0].key, limited(1))
    limits: list[int] = []
    await env.run(60 + 5 * 30, and_each=lambda: limits.append(env.throttle.limit))
    changes = [(second, limit) for second, limit in enumerate(limits) if limit != limits[second - 1]]
    assert [limit for _, limit in changes] == [4, 5, 6, 7, 8]
    assert [after - before for (before, _), (after, _) in itertools.pairwise(changes)] == pytest.approx(
        [30] * 4, abs=2
    )
    assert 1 <= env.throttle.limit <= 8


@in_virtual_time
async def test_the_concurrency_stays_at_least_one() -> None:
    env = PollingHarness(factors(1, interval=86_400.0), concurrency=2, max_attempts=9)
    env.client.will(key(0), *[limited(1)] * 8)
    env.offer(key(0))
    await asyncio.sleep(60)
    assert [limit for _, _, limit in env.observed.rate_limits] == [1] * 8
    assert env.last(key(0)).what is Status.VERIFIED


@in_virtual_time
async def test_a_pause_beyond_the_next_due_time_ends_the_fetch_at_once() -> None:
    env = PollingHarness([factor(1, interval=60.0)])
    env.client.will(ONE, limited(300))
    env.offer(ONE)
    await env.run(290)
    (ended,) = env.observed.fetches
    assert (ended.what, ended.outcome.attempts, ended.at) == (Reason.RATE_LIMITED, 1, LATENCY)
    await env.run(60)
    requested = env.client.requested_at(ONE)
    assert requested[1] == pytest.approx(300 + LATENCY, abs=1)  # delayed since the minute after the 429
    assert env.observed.lags[1][1] < 1


@in_virtual_time
async def test_fetches_that_a_429_delays_are_no_failures_and_staleness_runs_on() -> None:
    env = PollingHarness(factors(20, interval=60.0))
    await env.run(65)
    assert env.account.first_fetches_pending == 0
    env.client.rule = lambda _watched: limited(300)
    while not env.account.pause:
        await env.run(0.1, every=0.1)
    began = env.now
    await env.run(1)
    fetched, tried = len(env.observed.fetches), len(env.observed.lags)
    failures = sum(record.failures for record in env.ledger)
    assert failures <= 4
    env.client.rule = lambda _watched: Reply()
    env.client.forbid("the account is paused")
    await env.run(297)
    assert len(env.observed.fetches) == fetched
    assert sum(record.failures for record in env.ledger) == failures
    assert env.account.queue_length == 20
    assert env.poller.queue_length == 20
    assert len({factor for _, factor in env.observed.withdrawals}) == 20
    assert all(record.status is None for record in env.ledger)
    env.client.forbid("")
    await env.run(10)
    assert env.account.queue_length == 0
    assert all(record.status is Status.VERIFIED for record in env.ledger)
    assert max(lag for _, lag in env.observed.lags[tried:]) < 2
    assert env.now - began == pytest.approx(308, abs=0.2)


@in_virtual_time
async def test_first_fetches_delayed_by_a_pause_no_longer_count_as_pending() -> None:
    env = PollingHarness(factors(20))
    env.client.rule = lambda _watched: limited(120)
    await env.run(40)
    assert env.account.pause
    assert env.account.queue_length >= 15
    assert env.account.first_fetches_pending == 0


@in_virtual_time
async def test_a_first_fetch_in_flight_in_a_pause_is_still_pending() -> None:
    env = PollingHarness(factors(2, interval=3_600.0))
    env.client.will(key(0), limited(120))
    env.client.will(key(1), Reply(latency=8))
    env.offer(key(0), key(1))
    await asyncio.sleep(5)
    env.account.dispatch()
    assert env.account.first_fetches_pending == 2
    await asyncio.sleep(5)
    env.account.dispatch()
    assert env.account.first_fetches_pending == 0


@in_virtual_time
async def test_a_retry_whose_backoff_ends_in_the_pause_waits_for_its_end() -> None:
    env = PollingHarness(factors(2, interval=3_600.0))
    env.client.will(key(0), Reason.SERVER_ERROR)
    env.client.will(key(1), limited(30, latency=0.5))
    env.offer(key(0), key(1))
    await asyncio.sleep(60)
    assert env.client.requested_at(key(0)) == pytest.approx([0, 30.5], abs=1e-5)
    assert env.last(key(0)).outcome.duration_seconds == pytest.approx(1 + 2 * LATENCY)  # the wait was for a slot


@in_virtual_time
async def test_another_account_goes_on() -> None:
    env = PollingHarness([*factors(10, interval=10.0), *factors(10, account="other", interval=10.0)])

    def rule(_watched: WatchedFactor) -> Reply:
        return limited(1_000)

    env.client.rule = rule
    await env.run(100)
    assert env.account.pause
    assert not env.accounts["other"].pause
    assert len(env.clients["other"].calls) >= 90
    assert len(env.client.calls) <= 4


@pytest.mark.parametrize(("counted", "limit"), [(None, 4), (3, 4), (100, 3)], ids=["no count", "room", "no room"])
@in_virtual_time
async def test_slots_come_back_slower_where_others_use_the_account_s_concurrency(
    counted: int | None, limit: int
) -> None:
    env = PollingHarness(factors(20, interval=10.0), ledger_policy=LedgerPolicy(unverified_interval_seconds=10.0))
    env.client.rule = lambda _watched: Reply(concurrent=counted)
    env.client.will(key(0), Reply(Reason.RATE_LIMITED, LATENCY, 1.0, 100))
    env.offer(key(0))
    await env.run(95 if counted != 100 else 335)
    assert env.throttle.limit == limit
