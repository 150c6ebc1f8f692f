"""Probes and confirmations beside the regular looks: never two at once, and nobody forgotten."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

import pytest

from exporter.verify.outcome import Reason, Status
from tests.support.factors import factors, key
from tests.support.polling_harness import LATENCY, Reply, Rig
from tests.support.refusing_api import paused_rig, refuse
from tests.support.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from exporter.watched import WatchedFactor


@in_virtual_time
async def test_probes_and_confirmations_never_overlap_a_regular_fetch_of_the_same_factor() -> None:
    rig = Rig(factors(12, services=2, interval=20.0), concurrency=3)
    flaky = itertools.cycle([Status.VERIFIED] * 7 + [Reason.FORBIDDEN, Reason.AUTH, Reason.TIMEOUT, Reason.AUTH])
    rig.client.rule = lambda _watched: Reply(next(flaky), latency=4.0)
    await rig.run(3 * 3_600)  # the client fails the test at the first overlap
    assert len(rig.diary.refusals) > 5
    assert len(rig.diary.acceptances) > 5
    rig.client.rule = refuse(key(99))
    if rig.account.pause:
        rig.account.credentials_changed()
    calls = len(rig.client.calls)
    await rig.run(1_000)
    assert {call.key for call in rig.client.calls[calls:]} == {watched.key for watched in factors(12, services=2)}


@in_virtual_time
async def test_an_on_demand_fetch_replaces_the_due_one() -> None:
    rig = Rig(factors(2, interval=60.0), concurrency=1)
    rig.client.will(key(0), Reply(Reason.FORBIDDEN, latency=2))
    rig.offer(key(0))
    rig.offer(key(1))
    assert rig.account.queue_length == 1
    await asyncio.sleep(2.01)
    assert rig.client.asked(key(1)) == pytest.approx([2])
    assert rig.account.queue_length == 0
    await asyncio.sleep(10)
    assert rig.client.asked(key(1)) == pytest.approx([2])
    assert rig.schedule.waiting(key(1)) is not None


@in_virtual_time
async def test_a_factor_that_falls_due_during_its_on_demand_fetch_is_put_back() -> None:
    rig = Rig(factors(2, interval=60.0), concurrency=4)
    rig.client.will(key(0), Reason.FORBIDDEN)
    rig.client.will(key(1), Reply(latency=5))
    rig.offer(key(0))
    await asyncio.sleep(1)
    rig.offer(key(1))
    assert rig.account.queue_length == 1  # the account holds until the verdict
    await asyncio.sleep(10)
    assert rig.client.asked(key(1)) == pytest.approx([LATENCY])
    assert rig.schedule.waiting(key(1)) is not None


@in_virtual_time
async def test_the_outcome_of_an_urgent_fetch_moves_the_next_regular_one() -> None:
    rig = Rig(factors(2, interval=86_400.0))
    rig.client.will(key(0), Reason.FORBIDDEN)
    rig.client.will(key(1), Status.UNVERIFIED)
    rig.offer(key(0))
    await asyncio.sleep(1)
    due = rig.schedule.waiting(key(1))
    assert due is not None
    assert due - rig.clock.steady() <= 60


@in_virtual_time
async def test_a_fetch_in_its_backoff_when_the_pause_begins_goes_on_after_it() -> None:
    rig = Rig(factors(5, interval=3_600.0))
    rig.client.will(key(3), Reason.SERVER_ERROR)
    rig.client.rule = refuse(reason=Reason.AUTH)
    rig.offer(key(3))
    await asyncio.sleep(0.5)
    rig.offer(key(0))
    await asyncio.sleep(20)
    assert rig.account.credentials_valid is False
    assert len(rig.client.asked(key(3))) == 1
    rig.client.rule = refuse(key(99))
    await asyncio.sleep(20)
    ended = rig.last(key(3))
    assert (ended.what, ended.outcome.attempts) == (Status.VERIFIED, 2)
    assert ended.outcome.duration_seconds == pytest.approx(1 + 2 * LATENCY)
    assert key(3) not in [call.key for call in rig.client.calls if 25 < call.began < 30]


@in_virtual_time
async def test_a_fetch_in_its_backoff_ends_at_its_next_due_time_in_a_longer_pause() -> None:
    rig = Rig(factors(5, interval=60.0))
    slot = rig.slot_after(key(3))
    assert slot > 5
    rig.client.will(key(3), Reason.SERVER_ERROR)
    rig.client.rule = refuse(reason=Reason.AUTH)
    rig.offer(key(3))
    await asyncio.sleep(0.5)
    rig.offer(key(0))
    await rig.run(100)
    (ended, *_) = rig.diary.of(key(3))
    assert (ended.what, ended.outcome.attempts) == (Reason.SERVER_ERROR, 1)
    assert ended.at == pytest.approx(slot, abs=1e-5)
    assert key(3) in rig.account._queue  # it fell due again, and is held


@in_virtual_time
async def test_a_probe_that_fails_in_an_unforeseen_way_is_not_the_last(caplog: pytest.LogCaptureFixture) -> None:
    rig = await paused_rig()

    def fail(_watched: WatchedFactor) -> Reply:
        raise ZeroDivisionError

    rig.client.rule = fail
    await asyncio.sleep(40)
    assert rig.account.pause
    assert rig.throttle.in_flight == 0
    rig.client.rule = refuse(key(99))
    await asyncio.sleep(60)
    assert rig.account.credentials_valid is True
    rig.loop.faults.clear()  # the loop was told of the error
    caplog.clear()
