"""Entity discovery: lists the factors of every watched entity, and updates the roster with what it found.

Listings are for discovery only: a status comes from a fetch. What an incomplete listing shows is watched; only a
complete one can show that a factor is missing.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from exporter.polling.clock import SuspendWatch
from exporter.polling.roster import Difference, FoundFactor
from exporter.polling.schedule import FIRST_FETCH_SECONDS, Schedule
from exporter.verify.answers import MAX_PAGES
from exporter.verify.outcome import Answer, FactorPage, Failure, Reason, Status
from exporter.watched import EntityKey, FactorKey

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from exporter.polling.account import AccountPoller
    from exporter.polling.clock import Clock
    from exporter.polling.observer import Observer
    from exporter.polling.roster import Roster
    from exporter.polling.snapshot import FactorSnapshot
    from exporter.watched import WatchedEntity

_NO_END = Failure(Reason.DECODE, f"the listing did not end after {MAX_PAGES} pages, or repeats a page")


@dataclass(frozen=True, slots=True)
class DiscoveryPolicy:
    """The settings of discovery; seconds."""

    interval_seconds: float = 900.0
    forget_after_seconds: float = 86400.0


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


@dataclass(frozen=True, slots=True)
class _Listing:
    """The factors on the pages that were read, and why there are no more pages if the listing is incomplete."""

    found: set[FactorKey]
    failure: Failure | None = None


class Discovery:
    """Lists the factors of every entity on a schedule, within the budget of its account."""

    def __init__(
        self,
        policy: DiscoveryPolicy,
        *,
        accounts: Mapping[str, AccountPoller],
        roster: Roster,
        observer: Observer,
        clock: Clock,
    ) -> None:
        self.policy = policy
        self._accounts = accounts
        self._roster = roster
        self._observer = observer
        self._clock = clock
        self._suspends = SuspendWatch(clock)
        self._entities: dict[EntityKey, _Entity] = {}
        self._of_factors: dict[FactorKey, _Entity] = {}
        self._schedule: Schedule[EntityKey] = Schedule()

    def __len__(self) -> int:
        return len(self._entities)

    @property
    def first_listings_pending(self) -> int:
        """Entities whose first listing has neither ended nor is delayed by a pause of their account."""
        return sum(
            not entity.listed and self._accounts[key.account].pause is None
            for key, entity in self._entities.items()
        )

    @property
    def unlisted(self) -> list[WatchedEntity]:
        """The entities whose first listing has not ended."""
        return [entity.watched for entity in self._entities.values() if not entity.listed]

    def list_all(self) -> None:
        """Start all listings that wait for their time, whether or not they are due."""
        self._start_due(math.inf)

    def listings_per_second(self, account: str) -> float:
        """Return how many listings per second the unstretched interval needs from an account."""
        return sum(key.account == account for key in self._entities) / self.policy.interval_seconds

    def last_listed(self) -> dict[tuple[str, str, str], float]:
        """Return when the last complete listings ended (wall seconds), by (account, service SID, entity)."""
        return {
            (key.account, key.service_sid, entity.watched.name): entity.listed_seconds
            for key, entity in self._entities.items()
            if entity.listed_seconds is not None
        }

    def gone_since(self, key: FactorKey) -> float | None:
        """Return since when (wall seconds) a factor is missing from its entity, ``None`` while it isn't."""
        entity = self._of_factors.get(key)
        return None if entity is None else entity.gone.get(key)

    def watch(self, entities: Iterable[WatchedEntity]) -> Difference:
        """Watch these entities and no others; return how the watched factors changed.

        Factors found in one that is no longer watched are forgotten; a listing in flight for it is dropped.
        """
        difference = Difference()
        wanted = {entity.key: entity for entity in entities}
        for key in self._entities.keys() - wanted.keys():
            self._schedule.remove(key)
            entity = self._entities.pop(key)
            difference = difference.plus(self._lose(entity, None))
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

    def dispatch(self) -> None:
        """Start the listings that are due, and forget factors that have been missing for long; every second."""
        wall = self._clock.wall()
        for entity in self._entities.values():
            if entity.gone:
                old = [
                    key for key, since in entity.gone.items() if wall - since >= self.policy.forget_after_seconds
                ]
                self._lose(entity, old, keep=False)  # it was kept as a missing one
        now = self._clock.steady()
        if self._suspends.suspended_seconds():  # what fell due meanwhile is spread, as after a start
            for key, _due in list(self._schedule.pop_due(now)):
                self._schedule.add(key, now, self.policy.interval_seconds, FIRST_FETCH_SECONDS)
        self._start_due(now)

    def _start_due(self, until: float) -> None:
        for key, _due in list(self._schedule.pop_due(until)):
            self._accounts[key.account].spawn(self._list(self._entities[key]))

    def _add(self, entity: _Entity, key: FactorKey) -> None:
        entity.found.add(key)
        self._of_factors[key] = entity

    def _lose(self, entity: _Entity, keys: Iterable[FactorKey] | None, *, keep: bool = True) -> Difference:
        """Forget factors that were found in an entity, or with ``None`` all of them."""
        lost = list(entity.found if keys is None else keys)
        for key in lost:
            entity.found.discard(key)
            entity.gone.pop(key, None)
            self._of_factors.pop(key, None)
        return self._roster.lose(lost, keep=keep) if lost else Difference()

    async def _list(self, entity: _Entity) -> None:
        key = entity.watched.key
        account = self._accounts[key.account]
        try:
            listing = await self._pages(account, entity.watched)
            if listing is None or self._entities.get(key) is not entity:
                return  # polling stops, or the entity is no longer watched
            entity.listed = True
            if listing.failure is not None:
                self._watch_found(entity, listing.found)
                self._observer.listing_failed(entity.watched, listing.failure)
            else:
                entity.listed_seconds = self._clock.moment().wall
                self._observer.listed(entity.watched, len(listing.found))
                self._watch_found(entity, listing.found)
                await self._confirm_missing(account, entity, listing.found)
        finally:
            if self._entities.get(key) is entity:
                self._schedule.put_back(key, self._clock.steady(), self.policy.interval_seconds * account.stretch)

    async def _pages(self, account: AccountPoller, watched: WatchedEntity) -> _Listing | None:
        """List the factors of an entity; ``None`` where polling stops."""
        found: set[FactorKey] = set()
        query: str | None = None
        read: set[str | None] = set()
        for _ in range(MAX_PAGES):
            page = await account.request_page(watched, query)
            if page is None:
                return None
            match page.result:
                case Failure() as failure:
                    return _Listing(found, failure)
                case FactorPage(factors, next_query):
                    found |= {FactorKey(watched.key.account, watched.key.service_sid, of.sid) for of in factors}
                    read.add(query)
                    query = next_query
            if query is None:
                return _Listing(found)
            if query in read:
                break
        return _Listing(found, _NO_END)

    def _watch_found(self, entity: _Entity, listed: set[FactorKey]) -> None:
        """Watch the factors on the pages that were read, also if the listing is incomplete."""
        for key in listed:
            self._add(entity, key)
            entity.gone.pop(key, None)
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
        """Request an entity's first page, where the account has no factor to probe with.

        Returns the HTTP status, ``None`` if Twilio sent none.
        """
        watched = next((of.watched for key, of in self._entities.items() if key.account == name), None)
        if watched is None:
            return None
        page = await self._accounts[name].request_page(watched, urgent=True)
        return None if page is None or page.by_intermediary else page.code


def _found(watched: WatchedEntity, key: FactorKey) -> FoundFactor:
    return FoundFactor(key, watched.name, watched.key.identity, watched.interval_seconds, watched.labels)
