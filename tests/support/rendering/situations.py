"""Hours of an exporter's life in virtual time, against the simulator: five situations that people meet."""

from __future__ import annotations

import asyncio
import random
import tempfile
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from exporter.config import load
from exporter.daemon.daemon import Daemon
from exporter.simulator import FactorStatus, Fault, FaultKind, Simulator, small_world, wire
from exporter.simulator.target import read_target
from tests.support.config_files import append_entries, entry, write_config
from tests.support.virtual_time import START, run_virtual, virtual_clock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from exporter.config import AccountSettings, Config

ADDRESS = "http://127.0.0.1:1"  # never connected to: the transport is in memory
LOST = "warehouse-tablet"
_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0
_HOUSEKEEPING_SECONDS = 10
_LOOP_LAG_SECONDS = 0.002


class Situation(StrEnum):
    """What has happened when somebody opens a board."""

    HEALTHY = "healthy"
    FACTOR_LOST = "factor-lost"
    API_DOWN = "api-down"
    EXPORTER_DEAD = "exporter-dead"
    MANY = "many"

    @property
    def minutes(self) -> int:
        """How long the history is."""
        return 30 if self is Situation.MANY else 3 * 60

    @property
    def time_range(self) -> str:
        """The beginning of the time range in Grafana's notation."""
        return "now-30m" if self is Situation.MANY else "now-3h"

    @property
    def scrape_seconds(self) -> int:
        return 60 if self is Situation.MANY else 30

    @property
    def start_seconds(self) -> float:
        """Unix time of the first scrape."""
        return self.end_seconds - self.minutes * _MINUTE

    @property
    def end_seconds(self) -> float:
        """Unix time at which the board is opened: that of the last scrape."""
        return START + 6 * _HOUR


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happens a number of minutes before the end."""

    minutes_ago: float
    happen: Callable[[], object]


@dataclass(slots=True)
class World:
    """The accounts with their simulators, the watchlist, and what will happen."""

    accounts: Mapping[str, Simulator]
    factors: list[dict[str, object]]
    entities: list[dict[str, object]]
    services: list[dict[str, object]]
    events: list[Event]
    dead_minutes: float = 0.0  # the exporter dies this long before the end

    def configure(self, folder: Path, interval: str, unverified_interval: str) -> Config:
        """Write the configuration into a folder and load it."""
        accounts: dict[str, dict[str, object]] = {
            name: {
                "account_sid": simulator.account_sid,
                "username": simulator.username,
                "password": simulator.password,
                "base_url": ADDRESS,
            }
            for name, simulator in self.accounts.items()
        }
        polling = {"interval": interval, "unverified_interval": unverified_interval, "timeout": "10s"}
        path = write_config(folder / "config.toml", accounts, self.factors, polling=polling)
        append_entries(path, "entities", *self.entities)
        append_entries(path, "services", *self.services)
        return load(path, environ={}, flags={})


class SimulatedTransport(httpx.AsyncBaseTransport):
    """A simulator behind httpx's transport interface, without sockets, so that virtual time can drive it."""

    def __init__(self, simulator: Simulator, rng: random.Random) -> None:
        self._simulator = simulator
        self._rng = rng
        simulator._api.base_url = ADDRESS

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer after some virtual milliseconds, with the simulator's faults."""
        simulator = self._simulator
        target = read_target(request.url.raw_path.decode().partition("?")[0], request.url.query.decode())
        applied = simulator.faults.apply(target)
        seconds = applied.latency_seconds + 0.06 + self._rng.expovariate(25)
        await asyncio.sleep(seconds)
        if applied.fault is not None and applied.fault.kind in wire.BREAKING:
            raise ConnectionResetError(104, "Connection reset by peer")
        now = simulator.clock()
        simulator.advance()
        answer = simulator._api.answer(request.method, target, request.headers.get("Authorization", ""), now)
        if applied.fault is not None:
            answer = wire.altered(applied.fault, answer, url=str(request.url), now=now)
        headers = {
            "Content-Type": answer.content_type,
            "Twilio-Request-Id": f"RQ{self._rng.getrandbits(128):032x}",
            "Twilio-Request-Duration": f"{0.7 * seconds:.3f}",
            **dict(answer.headers),
        }
        return httpx.Response(answer.status, headers=headers, content=answer.body)


def _few(clock: Callable[[], float]) -> World:
    """Return two accounts with the factors of a small site, two days old; one user enrols meanwhile.

    Some names have characters with a meaning in a regular expression or a label.
    """
    main, emea = (Simulator(seed=seed, clock=clock) for seed in (11, 12))
    then = clock() - 2 * _DAY
    factors: list[dict[str, object]] = []

    def add(simulator: Simulator, name: str, team: str, kind: str, status: str = "verified") -> str:
        factor = simulator.world.add_factor(now=then, factor_type=kind, status=status, friendly_name=name)
        account = "main" if simulator is main else "emea"
        factors.append(entry(name, factor, account=account, labels={"team": team}))
        return factor.sid

    names = {
        "payments-oncall": ("payments", "push"),
        "payments.oncall": ("payments", "totp"),
        "C++ builder": ("payments", "totp"),
        "a.b|c": ("payments", "push"),
        'say "hi"': ("support", "push"),
        "support-lead": ("support", "passkeys"),
        "billing-admin": ("billing", "totp"),
        "finance-director": ("billing", "push"),
        LOST: ("logistics", "push"),
        "legacy-gateway": ("logistics", "totp"),
    }
    sids = {name: add(main, name, *labels) for name, labels in names.items()}
    for name, kind in (("emea-oncall", "push"), ("emea-backup", "totp"), ("emea-desk", "passkeys")):
        sid = add(emea, name, "emea", kind)
        if kind == "passkeys":
            emea.world.approve(sid, now=clock() - 120 * _DAY)
    main.world.approve(sids["support-lead"], now=clock() - 5 * _MINUTE)
    newcomer = add(main, "new-hire", "people", "totp", "unverified")
    night, workforce = "night-shift", main.world.add_service(now=then, friendly_name="Workforce").sid
    service = main.factors[newcomer].service_sid
    for kind in ("push", "totp"):
        main.world.add_factor(now=then, identity=night, factor_type=kind)
        main.world.add_factor(now=then, service_sid=workforce, factor_type=kind)
    return World(
        {"main": main, "emea": emea},
        factors,
        [{"name": night, "account": "main", "service_sid": service, "identity": night}],
        [{"name": "workforce", "account": "main", "service_sid": workforce}],
        [
            Event(160, lambda: main.set_status(newcomer, FactorStatus.VERIFIED)),
            Event(130, lambda: main.set_status(sids["legacy-gateway"], FactorStatus.UNVERIFIED)),
            Event(110, lambda: main.set_status(sids["legacy-gateway"], FactorStatus.VERIFIED)),
        ],
    )


def _add_smaller_trouble(world: World, clock: Callable[[], float]) -> None:
    """Add an account whose name comes before the others, with a warning that must not come before the cause."""
    apac = Simulator(seed=14, clock=clock)
    then, name = clock() - 2 * _DAY, "apac-trainee"
    factor = apac.world.add_factor(now=then, factor_type="totp", status="unverified", friendly_name=name)
    world.accounts = {**world.accounts, "apac": apac}
    world.factors.append(entry(name, factor, account="apac", labels={"team": "apac"}))


def _many(clock: Callable[[], float]) -> World:
    """Return 2,000 factors, some of them not verified, at an API that refuses a few requests for many reasons."""
    simulator = Simulator(seed=13, clock=clock)
    seeded = small_world(simulator, 2000, random.Random(13))
    factors = [entry(one.name, one.factor, labels=one.labels) for one in seeded]
    for kind, status, share in (
        (FaultKind.STATUS, 503, 0.02),
        (FaultKind.STATUS, 500, 0.01),
        (FaultKind.STATUS, 429, 0.001),
        (FaultKind.RESET_BEFORE_HEADERS, None, 0.005),
    ):
        simulator.faults.add(Fault(kind, status=status, share=share))
    return World({"main": simulator}, factors, [], [], [])


def world_of(situation: Situation, clock: Callable[[], float]) -> World:
    """Return the world of a situation at its beginning."""
    if situation is Situation.MANY:
        return _many(clock)
    world = _few(clock)
    main = world.accounts["main"]
    match situation:
        case Situation.FACTOR_LOST:
            (sid,) = (sid for sid, factor in main.factors.items() if factor.friendly_name == LOST)
            world.events.append(Event(35, lambda: main.delete(sid)))
            _add_smaller_trouble(world, clock)
        case Situation.API_DOWN:
            world.events += [
                Event(45, lambda of=simulator: of.faults.add(Fault(FaultKind.STATUS, status=503)))  # type: ignore[misc]  # bound per account
                for simulator in world.accounts.values()
            ]
            _add_smaller_trouble(world, clock)
        case Situation.EXPORTER_DEAD:
            world.dead_minutes = 20.0
    return world


def live_through(situation: Situation, scraped: Callable[[float, str | None], None]) -> None:
    """Let an exporter live through a situation.

    ``scraped`` gets the Unix time and the text of each scrape, or None while the exporter is dead.
    """
    run_virtual(_live_through(situation, scraped))


async def _live_through(situation: Situation, scraped: Callable[[float, str | None], None]) -> None:
    loop, rng = asyncio.get_running_loop(), random.Random(7)
    clock = virtual_clock(lambda: situation.start_seconds + loop.time())
    world = world_of(situation, clock.wall)
    with tempfile.TemporaryDirectory() as folder:
        intervals = ("15m", "5m") if situation is Situation.MANY else ("5m", "1m")
        config = world.configure(Path(folder), *intervals)
    of_account = {of.account_sid: SimulatedTransport(of, rng) for of in world.accounts.values()}

    def transport(account: AccountSettings) -> httpx.AsyncBaseTransport:
        return of_account[account.account_sid]

    daemon = Daemon(config, transport=transport, clock=clock, rng=rng)
    for account in daemon.engine.poller.accounts.values():
        account._clients.current._monotonic = loop.time  # type: ignore[attr-defined]  # durations are virtual, too
    daemon.engine.start()
    seconds, events = situation.minutes * 60, sorted(world.events, key=lambda event: -event.minutes_ago)
    dead_from = seconds - world.dead_minutes * _MINUTE
    for second in range(seconds + 1):
        while events and second >= seconds - events[0].minutes_ago * _MINUTE:
            events.pop(0).happen()
        if second <= dead_from:
            daemon.engine.poller.dispatch()
            daemon.engine.discover()
            daemon.telemetry.loop_lagged(rng.expovariate(1 / _LOOP_LAG_SECONDS))
            if second % _HOUSEKEEPING_SECONDS == 0:
                await daemon.housekeeping()
        if second % situation.scrape_seconds == 0:
            alive = second <= dead_from
            scraped(
                situation.start_seconds + second,
                bytes(daemon.view.exposition(openmetrics=False)).decode() if alive else None,
            )
        await asyncio.sleep(max(0.0, second + 1 - loop.time()))
    await daemon.engine.poller.drain(0)
