"""Dispatches what is due to the accounts; checks budgets, staleness and clients for all of them."""

from __future__ import annotations

import asyncio
import math
from itertools import islice
from typing import TYPE_CHECKING

from exporter.polling.clock import SuspendWatch
from exporter.polling.schedule import first_fetch_spread
from exporter.polling.slices import CHANGED, READ, at_once, in_lists
from exporter.polling.throttle import listing_budget

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping

    from exporter.polling.account import AccountPoller
    from exporter.polling.clock import Clock, Moment
    from exporter.polling.ledger import Ledger, LedgerPolicy
    from exporter.polling.observer import Observer
    from exporter.polling.removed import RemovedFactors
    from exporter.polling.schedule import Schedule
    from exporter.polling.slices import Slices
    from exporter.polling.snapshot import FactorSnapshot
    from exporter.watched import FactorKey, WatchedFactor

DISPATCH_SECONDS = 1
"""How often what is due is dispatched."""

MINIMUM_INTERVAL_SECONDS = 1.0
_STRETCH_HEADROOM = 1.05
_STRETCH_TOLERANCE = 0.1
_STRETCHED_AT_ONCE = 500
_PLANNED = 500  # in one slice


class Poller:
    """The polling of every account of one daemon.

    ``other_demand`` returns the requests per second that an account needs beyond its factors and its listings, and
    ``listing_demand`` what its listings need; these get at most their share of the budget.
    """

    def __init__(
        self,
        *,
        accounts: dict[str, AccountPoller],
        ledger: Ledger,
        schedule: Schedule[FactorKey],
        observer: Observer,
        clock: Clock,
        removed: RemovedFactors,
        other_demand: Callable[[str], float] = lambda _account: 0.0,
        listing_demand: Callable[[str], float] = lambda _account: 0.0,
    ) -> None:
        self.accounts = accounts
        self._removed = removed
        self._ledger = ledger
        self._schedule = schedule
        self._observer = observer
        self._clock = clock
        self._other_demand = other_demand
        self._listing_demand = listing_demand
        self.note_dispatch()
        self._suspends = SuspendWatch(clock)
        self._stretching: dict[str, Iterator[FactorKey]] = {}  # the factors without the new stretch yet

    def watch(
        self, factors: Iterable[WatchedFactor], snapshots: Mapping[FactorKey, FactorSnapshot] | None = None
    ) -> int:
        """Start to watch these factors; their first fetches are spread within the budget of their account.

        A factor whose status is known from ``snapshots``, and not stale, is fetched at its regular due time. One
        that was removed before starts with what was known of it. Returns the number of the latter.
        """
        new, again = self.add(factors, snapshots)
        at_once(self.begin(new, again=again))
        return len(again)

    def add(
        self, factors: Iterable[WatchedFactor], snapshots: Mapping[FactorKey, FactorSnapshot] | None = None
    ) -> tuple[list[FactorKey], set[FactorKey]]:
        """Start to watch these factors as :meth:`watch` does, but plan no fetches.

        Returns what :meth:`begin` needs: those to be polled, and those that were watched before.
        """
        now = self._clock.moment()
        again: set[FactorKey] = set()
        new: list[FactorKey] = []
        for watched in factors:
            record = self._ledger.watch(watched)
            if snapshots and (snapshot := snapshots.get(watched.key)) is not None:
                self._ledger.restore(watched.key, snapshot, now)
            elif (known := self._removed.take(watched.key, now.steady)) is not None:
                self._ledger.restore(watched.key, known.snapshot, now, known.times)
                again.add(watched.key)
            else:
                self._ledger.history.forget(watched.key)  # it may be that of a factor removed long ago
            self._observer.watched(record)
            if watched.polled:
                new.append(watched.key)
        return new, again

    def revise(self, factors: Iterable[WatchedFactor]) -> None:
        """Change names, labels, intervals or pauses of watched factors; state and phase stay."""
        at_once(self.begin(self.change(factors)))

    def change(self, factors: Iterable[WatchedFactor]) -> list[FactorKey]:
        """Change watched factors as :meth:`revise` does; return those that :meth:`begin` has yet to plan."""
        now = self._clock.moment()
        begun: list[FactorKey] = []
        for watched in factors:
            key = watched.key
            before = self._ledger[key].watched
            record = self._ledger.revise(watched, now)
            if not watched.polled:
                self._schedule.remove(key)
                self.accounts[key.account].forget(key)
            elif not before.polled:
                begun.append(key)
            else:
                # With another identity, the status may be of a different factor: fetch soon.
                soon = record.interval_seconds if watched.identity == before.identity else MINIMUM_INTERVAL_SECONDS
                self._schedule.bring_forward(key, now.steady, soon)
            self._observer.revised(record)
        return begun

    def forget(self, keys: Iterable[FactorKey], *, keep: bool = True) -> None:
        """Stop watching these factors; the outcomes of fetches in flight are dropped.

        With ``keep``, what is known of them is kept in case they are watched again.
        """
        now = self._clock.moment()
        for key in keys:
            record = self._ledger.forget(key, now if keep else None)
            if keep:
                self._removed.keep(record, now)
            self._schedule.remove(key)
            self.accounts[key.account].forget(key)
            self._observer.forgotten(record)

    def applying_policy(self, policy: LedgerPolicy) -> Slices[None]:
        """Apply new settings of the ledger to all factors, in slices."""
        if not self._ledger.use_policy(policy):
            return
        for keys in in_lists(self._ledger.keys(), CHANGED):
            now = self._clock.moment()
            self._intervals_changed(self._ledger.adapt(keys, now), now)
            yield len(keys) / CHANGED

    def plans(self, key: FactorKey) -> bool:
        """Return whether a factor has a due time, is queued or in flight."""
        return key in self._schedule

    def begin(
        self, keys: Iterable[FactorKey], *, first: bool = True, again: Container[FactorKey] = frozenset()
    ) -> Slices[None]:
        """Plan the ``first`` fetches of factors that are newly polled, or those that a suspend delayed; in slices.

        Those watched ``again`` are fetched soon although they are known: their identity may be another one now.
        """
        by_account: dict[str, list[FactorKey]] = {}
        soon: dict[str, set[FactorKey]] = {}
        for some in in_lists(keys, READ):
            for key in some:
                by_account.setdefault(key.account, []).append(key)
                record = self._ledger.get(key)
                if record is None or record.status is None or not first or key in again:
                    soon.setdefault(key.account, set()).add(key)
            yield len(some) / READ
        self.check_budgets()
        for name, members in by_account.items():
            account, urgent = self.accounts[name], soon.get(name, set())
            demand = account.demand_requests_per_second / account.stretch
            spread = first_fetch_spread(len(urgent), demand, account.budget_requests_per_second)
            for some in in_lists(members, _PLANNED):
                now = self._clock.steady()
                if first:
                    account.expect_first_fetches(urgent.intersection(some))
                for key in some:
                    if (record := self._ledger.get(key)) is not None and record.watched.polled:
                        within = spread if key in urgent else math.inf
                        self._schedule.add(key, now, record.interval_seconds, within)
                yield len(some) / _PLANNED

    def dispatch(self) -> None:
        """Withdraw what is stale, and start what is due; runs every second."""
        now = self._clock.moment()
        self.withdraw_stale()
        if seconds := self._suspends.suspended_seconds():
            self._ledger.history.interrupted(seconds, now)
            self._resume(now.steady)
        for key, due in self._schedule.pop_due(now.steady):
            self.accounts[key.account].offer(key, due)
        for account in self.accounts.values():
            account.dispatch()
        self.note_dispatch()

    def _resume(self, now_steady: float) -> None:
        """Spread what fell due during a suspend of the system, as after a start, over connections of its own."""
        at_once(self.begin([key for key, _due in self._schedule.pop_due(now_steady)], first=False))
        for account in self.accounts.values():
            account.resumed()

    def note_dispatch(self) -> None:
        """Note that the scheduler runs, or is about to be started."""
        self.last_dispatch, self.last_dispatch_awake = self._clock.moment(), self._clock.awake()

    def withdraw_stale(self) -> None:
        """Withdraw every status that is stale by now; a scrape calls it, too, as a dispatch may be late."""
        for key in self._ledger.expire(self._clock.steady()):
            self._observer.withdrawn(self._ledger[key])

    def check_budgets(self) -> None:
        """Stretch the intervals of every account that is over its budget, and report every change."""
        for account in self.accounts.values():
            if account.name in self._stretching:
                continue
            fetches = self._ledger.demand(account.name) + self._other_demand(account.name)
            budget = account.budget_requests_per_second
            listings = min(self._listing_demand(account.name), listing_budget(budget, fetches))
            account.fetch_requests_per_second = fetches
            account.demand_requests_per_second = demand = fetches + listings
            stretch = next_stretch(account.stretch, fetches / (budget - listings))  # listings are not stretched
            if stretch == account.stretch:
                continue
            longer, account.stretch = stretch > account.stretch, stretch
            self._stretching[account.name] = iter(self._ledger.keys())
            self._stretch_some(account.name, stretch, longer)
            self._observer.over_budget(account.name, stretch, demand, budget)

    def _stretch_some(self, account: str, stretch: float, longer: bool) -> None:
        """Stretch some of the intervals of an account, and the next ones later: the event loop must not stall."""
        if account not in self._stretching:  # it was removed
            return
        now = self._clock.moment()
        some = list(islice(self._stretching[account], _STRETCHED_AT_ONCE))
        self._intervals_changed(self._ledger.stretch(account, stretch, now, some), now, longer=longer)
        if len(some) == _STRETCHED_AT_ONCE:
            asyncio.get_running_loop().call_soon(self._stretch_some, account, stretch, longer)
        else:
            del self._stretching[account]

    def drop_account(self, name: str) -> AccountPoller:
        """Stop an account that is no longer configured, and forget its budget; return it."""
        account = self.accounts.pop(name)
        account.stop(dropping=True)
        self._stretching.pop(name, None)
        self._ledger.drop_account(name)
        return account

    def check_clients(self) -> None:
        """Cancel stuck requests, and rotate the clients that are stuck or silent; runs every 10 s."""
        for account in self.accounts.values():
            account.check_client()

    def _intervals_changed(self, keys: Iterable[FactorKey], now: Moment, *, longer: bool = False) -> None:
        """Report new intervals, and plan fetches by them, unless all of them are ``longer`` than before."""
        for key in keys:
            record = self._ledger[key]
            # A fetch planned at a longer interval would be late. One planned at a shorter interval is early enough:
            # an account over budget has no requests to spare.
            if not longer:
                self._schedule.bring_forward(key, now.steady, record.interval_seconds)
            self._observer.interval_changed(record)

    @property
    def queue_length(self) -> int:
        """Factors that are due and wait for a slot of their account."""
        return sum(account.queue_length for account in self.accounts.values())

    @property
    def first_fetches_pending(self) -> int:
        """Factors whose first fetch has neither ended nor been delayed by a pause."""
        return sum(account.first_fetches_pending for account in self.accounts.values())

    async def drain(self, timeout_seconds: float) -> None:
        """Start no new attempt, give those in flight ``timeout_seconds``, then drop them."""
        for account in self.accounts.values():
            account.stop()
        await asyncio.gather(*(account.finish(timeout_seconds) for account in self.accounts.values()))


def next_stretch(current: float, load: float) -> float:
    """Return by how much intervals stretch at ``load`` (demand / budget); small changes have no effect."""
    if load <= 1:
        return current if load > 1 - _STRETCH_TOLERANCE else 1.0  # hysteresis
    wanted = load * _STRETCH_HEADROOM
    return current if load <= current <= wanted * (1 + _STRETCH_TOLERANCE) else wanted
