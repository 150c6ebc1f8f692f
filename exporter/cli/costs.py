"""What a configuration costs in requests: of its factors, and of the listings that find more of them.

Apart from ``plan`` because this is arithmetic; the command prints it.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import TYPE_CHECKING

from exporter.polling.poller import next_stretch
from exporter.polling.throttle import LISTINGS_ALWAYS, budget, listing_budget
from exporter.verify.answers import PAGE_SIZE
from exporter.watched import FactorKey, ServiceKey, WatchedFactor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from exporter.config import Config
    from exporter.watched import WatchedEntity, WatchedService

ENTITIES_PER_PAGE = 50
"""The size of a page of List Entities, which the API chooses: the default in Twilio's reference."""


_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class EntityCount:
    """How many entities a service has: all of them, and those of this shard; ``counted`` if this is no assumption.

    ``truncated`` says that there are more than ``max_entities``.
    """

    total: int
    own: int
    counted: bool = False
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What listings will find: the entities of each ``[[services]]`` entry, and the factors of every entity.

    A service without a count is left out.
    """

    entities: Mapping[ServiceKey, EntityCount]
    factors_per_entity: int = 1

    @property
    def pages_per_entity(self) -> int:
        """The requests that list one entity."""
        return max(1, math.ceil(self.factors_per_entity / PAGE_SIZE))

    def requests(self, of: EntityCount) -> int:
        """Return the requests that list a service: its entities, and the factors of those of this shard."""
        return max(1, math.ceil(of.total / ENTITIES_PER_PAGE)) + of.own * self.pages_per_entity


def assume(config: Config, entities: int | None, factors_per_entity: int) -> Assumptions:
    """Return the assumption that every ``[[services]]`` entry has this many entities, evenly spread over shards."""
    counts: dict[ServiceKey, EntityCount] = {}
    if entities is None:
        return Assumptions(counts, factors_per_entity)
    for service in config.services:
        total = min(entities, service.max_entities)
        counts[service.key] = EntityCount(
            total, math.ceil(total / config.shard.shards), truncated=entities > service.max_entities
        )
    return Assumptions(counts, factors_per_entity)


def with_found(config: Config, assumptions: Assumptions) -> Config:
    """Return the configuration with the factors that listings will find, under made-up SIDs."""
    return replace(config, factors=config.factors + tuple(_found(config, assumptions)))


def _found(config: Config, assumptions: Assumptions) -> Iterator[WatchedFactor]:
    numbers = count(1)
    for entry, entities in _entries(config, assumptions):
        for number in islice(numbers, entities * assumptions.factors_per_entity):
            key = FactorKey(entry.key.account, entry.key.service_sid, f"YF{number:032x}")
            yield WatchedFactor(key, f"{entry.name}-{number:08x}", "", entry.interval_seconds, labels=entry.labels)


def _entries(config: Config, assumptions: Assumptions) -> Iterator[tuple[WatchedEntity | WatchedService, int]]:
    """Yield every entry whose factors listings find, and its entities in this shard."""
    for entity in config.entities:
        yield entity, 1
    for service in config.services:
        if (of := assumptions.entities.get(service.key)) is not None:
            yield service, of.own


@dataclass(frozen=True, slots=True)
class AccountPlan:
    """The demand of one account; rates are requests per second.

    ``found`` of the ``factors`` are found by listings. ``fetches`` is the rate with all factors verified,
    ``worst_fetches`` with all newly unverified or missing; then ``services`` are fetched, too. ``listing_requests``
    are those of one round of listings, due every ``discovery_interval_seconds``.
    """

    name: str
    factors: int
    found: int
    fetches: float
    worst_fetches: float
    services: int
    listing_requests: int
    discovery_interval_seconds: float
    budget: float
    longest_interval_seconds: float

    @property
    def wanted_listings(self) -> float:
        """The rate at which a round of listings takes the discovery interval."""
        return self.listing_requests / self.discovery_interval_seconds

    @property
    def listings(self) -> float:
        """The rate of the listings with all factors verified."""
        return min(self.wanted_listings, listing_budget(self.budget, self.fetches))

    @property
    def listing_seconds(self) -> float:
        """How long one round of listings takes with all factors verified."""
        longest = self.listing_requests / listing_budget(self.budget, self.fetches)
        return max(longest, self.discovery_interval_seconds)

    @property
    def steady(self) -> float:
        """The rate with all factors verified."""
        return self.fetches + self.listings

    @property
    def worst(self) -> float:
        """The rate with all factors newly unverified or missing."""
        in_doubt = self.services / self.discovery_interval_seconds
        others = self.worst_fetches + in_doubt
        return others + min(self.wanted_listings, listing_budget(self.budget, others))

    @property
    def over_budget(self) -> bool:
        """Whether the intervals are stretched even with all factors verified."""
        return self.steady > self.budget * (1 + _ROUNDING)

    @property
    def stretch(self) -> float:
        """The stretch of the intervals when all factors are verified."""
        return next_stretch(1.0, self.fetches / (self.budget - self.listings))  # listings are not stretched


def account_plans(config: Config, assumptions: Assumptions, latency_seconds: float) -> list[AccountPlan]:
    """Return each account's budget and demand; ``config`` is the one :func:`with_found` returns."""
    polling = config.settings.polling
    requests: Counter[str] = Counter()
    found: Counter[str] = Counter()
    for entity in config.entities:
        requests[entity.key.account] += assumptions.pages_per_entity
    for service in config.services:
        if (of := assumptions.entities.get(service.key)) is not None:
            requests[service.key.account] += assumptions.requests(of)
    for entry, entities in _entries(config, assumptions):
        found[entry.key.account] += entities * assumptions.factors_per_entity
    plans: list[AccountPlan] = []
    for name, account in config.settings.accounts.items():
        polled = [watched for watched in config.factors if watched.key.account == name and not watched.paused]
        intervals = [watched.interval_seconds for watched in polled]
        services = {of.key.service_sid for of in config.entities if of.key.account == name}
        services |= {of.key.service_sid for of in config.services if of.key.account == name}
        plans.append(
            AccountPlan(
                name=name,
                factors=len(polled),
                found=found[name],
                fetches=sum(1 / interval for interval in intervals),
                worst_fetches=sum(1 / min(interval, polling.unverified_interval) for interval in intervals),
                services=len(services | {watched.key.service_sid for watched in polled}),
                listing_requests=requests[name],
                discovery_interval_seconds=polling.discovery_interval,
                budget=budget(account.requests_per_second, account.max_concurrency, latency_seconds),
                longest_interval_seconds=max(intervals, default=0.0),
            )
        )
    return plans


@dataclass(frozen=True, slots=True)
class Proposal:
    """What would bring an account within its budget: intervals that are longer by a factor, or another budget.

    ``interval_seconds`` is ``polling.interval`` multiplied by ``factor``. ``requests_per_second`` and
    ``max_concurrency`` belong together.
    """

    factor: float
    interval_seconds: float
    requests_per_second: float
    max_concurrency: int


def proposal(config: Config, plan: AccountPlan, latency_seconds: float) -> Proposal:
    """Return what would bring an account that is over its budget within it."""
    always = min(plan.wanted_listings, LISTINGS_ALWAYS * plan.budget)  # over budget, listings get no more
    factor = _rounded_up(plan.fetches / (plan.budget - always), 3)
    rate = _rounded_up(min(plan.fetches + plan.wanted_listings, plan.fetches / (1 - LISTINGS_ALWAYS)), 2)
    account = config.settings.accounts[plan.name]
    return Proposal(
        factor=factor,
        interval_seconds=_whole_interval(config.settings.polling.interval * factor),
        requests_per_second=max(account.requests_per_second, rate),
        max_concurrency=max(account.max_concurrency, math.ceil(rate * latency_seconds)),
    )


def _rounded_up(number: float, digits: int) -> float:
    """Return a number rounded up to so many significant digits."""
    decimals = digits - 1 - math.floor(math.log10(number))
    unit = 10.0**-decimals
    return round(math.ceil(number / unit) * unit, max(decimals, 0))


def _whole_interval(seconds: float) -> float:
    """Return an interval rounded up to seconds, from a minute on to ten of them, from an hour on to minutes."""
    step = 1 if seconds < 60 else 10 if seconds < 3600 else 60
    return float(math.ceil(seconds / step) * step)
