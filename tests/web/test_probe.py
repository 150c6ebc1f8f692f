"""``/probe``: one factor fetched on demand, against an API on a real socket."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from exporter.exposition.catalogue import FACTOR_FAMILIES
from exporter.simulator import Fault, FaultKind, Simulator
from exporter.verify.outcome import Status
from tests.support.config_files import account_of, entry, write_config
from tests.support.running_exporter import OPENMETRICS, LeapingClock, becomes, running
from tests.support.scrape import Scrape
from tests.support.served_exporter import SERVICE_SID, VERIFIED, entries, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from exporter.simulator import SimulatedFactor
    from tests.support.running_exporter import Exporter

OPEN = {"enable_probe": True}
HOUR = {"interval": "1h", "timeout": "5s", "max_attempts": 1}


class World:
    """An exporter whose factors were fetched once, eleven seconds ago."""

    def __init__(self, exporter: Exporter, simulator: Simulator, factors: list[SimulatedFactor]) -> None:
        self.exporter = exporter
        self.simulator = simulator
        self.factors = factors

    @property
    def calls(self) -> int:
        return len(self.simulator.calls.log)

    async def probe(self, factor: str = "push", **headers: str) -> tuple[int, str]:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.exporter.get(f"/probe?factor={factor}", **sent)


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(seed=7) as running_simulator:
        yield running_simulator


@pytest.fixture
async def world(simulator: Simulator, tmp_path: Path) -> AsyncIterator[World]:
    factors = [simulator.add_factor(), simulator.add_factor()]
    path = write_config(
        tmp_path / "config.toml",
        {"main": account_of(simulator)},
        [entry("push", factors[0], labels={"team": "payments"}), entry("backup", factors[1])],
        polling=HOUR,
        web=OPEN,
    )
    clock = LeapingClock()
    async with running(path, clock=clock) as exporter:
        clock.leap(30)
        await becomes(lambda: all(record.last_seconds for record in exporter.daemon.engine.ledger))
        clock.leap(11)
        yield World(exporter, simulator, factors)


async def test_the_factor_is_fetched_and_its_metrics_are_returned(world: World) -> None:
    world.simulator.set_status(world.factors[0].sid, "unverified")
    before = world.calls
    status, text = await world.probe()
    assert (status, world.calls) == (200, before + 1)
    page = Scrape(text)
    assert page.factor("verified", "push", team="payments") == 0
    assert page.factor("up", "push") == 1
    names = {line.split("{")[0] for line in text.splitlines() if not line.startswith("#")}
    of_passkeys = {"twilio_verify_factor_last_approved_timestamp_seconds"}
    assert names == {family.name for family in FACTOR_FAMILIES} - of_passkeys
    assert "backup" not in text
    scraped = (await world.exporter.scrape()).text.splitlines()
    ours = [line for line in text.splitlines() if not line.startswith("#")]
    assert [line for line in scraped if 'factor="push"' in line] == ours, "as a scrape of this moment shows it"


async def test_openmetrics_if_accepted(world: World) -> None:
    status, text = await world.probe(Accept=OPENMETRICS)
    assert status == 200
    assert text.endswith("# EOF\n")
    assert Scrape(text, openmetrics=True).factor("verified", "push") == 1


async def test_a_fresh_answer_is_returned_without_a_request(world: World) -> None:
    await world.probe()
    before = world.calls
    assert (await world.probe())[0] == 200
    assert world.calls == before


async def test_a_fetch_that_fails_claims_nothing_new(world: World) -> None:
    world.simulator.faults.add(Fault(FaultKind.STATUS, status=503))
    status, text = await world.probe()
    page = Scrape(text)
    assert status == 200
    assert (page.factor("up", "push"), page.factor("verified", "push")) == (0, 1)
    assert page.factor("fetch_failures_total", "push") == 1


@pytest.mark.slow
async def test_the_response_comes_before_the_timeout_and_the_fetch_goes_on(world: World) -> None:
    world.simulator.faults.add(Fault(FaultKind.LATENCY, seconds=2.0))
    before = world.calls
    status, text = await world.probe(X_Prometheus_Scrape_Timeout_Seconds="1")
    assert (status, text) == (504, "no outcome within 0.5 s; the fetch goes on: see /metrics for its outcome\n")
    status, _ = await world.probe(X_Prometheus_Scrape_Timeout_Seconds="50")
    assert (status, world.calls) == (200, before + 1), "the second one joined the first one's fetch"


async def test_a_client_that_disconnects_does_not_cancel_the_fetch(world: World) -> None:
    world.simulator.set_status(world.factors[0].sid, "unverified")
    world.simulator.faults.add(Fault(FaultKind.LATENCY, seconds=0.5))
    before = world.calls
    pending = asyncio.create_task(world.probe())
    account = world.exporter.daemon.engine.poller.accounts["main"]
    await becomes(lambda: account.throttle.in_flight == 1)
    pending.cancel()
    await asyncio.gather(pending, return_exceptions=True)
    page = await world.exporter.shows(lambda scrape: scrape.factor("verified", "push") == 0)
    assert page.factor("up", "push") == 1
    assert world.calls == before + 1


async def test_a_paused_account_is_503_and_sends_no_request(world: World) -> None:
    world.simulator.faults.add(Fault(FaultKind.STATUS, status=429, retry_after=60))
    status, text = await world.probe("backup")
    assert (status, Scrape(text).factor("up", "backup")) == (200, 0), "this fetch was made"
    before = world.calls
    async with world.exporter._session.get(f"{world.exporter.url}/probe?factor=push") as answer:
        assert answer.status == 503
        assert await answer.text() == "the account is paused; see /api/v1/accounts\n"
        assert 50 < int(answer.headers["Retry-After"]) <= 60
    assert world.calls == before


# Without an API


@pytest.mark.parametrize("query", ["", "?factor=one"])
async def test_disabled_by_default(tmp_path: Path, query: str) -> None:
    async with serving(tmp_path, entries("one")) as served:
        reply = await served.request(f"/probe{query}")
        assert (reply.status, reply.text) == (403, "disabled: web.enable_probe is false\n")


@pytest.mark.parametrize("site", ["cross-site", "same-site", "made-up"])
async def test_cross_site_requests_are_refused(tmp_path: Path, site: str) -> None:
    async with serving(tmp_path, entries("one"), web=OPEN) as served:
        served.apply("one", VERIFIED)
        assert (await served.request("/probe?factor=one", Sec_Fetch_Site=site)).status == 403
        for own in ("same-origin", "none"):
            assert (await served.request("/probe?factor=one", Sec_Fetch_Site=own)).status == 200


async def test_several_factors_of_a_name_are_listed(tmp_path: Path) -> None:
    other = SERVICE_SID.replace("c", "d")
    name = "on call & more"
    watched = [*entries(name), *entries(name, account="other"), *entries(name, service_sid=other)]
    async with serving(tmp_path, watched, accounts=("main", "other"), web=OPEN) as served:
        for key in [record.watched.key for record in served.daemon.engine.ledger]:
            served.apply_to(key, VERIFIED)
        reply = await served.request("/probe?factor=on%20call%20%26%20more")
        assert reply.status == 400
        first, *candidates = reply.text.splitlines()
        assert first == "factor: several factors have this name; select one with account and service_sid:"
        assert len(candidates) == 3
        for candidate in candidates:
            chosen = await served.request(candidate)
            assert chosen.status == 200
            assert chosen.text.count("_verified{") == 1
        service = await served.request(f"/probe?factor=on+call+%26+more&service_sid={other.upper()}")
        assert service.status == 200, "upper and lower case are alike"


@pytest.mark.parametrize(
    ("query", "status", "text"),
    [
        ("", 400, "factor: required, for example ?factor=payments-oncall-push\n"),
        ("factor=", 400, "factor: must have 1 to 128 characters\n"),
        (f"factor={'x' * 129}", 400, "factor: must have 1 to 128 characters\n"),
        ("factor=one&factor=two", 400, "factor: given more than once\n"),
        (
            "factor=one&acount=x",
            400,
            "acount: unknown parameter; /probe accepts factor, account, service_sid\n",
        ),
        (
            "factor=one&service_sid=VX1",
            400,
            "service_sid: must be a Verify Service SID: VA followed by 32 hex digits\n",
        ),
        (
            "factor=one&account=%0A",
            400,
            "account: must be an account name: lower-case letters and digits, joined by single - or _\n",
        ),
        ("factor=two", 404, "factor: no such factor is watched; see /api/v1/factors\n"),
        ("factor=one&account=other", 404, "factor: no such factor is watched; see /api/v1/factors\n"),
    ],
)
async def test_an_invalid_probe_is_refused_with_a_hint(tmp_path: Path, query: str, status: int, text: str) -> None:
    async with serving(tmp_path, entries("one"), web=OPEN) as served:
        reply = await served.request(f"/probe?{query}")
        assert (reply.status, reply.text) == (status, text)


@pytest.mark.parametrize("given", ["", "soon", "0", "-1", "nan", "inf", "1_0", "1e999", "1000000.1"])
async def test_an_invalid_scrape_timeout_is_refused(tmp_path: Path, given: str) -> None:
    async with serving(tmp_path, entries("one"), web=OPEN) as served:
        reply = await served.request("/probe?factor=one", X_Prometheus_Scrape_Timeout_Seconds=given)
        assert (reply.status, reply.text) == (
            400,
            "X-Prometheus-Scrape-Timeout-Seconds: must be a number of seconds greater than 0 and at most 1000000\n",
        )


async def test_a_factor_that_the_watchlist_pauses_claims_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("one", paused=True), web=OPEN) as served:
        reply = await served.request("/probe?factor=one")
        assert reply.status == 200
        samples = [line.split("{")[0] for line in reply.text.splitlines() if not line.startswith("#")]
        assert samples == [family.name for family in FACTOR_FAMILIES if family.of_paused]


async def test_too_many_probes_get_503(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.web.probe.MOST_WAITING", 5)
    async with serving(tmp_path, entries("one"), web=OPEN) as served:
        account = served.daemon.engine.poller.accounts["main"]
        account.in_flight_keys.add(served.key("one"))  # a fetch that never ends
        pending = [asyncio.create_task(served.request("/probe?factor=one")) for _ in range(15)]
        await becomes(lambda: sum(task.done() for task in pending) == 10)
        served.apply("one", VERIFIED)
        account.in_flight_keys.discard(served.key("one"))
        statuses = [(await task).status for task in pending]
        assert (statuses.count(200), statuses.count(503)) == (5, 10)
        assert served.daemon.engine.ledger[served.key("one")].status is Status.VERIFIED


async def test_nothing_is_fetched_while_the_exporter_stops(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("one"), web=OPEN) as served:
        served.daemon.engine.poller.accounts["main"].stop()
        reply = await served.request("/probe?factor=one")
        assert (reply.status, reply.headers["Retry-After"]) == (503, "1")
        assert reply.text == "not fetched: the exporter is stopping, or the account was removed\n"


async def test_a_factor_removed_meanwhile_is_404(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("one", "two"), web=OPEN) as served:
        daemon, key = served.daemon, served.key("one")
        daemon.engine.poller.accounts["main"].in_flight_keys.add(key)
        pending = asyncio.create_task(served.request("/probe?factor=one"))
        await becomes(lambda: daemon.engine.poller.accounts["main"].in_flight_keys._ends.get(key) is not None)
        daemon.engine.roster.list([watched for watched in daemon.engine.config.factors if watched.name == "two"])
        daemon.engine.poller.accounts["main"].in_flight_keys.discard(key)
        reply = await pending
        assert (reply.status, reply.text) == (404, "factor: no longer watched\n")
        assert (await served.request("/probe?factor=one")).status == 404
