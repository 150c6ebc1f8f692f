"""Discovery: lists the factors of every watched entity, and updates the roster with what it found.

Listings are for discovery only: a status comes from a fetch. What an incomplete listing shows is watched; only a
complete one can show that a factor is missing. For watched services, the entities are found first:
:mod:`exporter.polling.service_discovery`.

A factor may be in several entries. The watchlist's own factor comes first, then an entity, then a service.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from exporter.polling.clock import SuspendWatch
from exporter.polling.listing import ListingQueue, RefusedListings, list_factors
from exporter.polling.roster import Difference, FoundFactor
from exporter.polling.schedule import FIRST_FETCH_SECONDS, Schedule
from exporter.polling.service_discovery import ServiceDiscovery
from exporter.verify.outcome import Answer, Status
from exporter.watched import EntityKey, FactorKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from exporter.polling.account import AccountPoller
    from exporter.polling.clock import Clock
    from exporter.polling.listing import DiscoveryPolicy
    from exporter.polling.observer import Observer
    from exporter.polling.roster import Roster
    from exporter.polling.snapshot import FactorSnapshot
    from exporter.watched import WatchedEntity, WatchedService


@dataclass(slots=True, eq=False)
class _Entity:
    """One watched entity: the factors found in it, and since when (wall seconds) some of them are missing.

    ``listed_seconds`` is when the last complete listing ended (wall seconds), ``None`` where there was none.
    """

    watched: WatchedEntity
    found: set[FactorKey] = field(default_factory=set)
    gone: dict[FactorKey, float] = field(default_factory=dict)
    listed: bool = False
    listed_seconds: float | None = None


class Discovery:
    """Lists the factors of every entity and every service on a schedule, within the budget of its account.

    ``holds`` tells whether this shard watches the entity of an account, a service SID and an identity.
    """

    def __init__(
        self,
        policy: DiscoveryPolicy,
        *,
        accounts: Mapping[str, AccountPoller],
        roster: Roster,
        observer: Observer,
        clock: Clock,
        holds: Callable[[str, str, str], bool] = lambda *_entity: True,
    ) -> None:
        self._accounts = accounts
        self._roster = roster
        self._observer = observer
        self._clock = clock
        self._suspends = SuspendWatch(clock)
        self._entities: dict[EntityKey, _Entity] = {}
        self._of_factors: dict[FactorKey, _Entity] = {}
        self._of_accounts: Counter[str] = Counter()  # the number of entities
        self._schedule: Schedule[EntityKey] = Schedule()
        self._refused = RefusedListings(accounts)
        self._queues: dict[str, ListingQueue] = {}
        self.services = ServiceDiscovery(
            policy,
            accounts=accounts,
            roster=roster,
            observer=observer,
            clock=clock,
            holds=holds,
            has_entity=self._entities.__contains__,
            has_factor=self._of_factors.__contains__,
        )

    def __len__(self) -> int:
        return len(self._entities) + self.services.entities

    @property
    def policy(self) -> DiscoveryPolicy:
        """The settings in use."""
        return self.services.policy

    @policy.setter
    def policy(self, policy: DiscoveryPolicy) -> None:
        self.services.policy = policy

    @property
    def first_listings_pending(self) -> int:
        """Entities and services whose first listing has not ended, and is not delayed by a pause of the account."""
        return sum(self._accounts[watched.key.account].pause is None for watched in self.unlisted)

    @property
    def unlisted(self) -> list[WatchedEntity | WatchedService]:
        """The entities and services whose first listing has not ended."""
        entities = [entity.watched for entity in self._entities.values() if not entity.listed]
        return [*entities, *self.services.unlisted]

    def list_all(self) -> None:
        """Start all listings that wait for their time, whether or not they are due."""
        self._start_due(math.inf)
        self.services.start_due(math.inf)

    def listings_per_second(self, account: str) -> float:
        """Return how many requests per second an account's listings need; infinite for a service's first one."""
        own = self._of_accounts[account] / self.policy.interval_seconds
        return own + self.services.requests_per_second(account)

    def last_listed(self) -> dict[tuple[str, str, str], float]:
        """Return when the last complete listings ended (wall seconds), by (account, service SID, entity)."""
        return {
            (key.account, key.service_sid, entity.watched.name): entity.listed_seconds
            for key, entity in self._entities.items()
            if entity.listed_seconds is not None
        } | self.services.last_listed()

    def gone_since(self, key: FactorKey) -> float | None:
        """Return since when (wall seconds) a factor is missing from its entity, ``None`` while it isn't."""
        entity = self._of_factors.get(key)
        return self.services.gone_since(key) if entity is None else entity.gone.get(key)

    def watch(self, entities: Iterable[WatchedEntity], services: Iterable[WatchedService] = ()) -> Difference:
        """Watch these entities and services and no others; return how the watched factors changed.

        Factors found in one that is no longer watched are forgotten, unless its service is watched as a whole; a
        listing in flight for it is dropped.
        """
        difference = self.services.watch(services)
        wanted = {entity.key: entity for entity in entities}
        for key in self._entities.keys() - wanted.keys():
            self._schedule.remove(key)
            entity = self._entities.pop(key)
            adopted, changed = self.services.adopt(key, entity.found - entity.gone.keys())
            for factor in adopted:
                entity.found.discard(factor)
                del self._of_factors[factor]
            difference = difference.plus(changed).plus(self._lose(entity, entity.found))
            self._observer.entity_forgotten(entity.watched)
        now = self._clock.steady()
        for key, watched in wanted.items():
            known = self._entities.get(key)
            if known is None:
                self._entities[key] = _Entity(watched)
                self._schedule.add(key, now, self.policy.interval_seconds, FIRST_FETCH_SECONDS)
                continue
            self._schedule.bring_forward(key, now, self.policy.interval_seconds)  # where that is shorter now
            if known.watched != watched:
                known.watched = watched
                difference = difference.plus(self._roster.find(_found(watched, of) for of in known.found))
        self._of_accounts = Counter(key.account for key in self._entities)
        for name, account in self._accounts.items():
            account.probe_with(functools.partial(self._probe, name))
        return difference

    def restore(
        self,
        snapshots: Mapping[FactorKey, FactorSnapshot],
        last_listed: Mapping[tuple[str, str, str], float] = MappingProxyType({}),
    ) -> None:
        """Restore what was found before a restart, so that it is shown before the first listing.

        ``last_listed`` is what :meth:`last_listed` returned then.
        """
        by_name = {(key.account, key.service_sid, of.watched.name): of for key, of in self._entities.items()}
        for name, of in by_name.items():
            of.listed_seconds = last_listed.get(name)
        found: list[FoundFactor] = []
        for key, snapshot in snapshots.items():
            entity = by_name.get((key.account, key.service_sid, snapshot.entity)) if snapshot.entity else None
            if entity is not None and snapshot.removed_seconds is None:  # else a listing has to find it again
                self._add(entity, key)
                if snapshot.gone_since_seconds is not None:
                    entity.gone[key] = snapshot.gone_since_seconds
                found.append(_found(entity.watched, key))
        self._roster.find(found, snapshots)
        self.services.restore(snapshots, last_listed)

    def dispatch(self) -> None:
        """Start the listings that are due, and forget factors that have been missing for long; every second.

        While a list is applied to the roster, this waits.
        """
        if self._roster.busy:
            return
        wall = self._clock.wall()
        for entity in self._entities.values():
            if entity.gone:
                old = [
                    key for key, since in entity.gone.items() if wall - since >= self.policy.forget_after_seconds
                ]
                self._lose(entity, old, keep=False)  # it was kept as a missing one
        self.services.forget_gone(wall)
        now = self._clock.steady()
        if self._suspends.suspended_seconds():  # what fell due meanwhile is spread, as after a start
            for key, _due in list(self._schedule.pop_due(now)):
                self._schedule.add(key, now, self.policy.interval_seconds, FIRST_FETCH_SECONDS)
            self.services.resumed(now)
        self._refused.repeat(self._schedule, now, self.policy.interval_seconds)
        self.services.repeat_refused(now)
        self._start_due(now)
        self.services.start_due(now)

    def _start_due(self, until: float) -> None:
        for key, _due in list(self._schedule.pop_due(until)):
            account = self._accounts[key.account]
            queue = self._queues.get(account.name)
            if queue is None or queue.account is not account:  # else the account was removed, and is back
                self._queues[account.name] = queue = ListingQueue(account)
            queue.offer(functools.partial(self._list, self._entities[key]))

    def _add(self, entity: _Entity, key: FactorKey) -> None:
        entity.found.add(key)
        self._of_factors[key] = entity

    def _lose(self, entity: _Entity, keys: Iterable[FactorKey], *, keep: bool = True) -> Difference:
        """Forget factors that were found in an entity."""
        lost = list(keys)
        for key in lost:
            entity.found.discard(key)
            entity.gone.pop(key, None)
            self._of_factors.pop(key, None)
        return self._roster.lose(lost, keep=keep) if lost else Difference()

    async def _list(self, entity: _Entity) -> None:
        key = entity.watched.key
        if self._entities.get(key) is not entity:
            return  # no longer watched since it was due
        account = self._accounts[key.account]
        self._refused.begin(key)
        try:
            listing = await list_factors(account, entity.watched)
            await self._roster.settled()
            if listing is None or self._entities.get(key) is not entity:
                return  # polling stops, or the entity is no longer watched
            entity.listed = True
            found = {FactorKey(key.account, key.service_sid, factor.sid) for factor in listing.factors}
            if listing.failure is not None:
                self._watch_found(entity, found)
                self._refused.failed(key, listing.failure)
                self._observer.listing_failed(entity.watched, listing.failure)
            else:
                entity.listed_seconds = self._clock.moment().wall
                self._observer.listed(entity.watched, len(found))
                self._watch_found(entity, found)
                await self._confirm_missing(account, entity, found)
        finally:
            if self._entities.get(key) is entity:
                self._schedule.put_back(key, self._clock.steady(), self.policy.interval_seconds)

    def _watch_found(self, entity: _Entity, listed: set[FactorKey]) -> None:
        """Watch the factors on the pages that were read, also if the listing is incomplete."""
        for key in listed:
            self._add(entity, key)
            entity.gone.pop(key, None)
        self.services.give_up(listed)
        self._roster.find(_found(entity.watched, key) for key in sorted(listed))

    async def _confirm_missing(self, account: AccountPoller, entity: _Entity, listed: set[FactorKey]) -> None:
        """Fetch every factor that a complete listing lacks once, before it counts as missing."""
        for key in sorted(entity.found - listed - entity.gone.keys()):
            outcome = await account.fetch_now(key)
            if self._entities.get(entity.watched.key) is not entity:
                return
            answer = None if outcome is None else outcome.result
            if isinstance(answer, Answer) and answer.status is Status.NOT_FOUND and key in entity.found:
                entity.gone[key] = self._clock.wall()

    async def _probe(self, name: str) -> int | None:
        """Request the first page of an entity or a service, where the account has no factor to probe with.

        Returns the HTTP status, ``None`` if Twilio sent none.
        """
        account = self._accounts[name]
        watched = next((of.watched for key, of in self._entities.items() if key.account == name), None)
        if watched is not None:
            page = await account.request_page(watched, urgent=True)
        elif (service_sid := self.services.any_of(name)) is not None:
            page = await account.request_entities(service_sid, urgent=True)
        else:
            return None
        return None if page is None or page.by_intermediary else page.code


def _found(watched: WatchedEntity, key: FactorKey) -> FoundFactor:
    return FoundFactor(key, watched.name, watched.key.identity, watched.interval_seconds, watched.labels)
