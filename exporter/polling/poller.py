"""Ticks to fetches: pops what is due and hands it to its account; keeps budgets, staleness and the heartbeat."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from exporter.polling.schedule import first_look_spread

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from exporter.polling.account import AccountPoller
    from exporter.polling.clock import Clock
    from exporter.polling.ledger import Ledger
    from exporter.polling.observer import Observer
    from exporter.polling.schedule import Schedule
    from exporter.watched import WatchedFactor

_STRETCH_HEADROOM = 1.05
_STRETCH_TOLERANCE = 0.1


class Poller:
    """The polling of every account of one daemon."""

    def __init__(
        self,
        *,
        accounts: Mapping[str, AccountPoller],
        ledger: Ledger,
        schedule: Schedule,
        observer: Observer,
        clock: Clock,
    ) -> None:
        self.accounts = accounts
        self._ledger = ledger
        self._schedule = schedule
        self._observer = observer
        self._clock = clock
        self.last_tick = clock.moment()

    def watch(self, factors: Iterable[WatchedFactor]) -> None:
        """Begin to look at these factors, their first looks spread within the budget of their account."""
        polled: dict[str, list[WatchedFactor]] = {}
        for watched in factors:
            record = self._ledger.watch(watched)
            self._observer.watched(record)
            if not watched.paused:
                polled.setdefault(watched.key.account, []).append(watched)
        self.keep_budgets()
        now = self._clock.steady()
        for name, members in polled.items():
            account = self.accounts[name]
            demand = self._ledger.demand(name) / account.stretch
            spread = first_look_spread(len(members), demand, _spendable(account))
            account.expect(watched.key for watched in members)
            for watched in members:
                record = self._ledger[watched.key]
                self._schedule.add(watched.key, now, record.interval_seconds, spread)

    def tick(self) -> None:
        """Withdraw what is stale, and start what is due; called each second."""
        now = self._clock.moment()
        self.withdraw_stale()
        for key, due in self._schedule.pop_due(now.steady):
            self.accounts[key.account].offer(key, due)
        for account in self.accounts.values():
            account.pump()
        self.last_tick = now

    def withdraw_stale(self) -> None:
        """Withdraw every status that is stale by now; also called by a scrape, whatever became of the ticks."""
        for key in self._ledger.expire(self._clock.steady()):
            self._observer.withdrawn(self._ledger[key])

    def keep_budgets(self) -> None:
        """Stretch the intervals of each account that asks more than its budget, and tell of each change."""
        for account in self.accounts.values():
            demand = account.demand_requests_per_second = self._ledger.demand(account.name)
            budget = _spendable(account)
            stretch = next_stretch(account.stretch, demand / budget)
            if stretch == account.stretch:
                continue
            account.stretch = stretch
            now = self._clock.moment()
            for key in self._ledger.stretch(account.name, stretch, now):
                record = self._ledger[key]
                # A look that was planned at a longer interval would be missed for that long.
                self._schedule.bring_forward(key, now.steady, record.interval_seconds)
                self._observer.interval_changed(record)
            self._observer.over_budget(account.name, stretch, demand, budget)

    @property
    def queue_length(self) -> int:
        """Factors that are due and wait for a slot of their account."""
        return sum(account.queue_length for account in self.accounts.values())

    @property
    def first_looks_pending(self) -> int:
        """Factors whose first look has neither ended nor been held by a pause."""
        return sum(account.unseen for account in self.accounts.values())

    async def drain(self, timeout_seconds: float) -> None:
        """Start no new attempt, give those under way ``timeout_seconds``, then drop them."""
        for account in self.accounts.values():
            account.stop()
        await asyncio.gather(*(account.finish(timeout_seconds) for account in self.accounts.values()))


def _spendable(account: AccountPoller) -> float:
    """Return an account's budget; before its latency is measured, only the configured rate counts."""
    throttle = account.throttle
    return throttle.requests_per_second if throttle.latency_seconds is None else throttle.budget_requests_per_second


def next_stretch(current: float, load: float) -> float:
    """Return by how much intervals stretch at ``load`` (demand / budget); small movements change nothing."""
    if load <= 1:
        return current if load > 1 - _STRETCH_TOLERANCE else 1.0  # near the border: stay rather than flap
    wanted = load * _STRETCH_HEADROOM
    return current if load <= current <= wanted * (1 + _STRETCH_TOLERANCE) else wanted
