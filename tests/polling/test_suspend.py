"""A suspend of the system: what was known before it ages, and polling catches up calmly."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exporter.polling.clock import SUSPEND_SECONDS, Clock, SuspendWatch, steady_source
from exporter.polling.discovery import Discovery
from exporter.polling.listing import DiscoveryPolicy
from exporter.polling.roster import Roster
from exporter.verify.outcome import FactorPage, Reason, Status
from exporter.watched import EntityKey, WatchedEntity
from tests.support.factors import SERVICES, factors, key
from tests.support.polling_harness import PollingHarness, Reply, ScriptedClient
from tests.support.virtual_time import in_virtual_time, run_virtual

TEN_HOURS = 36_000.0


# Clocks


def test_steady_time_counts_a_suspend_where_the_system_has_such_a_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    suspended = 0.0
    monkeypatch.setattr(time, "CLOCK_BOOTTIME", 7, raising=False)
    monkeypatch.setattr(time, "clock_gettime", lambda number: (number == 7) * (1000.0 + suspended), raising=False)
    monkeypatch.setattr(time, "monotonic", lambda: 500.0)
    clock = Clock()
    before, awake = clock.steady(), clock.awake()
    suspended = TEN_HOURS
    assert clock.steady() - before == pytest.approx(TEN_HOURS)
    assert clock.awake() == awake
    assert clock.suspended_seconds() == pytest.approx(TEN_HOURS)


@pytest.mark.parametrize("missing", [True, False], ids=["no such clock", "not permitted"])
def test_without_such_a_clock_it_is_the_monotonic_one(monkeypatch: pytest.MonkeyPatch, missing: bool) -> None:
    def refuse(_number: int) -> float:
        raise OSError(22, "Invalid argument")

    if missing:
        monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)
    else:
        monkeypatch.setattr(time, "CLOCK_BOOTTIME", 7, raising=False)
        monkeypatch.setattr(time, "clock_gettime", refuse, raising=False)
    assert steady_source() is time.monotonic
    assert abs(Clock().suspended_seconds()) < SUSPEND_SECONDS


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100_000), st.floats(0, 30)), max_size=8))
def test_every_suspend_is_noticed_once_and_no_standstill_is_one(steps: list[tuple[float, float, float]]) -> None:
    awake = asleep = between = 0.0

    def stopped_between_two_readings() -> float:
        return awake + between

    clock = Clock(lambda: 1e9, lambda: awake + asleep, stopped_between_two_readings)
    watch = SuspendWatch(clock)
    for ran, slept, stopped in steps:
        awake += ran
        asleep += slept
        between = stopped
        assert watch.suspended_seconds() <= asleep + 1e-6  # the clocks' sums are rounded
        between = 0.0
        watch.suspended_seconds()
        assert watch.suspended_seconds() == 0


# Claims


@in_virtual_time
async def test_a_scrape_after_a_suspend_withdraws_what_is_stale_and_keeps_what_is_not() -> None:
    env = PollingHarness([*factors(3), *factors(5, interval=86_400.0)[3:]])
    env.offer(*(key(number) for number in range(5)))
    await asyncio.sleep(1)
    assert all(record.status is Status.VERIFIED for record in env.ledger)
    env.clock.suspend(TEN_HOURS)
    env.poller.withdraw_stale()
    assert [record.status for record in env.ledger] == [None, None, None, Status.VERIFIED, Status.VERIFIED]


@settings(max_examples=40, deadline=None)
@example(count=200, interval=300.0, rate=10.0, seconds=TEN_HOURS, before=100.0)
@example(count=1, interval=1.0, rate=1.0, seconds=11.0, before=0.5)
@given(
    count=st.integers(1, 120),
    interval=st.sampled_from([30.0, 60.0, 300.0, 3600.0]),
    rate=st.sampled_from([10.0, 50.0]),
    seconds=st.floats(SUSPEND_SECONDS + 1, 10 * TEN_HOURS),
    before=st.floats(0.0, 400.0),
)
def test_what_fell_due_is_spread_within_the_budget(
    count: int, interval: float, rate: float, seconds: float, before: float
) -> None:
    async def scenario() -> None:
        env = PollingHarness(factors(count, interval=interval), rate=rate)
        await env.run(before)
        env.client.calls.clear()
        env.observed.lags.clear()
        resumed = env.now
        due = [
            key(number)
            for number in range(count)
            if (at := env.schedule.waiting(key(number))) is not None and at <= env.clock.steady() + seconds
        ]
        env.clock.suspend(seconds)
        spare = rate - count / interval
        spread = interval if spare <= 0 else min(interval, max(30.0, count / spare))
        await env.run(spread + 5)
        begun = {call.key: call.began - resumed for call in reversed(env.client.calls)}
        assert begun.keys() >= set(due)
        assert env.client.most_in_a_second() <= rate
        if count >= 40:  # spread: the first second has no burst
            assert sum(at <= 1 for at in begun.values()) <= 5 + 4 * count / spread
        assert max((lag for _, lag in env.observed.lags), default=0.0) < 5
        assert env.observed.rotations == []
        assert all(ended.outcome.result for ended in env.observed.fetches)

    run_virtual(scenario())


@in_virtual_time
async def test_a_short_suspend_is_a_delay() -> None:
    env = PollingHarness(factors(1))
    client = env.client
    env.offer(key(0))
    await asyncio.sleep(1)
    env.clock.suspend(SUSPEND_SECONDS - 0.1)
    await env.run(1)
    assert client.closed_at is None


# Requests


@pytest.mark.parametrize("dispatched_first", [True, False])
@in_virtual_time
async def test_a_response_received_across_a_suspend_is_dropped(dispatched_first: bool) -> None:
    fresh: list[ScriptedClient] = []

    def new_client() -> ScriptedClient:
        fresh.append(ScriptedClient())
        return fresh[-1]

    env = PollingHarness(factors(1), new_client=new_client)
    old = env.client
    env.offer(key(0))
    await asyncio.sleep(0.01)
    assert old.open == 1
    env.clock.suspend(TEN_HOURS)
    if not dispatched_first:
        await asyncio.sleep(1)  # the response arrives before the next dispatch
    await env.run(1)
    assert old.closed_at is not None
    assert env.ledger[key(0)].status is None
    assert env.observed.fetches == []
    assert env.observed.attempts == []
    await env.run(35)
    assert env.ledger[key(0)].status is Status.VERIFIED
    assert len(env.observed.fetches) == len(fresh[0].calls) == 1
    assert env.observed.rotations == []
    assert env.throttle.in_flight == 0


@in_virtual_time
async def test_a_deaf_client_is_given_up_without_a_failure_of_ten_hours() -> None:
    env = PollingHarness(factors(1), new_client=ScriptedClient, timeout=10.0)
    env.client.deaf, env.client.endures = True, 9
    env.client.will(key(0), Reply(latency=500.0))
    env.offer(key(0))
    await asyncio.sleep(1)
    env.clock.suspend(TEN_HOURS)
    for _ in range(6):
        await env.run(10)
        env.poller.check_clients()
    assert env.ledger[key(0)].status is Status.VERIFIED
    assert [ended.outcome.duration_seconds < 1 for ended in env.observed.fetches] == [True]
    assert env.observed.rotations == []
    await asyncio.sleep(500)


@in_virtual_time
async def test_a_client_that_can_not_be_replaced_stays(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> ScriptedClient:
        raise OSError("no certificates")

    env = PollingHarness(factors(1), new_client=fail)
    env.clock.suspend(TEN_HOURS)
    await env.run(35)
    assert env.client.closed_at is None
    assert env.ledger[key(0)].status is Status.VERIFIED
    assert [record.message for record in caplog.records] == ["HTTP client not replaced"]
    caplog.clear()


@in_virtual_time
async def test_a_retry_whose_time_has_passed_is_not_made() -> None:
    env = PollingHarness(factors(1))
    env.client.will(key(0), Reason.SERVER_ERROR)
    env.offer(key(0))
    await asyncio.sleep(0.1)
    env.clock.suspend(TEN_HOURS)
    await env.run(0.5)
    assert [ended.outcome.attempts for ended in env.observed.fetches] == [1]
    await env.run(35)
    assert env.ledger[key(0)].up is True


@in_virtual_time
async def test_a_retry_that_may_still_be_made_is_made_at_once() -> None:
    env = PollingHarness(factors(1, interval=1_000_000.0))
    env.client.will(key(0), Reply(Reason.RATE_LIMITED, retry_after=300.0))
    env.offer(key(0))
    await asyncio.sleep(0.1)
    assert env.throttle.paused(env.clock.steady())
    env.clock.suspend(TEN_HOURS)
    await env.run(1)
    assert not env.throttle.paused(env.clock.steady())
    assert env.ledger[key(0)].status is Status.VERIFIED
    await env.run(301)  # the timer of the loop finds nothing left to do
    assert len(env.client.calls) == 2


@in_virtual_time
async def test_refused_credentials_are_probed_at_once() -> None:
    env = PollingHarness(factors(1))
    env.client.rule = lambda _watched: Reply(Reason.AUTH)
    env.offer(key(0))
    await env.run(400)
    assert env.account.credentials_valid is False
    env.client.rule = lambda _watched: Reply()
    probes = len(env.client.calls)
    env.clock.suspend(TEN_HOURS)
    await env.run(2)
    assert len(env.client.calls) == probes + 1
    assert env.account.credentials_valid is not False


@in_virtual_time
async def test_a_stopped_account_stays_stopped() -> None:
    env = PollingHarness(factors(1), new_client=ScriptedClient)
    await env.poller.drain(0)
    env.client.forbid("stopped")
    env.clock.suspend(TEN_HOURS)
    await env.run(40)
    assert env.client.calls == []


@in_virtual_time
async def test_listings_that_fell_due_are_spread() -> None:
    env = PollingHarness(factors(1))
    discovery = Discovery(
        DiscoveryPolicy(900.0, 3600.0),
        accounts=env.accounts,
        roster=Roster(env.poller, env.ledger),
        observer=env.observed,
        clock=env.clock,
    )
    env.client.lists = lambda _entity, _url: FactorPage(())
    discovery.watch(
        WatchedEntity(EntityKey("main", SERVICES[0], f"identity-{number:04}"), f"team-{number}", 300.0)
        for number in range(60)
    )
    await env.run(40, and_each=discovery.dispatch)
    assert {name for _, name, _ in env.client.listings} == {f"team-{number}" for number in range(60)}
    env.client.listings.clear()
    env.clock.suspend(TEN_HOURS)
    await env.run(1, and_each=discovery.dispatch)
    assert len(env.client.listings) <= 8
    await env.run(34, and_each=discovery.dispatch)
    assert {name for _, name, _ in env.client.listings} == {f"team-{number}" for number in range(60)}
