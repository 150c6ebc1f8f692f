"""Listings keep to their share of an account's budget, in virtual time, and fetches are never starved."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exporter.polling.discovery import Discovery
from exporter.polling.listing import DiscoveryPolicy
from exporter.polling.roster import Roster
from exporter.verify.outcome import EntityPage, ListedEntity
from exporter.watched import EntityKey, ServiceKey, WatchedEntity, WatchedService
from tests.support.factors import SERVICES, factors
from tests.support.polling_harness import PollingHarness
from tests.support.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Iterable

INTERVAL = 300.0
SECONDS = 900.0


def entity(number: int) -> WatchedEntity:
    return WatchedEntity(EntityKey("main", SERVICES[0], f"identity-{number:06d}"), f"e{number}", INTERVAL)


class Crowd:
    """An account with many factors, each fetched every five minutes, and many entities without factors.

    The entities have entries of their own, or belong to a service.
    """

    def __init__(self, *, count: int, entities: int, rate: float, of_service: bool = False) -> None:
        self.discovery: Discovery | None = None
        watched = factors(count, interval=INTERVAL)
        self.env = PollingHarness(watched, rate=rate, concurrency=16, listing_demand=self._listing_demand)
        self.discovery = Discovery(
            DiscoveryPolicy(INTERVAL),
            accounts=self.env.accounts,
            roster=Roster(self.env.poller, self.env.ledger),
            observer=self.env.observed,
            clock=self.env.clock,
        )
        all_of_them = [entity(n) for n in range(entities)]
        if of_service:
            listed = tuple(ListedEntity(f"YE{n:032x}", of.key.identity) for n, of in enumerate(all_of_them))
            self.env.client.entities = lambda _sid, _query: EntityPage(listed)
            self.discovery.watch([], [WatchedService(ServiceKey("main", SERVICES[0]), "all", INTERVAL)])
        else:
            self.discovery.watch(all_of_them)

    def _listing_demand(self, account: str) -> float:
        return 0.0 if self.discovery is None else self.discovery.listings_per_second(account)

    async def run(self, seconds: float) -> None:
        assert self.discovery is not None

        def each_second() -> None:
            self.discovery.dispatch()  # type: ignore[union-attr]  # asserted above
            if round(self.env.now) % 10 == 0:
                self.env.poller.check_budgets()

        await self.env.run(seconds, and_each=each_second)

    def rates(self, after: float = INTERVAL) -> tuple[float, float]:
        """Return how many fetches and how many listings began per second since then."""
        span = self.env.now - after
        fetches = sum(call.began >= after for call in self.env.client.calls)
        return fetches / span, sum(at >= after for at in self.listed_at()) / span

    def listed_at(self) -> Iterable[float]:
        return (at for at, _, _ in self.env.client.listings)

    def worst_lag(self) -> float:
        return max(lag for _, lag in self.env.observed.lags)


@pytest.mark.parametrize("of_service", [False, True])
@in_virtual_time
async def test_listings_take_longer_than_the_interval_where_the_budget_is_small(of_service: bool) -> None:
    crowd = Crowd(count=900, entities=3000, rate=10, of_service=of_service)
    await crowd.run(SECONDS)
    fetched, listed = crowd.rates()
    assert fetched == pytest.approx(3.0, rel=0.05)
    assert 0.9 * 3.75 <= listed <= 3.75 * 1.05, "a twentieth of 10, and half of the 6.5 that are left"
    assert crowd.env.account.stretch == 1.0
    assert crowd.worst_lag() < 10
    assert crowd.env.account.demand_requests_per_second <= 10


@pytest.mark.slow
@pytest.mark.parametrize("of_service", [False, True])
@in_virtual_time
async def test_listings_have_a_twentieth_of_the_budget_of_an_account_that_exceeds_it(of_service: bool) -> None:
    crowd = Crowd(count=3000, entities=3000, rate=5, of_service=of_service)
    await crowd.run(SECONDS)
    fetched, listed = crowd.rates()
    assert 0.8 * 0.25 <= listed <= 0.25 * 1.05
    assert fetched >= 0.9 * (5 - 0.25)
    assert crowd.env.account.stretch == pytest.approx(10 / (5 - 0.25) * 1.05, rel=0.02)


@in_virtual_time
async def test_the_first_listings_of_many_entities_delay_no_fetch() -> None:
    crowd = Crowd(count=900, entities=3000, rate=10)
    await crowd.run(120)
    assert crowd.worst_lag() < 10
    assert crowd.env.client.most_in_a_second() <= 10


@in_virtual_time
async def test_a_few_entities_are_listed_within_half_a_minute_and_then_spread_over_the_interval() -> None:
    crowd = Crowd(count=100, entities=30, rate=10)
    await crowd.run(35)
    assert len({name for _, name, _ in crowd.env.client.listings}) == 30
    await crowd.run(2 * INTERVAL)
    later = [at for at in crowd.listed_at() if INTERVAL < at <= 2 * INTERVAL]
    assert len(later) == 30
    assert max(sum(at <= other < at + 30 for other in later) for at in later) <= 10
