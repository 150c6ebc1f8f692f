"""From a factor that falls back to unverified to the page of its team: nothing between them is made up.

The simulator, the exporter as a process, Prometheus with the shipped scrape configuration and rules, Alertmanager
with the shipped routes. Changed by rule (:mod:`tools.stack.shortened`): addresses, and each wait is a thirtieth.
"""

from __future__ import annotations

import asyncio
import functools
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest

from exporter.cli.simulate import write_config
from exporter.simulator import Fault, FaultKind, SeededFactor, Simulator
from tests.external.test_alertmanager import VERSIONS
from tests.external.test_alertmanager import binary_of as alertmanager_of
from tests.support.programs.alertmanager import known_alerts
from tests.support.running_exporter import Site, becomes, until
from tools.stack.programs import LOOPBACK, Program, alertmanager, port_or_free, prometheus, running, stop
from tools.stack.receiver import Notification, Receiver, receiving
from tools.stack.shortened import job_of, receivers_at, scraping, shortened_routes, shortened_rules

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.support.fixtures import Program as Finder

    Recorder = Callable[[str, object], None]

pytestmark = pytest.mark.external

GRAFANA = Path(__file__).parents[2] / "grafana"
EXAMPLE = GRAFANA / "prometheus" / "prometheus.yaml"
ROUTES = GRAFANA / "alertmanager" / "alertmanager.yaml"
RULES = ("verify-factor-exporter.rules.yaml", "watchdog.rules.yaml")
TIMES = 30.0
JOB, OTHER_JOB = job_of(EXAMPLE.read_text()), "of-an-api-that-is-down"
FACTORS = 12  # of each exporter
QUICK = {"interval": "2s", "unverified_interval": "1s", "not_found_interval": "2s"}


@dataclass(slots=True)
class Watched:
    """A simulator, and the configuration of an exporter that fetches from it."""

    simulator: Simulator
    factors: list[SeededFactor]
    config: Path


def watched(folder: Path, simulator: Simulator, intervals: Mapping[str, str] = QUICK) -> Watched:
    """Fill a simulator with verified factors of two teams and write the configuration of their exporter."""
    factors = [
        SeededFactor(
            f"factor-{number:02}",
            simulator.add_factor(status="verified"),
            {"team": "payments" if number % 2 else "people"},
        )
        for number in range(FACTORS)
    ]
    config = folder / "config.toml"
    folder.mkdir()
    write_config(config, simulator, factors)
    text = config.read_text()
    for key, value in intervals.items():
        text = text.replace(f"\n{key} = ", f'\n{key} = "{value}"  # was ')
    text = text.replace("\n[accounts.main]", "max_attempts = 1\n\n[accounts.main]\nrequests_per_second = 50", 1)
    config.write_text(text + '\n[state]\nfile = "state.jsonl"\n')
    return Watched(simulator, factors, config)


async def exporter(stack: AsyncExitStack, world: Watched, port: int) -> Program:
    """Run an exporter at this port, as a process of its own."""
    address = f"{LOOPBACK}:{port}"
    command = [sys.executable, "-m", "exporter", "run", "--config.file", str(world.config)]
    command.append(f"--web.listen-address={address}")
    return await stack.enter_async_context(running("exporter", command, f"http://{address}", "/-/healthy"))


async def seen_by(session: aiohttp.ClientSession, program: Program) -> None:
    """Wait until an exporter has seen each of its factors verified."""
    site = Site(session, program.url)
    await site.shows(lambda scrape: scrape.counts()["verified"] == FACTORS)


@dataclass(slots=True)
class ServedExporter:
    """Prometheus and Alertmanager, and the notifications they sent."""

    receiver: Receiver
    session: aiohttp.ClientSession
    alertmanager: str
    prometheus: str

    async def states(self, alertname: str, **labels: str) -> list[str]:
        """Return the state of each alert of that name which Alertmanager knows."""
        return [
            known["status"]["state"]
            for known in await known_alerts(self.session, self.alertmanager)
            if known["labels"]["alertname"] == alertname and labels.items() <= known["labels"].items()
        ]

    async def value(self, expression: str) -> float | None:
        """Return the one value of a query, if there is one."""
        async with self.session.get(f"{self.prometheus}/api/v1/query", params={"query": expression}) as answer:
            found = (await answer.json())["data"]["result"]
        return float(found[0]["value"][1]) if len(found) == 1 else None

    async def firing(self, receiver: str, alertname: str) -> Notification:
        """Wait for a page and return it."""
        await becomes(lambda: self.receiver.firing(receiver, alertname))
        return self.receiver.firing(receiver, alertname)[0]


async def start_stack(
    stack: AsyncExitStack,
    session: aiohttp.ClientSession,
    folder: Path,
    binaries: tuple[str, str],
    targets: dict[str, list[str]],
) -> ServedExporter:
    """Start Prometheus and Alertmanager with what is shipped, hastened."""
    receiver = await stack.enter_async_context(receiving())
    routes = folder / "alertmanager.yaml"
    routes.write_text(receivers_at(shortened_routes(ROUTES.read_text(), TIMES), ROUTES.parent, receiver.url))
    pager = await stack.enter_async_context(alertmanager(binaries[1], routes, folder / "alertmanager"))
    rules = folder / "rules"
    rules.mkdir()
    for name in RULES:
        (rules / name).write_text(shortened_rules((GRAFANA / "rules" / name).read_text(), TIMES))
    config = folder / "prometheus.yaml"
    config.write_text(
        scraping(
            EXAMPLE.read_text(),
            targets=targets,
            alertmanager=pager.address,
            rules=rules / "*.yaml",
            every="1s",
        )
    )
    server = await stack.enter_async_context(
        prometheus(binaries[0], config, folder / "prometheus", resend_delay="2s")
    )
    return ServedExporter(receiver, session, pager.url, server.url)


def binaries_of(version: str, program: Finder, newer_program: Finder) -> tuple[str, str]:
    scraper = (
        newer_program("PROMETHEUS3")
        if version == "newer"
        else program("prometheus", install="apt-get install prometheus")
    )
    return scraper, alertmanager_of("prometheus-alertmanager", version, program, newer_program)


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_trouble_is_one_page(
    program: Finder, newer_program: Finder, tmp_path: Path, version: str, record_property: Recorder
) -> None:
    binaries = binaries_of(version, program, newer_program)
    async with AsyncExitStack() as stack:
        worlds = [
            watched(tmp_path / name, await stack.enter_async_context(Simulator(seed=number)))
            for number, name in enumerate(("well", "down"))
        ]
        well, down = worlds
        # A second port is there from the start: the instance that a restarted pod will have.
        ports = [port_or_free() for _ in range(3)]
        session = await stack.enter_async_context(aiohttp.ClientSession())
        before, other = await asyncio.gather(exporter(stack, well, ports[0]), exporter(stack, down, ports[2]))
        await asyncio.gather(seen_by(session, before), seen_by(session, other))
        # The API goes down before the first scrape, so Prometheus sees only failed requests.
        down.simulator.faults.add(Fault(FaultKind.STATUS, status=503))
        addresses = [f"{LOOPBACK}:{port}" for port in ports]
        targets = {JOB: addresses[:2], OTHER_JOB: addresses[2:]}
        place = await start_stack(stack, session, tmp_path, binaries, targets)
        delay_seconds = await see_a_page_of_the_team(place, well)
        await see_a_restart_page_nobody(stack, place, well, before, ports[1])
        await see_one_page_for_the_api(place)

    record_property("seconds_from_flip_to_page", round(delay_seconds, 1))
    print(f"{delay_seconds:.1f} s from the flip to the page, each wait a {TIMES:g}th of what is shipped")
    pages = Counter((page.receiver, page.alertname) for page in place.receiver.firing())
    assert pages.pop(("dead-mans-service", "TwilioVerifyWatchdog")) > 1
    # On a busy machine the exporter may take longer to start again than the alert on it waits.
    pages.pop(("ops-pager", "TwilioVerifyExporterDown"), None)
    assert pages == {
        ("payments-pager", "TwilioVerifyFactorRegressed"): 1,
        ("ops-pager", "TwilioVerifyAPIDown"): 1,
    }


async def see_a_page_of_the_team(place: ServedExporter, world: Watched) -> float:
    """Let a factor of a team fall back, and return how many seconds later the team has its page."""
    every = functools.partial(place.value, f'count(factor:twilio_verify_factor:last_known_state{{job="{JOB}"}})')
    await until(every, lambda count: count == FACTORS)
    name, factor, labels = world.factors[1]
    flipped_seconds = time.time()
    world.simulator.set_status(factor.sid, "unverified")
    page = await place.firing("payments-pager", "TwilioVerifyFactorRegressed")

    (alert,) = page.alerts
    assert alert["labels"] == labels | {
        "alertname": "TwilioVerifyFactorRegressed",
        "severity": "critical",
        "cluster": "main",
        "job": JOB,
        "account": "main",
        "service_sid": factor.service_sid,
        "factor": name,
    }
    assert name in alert["annotations"]["description"]
    assert urlsplit(alert["annotations"]["runbook_url"]).path.endswith("/TwilioVerifyFactorRegressed.md")
    dashboard = urlsplit(alert["annotations"]["dashboard_url"])
    assert parse_qs(dashboard.query)["var-factor"] == [name]
    return page.at_seconds - flipped_seconds


async def see_a_restart_page_nobody(
    stack: AsyncExitStack, place: ServedExporter, world: Watched, before: Program, port: int
) -> None:
    """Restart the exporter under another instance label: the alert continues unchanged."""
    await stop(before.process)
    assert before.process.returncode == 0, "".join(before.log)
    after = await exporter(stack, world, port)
    # A message of a group that changed would be sent after its interval: 10 of these scrapes, a second apart.
    series = f'twilio_verify_factor_verified{{instance="{after.address}", factor="factor-01"}}'
    scrapes = functools.partial(place.value, f"count_over_time({series}[2m])")
    await until(scrapes, lambda count: count is not None and count >= 15)

    assert await place.states("TwilioVerifyFactorRegressed") == ["active"]
    assert [page.firing for page in place.receiver.notifications if page.receiver == "payments-pager"] == [True]


async def see_one_page_for_the_api(place: ServedExporter) -> None:
    """See that the outage is one page, and that stale data, which follows it, is silent."""
    page = await place.firing("ops-pager", "TwilioVerifyAPIDown")
    (alert,) = page.alerts
    assert alert["labels"]["job"] == OTHER_JOB
    stale = functools.partial(place.states, "TwilioVerifyDataStale", job=OTHER_JOB)
    assert await until(stale, bool) == ["suppressed"]
