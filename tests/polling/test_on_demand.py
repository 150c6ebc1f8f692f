"""Probes and confirmations beside the regular fetches: never two at once, and no factor forgotten."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

import pytest

from exporter.verify.outcome import Reason, Status
from tests.support.factors import factors, key
from tests.support.polling_harness import LATENCY, PollingHarness, Reply
from tests.support.refusing_api import paused_harness, refuse
from tests.support.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from exporter.watched import WatchedFactor


@in_virtual_time
async def test_probes_and_confirmations_never_overlap_a_regular_fetch_of_the_same_factor() -> None:
    env = PollingHarness(factors(12, services=2, interval=20.0), concurrency=3)
    flaky = itertools.cycle([Status.VERIFIED] * 7 + [Reason.FORBIDDEN, Reason.AUTH, Reason.TIMEOUT, Reason.AUTH])
    env.client.rule = lambda _watched: Reply(next(flaky), latency=4.0)
    await env.run(3 * 3_600)  # the client fails the test at the first overlap
    assert len(env.observed.refusals) > 5
    assert len(env.observed.acceptances) > 5
    env.client.rule = refuse(key(99))
    if env.account.pause:
        env.account.credentials_changed()
    calls = len(env.client.calls)
    await env.run(1_000)
    assert {call.key for call in env.client.calls[calls:]} == {watched.key for watched in factors(12, services=2)}


@in_virtual_time
async def test_an_on_demand_fetch_replaces_the_due_one() -> None:
    env = PollingHarness(factors(2, interval=60.0), concurrency=1)
    env.client.will(key(0), Reply(Reason.FORBIDDEN, latency=2))
    env.offer(key(0))
    env.offer(key(1))
    assert env.account.queue_length == 1
    await asyncio.sleep(2.01)
    assert env.client.requested_at(key(1)) == pytest.approx([2])
    assert env.account.queue_length == 0
    await asyncio.sleep(10)
    assert env.client.requested_at(key(1)) == pytest.approx([2])
    assert env.schedule.waiting(key(1)) is not None


@in_virtual_time
async def test_a_factor_that_falls_due_during_its_on_demand_fetch_is_put_back() -> None:
    env = PollingHarness(factors(2, interval=60.0), concurrency=4)
    env.client.will(key(0), Reason.FORBIDDEN)
    env.client.will(key(1), Reply(latency=5))
    env.offer(key(0))
    await asyncio.sleep(1)
    env.offer(key(1))
    assert env.account.queue_length == 1  # the account holds until the verdict
    await asyncio.sleep(10)
    assert env.client.requested_at(key(1)) == pytest.approx([LATENCY])
    assert env.schedule.waiting(key(1)) is not None


@in_virtual_time
async def test_the_outcome_of_an_urgent_fetch_moves_the_next_regular_one() -> None:
    env = PollingHarness(factors(2, interval=86_400.0))
    env.client.will(key(0), Reason.FORBIDDEN)
    env.client.will(key(1), Status.UNVERIFIED)
    env.offer(key(0))
    await asyncio.sleep(1)
    due = env.schedule.waiting(key(1))
    assert due is not None
    assert due - env.clock.steady() <= 60


@in_virtual_time
async def test_a_fetch_in_its_backoff_when_the_pause_begins_goes_on_after_it() -> None:
    env = PollingHarness(factors(5, interval=3_600.0))
    env.client.will(key(3), Reason.SERVER_ERROR)
    env.client.rule = refuse(reason=Reason.AUTH)
    env.offer(key(3))
    await asyncio.sleep(0.5)
    env.offer(key(0))
    await asyncio.sleep(20)
    assert env.account.credentials_valid is False
    assert len(env.client.requested_at(key(3))) == 1
    env.client.rule = refuse(key(99))
    await asyncio.sleep(20)
    ended = env.last(key(3))
    assert (ended.what, ended.outcome.attempts) == (Status.VERIFIED, 2)
    assert ended.outcome.duration_seconds == pytest.approx(1 + 2 * LATENCY)
    assert key(3) not in [call.key for call in env.client.calls if 25 < call.began < 30]


@in_virtual_time
async def test_a_fetch_in_its_backoff_ends_at_its_next_due_time_in_a_longer_pause() -> None:
    env = PollingHarness(factors(5, interval=60.0))
    slot = env.due_after(key(3))
    assert slot > 5
    env.client.will(key(3), Reason.SERVER_ERROR)
    env.client.rule = refuse(reason=Reason.AUTH)
    env.offer(key(3))
    await asyncio.sleep(0.5)
    env.offer(key(0))
    await env.run(100)
    (ended, *_) = env.observed.of(key(3))
    assert (ended.what, ended.outcome.attempts) == (Reason.SERVER_ERROR, 1)
    assert ended.at == pytest.approx(slot, abs=1e-5)
    assert key(3) in env.account._queue  # it fell due again, and waits for the end of the pause


@in_virtual_time
async def test_a_probe_that_fails_in_an_unforeseen_way_is_not_the_last(caplog: pytest.LogCaptureFixture) -> None:
    env = await paused_harness()

    def fail(_watched: WatchedFactor) -> Reply:
        raise ZeroDivisionError

    env.client.rule = fail
    await asyncio.sleep(40)
    assert env.account.pause
    assert env.throttle.in_flight == 0
    env.client.rule = refuse(key(99))
    await asyncio.sleep(60)
    assert env.account.credentials_valid is True
    caplog.clear()
