"""The fault matrix run against the daemon: each row verified first, then in its outage, then recovered."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import random
import re
import socket
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from exporter.logs.output import EventFormatter
from exporter.simulator import Fault, Simulator
from exporter.verify.outcome import Reason
from tests.support.config_files import account_of, app_of, entry, write_config
from tests.support.processes import PATIENCE_SECONDS
from tests.support.proofs.fault_matrix import ATTEMPTS, Outage, Row
from tests.support.proofs.server_outages import NAME, Certificates, Server
from tests.support.running_exporter import LeapingClock, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from exporter.simulator import SimulatedFactor
    from tests.support.running_exporter import Exporter
    from tests.support.scrape import Scrape

INTERVAL_SECONDS = 360_000.0  # so long that no factor falls due by itself, however slow the machine
AMPLE = "60s"  # both sides share a loop, which a bomb keeps busy: nothing else is to be late
SHORT = "1500ms"  # for the rows about late answers
EXISTS = "twilio_verify_service_exists"
REQUESTS = "twilio_verify_api_requests_total"
STEADY = ("last_success_timestamp_seconds", "last_verified_timestamp_seconds", "created_timestamp_seconds")


class Shortest(random.Random):
    """Backoffs of next to no length: the matrix is about what is retried, not about when."""

    def uniform(self, a: float, b: float) -> float:
        return min(0.01, b)


class Longest(random.Random):
    """Backoffs as long as they may be, where a pause is to be seen."""

    def uniform(self, a: float, b: float) -> float:
        return max(a, b)


@dataclass
class Seen:
    """What was seen of a row: its lines in the log, and the scrapes before, while and after it was struck."""

    row: Row
    before: Scrape
    struck: Scrape
    after: Scrape
    log: list[str] = field(default_factory=list)


@dataclass
class _World:
    """The simulators, and which serves which row."""

    shared: Simulator
    folder: Path
    certificates: Certificates
    servers: dict[str, Server] = field(default_factory=dict)
    factors: dict[str, SimulatedFactor] = field(default_factory=dict)
    passwords: dict[str, Path] = field(default_factory=dict)

    def simulator_of(self, row: Row) -> Simulator:
        return self.servers[row.account].simulator if row.account in self.servers else self.shared

    def secret_of(self, row: Row) -> str:
        """Return the password of a row's account, or its client secret."""
        simulator = self.simulator_of(row)
        return simulator.oauth.client_secret if row.token else simulator.password


@contextlib.asynccontextmanager
async def _world(rows: Sequence[Row]) -> AsyncIterator[_World]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        certificates = Certificates(folder)
        world = _World(Simulator(seed=1), folder, certificates)
        await world.shared.start(host="127.0.0.1", ssl_context=certificates.context())
        try:
            for number, row in enumerate(rows):
                outage = row.made_by if isinstance(row.made_by, Outage) else None
                if row.token or outage is not None:
                    server = Server(outage, certificates, Simulator(seed=100 + number))
                    world.servers[row.account] = server
                    await server.start()
                service = world.simulator_of(row).add_service(service_sid=f"VA{number + 1:032x}")
                world.factors[row.account] = world.simulator_of(row).add_factor(service_sid=service.sid)
            yield world
        finally:
            await world.shared.stop()
            for server in world.servers.values():
                await server.stop()


def _config(world: _World, rows: Sequence[Row], max_attempts: int, timeout: str) -> Path:
    accounts, entries = {}, []
    port = world.shared.base_url.rpartition(":")[2]
    for row in rows:
        simulator, factor = world.simulator_of(row), world.factors[row.account]
        server = world.servers.get(row.account)
        password = world.folder / f"{row.account}.password"
        password.write_text(world.secret_of(row), encoding="utf-8")
        world.passwords[row.account] = password
        url = server.base_url if server else f"https://localhost:{port}"
        account = account_of(simulator, password=None, password_file=str(password))
        if row.token:
            account = app_of(
                simulator, client_secret=None, client_secret_file=str(password), token_url=f"{url}/v2/token"
            )
        accounts[row.account] = account | {"base_url": url, "ca_file": str(world.certificates.ca_file)}
        entries.append(entry(row.account, factor, account=row.account))
        for name in row.names_of_others:
            other = simulator.add_factor(service_sid=factor.service_sid)
            entries.append(entry(name, other, account=row.account))
    polling = {
        "interval": "100h",
        "unverified_interval": "100h",
        "not_found_interval": "200h",
        "timeout": timeout,
        "max_attempts": max_attempts,
        "stale_after": 16,
    }
    return write_config(world.folder / "config.toml", accounts, entries, polling=polling)


async def run(
    rows: Sequence[Row],
    *,
    max_attempts: int = ATTEMPTS,
    jitter: type[random.Random] = Shortest,
    attempt_timeout: str = AMPLE,
    still: bool = False,
) -> dict[str, Seen]:
    """Strike every row and hint it, all at once; return what was seen by the rows' names.

    The short timeout holds only while rows are struck: all else has time, however slow the machine is.
    """
    async with _world(rows) as world:
        path = _config(world, rows, max_attempts, AMPLE)
        clock = LeapingClock()
        with written_lines() as lines, _haste(world):
            async with running(path, clock=clock, rng=jitter()) as exporter:
                clock.leap(INTERVAL_SECONDS)
                before = await _until(exporter, rows, _all_are_answered)
                await _strike(world, rows)
                _forget_names(exporter, rows)
                if attempt_timeout != AMPLE:
                    _config(world, rows, max_attempts, attempt_timeout)
                    await exporter.daemon.reload()
                if still:
                    clock.stop()
                quiet = len(lines())
                clock.leap(INTERVAL_SECONDS)
                struck = await _until(exporter, rows, lambda page, row: _is_struck(page, before, row))
                await asyncio.sleep(0.3)  # for whatever else would happen
                struck = await exporter.scrape()
                logged = lines()[quiet:]
                if attempt_timeout != AMPLE:
                    _config(world, rows, max_attempts, AMPLE)
                    await exporter.daemon.reload()
                await _hint(world, rows)
                clock.leap(2 * INTERVAL_SECONDS)
                after = await _until(exporter, rows, lambda page, row: _has_recovered(page, struck, row))
        everything = "\n".join(lines())
        for factor in world.factors.values():
            assert factor.identity not in everything
        for row in rows:
            assert world.secret_of(row) not in everything
    return {row.name: Seen(row, before, struck, after, _lines_of(logged, row)) for row in rows}


def _lines_of(lines: list[str], row: Row) -> list[str]:
    mark = re.compile(rf"(account|factor)={re.escape(row.account)}(-other)?( |$)")
    return [line for line in lines if mark.search(line)]


async def _until(exporter: Exporter, rows: Sequence[Row], holds: Any) -> Scrape:
    loop = asyncio.get_running_loop()
    end = loop.time() + PATIENCE_SECONDS
    while True:
        page = await exporter.scrape()
        missing = [row.name for row in rows if not holds(page, row)]
        if not missing:
            return page
        assert loop.time() < end, f"not in time: {missing}"
        await asyncio.sleep(0.05)


def _all_are_answered(page: Scrape, row: Row) -> bool:
    return all(page.factor("verified", name) == 1 for name in (row.account, *row.names_of_others))


def _is_struck(page: Scrape, before: Scrape, row: Row) -> bool:
    if isinstance(row.result, Reason):
        return page.factor("up", row.account) == 0 and (
            not row.paused or page.value("twilio_verify_api_paused", account=row.account) == 1
        )
    name = "last_success_timestamp_seconds"
    fetched = page.value(REQUESTS, account=row.account, operation="service", code=row.service_code)
    known = page.value(EXISTS, account=row.account)
    newer = (page.factor(name, row.account) or 0) > (before.factor(name, row.account) or 0)
    return newer and fetched == 1 and known == row.service_exists


def _has_recovered(page: Scrape, struck: Scrape, row: Row) -> bool:
    name = "last_success_timestamp_seconds"
    newer = (page.factor(name, row.account) or 0) > (struck.factor(name, row.account) or 0)
    if row.service_exists is False and page.value(EXISTS, account=row.account) != 1:
        return False
    return newer and page.factor("verified", row.account) == 1 and page.factor("up", row.account) == 1


async def _strike(world: _World, rows: Sequence[Row]) -> None:
    for row in rows:
        match row.made_by:
            case Outage():
                await world.servers[row.account].begin_outage()
            case Fault() as fault if row.token:
                world.simulator_of(row).faults.add(fault)
            case Fault() as fault:
                factor = world.factors[row.account]
                document = {name: getattr(fault, name) for name in fault.__slots__ if name != "factor_sid"}
                only = {"factor_sid": factor.sid} if row.names_of_others else {"service_sid": factor.service_sid}
                world.shared.faults.add(Fault(**(document | only)))


def _forget_names(exporter: Exporter, rows: Sequence[Row]) -> None:
    """Give accounts whose name server fails a fresh client: one that runs keeps an address for some seconds."""
    daemon = exporter.daemon
    for row in rows:
        if row.made_by is Outage.NO_NAME:
            daemon.engine.poller.accounts[row.account].replace_client(
                daemon.engine.new_client(daemon.engine.config, row.account)
            )


async def _hint(world: _World, rows: Sequence[Row]) -> None:
    world.shared.faults.clear()
    for row in rows:
        if row.account in world.servers:
            await world.servers[row.account].recover()
            world.passwords[row.account].write_text(world.secret_of(row), encoding="utf-8")


@contextlib.contextmanager
def _haste(world: _World) -> Iterator[None]:
    """Let ticks, file watches, probes and token requests come soon, and resolve the one made-up name."""
    ask = socket.getaddrinfo

    def resolve(host: Any, *arguments: Any, **options: Any) -> Any:
        if host != NAME:
            return ask(host, *arguments, **options)
        if any(server.name_fails for server in world.servers.values()):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return ask("127.0.0.1", *arguments, **options)

    with (
        mock.patch("exporter.daemon.jobs.DISPATCH_SECONDS", 0.1),
        mock.patch("exporter.daemon.jobs.WATCH_SECONDS", 0.2),
        mock.patch("exporter.polling.refusals.PROBE_SECONDS", 0.5),
        mock.patch("exporter.polling.token.SPACING_SECONDS", 0.2),
        mock.patch("socket.getaddrinfo", resolve),
    ):
        yield


@contextlib.contextmanager
def written_lines() -> Iterator[Any]:
    """Gather what the daemon logs, in the form that it is written in, with nothing taken out."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(EventFormatter("logfmt", lambda text: text))  # type: ignore[arg-type]  # nothing is redacted here
    log = logging.getLogger("exporter")
    before = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield lambda: stream.getvalue().splitlines()
    finally:
        log.removeHandler(handler)
        log.setLevel(before)
