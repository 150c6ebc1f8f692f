"""Every query of every board answers on a real Prometheus that scrapes an exporter with all kinds of factors."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from exporter.simulator import Action, Fault, FaultKind, Script, Simulator, Step
from grafana.boards.colours import NO_EVENTS
from grafana.rules.factors import STATE
from grafana.rules.factors import group as factor_rules
from grafana.rules.model import Group, Settings
from grafana.rules.render import document
from tests.external.test_prometheus import Prometheus, free_port
from tests.support.config_files import account_of, entry, write_config
from tests.support.dashboards.files import board, boards, events, filled, targets, variables
from tests.support.dashboards.interpolation import interpolated
from tests.support.processes import PATIENCE_SECONDS, spawned
from tests.support.running_exporter import running, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping
    from pathlib import Path

    from tests.support.fixtures import Program
    from tests.support.running_exporter import Exporter

pytestmark = pytest.mark.external

RANGE_SECONDS = 120
IDENTITY = "0f6d7c5e-night-shift"
NAMES = ("C++ builder", "a.b|c", 'say "hi"', "payments.oncall", "payments-oncall", "CORP\\service")
EMPTY = {
    (
        "twilio-verify-exporter",
        "Retries and client rotations",
        "B",
    ): "clients are only replaced after network faults that this test can't cause; no increase is not drawn",
    ("twilio-verify-overview", "Watched services", "A"): "no service is watched as a whole",
    ("twilio-verify-overview", "Watched services", "B"): "no service is watched as a whole",
    ("twilio-verify-exporter", "Watchlist URLs", "A"): "no watchlist URL is configured",
    ("twilio-verify-exporter", "Age of the answers of watchlist URLs", "A"): "no watchlist URL is configured",
    ("twilio-verify-exporter", "Lost scheduler runs", "A"): "the scheduler loses no runs in normal operation",
    ("twilio-verify-exporter", "Late fetches", "A"): "no fetch starts a minute late in normal operation",
    ("twilio-verify-exporter", "Failed saves of the state file", "A"): "no save fails in normal operation",
}
CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: [rules.yml, recordings.yml]
scrape_configs:
  - job_name: verify-factor-exporter
    static_configs: [{{targets: ["{address}"]}}]
"""
# The real alerts wait for minutes; these replace them: two fire immediately, one stays pending.
RULES = """
groups:
  - name: stand-ins
    rules:
      - alert: TwilioVerifyFiring
        expr: max without (instance) (twilio_verify_factor_verified) == 0
        labels: {severity: critical}
      - alert: TwilioVerifyAccount
        expr: max by (job, account) (twilio_verify_credentials_valid) == 1
        labels: {severity: critical}
      - alert: TwilioVerifyPending
        expr: max without (instance) (twilio_verify_factor_exists) == 0
        for: 1h
        labels: {severity: warning}
      - alert: TwilioVerifyWatchdog
        expr: vector(1)
        labels: {severity: none}
"""
# As Grafana fills them in, with a scrape each second. The range is three periods of the restless factors: one that
# was verified at its beginning is verified at its end, too.
SHORT = {
    "__rate_interval": "5s",
    "__interval": "1s",
    "__interval_ms": "1000",
    "__range": "18s",
    "__from": "0",
    "__to": "1e15",
}
# Without the recording rules, and with them.
COMPUTED, RECORDED = SHORT | {"recorded": "()"}, SHORT | {"recorded": "verify-factor-exporter"}


def restless(first: Action, second: Action) -> Script:
    """Return a script that goes to and fro, so that some change is always recent."""
    return Script((Step(3, first), Step(6, second)), 6)


def seeded(simulator: Simulator) -> list[dict[str, object]]:
    """Fill a simulator, and return the entries of a watchlist: factors in all states, of two services and teams."""
    other = simulator.add_service(friendly_name="other").sid
    simulator.add_factor(identity=IDENTITY)
    simulator.add_factor(identity=IDENTITY, status="unverified")
    failing = simulator.add_factor()
    simulator.faults.add(Fault(FaultKind.STATUS, status=503, factor_sid=failing.sid))
    passkey = simulator.add_factor(factor_type="passkeys")
    simulator.approve(passkey.sid)
    unused = simulator.add_factor(factor_type="passkeys")
    simulator.world.approve(unused.sid, now=time.time() - 100 * 86400)
    payments, people = {"team": "payments"}, {"team": "people"}
    return [
        entry("verified", simulator.add_factor(factor_type="push"), labels=payments),
        entry("passkey", passkey),
        entry("unused", unused),
        entry("unverified", simulator.add_factor(status="unverified", service_sid=other), labels=people),
        entry("deleted", simulator.add_factor(status="deleted"), labels=people),
        entry("failing", failing, labels=payments),
        entry("paused", simulator.add_factor(), paused=True),
        entry("enrolling", simulator.add_factor(factor_type="push", script=restless(Action.ENROL, Action.VERIFY))),
        entry("flips", simulator.add_factor(script=restless(Action.UNVERIFY, Action.VERIFY)), labels=payments),
        entry('odd "name" \\ (日本)', simulator.add_factor(script=restless(Action.DELETE, Action.RESTORE))),
        *(entry(name, simulator.add_factor()) for name in NAMES),
    ]


def configure(folder: Path, simulator: Simulator, entries: Iterable[dict[str, object]]) -> Path:
    """Write a configuration with these factors and an entity."""
    # The pauses for 429 are no reason to withdraw a status here, however slow the machine.
    polling = {"not_found_interval": "1s", "discovery_interval": "2s", "max_attempts": 2, "stale_after": 100}
    path = write_config(
        folder / "config.toml",
        {"main": account_of(simulator, requests_per_second=100)},
        entries,
        polling=polling,
        web={"enable_lifecycle": True},
        state={"file": "state.jsonl"},
    )
    service = next(iter(simulator.world.services))
    entity = f'[[entities]]\nname = "night-shift"\nservice_sid = "{service}"\nidentity = "{IDENTITY}"\n'
    path.write_text(path.read_text(encoding="utf-8") + entity, encoding="utf-8")
    return path


@contextlib.asynccontextmanager
async def scraped(folder: Path, binary: str, exporter: Exporter) -> AsyncIterator[Prometheus]:
    """Run a Prometheus that scrapes an exporter and evaluates the stand-in alerts."""
    (folder / "prometheus.yml").write_text(CONFIG.format(address=exporter.url.removeprefix("http://")))
    (folder / "rules.yml").write_text(RULES)
    group = factor_rules(Settings())
    recordings = document([Group(group.name, group.recordings)], Settings())
    (folder / "recordings.yml").write_text(recordings)
    address = f"127.0.0.1:{free_port()}"
    flags = (f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}")
    command = (binary, *flags, f"--web.listen-address={address}")
    with (folder / "prometheus.log").open("wb") as log:
        async with (
            spawned(*command, stop=signal.SIGTERM, stdout=asyncio.subprocess.DEVNULL, stderr=log),
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(PATIENCE_SECONDS)) as session,
        ):
            yield Prometheus(f"http://{address}", folder / "prometheus.log", session)


@contextlib.asynccontextmanager
async def limited(simulator: Simulator) -> AsyncIterator[None]:
    """Let the simulator return 429 sometimes, so that a counter increases while Prometheus scrapes it."""

    async def limit() -> None:
        while True:
            simulator.faults.add(Fault(FaultKind.STATUS, status=429, retry_after=1, times=1))
            await asyncio.sleep(4)

    limiting = asyncio.create_task(limit())
    try:
        yield
    finally:
        limiting.cancel()


async def queried(
    server: Prometheus, expression: str, *, instant: bool = False, values: Mapping[str, str] = COMPUTED
) -> list[dict[str, Any]]:
    """Ask as Grafana does, and return the series; a refused query fails."""
    now = time.time()
    span = {"start": f"{now - RANGE_SECONDS}", "end": f"{now}", "step": "1"}
    path, parameters = ("query", {"time": f"{now}"}) if instant else ("query_range", span)
    if values["recorded"] == COMPUTED["recorded"]:
        expression = expression.replace(STATE, "a_series_that_no_rule_records")
    form = {"query": filled(expression, values), **parameters}
    try:
        async with server.session.post(f"{server.url}/api/v1/{path}", data=form) as answer:
            if answer.status == 503:
                return []  # it is still starting
            said = await answer.json()
    except aiohttp.ClientConnectionError:
        return []
    assert answer.status == 200, f"{form['query']}\n{said}"
    found: list[dict[str, Any]] = said["data"]["result"]
    return found


async def empty_targets(server: Prometheus, wanting: set[tuple[str, str, str]]) -> set[tuple[str, str, str]]:
    """Return those queries that still answer nothing."""
    return {
        target.place
        for target in targets()
        if target.place in wanting
        and not await queried(server, target.expression, instant=target.query.get("instant", False))
    }


async def empty_variables(server: Prometheus) -> set[str]:
    """Return the variables that offer no choice."""
    empty = set()
    for one in boards():
        for name, item in variables(one).items():
            if item["type"] == "query":
                series, label = re.fullmatch(r"label_values\((.+), (\w+)\)", item["query"]["query"]).groups()  # type: ignore[union-attr]  # no match fails the test
                match = {"match[]": filled(series, SHORT)}
                if not await server.api(f"label/{label}/values", **match):
                    empty.add(f"{one['uid']}: {name}")
    return empty


async def empty_events(server: Prometheus) -> set[str]:
    """Return the kinds of events of which there was none."""
    return {
        f"{item['uid']}: {event['name']}"
        for item in boards()
        for event in events(item)
        # The pause after a start, in which a load is no reload, is not waited for.
        if not await queried(server, re.sub(r"\+ 30\b", "+ 0", event["expr"]))
    }


async def counted(server: Prometheus, title: str, team: str) -> float | None:
    """Return what a value of the overview is while the labels are narrowed to a team, as Grafana narrows them."""
    (target,) = (item for item in targets() if item.panel["title"] == title and item.board.endswith("overview"))
    narrowed = target.expression.replace("{job=~", f'{{team="{team}", job=~')
    found = await queried(server, narrowed, instant=True)
    return float(found[0]["value"][1]) if found else None


@pytest.mark.parametrize("version", ["the system's", "3"])
async def test_every_query_answers(program: Program, newer_program: Program, tmp_path: Path, version: str) -> None:
    binary = (
        newer_program("PROMETHEUS3")
        if version == "3"
        else program("prometheus", install="apt-get install prometheus")
    )
    everything = {target.place for target in targets()}
    assert set(EMPTY) <= everything
    # A graph says that there were no events only if there were none, which need not happen here.
    events = {target.place for target in targets() if target.query.get("legendFormat") == NO_EVENTS}
    wanting = everything - set(EMPTY) - events

    async with Simulator(seed=5) as simulator:
        path = configure(tmp_path, simulator, seeded(simulator))
        async with running(path) as exporter, scraped(tmp_path, binary, exporter) as server, limited(simulator):

            async def still_empty() -> set[tuple[str, str, str]]:
                nonlocal wanting
                wanting = await empty_targets(server, wanting)
                await asyncio.sleep(1)
                return wanting

            await until(still_empty, lambda empty: not empty)
            assert await empty_variables(server) == set()
            await see_the_states(server)
            await see_nothing_without_samples(server)
            await see_each_name(server)
            await see_a_team(server)
            await see_the_scopes(server)
            await see_the_worst(server, COMPUTED)
            await until(lambda: empty_recordings(server), lambda empty: not empty)
            await see_the_worst(server, RECORDED)
            await see_the_same_states(server)

            good = path.read_text(encoding="utf-8")
            for text, status in ((good.replace('"verified"', '"renamed"'), 200), ("[polling", 500)):
                path.write_text(text, encoding="utf-8")
                assert await reloaded(exporter) == status
            await until(lambda: empty_events(server), lambda empty: not empty)


async def reloaded(exporter: Exporter) -> int:
    async with aiohttp.ClientSession() as session, session.post(f"{exporter.url}/-/reload") as answer:
        return answer.status


async def see_the_states(server: Prometheus) -> None:
    """See each factor's state in the word that the board has for it; a paused factor has none."""
    (target,) = (item for item in targets(board("twilio-verify-factor")) if item.panel["title"] == "Status")
    mapping, _ = target.panel["fieldConfig"]["defaults"]["mappings"]
    found = {
        series["metric"]["factor"]: mapping["options"][series["value"][1]]["text"]
        for series in await queried(server, target.expression, instant=True)
    }
    expected = {
        "verified": "✓ verified",
        "unverified": "✗ unverified",
        "deleted": "∅ not found",
        "failing": "? unknown",
        "paused": "paused",
    }
    assert {name: found.get(name) for name in expected} == expected
    assert len(found) == 12 + len(NAMES)


async def see_nothing_without_samples(server: Prometheus) -> None:
    """See that no panel has a value for a time without samples."""
    for target in targets():
        form = {"query": filled(target.expression, COMPUTED), "time": "1000000000"}
        async with server.session.post(f"{server.url}/api/v1/query", data=form) as answer:
            said = await answer.json()
        assert said["data"]["result"] == [], str(target)


async def see_each_name(server: Prometheus) -> None:
    """See that every query answers for the selected factor only, whatever characters its name has."""
    for of in boards():
        queries = {str(target): target.expression for target in targets(of)}
        queries |= {event["name"]: event["expr"] for event in events(of)}
        for name in NAMES:
            if "\\" in name and "filters" in variables(of):
                continue
            for place, query in queries.items():
                if "${factor:" not in query:
                    continue
                expression = interpolated(query, variables(of), {"factor": name})
                found = await queried(server, expression, instant=True)
                assert {series["metric"].get("factor", name) for series in found} <= {name}, place
                if place.endswith((": Status: A", ": Factors: A")):
                    assert len(found) == 1, f"{place}: {expression}"


async def see_a_team(server: Prometheus) -> None:
    """See that a user's label narrows the numbers of the overview, and that 0 is shown only if it is known."""

    async def numbers() -> dict[str, float | None]:
        return {
            f"{team} {title}": await counted(server, title, team)
            for team in ("people", "payments")
            for title in ("Unverified", "Missing", "Unknown", "Verified")
        }

    await until(
        numbers,
        lambda found: (
            found["people Unverified"] == found["people Missing"] == found["payments Unknown"] == 1
            and found["people Unknown"] == found["people Verified"] == 0
            # None is known to be missing, but one is unknown.
            and found["payments Missing"] == -1
            and found["payments Verified"] in {1 / 3, 2 / 3}
        ),
    )


async def see_the_scopes(server: Prometheus) -> None:
    """See what each alert is about, and its age with the same labels, so that both are in one row."""
    scopes, ages = (
        item.expression for item in targets(board("twilio-verify-overview")) if item.panel["title"] == "Alerts"
    )

    async def rows() -> tuple[dict[str, str], bool]:
        found, aged = [await queried(server, expression, instant=True) for expression in (scopes, ages)]
        one_row = {frozenset(item["metric"].items()) for item in found} == {
            frozenset(item["metric"].items()) for item in aged if float(item["value"][1]) >= 0
        }
        return {item["metric"]["alertname"]: item["value"][1] for item in found}, one_row

    expected = {"TwilioVerifyAccount": "2", "TwilioVerifyFiring": "5", "TwilioVerifyPending": "5"}
    await until(rows, lambda found: found == (expected, True))


async def empty_recordings(server: Prometheus) -> set[str]:
    """Return the queries of recorded states that answer nothing."""
    return {
        str(target)
        for target in targets()
        if STATE in target.expression
        and not await queried(
            server, target.expression, instant=target.query.get("instant", False), values=RECORDED
        )
    }


async def see_the_same_states(server: Prometheus) -> None:
    """See that the table has the same states with the rules and without, only those of the selected instance."""
    (state, *_) = (
        item.expression for item in targets(board("twilio-verify-overview")) if item.panel["title"] == "Factors"
    )

    async def states(values: Mapping[str, str]) -> dict[str, str]:
        found = await queried(server, state, instant=True, values=values)
        return {item["metric"]["factor"]: item["value"][1] for item in found}

    expected = {"verified": "1", "unverified": "3", "deleted": "4", "failing": "2", "passkey": "1"}
    for values in (COMPUTED, RECORDED):
        found = await states(values)
        assert {name: found.get(name) for name in expected} == expected
        assert len(found) == 11 + len(NAMES)
        assert "paused" not in found
        assert await states({**values, "instance": "another"}) == {}


async def see_the_worst(server: Prometheus, values: Mapping[str, str]) -> None:
    """See that the timeline and the table of few rows show the same, worst factors, in all their columns."""
    table = [item for item in targets() if item.panel["title"] == "Factors" and item.board.endswith("overview")]
    state, since, age, *_, kind = (item.expression.replace("$rows", "1") for item in table)
    (worst,) = await queried(server, state, instant=True, values=values)
    assert (worst["value"][1], worst["metric"]["factor"]) in {("4", "deleted"), ("4", 'odd "name" \\ (日本)')}
    await until(lambda: queried(server, since.replace("topk(1", "topk(100"), instant=True, values=values), bool)
    for expression in (age, kind):
        (row,) = await queried(server, expression, instant=True, values=values)
        assert row["metric"]["factor"] in {"deleted", 'odd "name" \\ (日本)'}
    overview = targets(board("twilio-verify-overview"))
    (timeline,) = (item for item in overview if item.panel["title"] == "Status over time")

    async def shown() -> set[str]:
        series = await queried(server, timeline.expression.replace("$rows", "2"), values=values)
        return {item["metric"]["factor"] for item in series}

    await until(shown, lambda names: names == {"deleted", 'odd "name" \\ (日本)'})

    # Their alphabetical order is another one.
    worst_first = ["deleted", "unverified", "failing", "verified"]

    async def order() -> list[str]:
        names = [item["metric"]["factor"] for item in await queried(server, timeline.expression, values=values)]
        return [name for name in names if name in worst_first]

    await until(order, lambda names: names == worst_first)
    another = {**values, "instance": "another"}
    assert await queried(server, timeline.expression.replace("$rows", "100"), values=another) == []
