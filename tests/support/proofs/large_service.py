"""A service with ten thousand entities in virtual time, found by ``[[services]]`` or listed factor by factor.

The daemon's own parts poll the simulator's API in memory; entities and factors come and go meanwhile.
``python -m tests.support.proofs.large_service`` prints what was seen as JSON; the defaults are the full size.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from prometheus_client import generate_latest

from exporter.config import load
from exporter.daemon.daemon import Daemon
from exporter.simulator import FactorStatus
from exporter.simulator.api import VerifyApi
from exporter.simulator.credentials import Credentials
from exporter.simulator.oauth import OAuthApp
from exporter.simulator.target import Endpoint, Target, read_target
from exporter.simulator.world import SimulatedApi
from tests.support.config_files import append_entries, write_config
from tests.support.proofs.virtual_day import LONGEST_FETCH_SECONDS, resident_bytes
from tests.support.scrape import Scrape
from tests.support.virtual_time import START, run_virtual, virtual_clock, virtual_loop

if TYPE_CHECKING:
    from exporter.config import Config

SERVICE_SID = "VA" + "5" * 32
DISCOVERY_SECONDS = 900.0
_SCRAPE_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a run; ``hours`` begin when the first listing is complete. ``listed`` lists every factor.

    Entities and factors come and go every ``change_seconds``.
    """

    entities: int = 10_000
    factors: int = 15_000
    requests_per_second: float = 100.0
    hours: float = 1.0
    listed: bool = False
    change_seconds: int = 30
    seed: int = 1


@dataclass(slots=True)
class Seen:
    """What came of it; ``faults`` is empty when all went well.

    ``listing_seconds`` are the times between complete listings of the service, the first one since the start.
    ``late_fetches`` began more than half a minute later than their interval allows, ``late_seconds`` is the longest
    time after their slot. Rates are requests per second, by operation. ``memory_per_factor`` is resident, in bytes:
    what the exporter added to a process that had already polled a service of a hundredth of the size.
    """

    requests: dict[str, int] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    budget: float = 0.0
    stretch: float = 0.0
    first_listing_seconds: float = 0.0
    listing_seconds: list[float] = field(default_factory=list)
    changes: int = 0
    late_fetches: int = 0
    late_seconds: float = 0.0
    memory_per_factor: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)


class ApiInMemory(httpx.AsyncBaseTransport):
    """The simulator's API behind httpx's transport interface, with a latency in virtual time."""

    def __init__(self, size: Size) -> None:
        self.rng = random.Random(size.seed)
        self.credentials = Credentials("AC" + "0" * 32, "SK" + "0" * 32, "made-up")
        self.world = SimulatedApi(self.credentials.account_sid, self.rng)
        self.world.add_service(now=START, service_sid=SERVICE_SID)
        self.requests: Counter[str] = Counter()
        self._api = VerifyApi(self.world, self.credentials, OAuthApp(self.credentials.account_sid, self.rng))
        self._api.base_url = "https://verify.twilio.com"  # where links lead is not where the requests go
        self._authorization = httpx.BasicAuth("SK" + "0" * 32, "made-up")._auth_header
        identities = [f"Person-{number:06}-{self.rng.getrandbits(32):08X}" for number in range(size.entities)]
        for identity in identities:
            self.world.add_entity(now=START, service_sid=SERVICE_SID, identity=identity)
        for number in range(size.factors):
            factor = self.world.add_factor(
                now=START, service_sid=SERVICE_SID, identity=identities[number % size.entities]
            )
            at = Target(Endpoint.FETCH, "/v2/", "", SERVICE_SID, factor.identity, factor.sid)
            self._answer(at)  # which keeps the body

    def _answer(self, target: Target) -> httpx.Response:
        answer = self._api.answer("GET", target, self._authorization, START)
        headers = {"Content-Type": answer.content_type, "Twilio-Request-Id": "RQ" + "0" * 32}
        return httpx.Response(answer.status, headers=headers, content=answer.body)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        path, _, query = request.url.raw_path.decode().partition("?")
        target = read_target(path, query)
        self.requests[target.operation] += 1
        await asyncio.sleep(self.rng.uniform(0.02, 0.3))
        return self._answer(target)


class Churn:
    """Lets entities and factors come and go, some of them within one listing."""

    def __init__(self, api: ApiInMemory) -> None:
        self._world, self._rng = api.world, api.rng
        self._added: list[str] = []
        self._passing: str | None = None
        self.count = 0
        self.since: dict[str, float] = {}

    def change(self, now: float) -> None:
        """Add an entity with a factor and one that the next change deletes; delete an older one, and a factor."""
        self.count += 1
        if self._passing is not None:
            self._world.set_entity(self._passing, deleted=True)
        self._passing = self._enrol(now)
        self._added.append(self._enrol(now))
        if len(self._added) > 20:
            self._world.set_entity(self._added.pop(0), deleted=True)
        alive = [factor for factor in self._rng.sample(list(self._world.factors.values()), 5) if factor.exists]
        self._world.set_status(alive[0].sid, FactorStatus.DELETED, now=START + now)
        if self.count % 2:
            another = self._world.add_factor(now=START + now, service_sid=SERVICE_SID, identity=alive[-1].identity)
            self.since[another.sid] = now

    def _enrol(self, now: float) -> str:
        factor = self._world.add_factor(now=START + now, service_sid=SERVICE_SID)
        self.since[factor.sid] = now
        return factor.entity_sid

    def expected(self, before: float) -> set[str]:
        """Return the SIDs of the factors that exist since before this time."""
        return {
            factor.sid
            for factor in self._world.factors.values()
            if factor.exists
            and not self._world.entities_by_sid[factor.entity_sid].deleted
            and self.since.get(factor.sid, 0.0) < before
        }


class Witness:
    """Sees every fetch start, and whether a factor goes without one for longer than its interval."""

    def __init__(self, daemon: Daemon, seen: Seen) -> None:
        self._engine, self._seen = daemon.engine, seen
        self._fetched: dict[Any, tuple[float, float]] = {}
        account = daemon.engine.poller.accounts["main"]
        self._started = account._start  # called when a due fetch takes its slot
        account._queue._start = self._start

    def _start(self, key: Any, lag_seconds: float) -> None:
        now, interval = self._engine.clock.steady(), self._engine.ledger[key].interval_seconds
        before, earlier = self._fetched.get(key, (now, interval))
        self._seen.late_fetches += now - before > max(interval, earlier) + LONGEST_FETCH_SECONDS
        self._fetched[key] = now, interval
        self._seen.late_seconds = max(self._seen.late_seconds, lag_seconds)
        self._started(key, lag_seconds)

    def end(self) -> None:
        """Count the factors that are no longer fetched."""
        now = self._engine.clock.steady()
        for record in self._engine.ledger:
            before, _ = self._fetched.get(record.watched.key, (now, 0.0))
            self._seen.late_fetches += now - before > record.interval_seconds + LONGEST_FETCH_SECONDS


async def _live_through(size: Size, config: Config, api: ApiInMemory) -> Seen:
    """Let the daemon poll until it has listed the service, and then for as long as the size says."""
    loop, seen, churn = virtual_loop(), Seen(), Churn(api)
    daemon = Daemon(config, transport=lambda _account: api, clock=virtual_clock(), rng=random.Random(size.seed))
    witness = Witness(daemon, seen)
    daemon.engine.start()
    complete, ends, before = [] if not size.listed else [START], 0.0, Counter[str]()
    for second in range(7 * 86_400):
        daemon.engine.poller.dispatch()
        daemon.engine.discover()
        if second % 10 == 0:
            daemon.engine.housekeeping()
            daemon.flush_log()
        if second % _SCRAPE_SECONDS == 0:
            page = Scrape(generate_latest(daemon.view._registry).decode())
            listed = page.value("twilio_verify_entity_last_listed_timestamp_seconds")
            if listed is not None and listed not in complete:
                complete.append(listed)
            if complete and not ends:
                ends, before = second + size.hours * 3600, api.requests.copy()
                seen.first_listing_seconds = complete[0] - START
        if ends and not size.listed and second % size.change_seconds == 0:
            churn.change(second)
        if ends and second >= ends:
            break
        await asyncio.sleep(max(0.0, second + 1 - loop.time()))
    else:
        seen.faults.append("the service was never listed")
    seen.memory_per_factor = resident_bytes()
    witness.end()
    seen.requests = dict(api.requests)
    seen.rates = {name: (count - before[name]) / (size.hours * 3600) for name, count in api.requests.items()}
    seen.listing_seconds = [later - earlier for earlier, later in pairwise(complete)]
    seen.changes = churn.count
    seen.stretch = daemon.engine.stretch("main")
    seen.budget = page.value("twilio_verify_api_budget_requests_per_second") or 0.0
    _compare(daemon, churn, page, seen, before_last=complete[-2:][0] - START - 60)
    await daemon.engine.poller.drain(0)
    return seen


def _compare(daemon: Daemon, churn: Churn, page: Scrape, seen: Seen, *, before_last: float) -> None:
    """See that what exists is watched, and that the counters are those of the API."""
    watched = {record.watched.key.factor_sid for record in daemon.engine.ledger}
    if lost := churn.expected(before_last) - watched:
        seen.faults.append(f"{len(lost)} factors are not watched")
    counted = Counter[str]()
    for sample in page.samples("twilio_verify_api_requests_total"):
        counted[sample.labels["operation"]] += int(sample.value)
    for name, count in seen.requests.items():
        if abs(counted[name] - count) > 0.02 * count + 20:  # those since the last scrape, and those in flight
            seen.faults.append(f"{counted[name]} requests of {name} here, {count} at the API")
    listings = seen.rates.get(Endpoint.LIST, 0.0) + seen.rates.get(Endpoint.LIST_ENTITIES, 0.0)
    may_use = 0.05 * seen.budget + max(0.0, 0.95 * seen.budget - seen.rates[Endpoint.FETCH]) / 2
    if listings > 1.05 * may_use:
        seen.faults.append(f"listings used {listings:.3f} requests per second, and may use {may_use:.3f}")
    failures = page.total("twilio_verify_fetch_failures_total")
    if failures:
        seen.faults.append(f"{failures:g} fetches failed")


def _config_of(folder: Path, size: Size, api: ApiInMemory) -> Config:
    account = {
        "account_sid": api.credentials.account_sid,
        "username": api.credentials.username,
        "password": api.credentials.password,
        "requests_per_second": size.requests_per_second,
        "max_concurrency": 100,
    }
    polling = {
        "interval": "5m",
        "unverified_interval": "1m",
        "discovery_interval": f"{round(DISCOVERY_SECONDS)}s",
        "timeout": "10s",
    }
    if not size.listed:
        path = write_config(folder / "config.toml", {"main": account}, polling=polling)
        append_entries(path, "services", {"name": "consumer", "service_sid": SERVICE_SID, "max_entities": 100_000})
    else:
        files = {"files": ["factors.csv"]}
        path = write_config(folder / "config.toml", {"main": account}, polling=polling, watchlist=files)
        rows = (
            f"{SERVICE_SID},{of.identity},{of.sid},consumer-{of.sid[-8:]}\n" for of in api.world.factors.values()
        )
        (folder / "factors.csv").write_text("service_sid,identity,factor_sid,name\n" + "".join(rows))
    return load(path, environ={}, flags={})


def _once(size: Size) -> Seen:
    api = ApiInMemory(size)
    before = resident_bytes()
    with tempfile.TemporaryDirectory() as folder:
        config = _config_of(Path(folder), size, api)
    seen = run_virtual(_live_through(size, config, api))
    seen.memory_per_factor = round((seen.memory_per_factor - before) / size.factors)
    return seen


def run(size: Size) -> Seen:
    """Run once at a hundredth of the size, so that everything is imported, and then in full."""
    began = time.monotonic()
    _once(Size(max(1, size.entities // 100), max(1, size.factors // 100), hours=0.1, listed=size.listed))
    seen = _once(size)
    seen.seconds = round(time.monotonic() - began, 1)
    return seen


def main() -> None:
    usual = Size()
    parser = argparse.ArgumentParser(description="a large service in virtual time")
    parser.add_argument("--entities", type=int, default=usual.entities)
    parser.add_argument("--factors", type=int, default=usual.factors)
    parser.add_argument("--rate", type=float, default=usual.requests_per_second)
    parser.add_argument("--hours", type=float, default=usual.hours)
    parser.add_argument("--listed", action="store_true", help="list every factor instead of the service")
    given = parser.parse_args()
    size = Size(given.entities, given.factors, given.rate, given.hours, given.listed)
    print(json.dumps({"asked": asdict(size), "seen": asdict(run(size))}, indent=2))


if __name__ == "__main__":
    main()
