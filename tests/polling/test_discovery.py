"""Entity discovery in virtual time: what a listing finds, what it confirms, and what it leaves alone."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from exporter.polling.clock import Moment
from exporter.polling.discovery import Discovery
from exporter.polling.listing import DiscoveryPolicy
from exporter.polling.roster import Roster
from exporter.polling.snapshot import snapshot_of
from exporter.verify.answers import MAX_PAGES
from exporter.verify.outcome import FactorPage, Failure, Operation, Reason, Status
from exporter.watched import EntityKey, WatchedEntity
from tests.support.factors import SERVICES, factor, key, listed_page
from tests.support.polling_harness import PollingHarness, Reply
from tests.support.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from exporter.polling.snapshot import FactorSnapshot
    from exporter.verify.outcome import Attempt
    from exporter.watched import FactorKey, WatchedFactor

INTERVAL = 900.0
FORGET = 3600.0


def entity(name: str = "team", *, identity: str = "identity-of-team", account: str = "main") -> WatchedEntity:
    return WatchedEntity(EntityKey(account, SERVICES[0], identity), name, 300.0, (("team", name),))


class Bench:
    """A env with discovery; ``lists`` holds the factors that the API lists for each entity."""

    def __init__(self, *listed: WatchedFactor, entities: tuple[WatchedEntity, ...] = ()) -> None:
        self.env = PollingHarness([factor(99, paused=True)])
        self.roster = Roster(self.env.poller, self.env.ledger)
        self.roster.list([factor(99, paused=True), *listed])
        self.listed: dict[str, list[FactorKey] | Failure] = {}
        self.discovery = Discovery(
            DiscoveryPolicy(INTERVAL, FORGET),
            accounts=self.env.accounts,
            roster=self.roster,
            observer=self.env.observed,
            clock=self.env.clock,
        )
        self.env.client.lists = self._page
        self.discovery.watch(entities or (entity(),))

    def _page(self, watched: WatchedEntity, _query: str | None) -> FactorPage | Failure:
        listed = self.listed.get(watched.key.identity, [])
        return listed if isinstance(listed, Failure) else listed_page(*listed)

    async def run(self, seconds: float) -> None:
        await self.env.run(seconds, and_each=self.discovery.dispatch)

    @property
    def watched(self) -> set[FactorKey]:
        return {record.watched.key for record in self.env.ledger} - {key(99)}

    def status(self, number: int) -> Status | None:
        return self.env.ledger[key(number)].status


@in_virtual_time
async def test_every_factor_of_an_entity_is_watched_within_half_a_minute() -> None:
    bench = Bench()
    bench.listed["identity-of-team"] = [key(1), key(2)]
    assert bench.discovery.first_listings_pending == 1
    await bench.run(31)
    assert bench.watched == {key(1), key(2)}
    assert bench.discovery.first_listings_pending == 0
    await bench.run(31)
    assert (bench.status(1), bench.status(2)) == (Status.VERIFIED, Status.VERIFIED)
    record = bench.env.ledger[key(1)]
    assert record.watched.identity == "identity-of-team"
    assert record.watched.labels == (("team", "team"),)
    assert record.entity == "team"
    assert bench.env.ledger.entity_counts["main", SERVICES[0], "team"]["verified"] == 2


@in_virtual_time
async def test_what_is_new_is_found_within_an_interval() -> None:
    bench = Bench()
    bench.listed["identity-of-team"] = [key(1)]
    await bench.run(100)
    bench.listed["identity-of-team"] = [key(1), key(2)]
    await bench.run(INTERVAL + 2)
    assert bench.watched == {key(1), key(2)}
    listings = [at for at, name, _ in bench.env.client.listings]
    assert len(listings) in (2, 3)
    assert INTERVAL - 2 <= listings[-1] - listings[0] <= 2 * INTERVAL


@in_virtual_time
async def test_a_missing_factor_is_fetched_once_stays_not_found_and_is_forgotten_in_time() -> None:
    bench = Bench()
    bench.listed["identity-of-team"] = [key(1), key(2)]
    await bench.run(100)
    bench.listed["identity-of-team"] = [key(1)]
    bench.env.client.rule = lambda watched: Reply(Status.NOT_FOUND if watched.key == key(2) else Status.VERIFIED)
    await bench.run(INTERVAL + 2)
    assert bench.status(2) is Status.NOT_FOUND
    since = bench.discovery.gone_since(key(2))
    assert since is not None
    assert bench.discovery.gone_since(key(1)) is None
    await bench.run(FORGET - INTERVAL)
    assert bench.watched == {key(1), key(2)}
    await bench.run(INTERVAL + 10)
    assert bench.watched == {key(1)}
    assert bench.discovery.gone_since(key(2)) is None
    assert bench.env.observed.forgotten_names[-1].startswith("team-")


@in_virtual_time
async def test_a_missing_factor_whose_fetch_is_in_flight_counts_as_missing_after_it() -> None:
    bench = Bench()
    bench.listed["identity-of-team"] = [key(1)]
    await bench.run(100)
    bench.listed["identity-of-team"] = []
    replies = [Reply(Status.NOT_FOUND), Reply(Status.NOT_FOUND, latency=2.5 * INTERVAL)]
    bench.env.client.rule = lambda _watched: replies.pop() if len(replies) > 1 else replies[0]
    while key(1) not in bench.env.account.in_flight_keys:
        await bench.run(1)
    await bench.run(2.4 * INTERVAL)
    assert bench.discovery.gone_since(key(1)) is None
    await bench.run(0.1 * INTERVAL + 10)
    assert bench.discovery.gone_since(key(1)) is not None


@in_virtual_time
async def test_a_factor_missing_from_the_list_that_answers_stays() -> None:
    bench = Bench()
    bench.listed["identity-of-team"] = [key(1)]
    await bench.run(100)
    bench.listed["identity-of-team"] = []
    await bench.run(FORGET + 3 * INTERVAL)
    assert bench.status(1) is Status.VERIFIED
    assert bench.discovery.gone_since(key(1)) is None


@in_virtual_time
async def test_one_that_comes_back_is_not_gone() -> None:
    bench = Bench()
    bench.listed["identity-of-team"] = [key(1)]
    await bench.run(100)
    bench.listed["identity-of-team"] = []
    bench.env.client.rule = lambda _watched: Reply(Status.NOT_FOUND)
    await bench.run(INTERVAL + 2)
    assert bench.discovery.gone_since(key(1)) is not None
    bench.listed["identity-of-team"] = [key(1)]
    bench.env.client.rule = lambda _watched: Reply(Status.VERIFIED)
    await bench.run(FORGET + INTERVAL)
    assert bench.status(1) is Status.VERIFIED
    assert bench.discovery.gone_since(key(1)) is None


@pytest.mark.parametrize(
    "failure",
    [
        Failure(Reason.BAD_REQUEST, "HTTP 404: no such service or entity"),
        Failure(Reason.SERVER_ERROR, "HTTP 503"),
        Failure(Reason.TIMEOUT, "late"),
        Failure(Reason.DECODE, "not JSON"),
    ],
)
@in_virtual_time
async def test_a_failed_listing_changes_nothing(failure: Failure) -> None:
    bench = Bench()
    bench.listed["identity-of-team"] = [key(1)]
    await bench.run(100)
    bench.listed["identity-of-team"] = failure
    before = len(bench.env.observed.listings)
    await bench.run(FORGET + 2 * INTERVAL)
    assert bench.status(1) is Status.VERIFIED
    listings = [what for _, _, what in bench.env.observed.listings]
    assert set(listings[:before]) == {1}
    assert listings[before:] == [failure] * len(listings[before:])
    assert len(listings) >= 5


@in_virtual_time
async def test_an_incomplete_listing_loses_nothing_and_what_it_shows_is_watched() -> None:
    bench = Bench()
    bench.listed["identity-of-team"] = [key(1), key(2)]
    await bench.run(100)
    broken = Failure(Reason.SERVER_ERROR, "HTTP 503")
    bench.env.client.lists = lambda _entity, query: (
        broken if query else listed_page(key(1), key(3), following="Page=1")
    )
    await bench.run(INTERVAL + 60)
    assert bench.watched == {key(1), key(2), key(3)}
    assert bench.env.observed.listings[-1][2] == broken
    assert bench.discovery.gone_since(key(2)) is None


@in_virtual_time
async def test_a_list_without_end_is_given_up() -> None:
    bench = Bench()
    numbers = iter(range(10_000))
    bench.env.client.lists = lambda _entity, _query: FactorPage((), f"Page={next(numbers)}")
    await bench.run(60)
    assert len(bench.env.client.listings) == MAX_PAGES * len(bench.env.observed.listings)
    failure = bench.env.observed.listings[-1][2]
    assert isinstance(failure, Failure)
    assert failure.reason is Reason.DECODE


@in_virtual_time
async def test_a_list_that_leads_back_to_itself_is_given_up() -> None:
    bench = Bench()
    bench.env.client.lists = lambda _entity, _query: listed_page(key(1), following="Page=1")
    await bench.run(60)
    assert len(bench.env.client.listings) == 2 * len(bench.env.observed.listings) > 0
    assert bench.watched == {key(1)}


@in_virtual_time
async def test_what_is_listed_is_never_lost() -> None:
    bench = Bench(factor(1))
    bench.listed["identity-of-team"] = [key(1)]
    await bench.run(100)
    assert bench.env.ledger[key(1)].watched == factor(1)
    assert bench.env.ledger[key(1)].entity == "team"
    bench.listed["identity-of-team"] = []
    bench.env.client.rule = lambda _watched: Reply(Status.NOT_FOUND)
    await bench.run(FORGET + 3 * INTERVAL)
    assert bench.status(1) is Status.NOT_FOUND
    assert bench.env.ledger[key(1)].entity == ""


@in_virtual_time
async def test_entities_come_go_and_change_their_name() -> None:
    one, two = entity(), entity("crew", identity="identity-of-crew")
    bench = Bench(entities=(one, two))
    bench.listed = {"identity-of-team": [key(1)], "identity-of-crew": [key(2)]}
    await bench.run(100)
    assert len(bench.discovery) == 2
    known = bench.env.ledger[key(1)]
    bench.discovery.watch([entity("renamed")])
    assert bench.watched == {key(1)}
    assert len(bench.discovery) == 1
    assert bench.env.ledger[key(1)] is known
    assert known.watched.name == f"renamed-{key(1).factor_sid[-8:]}"
    assert known.entity == "renamed"
    before = len(bench.env.client.listings)
    await bench.run(INTERVAL + 2)
    assert {name for _, name, _ in bench.env.client.listings[before:]} == {"renamed"}


@in_virtual_time
async def test_a_listing_in_flight_for_a_removed_entity_is_dropped() -> None:
    bench = Bench()

    def removed_meanwhile(_entity: WatchedEntity, _query: str | None) -> FactorPage:
        bench.discovery.watch([])
        return listed_page(key(1))

    bench.env.client.lists = removed_meanwhile
    await bench.run(60)
    assert len(bench.env.client.listings) == 1
    assert bench.watched == set()
    assert bench.env.observed.listings == []
    assert bench.env.observed.forgotten_entities == [entity().name]


@in_virtual_time
async def test_listings_stay_within_the_throttle_and_are_counted() -> None:
    bench = Bench(entities=tuple(entity(f"e{n}", identity=f"identity-{n:06d}") for n in range(30)))
    bench.listed = {f"identity-{n:06d}": [key(n)] for n in range(30)}
    bench.env.throttle.configure(requests_per_second=2, max_concurrency=1)
    await bench.run(60)
    assert len(bench.watched) == 30
    moments = [at for at, _, _ in bench.env.client.listings] + [call.began for call in bench.env.client.calls]
    assert max(sum(at <= moment < at + 0.999 for moment in moments) for at in moments) <= 2
    assert bench.discovery.listings_per_second("main") == pytest.approx(30 / INTERVAL)


@in_virtual_time
async def test_a_refused_list_while_factors_are_answered_stops_nobody() -> None:
    bench = Bench(factor(1))
    bench.listed["identity-of-team"] = Failure(Reason.FORBIDDEN, "HTTP 403")
    await bench.run(100)
    assert bench.env.account.credentials_valid is True
    assert bench.status(1) is Status.VERIFIED
    assert bench.env.observed.listings[0][2] == Failure(Reason.FORBIDDEN, "HTTP 403")
    assert bench.env.observed.refusals == []


@in_virtual_time
async def test_an_account_without_factors_pauses_and_recovers_by_listing() -> None:
    bench = Bench()
    bench.listed["identity-of-team"] = Failure(Reason.AUTH, "HTTP 401")
    await bench.run(60)
    assert bench.env.account.credentials_valid is False
    assert bench.env.account.pause
    assert bench.discovery.first_listings_pending == 0
    before = len(bench.env.client.listings)
    await bench.run(200)
    assert before < len(bench.env.client.listings) <= before + 4, "probes alone"
    bench.listed["identity-of-team"] = [key(1)]
    await bench.run(700)
    valid: bool | None = bench.env.account.credentials_valid
    assert valid is True
    await bench.run(INTERVAL)
    assert bench.watched == {key(1)}


@in_virtual_time
async def test_a_refused_listing_is_repeated_once_the_credentials_are_accepted_again() -> None:
    bench = Bench()
    bench.listed["identity-of-team"] = Failure(Reason.AUTH, "HTTP 401")
    await bench.run(200)
    bench.listed["identity-of-team"] = [key(1)]
    bench.env.account.credentials_changed()
    await bench.run(40)
    assert bench.watched == {key(1)}
    after = len(bench.env.client.listings)
    await bench.run(INTERVAL / 2)
    assert len(bench.env.client.listings) <= after + 1, "once"


@in_virtual_time
async def test_a_listing_that_is_refused_alone_waits_for_its_time() -> None:
    bench = Bench(factor(1))
    bench.listed["identity-of-team"] = Failure(Reason.FORBIDDEN, "HTTP 403")
    await bench.run(3 * INTERVAL)
    first, *others = [at for at, _, _ in bench.env.client.listings]
    assert [later - earlier for earlier, later in itertools.pairwise(others)] == [INTERVAL, INTERVAL]
    assert others[0] - first <= INTERVAL


@in_virtual_time
async def test_a_stop_ends_a_listing_quietly() -> None:
    bench = Bench()
    for _ in range(40):
        bench.discovery.dispatch()
        if bench.env.client.listings:
            break
        await bench.env.run(1)
    await bench.env.poller.drain(5)
    assert all(isinstance(found, int) for _, _, found in bench.env.observed.listings)


@in_virtual_time
async def test_what_was_found_before_a_restart_is_shown_before_the_first_listing() -> None:
    bench = Bench()
    bench.listed["identity-of-team"] = [key(1), key(2)]
    await bench.run(100)
    bench.listed["identity-of-team"] = [key(1)]
    bench.env.client.rule = lambda watched: Reply(Status.NOT_FOUND if watched.key == key(2) else Status.VERIFIED)
    await bench.run(INTERVAL + 2)
    now = bench.env.clock.moment()
    snapshots: dict[FactorKey, FactorSnapshot] = {}
    for record in bench.env.ledger:
        memory = snapshot_of(record, now, gone_since_seconds=bench.discovery.gone_since(record.watched.key))
        if memory is not None:
            snapshots[record.watched.key] = memory

    after = Bench()
    after.discovery.restore(snapshots)
    assert after.watched == {key(1), key(2)}
    assert (after.status(1), after.status(2)) == (Status.VERIFIED, Status.NOT_FOUND)
    assert after.env.ledger[key(1)].entity == "team"
    assert after.discovery.gone_since(key(2)) == bench.discovery.gone_since(key(2))
    other = Bench(entities=(entity("another"),))
    other.discovery.restore(snapshots)
    assert other.watched == set()
    assert Moment(*now) == now


@in_virtual_time
async def test_lists_are_counted_as_such() -> None:
    bench = Bench()
    operations: list[Operation] = []

    def attempted(_account: str, operation: Operation, _attempt: Attempt) -> None:
        operations.append(operation)

    bench.env.observed.attempted = attempted  # type: ignore[method-assign, assignment]  # a stand-in for this test
    await bench.run(60)
    assert set(operations) == {Operation.LIST}


@in_virtual_time
async def test_a_shorter_interval_counts_at_once() -> None:
    bench = Bench()
    bench.discovery.policy = DiscoveryPolicy(86_400.0, FORGET)
    bench.discovery.watch([entity()])
    await bench.run(100)
    before = len(bench.env.client.listings)
    bench.discovery.policy = DiscoveryPolicy(60.0, FORGET)
    bench.discovery.watch([entity()])
    await bench.run(121)
    assert len(bench.env.client.listings) >= before + 2


@in_virtual_time
async def test_only_a_complete_listing_counts_as_the_last_one() -> None:
    bench = Bench()
    name = ("main", SERVICES[0], "team")
    broken = Failure(Reason.SERVER_ERROR, "HTTP 503")
    bench.env.client.lists = lambda _entity, query: broken if query else listed_page(key(1), following="Page=1")
    await bench.run(100)
    assert bench.discovery.last_listed() == {}
    bench.env.client.lists = bench._page
    await bench.run(INTERVAL + 2)
    listed = bench.discovery.last_listed()[name]
    assert bench.env.clock.wall() - INTERVAL - 2 <= listed <= bench.env.clock.wall()
    bench.listed["identity-of-team"] = broken
    await bench.run(3 * INTERVAL)
    assert bench.discovery.last_listed() == {name: listed}
    bench.discovery.watch([entity("renamed")])
    assert bench.discovery.last_listed() == {("main", SERVICES[0], "renamed"): listed}
    after = Bench(entities=(entity("renamed"), entity("other", identity="identity-of-other")))
    after.discovery.restore({}, bench.discovery.last_listed())
    assert after.discovery.last_listed() == bench.discovery.last_listed()
    after.discovery.watch([])
    assert after.discovery.last_listed() == {}
