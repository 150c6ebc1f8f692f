"""Discovery in services: lists the entities of every watched service, and the factors of each entity.

One listing of a service is a walk: the pages of List Entities, and for each entity of this shard the pages of List
Factors, spread over the interval. What a page shows is watched. Only a walk that saw all entities can show that a
factor is missing, and only if the listing of its own entity didn't fail. After one that stopped at the maximum, a
factor counts as missing only if its fetches say so, too.

A walk keeps no object per entity: a factor is stamped with the number of the walk that listed it last, and what is
missing is found by comparing the stamps at the end.

A state file has no identities, and without one a factor can't be fetched. It does have a factor's entity SID: the
first walk after a restart reads the pages of List Entities twice, once for the identities alone, which takes only a
small part of the requests of a walk. Until then, a restored factor is shown with what is known of it.
"""

from __future__ import annotations

import functools
import math
import operator
from bisect import bisect_left, insort
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from exporter.polling.listing import ListingQueue, RefusedListings, endless, list_factors
from exporter.polling.roster import SHORT_DIGITS, Difference, FoundFactor
from exporter.polling.schedule import FIRST_FETCH_SECONDS, Schedule
from exporter.verify.outcome import Answer, EntityPage, Failure, Reason, Status
from exporter.watched import EntityKey, FactorKey, ServiceKey, WatchedEntity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from exporter.polling.account import AccountPoller
    from exporter.polling.clock import Clock
    from exporter.polling.listing import DiscoveryPolicy, Listing
    from exporter.polling.observer import Observer
    from exporter.polling.roster import Roster
    from exporter.polling.snapshot import FactorSnapshot
    from exporter.verify.outcome import ListedEntity
    from exporter.watched import WatchedService

SPREAD = 0.9
"""The part of the interval over which a walk is spread; the rest is for what takes longer than last time."""


_LONGEST_REST_SECONDS = 1.0  # a timer sees no suspend of the system
_UNUSABLE = Failure(Reason.DECODE, "the entity's identity in the list of entities can't be part of a path")


@dataclass(slots=True, eq=False)
class _Service:
    """One watched service; times are wall seconds.

    ``found`` has the number of the last walk that listed each factor, ``gone`` since when some are missing.
    ``failing`` has the entities whose listing failed, and when all were listed for the last time before that:
    ``listed_seconds`` is the earliest of these times, ``None`` where there was none. ``identities`` are those of
    the entities of the last walk that this shard watches, sorted; ``seen`` are those of the walk in progress.
    ``unidentified`` are the factors without identity, by entity SID; ``identified`` says that all entities were
    read for them. ``requests`` is how many the last walk needed, ``entities`` how many it found in this shard, and
    ``with_entry`` how many of these have an entry of their own.
    """

    watched: WatchedService
    found: dict[FactorKey, int] = field(default_factory=dict)
    gone: dict[FactorKey, float] = field(default_factory=dict)
    failing: dict[str, float | None] = field(default_factory=dict)
    identities: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    unidentified: dict[str, list[FactorKey]] = field(default_factory=dict)
    identified: bool = False
    walks: int = 0
    requests: int = 0
    entities: int | None = None
    with_entry: int = 0
    truncated: bool = False
    listed: bool = False
    listed_seconds: float | None = None


@dataclass(slots=True, eq=False)
class _Walk:
    """One walk; ``stopped`` says that polling stopped.

    ``failed`` are the identities whose listing failed, or the SIDs of entities without a usable one. ``deleted``
    are the identities that were no longer found by then.
    """

    number: int
    queue: ListingQueue
    began: float
    seconds_per_request: float
    failed: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    total: int = 0
    with_entry: int = 0
    requests: int = 0
    truncated: bool = False
    stopped: bool = False


class ServiceDiscovery:
    """Walks through every service on a schedule, within the budget of its account.

    ``has_entity`` and ``has_factor`` tell what is watched by an entry of its own, which comes first.
    """

    def __init__(
        self,
        policy: DiscoveryPolicy,
        *,
        accounts: Mapping[str, AccountPoller],
        roster: Roster,
        observer: Observer,
        clock: Clock,
        holds: Callable[[str, str, str], bool],
        has_entity: Callable[[EntityKey], bool],
        has_factor: Callable[[FactorKey], bool],
    ) -> None:
        self.policy = policy
        self._accounts = accounts
        self._roster = roster
        self._observer = observer
        self._clock = clock
        self._holds = holds
        self._has_entity = has_entity
        self._has_factor = has_factor
        self._services: dict[ServiceKey, _Service] = {}
        self._schedule: Schedule[EntityKey] = Schedule()
        self._refused = RefusedListings(accounts)

    # What is known

    @property
    def entities(self) -> int:
        """The number of entities that this shard has found, without those with an entry of their own."""
        return sum((service.entities or 0) - service.with_entry for service in self._services.values())

    @property
    def unlisted(self) -> list[WatchedService]:
        """The services whose first walk has not ended."""
        return [service.watched for service in self._services.values() if not service.listed]

    def entity_counts(self) -> dict[tuple[str, str, str], tuple[int | None, bool]]:
        """Return the number of entities, and whether the last walk stopped at the maximum, by (account, SID, name).

        The number is ``None`` before the first walk has ended.
        """
        return {
            (*key, service.watched.name): (service.entities, service.truncated)
            for key, service in self._services.items()
        }

    def knows_identity(self, text: str) -> bool:
        """Return whether a text is the identity of an entity that was found."""
        return any(_holds(of.identities, text) or _holds(of.seen, text) for of in self._services.values())

    def any_of(self, account: str) -> str | None:
        """Return the SID of a watched service of an account, ``None`` where there is none."""
        return next((key.service_sid for key in self._services if key.account == account), None)

    def requests_per_second(self, account: str) -> float:
        """Return how many requests per second the walks of an account need; infinite in the first one."""
        of_account = [service for key, service in self._services.items() if key.account == account]
        if not all(service.requests for service in of_account):
            return math.inf
        return sum(service.requests for service in of_account) / self.policy.interval_seconds

    def last_listed(self) -> dict[tuple[str, str, str], float]:
        """Return since when every entity was listed (wall seconds), by (account, service SID, name)."""
        return {
            (*key, service.watched.name): service.listed_seconds
            for key, service in self._services.items()
            if service.listed_seconds is not None
        }

    def gone_since(self, key: FactorKey) -> float | None:
        """Return since when (wall seconds) a factor is missing from its service, ``None`` while it isn't."""
        service = self._of(key)
        return None if service is None else service.gone.get(key)

    def _of(self, key: FactorKey | EntityKey) -> _Service | None:
        return self._services.get(_service_key(key))

    # Changes of what is watched

    def watch(self, services: Iterable[WatchedService]) -> Difference:
        """Watch these services and no others; return how the watched factors changed.

        Factors found in one that is no longer watched are forgotten, and a walk in progress for it is dropped.
        """
        difference = Difference()
        wanted = {watched.key: watched for watched in services}
        for key in self._services.keys() - wanted.keys():
            self._schedule.remove(_place(key))
            service = self._services.pop(key)
            difference = difference.plus(self._lose(service, list(service.found)))
            self._observer.service_forgotten(service.watched)
        now = self._clock.steady()
        for key, watched in wanted.items():
            known = self._services.get(key)
            if known is None:
                self._services[key] = _Service(watched)
                self._schedule.add(_place(key), now, self.policy.interval_seconds, FIRST_FETCH_SECONDS)
                continue
            self._schedule.bring_forward(_place(key), now, self.policy.interval_seconds)
            if known.watched != watched:
                known.watched = watched
                difference = difference.plus(self._lose(known, self._unwanted(known)))
                difference = difference.plus(self._roster.find(self._found_again(known)))
        return difference

    def _found_again(self, service: _Service) -> Iterator[FoundFactor]:
        """Yield what was found in a service, with its present name and labels."""
        for key in service.found:
            if (found := self._roster.found(key)) is not None:
                yield _found(service.watched, key, found.identity)

    def _unwanted(self, service: _Service) -> list[FactorKey]:
        """Return what was found in a service and is known to be of a type that is no longer chosen."""
        records = [record for key in service.found if (record := self._roster.record(key)) is not None]
        return [of.watched.key for of in records if not service.watched.wants(of.factor_type)]

    def restore(
        self, snapshots: Mapping[FactorKey, FactorSnapshot], last_listed: Mapping[tuple[str, str, str], float]
    ) -> None:
        """Restore what was found before a restart; it is shown, and fetched once its entity is listed again."""
        for service_key, of in self._services.items():
            of.listed_seconds = last_listed.get((*service_key, of.watched.name))
        found: list[FoundFactor] = []
        for key, snapshot in snapshots.items():
            service = self._of(key)
            if service is None or snapshot.entity != service.watched.name or snapshot.removed_seconds is not None:
                continue
            if not service.watched.wants(snapshot.factor_type):
                continue
            service.found[key] = service.walks
            service.unidentified.setdefault(snapshot.entity_sid, []).append(key)
            if snapshot.gone_since_seconds is not None:
                service.gone[key] = snapshot.gone_since_seconds
            found.append(_found(service.watched, key, ""))
        for of in self._services.values():
            of.gone = dict(sorted(of.gone.items(), key=operator.itemgetter(1)))
        self._roster.find(found, snapshots)

    def adopt(self, entity: EntityKey, keys: Iterable[FactorKey]) -> tuple[set[FactorKey], Difference]:
        """Watch on what was found in an entity that has no entry of its own any longer; return that."""
        service = self._of(entity)
        if service is None:
            return set(), Difference()
        records = [record for key in keys if (record := self._roster.record(key)) is not None]
        wanted = {of.watched.key for of in records if service.watched.wants(of.factor_type)}
        service.found.update(dict.fromkeys(wanted, service.walks))
        identity = entity.identity
        if not _holds(service.identities, identity):
            insort(service.identities, identity)
        return wanted, self._roster.find(_found(service.watched, key, identity) for key in wanted)

    def give_up(self, keys: Iterable[FactorKey]) -> None:
        """Leave these factors to the entity with an entry of its own that they were found in."""
        for key in keys:
            if (service := self._of(key)) is not None:
                service.found.pop(key, None)
                service.gone.pop(key, None)

    def forget_gone(self, wall: float) -> None:
        """Forget factors that have been missing for long; called every second."""
        for service in self._services.values():
            old: list[FactorKey] = []
            for key, since in service.gone.items():
                if wall - since < self.policy.forget_after_seconds:
                    break  # the others are missing since later
                old.append(key)
            self._lose(service, old, keep=False)  # they were kept as missing ones

    def _lose(self, service: _Service, keys: list[FactorKey], *, keep: bool = True) -> Difference:
        for key in keys:
            service.found.pop(key, None)
            service.gone.pop(key, None)
        return self._roster.lose(keys, keep=keep) if keys else Difference()

    # The walk

    def resumed(self, now: float) -> None:
        """Spread what fell due during a suspend of the system, as after a start."""
        for place, _due in list(self._schedule.pop_due(now)):
            self._schedule.add(place, now, self.policy.interval_seconds, FIRST_FETCH_SECONDS)

    def repeat_refused(self, now: float) -> None:
        """Make the walks due soon that failed for credentials that are accepted again; steady seconds."""
        self._refused.repeat(self._schedule, now, self.policy.interval_seconds)

    def start_due(self, until: float) -> None:
        """Start the walks that are due at this time, in steady seconds."""
        for place, _due in list(self._schedule.pop_due(until)):
            self._accounts[place.account].spawn(self._walk(self._services[_service_key(place)]))

    async def _walk(self, service: _Service) -> None:
        key, account = service.watched.key, self._accounts[service.watched.key.account]
        service.walks += 1
        self._refused.begin(_place(key))
        spacing = SPREAD * self.policy.interval_seconds / service.requests if service.requests else 0.0
        walk = _Walk(service.walks, ListingQueue(account), self._clock.steady(), spacing)
        service.seen = []
        try:
            if service.unidentified and not service.identified:
                service.identified = await self._identify(account, service)
            failure = await self._list_entities(account, service, walk)
            await walk.queue.idle()
            await self._roster.settled()
            if walk.stopped or self._services.get(key) is not service:
                return  # polling stops, or the service is no longer watched
            service.listed = True
            if failure is None:
                self._take(service, walk)
                await self._confirm_missing(account, service, walk)
            else:
                service.identities = sorted({*service.identities, *service.seen})
                self._refused.failed(_place(key), failure)
                self._observer.service_listing_failed(service.watched, service.watched.name, failure)
        finally:
            if self._services.get(key) is service:
                now, soon = self._clock.steady(), walk.stopped
                self._schedule.put_back(_place(key), now, self.policy.interval_seconds, soon=soon)

    async def _list_entities(self, account: AccountPoller, service: _Service, walk: _Walk) -> Failure | None:
        """Read all pages of entities and start the listing of each; return why an incomplete walk ended."""
        query: str | None = None
        read: set[str | None] = set()
        for _ in range(service.watched.max_entities + 1):
            await self._pace(account, walk)
            page = await account.request_entities(service.watched.key.service_sid, query)
            await self._roster.settled()
            if page is None or self._services.get(service.watched.key) is not service:
                walk.stopped = True
                return None
            match page.result:
                case Failure() as failure:
                    return failure
                case EntityPage(entities, next_query, unusable):
                    self._refuse(service, walk, unusable)
                    await self._visit(account, service, walk, entities)
                    read.add(query)
                    query = next_query
            if query is None or walk.truncated or walk.stopped:
                return None
            if query in read:
                break
        return endless(len(read))

    def _refuse(self, service: _Service, walk: _Walk, unusable: Iterable[str]) -> None:
        """Report the entities of a page that can't be listed; every shard does, as their identity has none."""
        for entity_sid in unusable:
            walk.total += 1
            walk.failed.append(entity_sid)
            name = f"{service.watched.name}-{entity_sid[-SHORT_DIGITS:]}"
            self._observer.service_listing_failed(service.watched, name, _UNUSABLE)

    async def _visit(
        self, account: AccountPoller, service: _Service, walk: _Walk, entities: Iterable[ListedEntity]
    ) -> None:
        """List the factors of those entities of a page that are new in this walk and belong to this shard."""
        for entity in entities:
            if walk.total >= service.watched.max_entities:
                walk.truncated = True
                return
            walk.total += 1
            key = EntityKey(*service.watched.key, _kept(service.identities, entity.identity))
            if service.unidentified:
                self._identified(service, entity.sid, key)
            if _holds(service.seen, key.identity) or not self._holds(*key):
                continue
            insort(service.seen, key.identity)
            if self._has_entity(key):
                walk.with_entry += 1
                continue
            await self._pace(account, walk)
            await walk.queue.room()
            if walk.stopped or account.stopping:
                walk.stopped = True
                return
            name = f"{service.watched.name}-{entity.sid[-SHORT_DIGITS:]}"
            watched = WatchedEntity(key, name, service.watched.interval_seconds)
            walk.queue.offer(functools.partial(self._list, account, service, walk, watched))

    async def _identify(self, account: AccountPoller, service: _Service) -> bool:
        """Read the pages of entities for the identities of the factors that were restored.

        Returns whether all were read; a failure ends it.
        """
        query: str | None = None
        entities = 0
        while entities < service.watched.max_entities and set(service.unidentified) - {""}:
            page = await account.request_entities(service.watched.key.service_sid, query)
            await self._roster.settled()
            if page is None or not isinstance(page.result, EntityPage):
                return False  # the walk reads the same pages, and reports what is wrong
            for entity in page.result.entities:
                self._identified(service, entity.sid, EntityKey(*service.watched.key, entity.identity))
            entities += max(1, len(page.result.entities))
            query = page.result.next_query
            if query is None or self._services.get(service.watched.key) is not service:
                break
        return True

    def _identified(self, service: _Service, entity_sid: str, entity: EntityKey) -> None:
        """Fetch the restored factors of an entity from now on, or watch them no longer: another shard does."""
        keys = [key for key in service.unidentified.pop(entity_sid, ()) if key in service.found]
        if not keys:
            return
        if self._holds(*entity):
            insort(service.identities, entity.identity)
            self._roster.find(_found(service.watched, key, entity.identity) for key in keys)
        else:
            self._lose(service, keys)

    async def _pace(self, account: AccountPoller, walk: _Walk) -> None:
        """Wait until the next request fits into the spread of the walk, and count it."""
        start = walk.began + walk.requests * walk.seconds_per_request
        walk.requests += 1
        while (wait := start - self._clock.steady()) > 0:
            if not await account.rest(min(wait, _LONGEST_REST_SECONDS)):
                return

    async def _list(self, account: AccountPoller, service: _Service, walk: _Walk, entity: WatchedEntity) -> None:
        """List the factors of one entity."""
        listing = await list_factors(account, entity)
        await self._roster.settled()
        if account.stopping or self._services.get(service.watched.key) is not service:
            walk.stopped = True
            return
        if listing is None:  # its answer was dropped, as after a suspend of the system
            walk.failed.append(entity.key.identity)
            return
        self._watch_found(service, walk, entity.key, listing)
        if listing.no_entity:  # deleted since its page was read, or its service was: the next walk shows which
            walk.deleted.append(entity.key.identity)
        elif listing.failure is not None:
            walk.failed.append(entity.key.identity)
            self._observer.service_listing_failed(service.watched, entity.name, listing.failure)

    def _watch_found(self, service: _Service, walk: _Walk, entity: EntityKey, listing: Listing) -> None:
        """Watch the factors on the pages that were read, and no longer those of a type that isn't wanted."""
        new: list[FoundFactor] = []
        unwanted: list[FactorKey] = []
        for factor in listing.factors:
            key = FactorKey(entity.account, entity.service_sid, factor.sid)
            if self._has_factor(key):
                continue
            if not service.watched.wants(factor.factor_type):
                if key in service.found:
                    unwanted.append(key)
                continue
            known = self._roster.found(key) if key in service.found else None
            service.found[known.key if known else key] = walk.number
            service.gone.pop(key, None)
            if known is None or known.identity != entity.identity:
                new.append(_found(service.watched, known.key if known else key, entity.identity))
        self._lose(service, unwanted)
        if new:
            self._roster.find(new)

    def _take(self, service: _Service, walk: _Walk) -> None:
        """Take the result of a walk that read all pages, or as many as it may."""
        service.identities, service.entities, service.with_entry = service.seen, len(service.seen), walk.with_entry
        for key in self._missing(service, walk):
            if (identity := self._identity(key)) and not _holds(service.identities, identity):
                insort(service.identities, identity)
        service.requests, service.truncated = walk.requests, walk.truncated
        before, now = service.listed_seconds, self._clock.moment().wall
        service.failing = {identity: service.failing.get(identity, before) for identity in walk.failed}
        times = service.failing.values()
        service.listed_seconds = None if None in times else min((t for t in times if t is not None), default=now)
        self._observer.service_listed(service.watched, service.entities, walk.truncated, len(walk.failed))

    def _identity(self, key: FactorKey) -> str | None:
        found = self._roster.found(key)
        return None if found is None else found.identity

    @staticmethod
    def _missing(service: _Service, walk: _Walk) -> list[FactorKey]:
        """Return the factors that the walk lacks."""
        return [key for key, number in service.found.items() if number != walk.number]

    async def _confirm_missing(self, account: AccountPoller, service: _Service, walk: _Walk) -> None:
        """Confirm by one fetch each that the factors that the walk lacks are missing.

        Where their entities may not have been listed, only those that the last fetch did not find, and none if the
        service may have been deleted.
        """
        failed = {*walk.failed, *walk.deleted}
        restored = [key for sid, keys in service.unidentified.items() if sid or not failed for key in keys]
        # Their entities are gone or beyond the maximum. They can't be fetched: nothing more will be known of them.
        self._lose(service, [key for key in restored if key in service.found and self._identity(key) == ""])
        service.unidentified = {"": service.unidentified[""]} if failed and "" in service.unidentified else {}
        for key in self._missing(service, walk):
            found, record = self._roster.found(key), self._roster.record(key)
            if key in service.gone or found is None or record is None or not found.identity:
                continue
            if found.identity in failed:
                continue
            unlisted = walk.truncated or self._has_entity(EntityKey(*key[:2], found.identity))
            if unlisted and (walk.deleted or record.last_status is not Status.NOT_FOUND):
                continue
            fetched = record.last_status is Status.NOT_FOUND and record.answered_steady >= walk.began
            if not (fetched and record.up):
                outcome = await account.fetch_now(key)
                if self._services.get(service.watched.key) is not service:
                    return
                answer = None if outcome is None else outcome.result
                if not isinstance(answer, Answer) or answer.status is not Status.NOT_FOUND:
                    continue
            if service.found.get(key, walk.number) != walk.number:
                service.gone[key] = self._clock.wall()


def _found(watched: WatchedService, key: FactorKey, identity: str) -> FoundFactor:
    return FoundFactor(key, watched.name, identity, watched.interval_seconds, watched.labels)


def _service_key(key: FactorKey | EntityKey) -> ServiceKey:
    return ServiceKey(key.account, key.service_sid)


def _place(key: ServiceKey) -> EntityKey:
    """Return a service's key in a schedule."""
    return EntityKey(*key, "")


def _holds(ordered: list[str], text: str) -> bool:
    place = bisect_left(ordered, text)
    return place < len(ordered) and ordered[place] == text


def _kept(ordered: list[str], text: str) -> str:
    """Return the equal text in a sorted list, so that there is one object of it; else the text itself."""
    place = bisect_left(ordered, text)
    return ordered[place] if place < len(ordered) and ordered[place] == text else text
