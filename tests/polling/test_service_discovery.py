"""Discovery in services in virtual time: entities and factors that come and go, walks that fail, and restarts."""

from __future__ import annotations

import dataclasses
import hashlib
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.polling.discovery import Discovery
from exporter.polling.listing import DiscoveryPolicy
from exporter.polling.roster import Roster
from exporter.polling.snapshot import snapshot_of
from exporter.verify.outcome import (
    Answer,
    EntityPage,
    FactorPage,
    Failure,
    ListedEntity,
    ListedFactor,
    Reason,
    Status,
)
from exporter.watched import EntityKey, FactorKey, ServiceKey, WatchedEntity, WatchedService
from tests.support.factors import SERVICES, factor, key
from tests.support.polling_harness import NO_ENTITY, PollingHarness, Reply
from tests.support.virtual_time import in_virtual_time, run_virtual

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.polling.snapshot import FactorSnapshot
    from exporter.watched import WatchedFactor

INTERVAL = 900.0
FORGET = 3600.0
BROKEN = Failure(Reason.SERVER_ERROR, "HTTP 503")
PAGE = 3


def service(name: str = "consumer", **settings: object) -> WatchedService:
    return WatchedService(ServiceKey("main", SERVICES[0]), name, 300.0, labels=(("team", name),), **settings)  # type: ignore[arg-type]  # by name


def identity(number: int) -> str:
    return f"identity-{number:06d}"


def entity_sid(name: str) -> str:
    return "YE" + hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()


class Site:
    """A service with entities, in the order of their creation, and the discovery that watches it.

    ``types`` are the types of factors that aren't TOTP. Lists lack the ``hidden`` factors. ``failing`` entities
    can't be listed, nor can the page of entities that begins at ``broken_at``.
    """

    def __init__(
        self,
        entities: dict[str, list[int]],
        *listed: WatchedFactor,
        watched: WatchedService | None = None,
        entries: tuple[WatchedEntity, ...] = (),
        holds: Callable[[str, str, str], bool] = lambda *_entity: True,
        rate: float = 100.0,
        restore: bool = False,
        interval: float = INTERVAL,
        forget: float = FORGET,
    ) -> None:
        self.env = PollingHarness([factor(99, paused=True)], rate=rate)
        self.roster = Roster(self.env.poller, self.env.ledger)
        self.roster.list([factor(99, paused=True), *listed])
        self.entities = entities
        self.types: dict[int, str] = {}
        self.hidden: set[int] = set()
        self.failing: set[str] = set()
        self.broken_at: int | None = None
        self.discovery = Discovery(
            DiscoveryPolicy(interval, forget),
            accounts=self.env.accounts,
            roster=self.roster,
            observer=self.env.observed,
            clock=self.env.clock,
            holds=holds,
        )
        self.env.client.entities = self._entities
        self.env.client.lists = self._factors
        self.env.client.rule = self._fetch
        self.discovery.watch(entries, () if restore else [watched or service()])

    def _entities(self, _service_sid: str, query: str | None) -> EntityPage | Failure:
        begin = int(query.removeprefix("Page=")) if query else 0
        if begin == self.broken_at:
            return BROKEN
        names = list(self.entities)
        page = tuple(ListedEntity(entity_sid(name), name) for name in names[begin : begin + PAGE])
        return EntityPage(page, f"Page={begin + PAGE}" if begin + PAGE < len(names) else None)

    def _factors(self, watched: WatchedEntity, _query: str | None) -> FactorPage | Failure:
        name = watched.key.identity
        if name in self.failing:
            return BROKEN
        if name not in self.entities:
            return NO_ENTITY
        return FactorPage(
            tuple(
                ListedFactor(key(n).factor_sid, self.types.get(n, "totp"))
                for n in self.entities[name]
                if n not in self.hidden
            )
        )

    def _fetch(self, watched: WatchedFactor) -> Reply:
        assert watched.identity
        there = any(key(n) == watched.key for n in self.entities.get(watched.identity, ()))
        if not there:
            return Reply(Status.NOT_FOUND)
        return Reply(Answer(Status.VERIFIED, factor_type="totp", entity_sid=entity_sid(watched.identity)))

    async def run(self, seconds: float) -> None:
        await self.env.run(seconds, and_each=self.discovery.dispatch)

    @property
    def watched(self) -> set[int]:
        numbers = {key(n): n for n in range(100)}
        return {numbers[record.watched.key] for record in self.env.ledger} - {99}

    def status(self, number: int) -> Status | None:
        return self.env.ledger[key(number)].status

    def snapshots(self) -> dict[FactorKey, FactorSnapshot]:
        now = self.env.clock.moment()
        taken = {
            record.watched.key: snapshot_of(
                record, now, gone_since_seconds=self.discovery.gone_since(record.watched.key)
            )
            for record in self.env.ledger
        }
        return {of: snapshot for of, snapshot in taken.items() if snapshot is not None}


def some(entities: int = 8) -> dict[str, list[int]]:
    """Return this many entities, with zero, one or two factors."""
    return {identity(n): [2 * n, 2 * n + 1][: n % 3] for n in range(entities)}


@in_virtual_time
async def test_every_factor_of_every_entity_is_watched() -> None:
    site = Site(some())
    assert site.discovery.first_listings_pending == 1
    assert site.discovery.services.entity_counts() == {("main", SERVICES[0], "consumer"): (None, False)}
    assert len(site.discovery) == 0
    assert [of.name for of in site.discovery.unlisted] == ["consumer"]
    await site.run(100)
    assert site.watched == {2, 4, 5, 8, 10, 11, 14}
    assert {site.status(n) for n in site.watched} == {Status.VERIFIED}
    record = site.env.ledger[key(2)]
    assert record.watched.name == f"consumer-{key(2).factor_sid[-8:]}"
    assert (record.watched.identity, record.watched.labels) == (identity(1), (("team", "consumer"),))
    assert record.entity == "consumer"
    assert site.env.ledger.entity_counts["main", SERVICES[0], "consumer"]["verified"] == 7
    assert site.discovery.services.entity_counts() == {("main", SERVICES[0], "consumer"): (8, False)}
    assert len(site.discovery) == 8
    assert site.discovery.first_listings_pending == 0
    assert site.discovery.last_listed().keys() == {("main", SERVICES[0], "consumer")}


@in_virtual_time
async def test_factors_and_entities_come_and_go() -> None:
    site = Site(some())
    await site.run(100)
    del site.entities[identity(2)]  # 4 and 5
    site.entities[identity(1)] = [3]  # instead of 2
    site.entities[identity(20)] = [40]
    await site.run(2 * INTERVAL)
    assert site.watched == {2, 3, 4, 5, 8, 10, 11, 14, 40}
    assert {site.status(n) for n in (2, 4, 5)} == {Status.NOT_FOUND}
    assert site.discovery.gone_since(key(4)) is not None
    assert site.discovery.gone_since(key(8)) is None
    requested = site.env.client.requested_at(key(4))[-20:]
    assert min(b - a for a, b in pairwise(requested)) > 30, "what a fetch showed since the walk began is enough"
    record = site.env.ledger[key(4)]
    site.entities[identity(2)] = [4]
    await site.run(2 * INTERVAL)
    assert site.discovery.gone_since(key(4)) is None
    await site.run(FORGET)
    assert site.env.ledger[key(4)] is record
    assert site.watched == {3, 4, 8, 10, 11, 14, 40}
    await site.run(INTERVAL)
    assert site.status(4) is Status.VERIFIED
    assert site.discovery.gone_since(key(4)) is None


@in_virtual_time
async def test_a_factor_missing_from_the_lists_that_answers_stays() -> None:
    site = Site(some())
    await site.run(100)
    site.hidden = {4, 5}
    await site.run(FORGET + 3 * INTERVAL)
    assert (site.status(4), site.status(5)) == (Status.VERIFIED, Status.VERIFIED)
    assert site.discovery.gone_since(key(4)) is None


@in_virtual_time
async def test_what_comes_and_goes_between_two_walks_does_no_harm() -> None:
    site = Site(some())
    await site.run(100)
    before = site.watched
    site.entities[identity(30)] = [60]
    site.entities[identity(1)] = [2, 3]
    await site.run(1)
    site.entities = some()
    await site.run(2 * INTERVAL)
    assert site.watched == before
    assert {site.status(n) for n in site.watched} == {Status.VERIFIED}


@in_virtual_time
async def test_a_factor_that_moves_to_another_entity_is_fetched_there() -> None:
    site = Site(some())
    await site.run(100)
    site.entities[identity(1)], site.entities[identity(0)] = [], [2]
    await site.run(2 * INTERVAL)
    assert site.env.ledger[key(2)].watched.identity == identity(0)
    assert site.status(2) is Status.VERIFIED


@in_virtual_time
async def test_a_walk_is_spread_over_the_interval_but_for_the_first() -> None:
    site = Site({identity(n): [n] for n in range(30)})
    await site.run(60)
    first = [at for at, _, _ in site.env.client.listings]
    assert len(first) == 30
    assert first[-1] - first[0] < 10
    await site.run(2 * INTERVAL)
    second = [at for at, _, _ in site.env.client.listings][30:60]
    assert second[-1] - second[0] > INTERVAL / 2
    assert max(b - a for a, b in pairwise(second)) < INTERVAL / 10


@in_virtual_time
async def test_a_failed_page_removes_nothing_and_what_was_read_is_watched() -> None:
    site = Site(some())
    await site.run(100)
    listed = site.discovery.last_listed()
    site.entities = {identity(40): [80], **{name: [] for name in some()}}
    site.broken_at = 2 * PAGE
    await site.run(2 * INTERVAL)
    assert site.watched == {2, 4, 5, 8, 10, 11, 14, 80}
    assert {site.discovery.gone_since(key(n)) for n in site.watched} == {None}
    assert site.discovery.last_listed() == listed
    _, name, failure = site.env.observed.failed_walks[-1]
    assert (name, failure) == ("consumer", BROKEN)
    assert len(site.env.observed.walks) == 1
    site.broken_at = None
    await site.run(2 * INTERVAL)
    assert site.discovery.gone_since(key(14)) is not None


@in_virtual_time
async def test_an_entity_that_cant_be_listed_keeps_its_factors_and_holds_back_the_time() -> None:
    site = Site(some())
    await site.run(100)
    listed = site.discovery.last_listed()
    site.failing = {identity(2)}
    site.entities[identity(2)] = []
    site.entities[identity(4)] = []
    await site.run(2 * INTERVAL)
    assert site.discovery.gone_since(key(4)) is None, "its entity could not be listed"
    assert site.discovery.gone_since(key(8)) is not None, "its entity could"
    names = {name for _, name, _ in site.env.observed.failed_walks}
    assert names == {f"consumer-{entity_sid(identity(2))[-8:]}"}
    assert site.discovery.last_listed() == listed
    site.failing = set()
    await site.run(2 * INTERVAL)
    assert site.discovery.gone_since(key(4)) is not None
    assert min(site.discovery.last_listed().values()) > min(listed.values()) + INTERVAL


@in_virtual_time
async def test_entities_that_are_deleted_while_each_walk_is_in_progress() -> None:
    site = Site(some())
    await site.run(100)
    listed = min(site.discovery.last_listed().values())
    leaving = iter([identity(2), identity(5), identity(7)])

    def listed_before(service_sid: str, query: str | None) -> EntityPage | Failure:
        """Delete one of the entities of every listing, once all pages are read."""
        page = site._entities(service_sid, query)
        if isinstance(page, EntityPage) and page.next_query is None and (name := next(leaving, None)):
            del site.entities[name]
            page = EntityPage((*page.entities, ListedEntity(entity_sid(name), name)))
        return page

    site.env.client.entities = listed_before
    for _ in range(3):
        await site.run(INTERVAL + 100)
        (since,) = site.discovery.last_listed().values()
        assert since > listed, "that the entity is gone is no failure of the listing"
        listed = since
    assert site.env.observed.failed_walks == []
    assert not set(site.entities) & {identity(2), identity(5), identity(7)}
    await site.run(INTERVAL)  # only the next listing can tell a deleted entity from a deleted service
    assert {n for n in range(16) if site.discovery.gone_since(key(n)) is not None} == {4, 5, 10, 11, 14}


@in_virtual_time
async def test_an_entity_without_a_usable_identity_stops_no_walk() -> None:
    site = Site(some())
    unusable = "YE" + "f" * 32
    with_it = True

    def listed(service_sid: str, query: str | None) -> EntityPage | Failure:
        page = site._entities(service_sid, query)
        if isinstance(page, EntityPage) and query is None and with_it:
            page = dataclasses.replace(page, unusable=(unusable,))
        return page

    site.env.client.entities = listed
    await site.run(100)
    assert site.watched == {n for numbers in site.entities.values() for n in numbers}
    ((_, name, failure),) = site.env.observed.failed_walks
    assert (name, failure.reason) == ("consumer-ffffffff", Reason.DECODE)
    assert site.discovery.last_listed() == {}, "one of its entities was never listed"
    site.hidden = {4}
    await site.run(2 * INTERVAL)
    assert site.discovery.gone_since(key(4)) is None, "a fetch still finds it"
    del site.entities[identity(5)]
    await site.run(2 * INTERVAL)
    assert site.discovery.gone_since(key(10)) is not None, "the entities that are listed are as usual"
    with_it = False
    await site.run(2 * INTERVAL)
    assert len(site.discovery.last_listed()) == 1


@in_virtual_time
async def test_a_service_that_is_deleted_during_a_walk_loses_no_factor() -> None:
    site = Site(some(3))  # on one page
    await site.run(100)
    watched, site.entities = site.watched, {}
    site.env.client.entities = lambda _sid, _query: EntityPage(
        tuple(ListedEntity(entity_sid(name), name) for name in some(3)), None
    )
    await site.run(INTERVAL)
    assert {site.status(n) for n in watched} == {Status.NOT_FOUND}
    site.env.client.entities = lambda _sid, _query: Failure(Reason.BAD_REQUEST, "HTTP 404: no such service")
    await site.run(FORGET + 2 * INTERVAL)
    assert site.watched == watched


@in_virtual_time
async def test_a_service_of_which_an_entity_was_never_listed_was_never_listed() -> None:
    site = Site(some())
    site.failing = {identity(7)}
    await site.run(2 * INTERVAL)
    assert site.watched == {2, 4, 5, 8, 10, 11}
    assert site.discovery.last_listed() == {}
    assert site.discovery.first_listings_pending == 0


@in_virtual_time
async def test_a_walk_stops_at_the_maximum_and_then_removes_nothing() -> None:
    site = Site(some(), watched=service(max_entities=5))
    await site.run(100)
    assert site.watched == {2, 4, 5, 8}
    assert site.discovery.services.entity_counts() == {("main", SERVICES[0], "consumer"): (5, True)}
    site.entities = {identity(50): [], **site.entities}  # shifts another one past the maximum
    await site.run(2 * INTERVAL)
    assert site.watched == {2, 4, 5, 8}
    assert {site.discovery.gone_since(key(n)) for n in site.watched} == {None}
    assert all(truncated for _, _, _, truncated in site.env.observed.walks)
    site.entities = some(5)
    await site.run(2 * INTERVAL)
    assert site.discovery.services.entity_counts() == {("main", SERVICES[0], "consumer"): (5, False)}


@in_virtual_time
async def test_a_deleted_factor_is_forgotten_even_if_every_walk_stops_at_the_maximum() -> None:
    site = Site(some(), watched=service(max_entities=5))
    await site.run(100)
    site.entities[identity(1)] = []
    await site.run(FORGET)
    assert site.discovery.gone_since(key(2)) is not None
    assert site.watched == {2, 4, 5, 8}
    await site.run(2 * INTERVAL)
    assert site.watched == {4, 5, 8}


@pytest.mark.parametrize("entities", [PAGE, 2 * PAGE])
@in_virtual_time
async def test_as_many_entities_as_allowed_are_not_too_many(entities: int) -> None:
    site = Site(some(entities), watched=service(max_entities=entities))
    await site.run(100)
    assert site.discovery.services.entity_counts() == {("main", SERVICES[0], "consumer"): (entities, False)}


@in_virtual_time
async def test_only_factors_of_the_chosen_types_are_watched() -> None:
    site = Site({identity(0): [0, 1, 2]}, watched=service(factor_types=("push",)))
    site.types = {0: "push", 1: "totp", 2: "push"}
    await site.run(100)
    assert site.watched == {0, 2}
    site.types[2] = "totp"
    await site.run(2 * INTERVAL)
    assert site.watched == {0}
    site.discovery.watch([], [service(factor_types=("push", "totp"))])
    await site.run(2 * INTERVAL)
    assert site.watched == {0, 1, 2}


@in_virtual_time
async def test_factors_of_a_type_that_is_no_longer_chosen_are_removed_at_once() -> None:
    site = Site(some())
    await site.run(100)
    assert site.watched == {2, 4, 5, 8, 10, 11, 14}
    difference = site.discovery.watch([], [service(factor_types=("push",))])
    assert difference.removed == 7
    assert site.watched == set()


@in_virtual_time
async def test_what_is_listed_and_what_has_an_entity_of_its_own_comes_first() -> None:
    own = WatchedEntity(EntityKey("main", SERVICES[0], identity(1)), "vip", 60.0)
    site = Site({identity(0): [0, 1], identity(1): [2, 3]}, factor(0), entries=(own,))
    await site.run(100)
    names = {record.watched.name for record in site.env.ledger} - {factor(99).name}
    suffix = {n: key(n).factor_sid[-8:] for n in range(4)}
    assert names == {factor(0).name, f"consumer-{suffix[1]}", f"vip-{suffix[2]}", f"vip-{suffix[3]}"}
    assert site.env.ledger[key(0)].entity == "consumer", "it counts in its service as well"
    assert len(site.env.client.listings) == 2, "the walk leaves one to the entity's own listing"
    site.entities[identity(0)].append(2)  # as if the lists contradicted each other
    await site.run(2 * INTERVAL)
    assert site.env.ledger[key(2)].watched.name == f"vip-{suffix[2]}"
    assert site.discovery.services.entity_counts() == {("main", SERVICES[0], "consumer"): (2, False)}


@in_virtual_time
async def test_an_entry_of_its_own_comes_and_goes_without_a_gap() -> None:
    site = Site({identity(0): [0], identity(1): [2, 3]})
    await site.run(100)
    record = site.env.ledger[key(2)]
    own = WatchedEntity(EntityKey("main", SERVICES[0], identity(1)), "vip", 60.0)
    site.discovery.watch([own], [service()])
    assert site.watched == {0, 2, 3}
    await site.run(INTERVAL + 60)
    assert (record.entity, record.watched.interval_seconds) == ("vip", 60.0)
    site.discovery.watch([], [service()])
    assert site.watched == {0, 2, 3}
    assert site.env.ledger[key(2)] is record
    assert (record.entity, record.watched.interval_seconds) == ("consumer", 300.0)
    del site.entities[identity(1)]
    await site.run(2 * INTERVAL)
    assert site.discovery.gone_since(key(2)) is not None


@in_virtual_time
async def test_a_factor_that_was_deleted_before_its_entity_got_an_entry_of_its_own_is_forgotten() -> None:
    site = Site(some())
    await site.run(100)
    site.entities[identity(2)] = [4]
    site.discovery.watch([WatchedEntity(EntityKey("main", SERVICES[0], identity(2)), "own", 300.0)], [service()])
    await site.run(2 * INTERVAL)
    assert len(site.discovery) == 8
    assert site.discovery.services.entity_counts() == {("main", SERVICES[0], "consumer"): (8, False)}
    assert site.status(5) is Status.NOT_FOUND
    await site.run(FORGET + INTERVAL)
    assert site.watched == {2, 4, 8, 10, 11, 14}


@in_virtual_time
async def test_a_shard_lists_its_own_entities_alone() -> None:
    mine = {identity(n) for n in (1, 4)}
    site = Site(some(), holds=lambda _account, _service, name: name in mine)
    await site.run(100)
    assert site.watched == {2, 8}
    assert len(site.env.client.listings) == 2
    assert site.discovery.services.entity_counts() == {("main", SERVICES[0], "consumer"): (2, False)}
    assert site.discovery.services.knows_identity(identity(1))
    assert not site.discovery.services.knows_identity(identity(2))


@in_virtual_time
async def test_a_service_is_added_renamed_and_removed() -> None:
    site = Site(some())
    await site.run(100)
    record, listings = site.env.ledger[key(2)], len(site.env.client.listings)
    assert site.discovery.watch([], [service("renamed")]).changed == 7
    assert site.env.ledger[key(2)] is record
    assert (record.watched.name, record.entity) == (f"renamed-{key(2).factor_sid[-8:]}", "renamed")
    assert record.watched.labels == (("team", "renamed"),)
    assert site.discovery.last_listed().keys() == {("main", SERVICES[0], "renamed")}
    assert site.discovery.watch([]).removed == 7
    assert site.watched == set()
    assert site.env.observed.forgotten_entities == ["renamed"]
    await site.run(2 * INTERVAL)
    assert len(site.env.client.listings) == listings
    site.discovery.watch([], [service()])
    await site.run(100)
    assert len(site.watched) == 7


@in_virtual_time
async def test_a_walk_in_progress_for_a_removed_service_is_dropped() -> None:
    site = Site(some(), rate=0.2)
    while not site.env.client.listings:
        await site.run(1)
    assert not site.env.observed.walks
    site.discovery.watch([])
    assert site.watched == set()
    await site.run(INTERVAL)
    assert site.watched == set()
    assert site.env.observed.walks == []


@in_virtual_time
async def test_a_stop_ends_a_walk_at_once() -> None:
    site = Site({identity(n): [n] for n in range(30)})
    await site.run(INTERVAL)
    began = site.env.now
    await site.env.poller.drain(8)
    assert site.env.now - began < 2


@pytest.mark.parametrize("failure", [Failure(Reason.FORBIDDEN, "HTTP 403"), Failure(Reason.AUTH, "HTTP 401")])
@in_virtual_time
async def test_an_account_without_factors_is_probed_by_its_service(failure: Failure) -> None:
    site = Site(some())
    site.env.client.entities = lambda _sid, _query: failure
    await site.run(100)
    assert site.env.account.credentials_valid is False
    assert site.discovery.first_listings_pending == 0
    site.env.client.entities = site._entities
    site.env.account.credentials_changed()
    await site.run(60)
    assert len(site.watched) == 7


@in_virtual_time
async def test_an_endless_list_of_entities_is_given_up() -> None:
    site = Site(some(), watched=service(max_entities=20))
    numbers = iter(range(10_000))
    site.env.client.entities = lambda _sid, _query: EntityPage((), f"Page={next(numbers)}")
    await site.run(100)
    assert len(site.env.client.entity_pages) == 21
    site.env.client.entities = lambda _sid, _query: EntityPage((), "Page=1")
    await site.run(INTERVAL + 30)
    assert len(site.env.client.entity_pages) == 23
    reasons = {failure.reason for _, _, failure in site.env.observed.failed_walks}
    assert reasons == {Reason.DECODE}


# Restarts


async def restarted(
    before: Site,
    entities: dict[str, list[int]],
    *,
    holds: Callable[[str, str, str], bool] = lambda *_entity: True,
) -> Site:
    """Return a site that starts from what another one knew."""
    after = Site(entities, restore=True, holds=holds)
    after.discovery.watch([], [service()])
    after.discovery.restore(before.snapshots(), before.discovery.last_listed())
    return after


@in_virtual_time
async def test_what_was_found_is_shown_at_once_and_fetched_when_its_identity_is_known() -> None:
    before = Site(some())
    await before.run(100)
    after = await restarted(before, some())
    assert after.watched == before.watched
    assert {after.status(n) for n in after.watched} == {Status.VERIFIED}
    assert after.env.ledger[key(2)].answered_seconds == before.env.ledger[key(2)].answered_seconds
    assert after.env.ledger[key(2)].watched.identity == ""
    assert await after.env.account.fetch_now(key(2)) is None
    assert after.discovery.last_listed() == before.discovery.last_listed()
    await after.run(600)
    assert after.env.ledger[key(2)].watched.identity == identity(1)
    assert after.env.client.requested_at(key(2))
    assert {after.status(n) for n in after.watched} == {Status.VERIFIED}


@in_virtual_time
async def test_the_identities_are_known_before_the_entities_are_listed() -> None:
    before = Site(some())
    await before.run(100)
    after = await restarted(before, some())
    after.env.throttle.configure(requests_per_second=0.2, max_concurrency=1)
    while not after.env.client.listings:
        await after.run(1)
    assert {record.watched.identity for record in after.env.ledger} == {
        identity(1),
        identity(2),
        identity(4),
        identity(5),
        identity(7),
        factor(99).identity,
    }


@in_virtual_time
async def test_what_went_while_the_exporter_was_stopped_is_no_longer_watched() -> None:
    before = Site(some())
    await before.run(100)
    left = some()
    del left[identity(2)]
    after = await restarted(before, left)
    assert 4 in after.watched
    await after.run(200)
    assert after.watched == before.watched - {4, 5}


@in_virtual_time
async def test_what_has_no_identity_yet_is_kept_by_incomplete_walks() -> None:
    before = Site(some())
    await before.run(100)
    after = await restarted(before, some())
    after.broken_at = 0
    await after.run(100)
    assert after.watched == before.watched
    after.broken_at = None
    await after.run(2 * INTERVAL)
    assert after.watched == before.watched
    assert {after.status(n) for n in after.watched} == {Status.VERIFIED}


@in_virtual_time
async def test_what_has_no_entity_sid_either_is_kept_while_an_entity_cant_be_listed() -> None:
    before = Site(some())
    before.env.client.rule = lambda _watched: Reply(Status.VERIFIED)
    await before.run(100)
    after = await restarted(before, some())
    after.failing = {identity(2)}
    await after.run(INTERVAL)
    assert after.watched == before.watched
    after.failing, after.entities = set(), {identity(1): [2]}
    await after.run(2 * INTERVAL)
    assert after.watched == before.watched - {4, 5}, "the others can be fetched: they are not found"


@in_virtual_time
async def test_what_belongs_to_another_shard_now_is_left_to_it() -> None:
    before = Site(some())
    await before.run(100)
    after = await restarted(before, some(), holds=lambda _account, _service, name: name == identity(1))
    await after.run(100)
    assert after.watched == {2}


@in_virtual_time
async def test_a_missing_factor_is_still_missing_after_a_restart() -> None:
    before = Site(some())
    await before.run(100)
    before.entities[identity(2)] = [4]
    await before.run(2 * INTERVAL)
    since = before.discovery.gone_since(key(5))
    assert since is not None
    after = await restarted(before, before.entities)
    assert after.discovery.gone_since(key(5)) == since
    await after.run(FORGET)
    assert after.watched == before.watched - {5}


@in_virtual_time
async def test_missing_factors_are_forgotten_in_time_after_a_restart_whatever_their_order_in_the_file() -> None:
    before = Site(some())
    await before.run(100)
    for number, left in ((5, []), (2, [4])):
        before.entities[identity(number)] = left
        await before.run(2 * INTERVAL)
    since = {n: before.discovery.gone_since(key(n)) for n in (10, 5)}
    assert None not in since.values()
    snapshots = before.snapshots()
    later_first = {key(5): snapshots[key(5)], **snapshots}
    after = Site(before.entities, restore=True)
    after.discovery.watch([], [service()])
    after.discovery.restore(later_first, before.discovery.last_listed())
    await after.run(FORGET - 2 * INTERVAL)
    assert after.watched == before.watched - {10, 11}


@in_virtual_time
async def test_what_is_beyond_the_maximum_after_a_restart_is_no_longer_watched() -> None:
    before = Site(some())
    await before.run(100)
    after = Site(some(), restore=True)
    after.discovery.watch([], [service(max_entities=3)])
    after.discovery.restore(before.snapshots(), before.discovery.last_listed())
    await after.run(200)
    assert after.watched == {2, 4, 5}


@in_virtual_time
async def test_what_is_of_a_type_that_is_no_longer_chosen_is_not_restored() -> None:
    before = Site(some())
    await before.run(100)
    after = Site(some(), restore=True)
    after.discovery.watch([], [service(factor_types=("push",))])
    after.discovery.restore(before.snapshots(), before.discovery.last_listed())
    assert after.watched == set()


@in_virtual_time
async def test_a_suspend_during_a_walk_drops_its_answers_and_no_factor() -> None:
    site = Site({identity(n): [n] for n in range(30)})
    await site.run(100)
    while len(site.env.client.listings) < 40:
        await site.run(1)
    site.env.clock.suspend(60)
    before = len(site.env.observed.walks)
    await site.run(2 * INTERVAL)
    assert len(site.env.observed.walks) > before
    assert site.watched == set(range(30))
    assert {site.discovery.gone_since(key(n)) for n in range(30)} == {None}


@in_virtual_time
async def test_an_entity_whose_listing_was_dropped_keeps_its_factors() -> None:
    site = Site(some())
    await site.run(100)
    listed = site.discovery.last_listed()
    del site.entities[identity(2)][:]
    suspends = iter([60.0])

    def suspended_once(entity: WatchedEntity, query: str | None) -> FactorPage | Failure:
        if entity.key.identity == identity(2):
            site.env.clock.suspend(next(suspends, 0.0))
        return site._factors(entity, query)

    site.env.client.lists = suspended_once
    while len(site.env.observed.walks) < 2:
        await site.run(1)
    assert site.discovery.gone_since(key(4)) is None
    assert site.discovery.last_listed() == listed
    await site.run(2 * INTERVAL)
    assert site.discovery.gone_since(key(4)) is not None


@in_virtual_time
async def test_a_walk_that_fell_due_during_a_suspend_begins_within_half_a_minute() -> None:
    site = Site(some())
    await site.run(100)
    site.env.clock.suspend(2 * INTERVAL)
    pages = len(site.env.client.entity_pages)
    await site.run(32)
    assert len(site.env.client.entity_pages) > pages


@in_virtual_time
async def test_a_service_removed_while_its_missing_factors_are_confirmed_is_dropped() -> None:
    site = Site(some())
    await site.run(100)
    site.hidden = {2, 4, 5}
    on_demand: list[FactorKey] = []

    async def removed_meanwhile(of: FactorKey) -> None:
        on_demand.append(of)
        site.discovery.watch([])

    site.env.account.fetch_now = removed_meanwhile  # type: ignore[method-assign, assignment]  # for this test
    await site.run(2 * INTERVAL)
    assert len(on_demand) == 1
    assert site.watched == set()
    assert site.discovery.gone_since(key(2)) is None


@in_virtual_time
async def test_a_walk_whose_page_was_dropped_begins_again_soon() -> None:
    site = Site(some())
    suspends = iter([60.0])

    def suspended_once(service_sid: str, query: str | None) -> EntityPage | Failure:
        site.env.clock.suspend(next(suspends, 0.0))
        return site._entities(service_sid, query)

    site.env.client.entities = suspended_once
    await site.run(120)
    assert len(site.watched) == 7


# Any sequence

ENTITIES, FACTORS = 7, 12
ROUND = 60.0
numbers = st.integers(0, FACTORS - 1)
indices = st.integers(0, ENTITIES - 1)
steps = st.one_of(
    st.tuples(st.just("enrol"), numbers, indices),
    st.tuples(st.just("delete"), numbers, indices),
    st.tuples(st.just("delete entity"), numbers, indices),
    st.tuples(st.just("hide"), numbers, indices),
    st.tuples(st.sampled_from(["fail", "break", "heal", "round", "restart"]), numbers, indices),
)


class History:
    """A site through any sequence of steps, and what must be true of it."""

    def __init__(self) -> None:
        self.site = Site({}, watched=self.watched(), interval=ROUND, forget=10 * ROUND)
        self.seen: set[int] = set()  # exist, and were watched

    @staticmethod
    def watched() -> WatchedService:
        return WatchedService(ServiceKey("main", SERVICES[0]), "consumer", 20.0)

    @property
    def existing(self) -> set[int]:
        return {n for factors in self.site.entities.values() for n in factors}

    def step(self, what: str, number: int, index: int) -> None:
        site, name = self.site, identity(index)
        match what:
            case "enrol" if number not in self.existing:
                site.entities.setdefault(name, []).append(number)
            case "delete":
                for factors in site.entities.values():
                    if number in factors:
                        factors.remove(number)
            case "delete entity":
                site.entities.pop(name, None)
            case "hide":
                site.hidden.add(number)
            case "fail":
                site.failing.add(name)
            case "break":
                site.broken_at = PAGE * (index % 3)
            case "heal":
                site.failing, site.hidden, site.broken_at = set(), set(), None
            case "restart":
                self.restart()
        self.seen &= self.existing

    def restart(self) -> None:
        before = self.site
        self.site = Site({}, restore=True, interval=ROUND, forget=10 * ROUND)
        self.site.entities, self.site.hidden = before.entities, before.hidden
        self.site.failing, self.site.broken_at = before.failing, before.broken_at
        self.site.discovery.watch([], [self.watched()])
        self.site.discovery.restore(before.snapshots(), before.discovery.last_listed())

    async def round(self) -> None:
        """Let two intervals pass, and see what is watched."""
        await self.site.run(2 * ROUND)
        self.check()

    def check(self) -> None:
        site = self.site
        assert self.seen <= site.watched, "what exists is never removed"
        for number in self.existing & site.watched:
            record = site.env.ledger[key(number)]
            assert record.status in (Status.VERIFIED, None) or record.answered_steady < site.env.clock.steady() - 60
            assert site.discovery.gone_since(key(number)) is None or site.failing or site.broken_at is not None
        self.seen = self.existing & site.watched

    async def settle(self) -> None:
        """Heal everything and let time pass: then exactly what exists is watched, with its real status."""
        self.step("heal", 0, 0)
        await self.site.run(16 * ROUND)
        assert self.site.watched == self.existing
        assert {self.site.status(n) for n in self.site.watched} <= {Status.VERIFIED}
        names = [record.watched.name for record in self.site.env.ledger]
        assert len(set(names)) == len(names)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.lists(steps, max_size=12))
def test_whatever_comes_and_goes_what_exists_is_watched_in_the_end(sequence: list[tuple[str, int, int]]) -> None:
    async def live() -> None:
        history = History()
        for what, number, index in sequence:
            history.step(what, number, index)
            if what == "round":
                await history.round()
        await history.settle()

    run_virtual(live())
