"""An exporter whose configuration protects everything, its files, and what must stay whatever becomes of them."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import aiohttp
import pytest

from exporter.config import ConfigError
from exporter.simulator import Simulator
from tests.support.certificates import Certificates
from tests.support.config_files import account_of, entry, write_config
from tests.support.damaged_files import DamagedFiles
from tests.support.https_exporter import MUTUAL, PAIR, client_context
from tests.support.passwords import HASHED, PASSWORD, header
from tests.support.processes import PATIENCE_SECONDS
from tests.support.running_exporter import Exporter, LeapingClock, running, until
from tests.support.scrape import Scrape

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from ssl import SSLContext

    from exporter.simulator import SimulatedFactor

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
OTHER_CONFIGS: tuple[Mapping[str, Mapping[str, object]], ...] = (
    {"web": {}},
    {"web": {"config_file": "web.yml", "enable_lifecycle": True}},
    {"web": {"config_file": "web.yml", "enable_probe": True}},
    {"metrics": {"identity": "plain"}},
    {"sharding": {"shard": "0/2"}},
    {"watchlist": {"files": ["w-*.toml"]}},
    {"watchlist": {"files": []}},
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
# Files that may be replaced by other valid ones.
REPLACED = ("config.toml", "web.yml", "w-a.toml", "w-b.csv", "main.password", "server.crt", "server.key")


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
    whole = {
        "web.yml": WEB_CONFIG,
        "w-a.toml": first,
        "w-b.csv": listing({three: factors[three], four: factors[four]}, "other"),
        "main.password": simulator.password + "\n",
        "other.password": simulator.password,
    }
    others = {
        "web.yml": OTHER_WEB_CONFIGS,
        "w-a.toml": (
            "factors = []\n",
            table(two, factors[two], "main"),
            table(three, factors[three], "other"),
            first + table(three, factors[three], "other"),
            whole["w-b.csv"],
        ),
        "w-b.csv": (listing({}, "other"), listing({four: factors[four]}, "other"), "factors = []\n"),
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
            "config.toml": [config(**tables) for tables in OTHER_CONFIGS],
        },
    )


async def start(directory: Path) -> World:
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
    world = World(exporter, files, factors, clock, trusted, stranger, stack)
    clock.leap(HOUR_SECONDS)
    await until(world.scrape, lambda page: page.counts()["verified"] == len(factors))
    simulator.set_status(factors["two"].sid, "unverified")
    clock.leap(HOUR_SECONDS)
    await until(world.scrape, lambda page: page.factor("verified", "two") == 0)
    return world


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
