"""Six hours of everything that can go wrong, in virtual time, with what must always hold checked every minute."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from exporter.polling.ledger import LedgerPolicy
from exporter.verify.outcome import Answer, Reason, Status
from tests.support.factors import factor
from tests.support.polling_harness import PollingHarness, Reply
from tests.support.virtual_time import START, in_virtual_time

if TYPE_CHECKING:
    from exporter.watched import FactorKey, WatchedFactor

ACCOUNTS = ("main", "other")
COUNT = 200
PAUSED = 4
HOURS = 6
RATE = 10.0
POLICY = LedgerPolicy(unverified_interval_seconds=30, unverified_window_seconds=900, not_found_interval_seconds=400)


@dataclass
class Weather:
    """What the API does: one request in twenty fails, and sometimes all requests of an account for minutes."""

    rng: random.Random
    calm: bool = False
    rejected: dict[str, bool] = field(default_factory=dict)  # whether the credentials are refused
    slow: dict[str, bool] = field(default_factory=dict)
    sent: Counter[Status | Reason] = field(default_factory=Counter)

    def reply(self, watched: WatchedFactor) -> Reply:
        reply = self._choose(watched.key.account)
        assert not isinstance(reply.result, Answer)
        self.sent[reply.result] += 1
        return reply

    def _choose(self, account: str) -> Reply:
        rng = self.rng
        if self.calm:
            return Reply(latency=0.1)
        if self.rejected.get(account):
            return Reply(Reason.AUTH, latency=0.1)
        if self.slow.get(account):
            return Reply(Reason.TIMEOUT, latency=10.0)
        if rng.random() >= 0.05:
            return Reply(Status.VERIFIED if rng.random() < 0.9 else Status.UNVERIFIED, rng.uniform(0.02, 0.5))
        fault = rng.choice([*Reason, Status.NOT_FOUND])
        latency = 10.0 if fault is Reason.TIMEOUT else rng.uniform(0.0, 2.0)
        return Reply(fault, latency, rng.choice([None, 1.0, 5.0, 40.0]))

    def change(self) -> None:
        """Change the weather, once a minute."""
        for account in ACCOUNTS:
            self.rejected[account] = self.rng.random() < (0.8 if self.rejected.get(account) else 0.01)
            self.slow[account] = self.rng.random() < (0.6 if self.slow.get(account) else 0.01)


class Watch:
    """Checks the invariants.

    A fetch may be late while its account is paused, or while more is due than the budget allows; the queue
    drains as soon as the API answers again.
    """

    def __init__(self, env: PollingHarness, weather: Weather) -> None:
        self.env = env
        self.weather = weather
        self.free_since = dict.fromkeys(ACCOUNTS, 0.0)
        self.drained_at = dict.fromkeys(ACCOUNTS, 0.0)
        self.last_request: dict[FactorKey, float] = {}
        self.seen = dict.fromkeys(ACCOUNTS, 0)
        self.checks = 0

    def each_second(self) -> None:
        for name, account in self.env.accounts.items():
            blocked = account.pause is not None or self.weather.slow.get(name, False)
            if blocked or account.queue_length > 0:
                self.free_since[name] = self.env.now
            if blocked or account.queue_length == 0:
                self.drained_at[name] = self.env.now
            assert self.env.now - self.drained_at[name] <= 120
        second = round(self.env.now)
        if second % 60 == 0:
            self.check()
        if second % 10 == 0:
            self.env.poller.check_budgets()

    def check(self) -> None:
        self.checks += 1
        env = self.env
        counts = [count for of in env.ledger.counts.values() for count in of.values()]
        assert min(counts) >= 0
        assert sum(counts) == COUNT
        types = [count for of in env.ledger.type_counts.values() for count in of.values()]
        assert min(types) >= 0
        assert sum(types) == COUNT
        for name, client in env.clients.items():
            account = env.accounts[name]
            assert 1 <= account.throttle.limit <= account.throttle.max_concurrency
            assert account.throttle.in_flight <= account.throttle.max_concurrency
            for call in client.calls[self.seen[name] :]:
                self.last_request[call.key] = call.began
            self.seen[name] = len(client.calls)
        for record in env.ledger:
            if not record.watched.paused:
                self.check_factor(record.watched.key)
        assert env.schedule.places <= 2 * COUNT
        assert env.ledger.stale_places <= 2 * (COUNT + PAUSED)

    def check_factor(self, key: FactorKey) -> None:
        env, record, account = self.env, self.env.ledger[key], self.env.accounts[key.account]
        waits, queued = env.schedule.waiting(key) is not None, key in account._queue
        in_flight = key in account.in_flight_keys
        assert waits or queued or in_flight, f"{record.watched.name} is not scheduled"
        assert not (waits and queued), f"{record.watched.name} is scheduled twice"
        if env.now > 60:
            latest = max(self.last_request.get(key, 0.0), self.free_since[key.account])
            assert env.now - latest <= 2 * record.interval_seconds, record.watched.name
        if record.status is not None:
            assert record.answered_seconds is not None
            assert record.stale_at is not None
            assert env.clock.steady() < record.stale_at
        assert record.interval_seconds <= 900 * account.stretch


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1])
@in_virtual_time
async def test_six_hours_of_faults(seed: int) -> None:
    rng = random.Random(seed)
    weather = Weather(rng)
    watched = [
        factor(n, account=ACCOUNTS[n % 2], service=n % 3, interval=rng.choice([90.0, 120.0, 300.0]))
        for n in range(COUNT)
    ]
    watched += [factor(COUNT + n, service=n % 3, paused=True) for n in range(PAUSED)]
    step = 0.0
    env = PollingHarness(
        watched,
        rate=RATE,
        ledger_policy=POLICY,
        rng=rng,
        reread=lambda: rng.random() < 0.02,
        wall=lambda: START + asyncio.get_running_loop().time() + step,
    )
    for client in env.clients.values():
        client.rule = weather.reply
    watch = Watch(env, weather)
    for minute in range(HOURS * 60):
        step = rng.choice([0.0, 0.0, 3_600.0, -3_600.0]) if minute % 30 == 0 else step
        weather.change()
        await env.run(60, and_each=watch.each_second)
    assert watch.checks == HOURS * 60

    # It was no fair weather.
    observed = env.observed
    assert set(weather.sent) == {*Reason, *Status}
    assert observed.refusals
    assert observed.acceptances
    assert observed.rate_limits
    assert observed.withdrawals
    assert observed.retries
    assert any(ended.outcome.alone for ended in observed.fetches)
    assert {ended.change.after for ended in observed.fetches if ended.change} == set(Status)
    for client in env.clients.values():
        assert client.most_in_a_second() <= RATE

    # And it clears up.
    weather.calm = True
    await env.run(1_800, and_each=watch.each_second)
    assert not any(account.pause is not None for account in env.accounts.values())
    assert {record.status for record in env.ledger if not record.watched.paused} == {Status.VERIFIED}
    assert {record.up for record in env.ledger if not record.watched.paused} == {True}
    assert all(
        record.interval_seconds == record.watched.interval_seconds
        for record in env.ledger
        if not record.watched.paused
    )
    assert env.poller.queue_length == 0
    await env.poller.drain(8)
    assert asyncio.all_tasks() == {asyncio.current_task()}
