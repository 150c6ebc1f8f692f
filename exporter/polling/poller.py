"""Ticks to fetches: pops what is due and hands it to its account; keeps budgets, staleness and the heartbeat."""

from __future__ import annotations

import asyncio
import math
from itertools import islice
from typing import TYPE_CHECKING

from exporter.polling.schedule import first_fetch_spread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from exporter.polling.account import AccountPoller
    from exporter.polling.clock import Clock, Moment
    from exporter.polling.ledger import Ledger, LedgerPolicy
    from exporter.polling.observer import Observer
    from exporter.polling.schedule import Schedule
    from exporter.polling.snapshot import FactorSnapshot
    from exporter.watched import FactorKey, WatchedFactor

MINIMUM_INTERVAL_SECONDS = 1.0
_STRETCH_HEADROOM = 1.05
_STRETCH_TOLERANCE = 0.1
_STRETCHED_AT_ONCE = 500


class Poller:
    """The polling of every account of one daemon.

    ``other_demand`` tells what an account is asked for beside its factors, in requests a second.
    """

    def __init__(
        self,
        *,
        accounts: dict[str, AccountPoller],
        ledger: Ledger,
        schedule: Schedule[FactorKey],
        observer: Observer,
        clock: Clock,
        other_demand: Callable[[str], float] = lambda _account: 0.0,
    ) -> None:
        self.accounts = accounts
        self._ledger = ledger
        self._schedule = schedule
        self._observer = observer
        self._clock = clock
        self._other_demand = other_demand
        self.last_dispatch = clock.moment()
        self._stretching: dict[str, Iterator[FactorKey]] = {}  # the factors that a new stretch has yet to reach

    def watch(
        self, factors: Iterable[WatchedFactor], snapshots: Mapping[FactorKey, FactorSnapshot] | None = None
    ) -> None:
        """Begin to look at these factors, their first looks spread within the budget of their account.

        One whose status is known from ``snapshots``, and not stale, keeps its regular turn.
        """
        now = self._clock.moment()
        new: list[FactorKey] = []
        for watched in factors:
            record = self._ledger.watch(watched)
            if snapshots and (snapshot := snapshots.get(watched.key)) is not None:
                self._ledger.restore(watched.key, snapshot, now)
            self._observer.watched(record)
            if not watched.paused:
                new.append(watched.key)
        self._begin(new)

    def revise(self, factors: Iterable[WatchedFactor]) -> None:
        """Take new names, labels, intervals or pauses of watched factors; state and phase stay."""
        now = self._clock.moment()
        begun: list[FactorKey] = []
        for watched in factors:
            key = watched.key
            before = self._ledger[key].watched
            record = self._ledger.revise(watched, now)
            if watched.paused:
                self._schedule.remove(key)
                self.accounts[key.account].forget(key)
            elif before.paused:
                begun.append(key)
            else:
                # Where the identity is another, what was known may be of another's factor: look soon.
                soon = record.interval_seconds if watched.identity == before.identity else MINIMUM_INTERVAL_SECONDS
                self._schedule.bring_forward(key, now.steady, soon)
            self._observer.revised(record)
        self._begin(begun)

    def forget(self, keys: Iterable[FactorKey]) -> None:
        """Stop looking at these factors; an answer that is under way for one of them is dropped."""
        for key in keys:
            record = self._ledger.forget(key)
            self._schedule.remove(key)
            self.accounts[key.account].forget(key)
            self._observer.forgotten(record)

    def apply_policy(self, policy: LedgerPolicy) -> None:
        """Take new rules of the ledger, for all factors."""
        now = self._clock.moment()
        self._intervals_changed(self._ledger.apply_policy(policy, now), now)

    def _begin(self, keys: Iterable[FactorKey]) -> None:
        """Plan the first looks of factors that are newly polled."""
        by_account: dict[str, list[FactorKey]] = {}
        for key in keys:
            by_account.setdefault(key.account, []).append(key)
        self.check_budgets()
        now = self._clock.steady()
        for name, members in by_account.items():
            account = self.accounts[name]
            demand = account.demand_requests_per_second / account.stretch
            unseen = [key for key in members if self._ledger[key].status is None]
            spread = first_fetch_spread(len(unseen), demand, _spendable(account))
            account.expect_first_fetches(unseen)
            for key in members:
                record = self._ledger[key]
                within = spread if record.status is None else math.inf
                self._schedule.add(key, now, record.interval_seconds, within)

    def dispatch(self) -> None:
        """Withdraw what is stale, and start what is due; called each second."""
        now = self._clock.moment()
        self.withdraw_stale()
        for key, due in self._schedule.pop_due(now.steady):
            self.accounts[key.account].offer(key, due)
        for account in self.accounts.values():
            account.dispatch()
        self.last_dispatch = now

    def withdraw_stale(self) -> None:
        """Withdraw every status that is stale by now; also called by a scrape, whatever became of the ticks."""
        for key in self._ledger.expire(self._clock.steady()):
            self._observer.withdrawn(self._ledger[key])

    def check_budgets(self) -> None:
        """Stretch the intervals of each account that asks more than its budget, and tell of each change."""
        for account in self.accounts.values():
            if account.name in self._stretching:
                continue
            demand = self._ledger.demand(account.name) + self._other_demand(account.name)
            account.demand_requests_per_second = demand
            budget = _spendable(account)
            stretch = next_stretch(account.stretch, demand / budget)
            if stretch == account.stretch:
                continue
            account.stretch = stretch
            self._stretching[account.name] = iter(self._ledger.keys_of(account.name))
            self._stretch_some(account.name, stretch)
            self._observer.over_budget(account.name, stretch, demand, budget)

    def _stretch_some(self, account: str, stretch: float) -> None:
        """Stretch the next intervals of an account: of many thousands some at a time, so that the loop goes on."""
        if account not in self._stretching:  # it was removed
            return
        now = self._clock.moment()
        some = list(islice(self._stretching[account], _STRETCHED_AT_ONCE))
        self._intervals_changed(self._ledger.stretch(account, stretch, now, some), now)
        if len(some) == _STRETCHED_AT_ONCE:
            asyncio.get_running_loop().call_soon(self._stretch_some, account, stretch)
        else:
            del self._stretching[account]

    def drop_account(self, name: str) -> AccountPoller:
        """Stop an account that is no longer configured, and forget what was known of it; return it."""
        account = self.accounts.pop(name)
        account.stop(dropping=True)
        self._stretching.pop(name, None)
        self._ledger.drop_account(name)
        return account

    def check_clients(self) -> None:
        """Replace the clients that are jammed."""
        for account in self.accounts.values():
            account.check_client()

    def _intervals_changed(self, keys: Iterable[FactorKey], now: Moment) -> None:
        for key in keys:
            record = self._ledger[key]
            # A look that was planned at a longer interval would be missed for that long.
            self._schedule.bring_forward(key, now.steady, record.interval_seconds)
            self._observer.interval_changed(record)

    @property
    def queue_length(self) -> int:
        """Factors that are due and wait for a slot of their account."""
        return sum(account.queue_length for account in self.accounts.values())

    @property
    def first_fetches_pending(self) -> int:
        """Factors whose first look has neither ended nor been held by a pause."""
        return sum(account.first_fetches_pending for account in self.accounts.values())

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
