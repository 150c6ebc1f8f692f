"""Whole services end to end: every factor of every entity is watched, over real sockets."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from exporter.config import load
from exporter.daemon.engine import Engine
from exporter.simulator import Endpoint, Fault, FaultKind
from exporter.verify.outcome import Reason
from tests.support.config_files import account_of, entry, write_config
from tests.support.running_exporter import LeapingClock, running

if TYPE_CHECKING:
    import io
    from collections.abc import Callable
    from pathlib import Path

    from exporter.simulator import SimulatedFactor, Simulator
    from tests.support.running_exporter import Exporter
    from tests.support.scrape import Scrape

CALM = {
    "interval": "10m",
    "unverified_interval": "10m",
    "not_found_interval": "10m",
    "discovery_interval": "10m",
    "forget_after": "20m",
    "stale_after": 100,
    "max_attempts": 1,
}
IDENTITIES = tuple(f"0000-login-user-{number:04d}" for number in range(5))
LAST_LISTED = "twilio_verify_entity_last_listed_timestamp_seconds"


def watch(
    folder: Path,
    simulator: Simulator,
    *entries: dict[str, object],
    name: str = "login",
    settings: str = "",
    **tables: object,
) -> Path:
    """Write a configuration with one whole service, and these factors beside it."""
    path = write_config(
        folder / "config.toml",
        {"main": account_of(simulator, requests_per_second=200)},
        entries,
        polling=CALM,
        **tables,  # type: ignore[arg-type]  # tables of TOML by their names
    )
    service = next(iter(simulator.world.services.values())).sid
    text = f'[[services]]\nname = "{name}"\nservice_sid = "{service}"\nlabels = {{ team = "login" }}\n{settings}\n'
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")
    return path


def people(simulator: Simulator) -> list[SimulatedFactor]:
    """Add an entity without factors, and four with one factor each."""
    simulator.add_entity(identity=IDENTITIES[0])
    return [simulator.add_factor(identity=identity) for identity in IDENTITIES[1:]]


def found(page: Scrape, name: str = "login") -> dict[str, float]:
    samples = page.samples("twilio_verify_entity_factors", entity=name)
    return {sample.labels["status"]: sample.value for sample in samples}


def names(*factors: SimulatedFactor, name: str = "login") -> set[str]:
    return {f"{name}-{factor.sid[-8:]}" for factor in factors}


def shown(page: Scrape) -> set[str]:
    return {sample.labels["factor"] for sample in page.samples("twilio_verify_factor_info")}


def digests_of(page: Scrape) -> set[str]:
    return {sample.labels.get("identity", "") for sample in page.samples("twilio_verify_factor_info")}


async def begun(exporter: Exporter, clock: LeapingClock) -> None:
    """Let the first walk and then the first fetches fall due."""
    clock.leap(31)
    await exporter.shows(lambda page: page.value("twilio_verify_service_entities"))
    clock.leap(31)


async def in_time(exporter: Exporter, clock: LeapingClock, holds: Callable[[Scrape], object]) -> Scrape:
    """Let time pass, a minute at once, until what is said holds: a walk is spread over the interval."""

    def after_a_minute(page: Scrape) -> object:
        held = holds(page)
        if not held:
            clock.leap(60)
        return held

    return await exporter.shows(after_a_minute)


@pytest.fixture
def clock() -> LeapingClock:
    return LeapingClock()


async def test_every_factor_of_a_service_is_watched_while_it_exists(
    simulator: Simulator, tmp_path: Path, brisk: None, clock: LeapingClock
) -> None:
    one, two, three, listed = people(simulator)
    path = watch(tmp_path, simulator, entry("by-hand", listed))
    async with running(path, clock=clock) as exporter:
        page = await exporter.scrape()
        assert found(page) == {"verified": 0, "unverified": 0, "not_found": 0, "unknown": 0}
        assert page.value("twilio_verify_service_entities_truncated", entity="login") == 0
        assert page.samples("twilio_verify_service_entities") == []
        assert page.value("twilio_verify_entity_failures_total") == 0
        await begun(exporter, clock)
        page = await exporter.shows(lambda page: found(page)["verified"] == 4)
        assert shown(page) == names(one, two, three) | {"by-hand"}
        assert page.factor("verified", f"login-{one.sid[-8:]}", team="login") == 1
        assert page.value("twilio_verify_service_entities", entity="login") == 5
        assert page.value("twilio_verify_exporter_entities") == 5
        assert page.total("twilio_verify_api_requests_total", operation="list_entities", code="200") == 1
        assert page.value(LAST_LISTED, entity="login") is not None
        assert await exporter.status("/-/ready") == 200
        assert not any(identity in page.text for identity in IDENTITIES)

        four = simulator.add_factor(identity=IDENTITIES[0], status="unverified")
        simulator.delete_entity(two.entity_sid)
        page = await in_time(
            exporter, clock, lambda page: found(page)["not_found"] == 1 and found(page)["unverified"] == 1
        )
        assert shown(page) == names(one, two, three, four) | {"by-hand"}
        assert page.value("twilio_verify_service_entities", entity="login") == 4


@pytest.mark.slow
async def test_failed_listings_are_counted_logged_without_identity_and_change_nothing(
    simulator: Simulator, tmp_path: Path, brisk: None, clock: LeapingClock, logged: Callable[..., io.StringIO]
) -> None:
    log = logged(level="debug")
    factors = people(simulator)
    simulator.faults.add(Fault(FaultKind.STATUS, status=500, operation=Endpoint.LIST, times=1))
    async with running(watch(tmp_path, simulator), clock=clock) as exporter:
        await begun(exporter, clock)
        page = await exporter.shows(lambda page: page.value("twilio_verify_entity_failures_total") == 1)
        assert page.samples(LAST_LISTED) == []
        assert 'msg="listing failed"' in log.getvalue()
        assert "entity=login-" in log.getvalue()
        simulator.faults.add(Fault(FaultKind.STATUS, status=500, operation=Endpoint.LIST_ENTITIES))
        clock.leap(600)
        await exporter.shows(lambda page: page.value("twilio_verify_entity_failures_total") == 2)
        assert len(shown(await exporter.scrape())) >= 3
        simulator.faults.clear()
        page = await in_time(exporter, clock, lambda page: page.value(LAST_LISTED, entity="login"))
        assert shown(page) == names(*factors)
        assert "listings recovered" in log.getvalue()
    assert not any(identity in log.getvalue() for identity in IDENTITIES)


@pytest.mark.slow
async def test_a_service_is_reloaded(
    simulator: Simulator, tmp_path: Path, brisk: None, clock: LeapingClock, logged: Callable[..., io.StringIO]
) -> None:
    log = logged()
    factors = people(simulator)
    path = watch(tmp_path, simulator, settings="max_entities = 3")
    async with running(path, clock=clock) as exporter:
        await begun(exporter, clock)
        page = await exporter.shows(lambda page: found(page)["verified"] == 2)
        assert page.value("twilio_verify_service_entities_truncated", entity="login") == 1
        assert log.getvalue().count('msg="service has more entities than max_entities"') == 1
        watch(tmp_path, simulator, name="people")
        assert (await exporter.daemon.reload()).changed == 2
        page = await exporter.scrape()
        assert found(page) == {}
        assert found(page, "people")["verified"] == 2
        page = await in_time(exporter, clock, lambda page: found(page, "people")["verified"] == 4)
        assert shown(page) == names(*factors, name="people")
        assert page.value("twilio_verify_service_entities_truncated", entity="people") == 0
        write_config(path, {"main": account_of(simulator)}, polling=CALM, watchlist={"allow_empty": True})
        assert (await exporter.daemon.reload()).removed == 4
        page = await exporter.scrape()
        assert page.samples("twilio_verify_service_entities") == []
        assert page.samples("twilio_verify_factors") == []


async def test_found_factors_outlive_a_restart_without_their_identities(
    simulator: Simulator, tmp_path: Path, brisk: None, clock: LeapingClock
) -> None:
    factors = people(simulator)
    (tmp_path / "identity.key").write_text("k" * 32, encoding="utf-8")
    path = watch(
        tmp_path,
        simulator,
        state={"file": "state.jsonl"},
        web={"enable_probe": True},
        metrics={"identity": "hmac", "identity_key_file": "identity.key"},
    )
    async with running(path, clock=clock) as exporter:
        await begun(exporter, clock)
        page = await exporter.shows(lambda page: found(page)["verified"] == 4)
        listed = page.value(LAST_LISTED, entity="login")
        digests = digests_of(page)
        assert {len(digest) for digest in digests} == {64}
    saved = (tmp_path / "state.jsonl").read_text(encoding="utf-8")
    assert not any(identity in saved for identity in IDENTITIES)
    simulator.delete_entity(factors[0].entity_sid)
    clock = LeapingClock(clock.wall() + 5)
    async with running(path, clock=clock) as exporter:
        page = await exporter.scrape()
        assert shown(page) == names(*factors)
        assert found(page)["verified"] == 4
        assert page.value(LAST_LISTED, entity="login") == listed
        assert digests_of(page) == {""}
        before = simulator.calls.by_operation()[Endpoint.FETCH.value]
        assert (await exporter.get(f"/probe?factor=login-{factors[1].sid[-8:]}"))[0] == 200
        assert simulator.calls.by_operation()[Endpoint.FETCH.value] == before, "not without an identity"
        assert (await exporter.get("/"))[1].count("after the next listing") == 4
        await begun(exporter, clock)
        page = await exporter.shows(lambda page: len(shown(page)) == 3)
        assert shown(page) == names(*factors[1:]), "the entity of the other one is gone"
        assert digests_of(page) < digests
        clock.leap(600)
        await exporter.shows(lambda page: page.total("twilio_verify_fetches_total") >= 3)
        assert found(await exporter.scrape())["verified"] == 3


@pytest.mark.slow
async def test_a_long_first_walk_does_not_keep_an_exporter_from_being_ready(
    simulator: Simulator, tmp_path: Path, brisk: None, clock: LeapingClock
) -> None:
    people(simulator)
    simulator.faults.add(Fault(FaultKind.STALL_BEFORE_HEADERS, operation=Endpoint.LIST_ENTITIES))
    async with running(watch(tmp_path, simulator), clock=clock) as exporter:
        clock.leap(31)
        await exporter.shows(lambda page: page.value("twilio_verify_api_in_flight"))
        assert await exporter.status("/-/ready") == 503
        clock.leap(600)
        assert await exporter.status("/-/ready") == 200


async def test_a_command_discovers_a_whole_service(simulator: Simulator, tmp_path: Path) -> None:
    factors = people(simulator)
    simulator.faults.add(Fault(FaultKind.STATUS, status=400, operation=Endpoint.LIST, times=1))
    config = load(watch(tmp_path, simulator), environ={}, flags={})
    engine = Engine(config, one_shot=True)
    discovered = await asyncio.wait_for(engine.discover_once(), 30)
    await asyncio.wait_for(engine.fetch_once(discovered.factors, lambda _left: None), 30)
    (failed,) = discovered.failures
    assert (failed.entry, failed.failure.reason) == ("login", Reason.BAD_REQUEST)
    assert failed.entity.startswith("login-")
    missed = names(*factors) - {factor.name for factor in discovered.factors}
    assert len(missed) <= 1
    assert {factor.name for factor in discovered.factors} | missed == names(*factors)


async def test_shards_share_the_entities_of_a_service(simulator: Simulator, tmp_path: Path) -> None:
    factors = people(simulator)
    path = watch(tmp_path, simulator)
    seen: list[str] = []
    for shard in ("0/3", "1/3", "2/3"):
        config = load(path, environ={}, flags={"sharding.shard": shard})
        engine = Engine(config, one_shot=True)
        discovered = await asyncio.wait_for(engine.discover_once(), 30)
        await engine.stop_now()
        seen += [factor.name for factor in discovered.factors]
    assert sorted(seen) == sorted(names(*factors))


async def test_the_log_never_shows_a_discovered_identity(simulator: Simulator, tmp_path: Path) -> None:
    people(simulator)
    engine = Engine(load(watch(tmp_path, simulator), environ={}, flags={}), one_shot=True)
    redact = engine.confidential.redactor
    assert IDENTITIES[0] in redact(f"nothing is known of {IDENTITIES[0]} yet")
    await asyncio.wait_for(engine.discover_once(), 30)
    await engine.stop_now()
    for identity in IDENTITIES:
        assert identity not in redact(f"whatever names {identity} in a text")
