"""An exporter through any sequence of damaged and replaced files: protection, watchlist and knowledge stay."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple
from unittest import mock

import aiohttp
import pytest
from hypothesis import HealthCheck, example, given, settings

from exporter.config import ConfigError
from exporter.simulator import Simulator
from tests.support.certificates import Certificates
from tests.support.config_files import account_of, entry, write_config
from tests.support.damaged_files import DamagedFiles, Step
from tests.support.https_exporter import MUTUAL, PAIR, client_context
from tests.support.passwords import HASHED, PASSWORD, header
from tests.support.processes import PATIENCE_SECONDS
from tests.support.running_exporter import Exporter, LeapingClock, running, until
from tests.support.scrape import Scrape

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from ssl import SSLContext

    from exporter.simulator import SimulatedFactor

pytestmark = pytest.mark.slow

HOUR_SECONDS = 3600.0
ACCOUNTS = ("main", "other")
USERS = f"basic_auth_users:\n  one: {HASHED}\n"
WEB_CONFIG = f"{MUTUAL}  client_allowed_sans: [prometheus.example]\n{USERS}"
OTHER_WEB_CONFIGS = (
    "rate_limit: {}\n",
    PAIR,
    USERS,
    PAIR + USERS,
    MUTUAL,
    MUTUAL + USERS,
    PAIR + "  client_auth_type: VerifyClientCertIfGiven\n  client_ca_file: ca.crt\n" + USERS,
    WEB_CONFIG.replace("  client_ca_file: ca.crt\n", ""),
    WEB_CONFIG + f"  two: {HASHED}\n",
)
FILES = (
    "config.toml",
    "web.yml",
    "w-a.toml",
    "w-b.csv",
    "main.password",
    "other.password",
    "server.crt",
    "server.key",
    "ca.crt",
)
REPLACED = ("config.toml", "web.yml", "w-a.toml", "w-b.csv", "main.password", "server.crt", "server.key")
STEPS = DamagedFiles(
    # Only the names count here: the contents belong to one run.
    directory=None,  # type: ignore[arg-type]  # nothing is written
    whole=dict.fromkeys(FILES, b""),
    others=dict.fromkeys(REPLACED, ()),
).steps(6)


class Known(NamedTuple):
    """What is known of a factor: its status, since when, whether that began in sight, and when it was verified."""

    status: str | None
    since_seconds: float | None
    change_seen: bool
    last_verified_seconds: float | None


@dataclass(slots=True)
class World:
    """A running exporter, its files, its API, and clients with and without a certificate."""

    exporter: Exporter
    files: DamagedFiles
    factors: dict[str, SimulatedFactor]
    clock: LeapingClock
    trusted: SSLContext
    stranger: SSLContext
    runner: asyncio.Runner
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def request(
        self, path: str, method: str = "GET", *, context: SSLContext | None = None, user: str = ""
    ) -> tuple[int, str]:
        """Send a request on a connection of its own."""
        connector = aiohttp.TCPConnector(ssl=context or self.trusted)
        headers = {"Authorization": header(user, PASSWORD)} if user else {}
        async with (
            aiohttp.ClientSession(
                connector=connector, headers=headers, timeout=aiohttp.ClientTimeout(PATIENCE_SECONDS)
            ) as session,
            session.request(method, self.exporter.url + path) as response,
        ):
            return response.status, await response.text()

    async def scrape(self) -> Scrape:
        """Scrape as Prometheus does, with certificate and password."""
        status, text = await self.request("/metrics", user="one")
        assert status == 200
        return Scrape(text)

    async def reload(self) -> bool:
        """Read every file again, as the exporter does when one changes; return whether the reload was applied."""
        await self.exporter.daemon.engine.passwords.reread_all()
        try:
            await self.exporter.daemon.reload()
        except ConfigError:
            return False
        return True

    def known(self) -> dict[str, Known]:
        """Return what is known of each factor by its name."""
        return {
            record.watched.name: Known(
                record.status,
                record.status_since_seconds,
                record.status_change_seen,
                record.last_verified_seconds,
            )
            for record in self.exporter.daemon.engine.ledger
        }


def table(name: str, factor: SimulatedFactor, account: str) -> str:
    """Return the entry of a factor in a TOML file."""
    keys = entry(name, factor, account=account)
    return "[[factors]]\n" + "".join(f'{key} = "{value}"\n' for key, value in keys.items())


def listing(rows: dict[str, SimulatedFactor], account: str) -> str:
    """Return a CSV file of factors."""
    lines = [f"{name},{account},{of.service_sid},{of.identity},{of.sid}" for name, of in rows.items()]
    return "\n".join(["name,account,service_sid,identity,factor_sid", *lines, ""])


def files_of(directory: Path, simulator: Simulator, factors: dict[str, SimulatedFactor]) -> DamagedFiles:
    """Return the files of a configuration that protects everything, and what they may be replaced by."""
    one, two, three, four = factors

    def config(**tables: Mapping[str, object]) -> bytes:
        accounts = {
            name: account_of(simulator, password=None, password_file=f"{name}.password") for name in ACCOUNTS
        }
        keys = {
            "web": tables.pop("web", {"config_file": "web.yml"}),
            "watchlist": tables.pop("watchlist", {"files": ["w-*.toml", "w-*.csv"]}),
            "polling": {"interval": "1h", "unverified_interval": "1h", "stale_after": 10_000},
        }
        return write_config(directory / "config.toml", accounts, (), **keys, **tables).read_bytes()

    first = table(one, factors[one], "main") + table(two, factors[two], "main")
    last = table(three, factors[three], "other")
    whole = {
        "web.yml": WEB_CONFIG,
        "w-a.toml": first + last,
        "w-b.csv": listing({four: factors[four]}, "other"),
        "main.password": simulator.password + "\n",
        "other.password": simulator.password,
    }
    others = {
        "web.yml": OTHER_WEB_CONFIGS,
        "w-a.toml": ("factors = []\n", first, last, table(two, factors[two], "main"), whole["w-b.csv"]),
        "w-b.csv": (listing({}, "other"), listing({three: factors[three]}, "other"), "factors = []\n"),
        "main.password": ("wrong-password-1", simulator.password),
    }
    return DamagedFiles(
        directory,
        {name: text.encode() for name, text in whole.items()}
        | {name: (directory / name).read_bytes() for name in ("server.crt", "server.key", "ca.crt")}
        | {"config.toml": config()},
        {name: [text.encode() for text in texts] for name, texts in others.items()}
        | {
            name: [(directory / name.replace("server", "other")).read_bytes()]
            for name in ("server.crt", "server.key")
        }
        | {
            "config.toml": [
                config(web={}),
                config(web={"config_file": "web.yml", "enable_lifecycle": True}),
                config(web={"config_file": "web.yml", "enable_probe": True}),
                config(metrics={"identity": "plain"}),
                config(sharding={"shard": "0/2"}),
                config(watchlist={"files": ["w-*.toml"]}),
                config(watchlist={"files": []}),
            ],
        },
    )


async def start(runner: asyncio.Runner, directory: Path) -> World:
    """Start an exporter that knows all its factors, one of them with a change of status."""
    Certificates.make(directory)
    stack = AsyncExitStack()
    simulator = await stack.enter_async_context(Simulator(seed=7))
    factors = {name: simulator.add_factor() for name in ("one", "two", "three", "four")}
    files = files_of(directory, simulator, factors)
    files.restore()
    clock = LeapingClock()
    exporter = await stack.enter_async_context(running(directory / "config.toml", clock=clock))
    trusted, stranger = client_context(directory, "client"), client_context(directory)
    world = World(exporter, files, factors, clock, trusted, stranger, runner, stack)
    clock.leap(HOUR_SECONDS)
    await until(world.scrape, lambda page: page.counts()["verified"] == len(factors))
    simulator.set_status(factors["two"].sid, "unverified")
    clock.leap(HOUR_SECONDS)
    await until(world.scrape, lambda page: page.factor("verified", "two") == 0)
    return world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with (
        mock.patch("exporter.daemon.jobs.DISPATCH_SECONDS", 0.1),
        mock.patch("exporter.daemon.jobs.WATCH_SECONDS", HOUR_SECONDS),  # the test itself says when files are read
        asyncio.Runner() as runner,
    ):
        world = runner.run(start(runner, tmp_path_factory.mktemp("files")))
        try:
            yield world
        finally:
            runner.run(world.stack.aclose())


async def see_protection(world: World) -> Scrape:
    """See that nobody gets in without certificate and password, that what is closed is closed; return a scrape."""
    with pytest.raises((aiohttp.ClientError, OSError)):
        await world.request("/metrics", context=world.stranger, user="one")
    assert (await world.request("/metrics"))[0] == 401
    assert (await world.request("/-/reload", "POST", user="one"))[0] == 403
    assert (await world.request("/probe?factor=one", user="one"))[0] == 403
    page = await world.scrape()
    assert page.value("twilio_verify_exporter_web_tls_enabled") == 1
    assert page.value("twilio_verify_exporter_web_auth_enabled") == 1
    assert not any(factor.identity in page.text for factor in world.factors.values())
    return page


def watched(page: Scrape) -> set[tuple[str, str]]:
    """Return the account and the name of each factor."""
    return {
        (sample.labels["account"], sample.labels["factor"]) for sample in page.samples("twilio_verify_factor_info")
    }


def config_hash(page: Scrape) -> str:
    """Return the hash of the running configuration."""
    (sample,) = page.samples("twilio_verify_exporter_config_hash_info")
    return sample.labels["sha256"]


async def live_through(world: World, steps: list[Step]) -> None:
    """Let the files suffer these steps, each followed by a reload; then restore them."""
    world.files.restore()
    assert await world.reload()
    running_page = whole_page = await see_protection(world)
    before, kept = world.known(), set(world.factors)
    for how, name, number in steps:
        world.files.damage(how, name, number)
        applied = await world.reload()
        page = await see_protection(world)
        assert page.value("twilio_verify_exporter_config_last_reload_successful") == applied
        assert {account for account, _ in watched(page)} == {*ACCOUNTS}
        if not applied:
            assert watched(page) == watched(running_page)
            assert config_hash(page) == config_hash(running_page)
        running_page = page
        kept &= {factor for _, factor in watched(page)}
    world.files.restore()
    assert await world.reload()
    page = await see_protection(world)
    assert watched(page) == watched(whole_page)
    assert config_hash(page) == config_hash(whole_page)
    assert page.value("twilio_verify_exporter_config_last_reload_successful") == 1
    after = world.known()
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}


async def see_fetches(world: World) -> None:
    """See that every factor is fetched again."""
    name = "twilio_verify_factor_last_success_timestamp_seconds"
    before = world.clock.wall()
    world.clock.leap(HOUR_SECONDS)
    page = await until(
        world.scrape,
        lambda page: len([sample for sample in page.samples(name) if sample.value > before]) == len(world.factors),
    )
    assert {sample.value for sample in page.samples("twilio_verify_credentials_valid")} == {1}


@given(STEPS)
@example([("cut", "web.yml", 0)])
@example([("cut", "web.yml", len(PAIR))])
@example([("replace", "web.yml", number) for number in range(len(OTHER_WEB_CONFIGS))])
@example([("replace", "config.toml", number) for number in range(7)])
@example([("cut", "w-a.toml", 0), ("cut", "w-b.csv", 0), ("cut", "config.toml", 0)])
@example([("remove", "w-a.toml", 0), ("remove", "w-b.csv", 0), ("remove", "main.password", 0)])
@example([("replace", "w-a.toml", 0), ("replace", "w-b.csv", 0)])
@example([("replace", "w-a.toml", 1), ("replace", "w-a.toml", 2), ("replace", "w-a.toml", 3)])
@example([("unreadable", name, 0) for name in FILES])
@example(
    [(how, name, 0) for how in ("pipe", "directory", "loop") for name in ("w-a.toml", "web.yml", "server.key")]
)
@example([("replace", "server.crt", 0), ("replace", "server.key", 0)])
@example([("replace", "main.password", 0), ("cut", "other.password", 5)])
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_is_lost_by_what_becomes_of_files(world: World, steps: list[Step]) -> None:
    async def run() -> None:
        await live_through(world, steps)
        await see_fetches(world)

    world.runner.run(run())
