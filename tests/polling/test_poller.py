"""Dispatch, first fetches, staleness, and intervals that stretch where an account is over budget."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exporter.polling.poller import next_stretch
from exporter.verify.outcome import Reason, Status
from tests.support.factors import factor, factors, key
from tests.support.polling_harness import LATENCY, PollingHarness, Reply
from tests.support.virtual_time import START, in_virtual_time

if TYPE_CHECKING:
    from exporter.watched import WatchedFactor

# Watching


@in_virtual_time
async def test_watching_reports_every_factor_and_polls_those_that_are_not_paused() -> None:
    env = PollingHarness([*factors(5), factor(7, paused=True), factor(8, account="other")])
    assert env.observed.watched_names == [f"factor-{n}" for n in (0, 1, 2, 3, 4, 7, 8)]
    assert env.poller.first_fetches_pending == 6
    assert env.accounts["other"].first_fetches_pending == 1
    assert len(env.schedule) == 6
    assert key(7) not in env.schedule
    await env.run(32)
    assert env.poller.first_fetches_pending == 0
    assert key(7) not in {call.key for call in env.client.calls}
    assert [call.key.account for call in env.clients["other"].calls] == ["other"]


@pytest.mark.parametrize(
    ("count", "interval", "rate", "within"),
    [(50, 300.0, 10.0, 30), (50, 20.0, 10.0, 20), (600, 300.0, 10.0, 75), (300, 60.0, 4.0, 80)],
)
@in_virtual_time
async def test_first_fetches_are_soon_and_within_the_budget(
    count: int, interval: float, rate: float, within: int
) -> None:
    env = PollingHarness(factors(count, interval=interval), rate=rate)
    seen: list[int] = []
    await env.run(within + 3, and_each=lambda: seen.append(env.account.first_fetches_pending))
    assert env.account.first_fetches_pending == 0
    halfway = seen[within // 2] / count
    assert halfway == pytest.approx(0.5, abs=0.15)
    assert env.client.most_in_a_second() <= rate


@in_virtual_time
async def test_first_fetches_of_factors_watched_later_take_only_the_budget_that_is_left() -> None:
    env = PollingHarness(factors(100, interval=60.0), rate=100, concurrency=2)
    env.client.rule = lambda _watched: Reply(latency=0.5)  # two slots carry 4 a second
    await env.run(120)
    env.poller.watch([factor(1_000 + n, interval=600.0) for n in range(120)])
    due = sorted(
        waiting - env.clock.steady()
        for n in range(120)
        if (waiting := env.schedule.waiting(key(1_000 + n))) is not None
    )
    spare = 4 - 100 / 60 - 120 / 600
    assert due[-1] == pytest.approx(120 / spare, rel=0.1)


# Ticks


@in_virtual_time
async def test_what_is_due_in_one_tick_leaves_in_one_burst() -> None:
    env = PollingHarness(factors(1_000, interval=100.0), rate=100, concurrency=100)
    await env.run(200)
    starts = Counter(call.began for call in env.client.calls)
    assert all(began == pytest.approx(round(began), abs=1e-6) for began in starts)
    assert 5 < max(starts.values()) <= 60
    assert len(starts) <= 200


@in_virtual_time
async def test_a_tick_leaves_its_moment() -> None:
    env = PollingHarness(factors(1))
    assert env.poller.last_dispatch == (START, START)
    await asyncio.sleep(7)
    env.poller.dispatch()
    assert env.poller.last_dispatch == (START + 7, START + 7)


@in_virtual_time
async def test_no_factor_is_fetched_before_it_is_due_and_none_is_skipped() -> None:
    env = PollingHarness(factors(20, interval=10.0), concurrency=20)
    await env.run(205)
    for watched in factors(20):
        requested = env.client.requested_at(watched.key)
        assert len(requested) in (20, 21, 22)
        assert max(b - a for a, b in itertools.pairwise(requested)) <= 11


@in_virtual_time
async def test_missed_dispatches_cost_one_fetch_per_factor() -> None:
    env = PollingHarness(factors(20, interval=10.0), concurrency=20)
    await env.run(30)
    calls = len(env.client.calls)
    await asyncio.sleep(500)
    env.poller.dispatch()
    await asyncio.sleep(1)
    assert len(env.client.calls) == calls + 20
    assert max(lag for _, lag in env.observed.lags) == pytest.approx(500, abs=11)


@in_virtual_time
async def test_a_stale_status_is_withdrawn_by_a_tick_and_by_a_scrape() -> None:
    env = PollingHarness(factors(2), max_attempts=1)
    env.offer(key(0), key(1))
    await asyncio.sleep(1)
    await asyncio.sleep(898)
    env.poller.withdraw_stale()
    assert env.observed.withdrawals == []
    await asyncio.sleep(2)
    env.poller.withdraw_stale()
    assert sorted(factor for _, factor in env.observed.withdrawals) == sorted((key(0), key(1)))
    env.offer(key(0), key(1))
    await asyncio.sleep(1)
    env.client.rule = lambda _watched: Reply(Reason.TIMEOUT, latency=10)
    await env.run(905)
    assert len(env.observed.withdrawals) == 4
    assert all(record.status is None for record in env.ledger)


@in_virtual_time
async def test_a_step_of_the_wall_clock_moves_no_fetch() -> None:
    step = 0.0
    env = PollingHarness(factors(10, interval=20.0), wall=lambda: START + asyncio.get_running_loop().time() + step)
    await env.run(100)
    for step in (-86_400.0, 86_400.0):  # noqa: B007 - the clock reads it
        calls = len(env.client.calls)
        await env.run(100)
        assert len(env.client.calls) - calls == pytest.approx(50, abs=3)
    assert env.poller.last_dispatch.wall == pytest.approx(env.clock.steady() + 86_400, abs=2)


# Budgets


@pytest.mark.parametrize(
    ("current", "load", "following"),
    [
        (1.0, 0.0, 1.0),
        (1.0, 0.95, 1.0),
        (1.0, 1.0, 1.0),
        (1.0, 1.01, 1.01 * 1.05),  # any excess stretches
        (1.0, 3.0, 3.15),
        (3.15, 3.0, 3.15),
        (3.15, 3.14, 3.15),  # still within what was stretched for
        (3.15, 3.2, 3.36),  # no longer
        (3.15, 2.8, 3.15),  # a little less changes nothing
        (3.15, 2.7, 2.835),
        (1.2, 1.1, 1.2),
        (1.2, 0.95, 1.2),  # near the border it stays
        (1.2, 0.9, 1.0),
        (7.0, 0.1, 1.0),
    ],
)
def test_by_how_much_intervals_stretch(current: float, load: float, following: float) -> None:
    assert next_stretch(current, load) == pytest.approx(following)


@given(load=st.floats(0.01, 50), current=st.floats(1, 50))
@example(load=1.0, current=1.0)
@example(load=1.0, current=1.05)
def test_stretched_demand_fits_the_budget_and_does_not_flap(load: float, current: float) -> None:
    stretch = next_stretch(current, load)
    assert stretch >= 1
    assert load / stretch <= 1
    assert next_stretch(stretch, load) == pytest.approx(stretch)


@in_virtual_time
async def test_an_account_over_budget_stretches_all_its_intervals() -> None:
    env = PollingHarness([*factors(120, interval=10.0), factor(500, account="other", interval=10.0)], rate=10)
    stretch = 12 / 10 * 1.05
    (budget,) = env.observed.budgets
    assert budget == pytest.approx((0, stretch, 12, 10))
    assert env.account.stretch == pytest.approx(stretch)
    assert env.account.demand_requests_per_second == pytest.approx(12)
    assert [seconds for _, _, seconds in env.observed.intervals] == pytest.approx([10 * stretch] * 120)
    assert env.ledger[key(500, account="other")].interval_seconds == 10
    await env.run(300, and_each=env.poller.check_budgets)
    assert len(env.observed.budgets) == 1
    assert env.client.most_in_a_second() <= 10
    since = [call for call in env.client.calls if call.began > 100]
    assert len(since) / 200 == pytest.approx(10 / 1.05, rel=0.03)
    assert env.account.queue_length < 20
    assert min(Counter(call.key for call in since).values()) >= 15
    assert not env.observed.withdrawals


@in_virtual_time
async def test_an_account_slightly_over_budget_stretches_too() -> None:
    env = PollingHarness(factors(1_020, interval=100.0), rate=10)
    assert env.account.stretch == pytest.approx(1.02 * 1.05)


@in_virtual_time
async def test_thousands_are_stretched_some_at_a_time() -> None:
    env = PollingHarness(factors(1_200, interval=100.0), rate=10)
    assert len(env.observed.intervals) == 500
    env.poller.check_budgets()  # not before the others are reached
    assert len(env.observed.budgets) == 1
    env.poller.forget([key(1_100)])
    for _ in range(3):
        await asyncio.sleep(0)
    assert {record.interval_seconds for record in env.ledger} == {100 * env.account.stretch}
    assert len(env.observed.intervals) == 1_199


@in_virtual_time
async def test_the_rate_holds_over_budget_in_every_second() -> None:
    env = PollingHarness(factors(900, interval=3.0), rate=25, concurrency=8)
    await env.run(120, and_each=env.poller.check_budgets)
    assert env.client.most_in_a_second() == 25
    assert env.account.stretch == pytest.approx(12.6)


@in_virtual_time
async def test_the_budget_counts_the_latency_once_it_is_measured() -> None:
    env = PollingHarness(factors(100, interval=20.0), rate=50, concurrency=4)
    env.client.rule = lambda _watched: Reply(latency=2.0)
    await env.run(30, and_each=env.poller.check_budgets)
    assert env.account.stretch == pytest.approx(5 / 2 * 1.05)
    assert [record.interval_seconds for record in env.ledger] == pytest.approx([20 * 5 / 2 * 1.05] * 100)
    env.client.rule = lambda _watched: Reply()
    await env.run(200, and_each=env.poller.check_budgets)
    assert env.account.stretch == 1
    assert {record.interval_seconds for record in env.ledger} == {20}
    stretches = [stretch for _, stretch, _, _ in env.observed.budgets]
    assert stretches[-1] == 1
    assert len(stretches) < 40


def _always(reply: Reply, _watched: WatchedFactor) -> Reply:
    return reply


@in_virtual_time
async def test_a_longer_stretch_brings_no_fetch_forward() -> None:
    env = PollingHarness(factors(200, interval=60.0), rate=50, concurrency=4)
    stretches = []
    for latency in (3.0, 4.0, 5.0, 6.0, 7.0, 8.0):  # slots of another interval are earlier or later for all factors
        env.client.rule = partial(_always, Reply(latency=latency))
        before = env.account.stretch
        while env.account.stretch == before:
            planned = {n: env.schedule.waiting(key(n)) for n in range(200)}
            await env.run(1, and_each=env.poller.check_budgets)
        stretches.append(env.account.stretch)
        again = {n: env.schedule.waiting(key(n)) for n in range(200)}
        assert not [n for n, due in again.items() if due and (earlier := planned[n]) and due < earlier]
    assert stretches == sorted(stretches)


@in_virtual_time
async def test_a_stretch_that_ends_brings_forward_the_fetches_planned_with_it() -> None:
    env = PollingHarness(factors(200, interval=60.0), rate=50, concurrency=4, max_attempts=1)
    await env.run(120, and_each=env.poller.check_budgets)
    env.client.rule = lambda _watched: Reply(latency=10.0)
    await env.run(900, and_each=env.poller.check_budgets)
    planned = [due - env.clock.steady() for n in range(200) if (due := env.schedule.waiting(key(n)))]
    assert env.account.stretch > 5
    assert max(planned) > 62
    env.client.rule = lambda _watched: Reply()
    begun = env.now
    await env.run(130, and_each=env.poller.check_budgets)
    assert env.account.stretch == 1
    answered = [env.observed.of(key(n))[-1].at for n in range(200)]
    assert min(answered) > begun + 130 - 62
    assert all(record.status is Status.VERIFIED for record in env.ledger)


@in_virtual_time
async def test_a_429_shrinks_the_budget_and_calm_restores_it() -> None:
    env = PollingHarness(factors(150, interval=20.0), rate=50, concurrency=4)
    env.client.rule = lambda _watched: Reply(latency=0.4)  # 10 per second with 4 slots; 7.5 are needed
    await env.run(60, and_each=env.poller.check_budgets)
    assert env.account.stretch == 1
    env.client.will(key(0), Reply(Reason.RATE_LIMITED, latency=0.4, retry_after=1))
    await env.run(25, and_each=env.poller.check_budgets)
    stretched = env.account.stretch
    assert stretched == pytest.approx(7.5 / 5 * 1.05, rel=0.05)
    await env.run(120, and_each=env.poller.check_budgets)
    assert env.account.stretch == 1
    assert env.throttle.limit == 4


@in_virtual_time
async def test_two_accounts_do_not_wait_for_each_other() -> None:
    env = PollingHarness([*factors(100, interval=10.0), *factors(100, account="other", interval=10.0)], rate=20)
    env.client.rule = lambda _watched: Reply(latency=30.0)
    await env.run(100)
    assert len(env.client.calls) <= 16
    assert env.poller.queue_length == env.account.queue_length > 80
    assert len(env.clients["other"].calls) == pytest.approx(1_000, abs=60)


@in_virtual_time
async def test_an_account_without_factors_asks_nothing() -> None:
    env = PollingHarness([factor(1, account="other")])
    assert env.ledger.demand("main") == 0
    assert "main" not in env.accounts
    idle = PollingHarness([factor(1, paused=True)])
    await idle.run(100, and_each=idle.poller.check_budgets)
    assert idle.account.demand_requests_per_second == 0
    assert idle.account.stretch == 1
    assert idle.client.calls == []


@in_virtual_time
async def test_the_fetch_after_the_first_is_at_the_regular_time() -> None:
    env = PollingHarness(factors(50, interval=100.0))
    slots = {n: env.due_after(key(n)) for n in range(50)}
    await env.run(99)
    assert max(env.client.requested_at(key(n))[0] for n in slots) <= 31
    clear = {n: slot for n, slot in slots.items() if 5 < slot < 98}  # neither at the first fetch nor at the end
    assert len(clear) > 40
    for number, slot in clear.items():
        assert env.client.requested_at(key(number))[1:] == pytest.approx([math.ceil(slot)], abs=2 * LATENCY)
