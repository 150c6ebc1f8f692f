"""Entities end to end: what the API lists is watched, counted and shown; over real sockets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exporter.polling.roster import Difference
from exporter.simulator import Endpoint, Fault, FaultKind
from tests.support.config_files import account_of, entry, write_config
from tests.support.running_exporter import LeapingClock, running

if TYPE_CHECKING:
    import io
    from collections.abc import Callable
    from pathlib import Path

    from exporter.simulator import Simulator
    from tests.support.running_exporter import Exporter
    from tests.support.scrape import Scrape

IDENTITY = "9d2c1f50-ops-oncall-team"
LAST_LISTED = "twilio_verify_entity_last_listed_timestamp_seconds"
CALM = {
    "interval": "10m",
    "unverified_interval": "10m",
    "not_found_interval": "10m",
    "discovery_interval": "10m",
    "forget_after": "20m",
    "stale_after": 100,
    "max_attempts": 1,
}


def watch(
    folder: Path, simulator: Simulator, *entries: dict[str, object], name: str = "ops", **tables: object
) -> Path:
    """Write a configuration with one entity, and these factors beside it."""
    path = write_config(
        folder / "config.toml",
        {"main": account_of(simulator, requests_per_second=200)},
        entries,
        polling=CALM,
        **tables,  # type: ignore[arg-type]  # tables of TOML by their names
    )
    service = next(iter(simulator.world.services.values())).sid
    text = f'[[entities]]\nname = "{name}"\nservice_sid = "{service}"\nidentity = "{IDENTITY}"\n'
    text += 'labels = { team = "ops" }\n'
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")
    return path


def of_entity(page: Scrape, name: str = "ops") -> dict[str, float]:
    return {
        sample.labels["status"]: sample.value
        for sample in page.samples("twilio_verify_entity_factors", entity=name)
    }


async def begun(exporter: Exporter, clock: LeapingClock) -> None:
    """Let the first listing and then the first fetches fall due."""
    clock.leap(31)
    await exporter.shows(lambda page: page.total("twilio_verify_api_requests_total", operation="list") > 0)
    await exporter.shows(lambda page: sum(of_entity(page).values()) > 0)
    clock.leap(31)


@pytest.fixture
def clock() -> LeapingClock:
    return LeapingClock()


async def test_factors_of_an_entity_come_and_go(
    simulator: Simulator, tmp_path: Path, brisk: None, clock: LeapingClock
) -> None:
    one, two = (simulator.add_factor(identity=IDENTITY) for _ in range(2))
    listed = simulator.add_factor(identity=IDENTITY)
    path = watch(tmp_path, simulator, entry("by-hand", listed))
    async with running(path, clock=clock) as exporter:
        page = await exporter.scrape()
        assert of_entity(page) == {"verified": 0, "unverified": 0, "not_found": 0, "unknown": 0}
        assert page.value("twilio_verify_exporter_entities") == 1
        assert page.value("twilio_verify_entity_failures_total") == 0
        assert page.samples(LAST_LISTED) == []
        await begun(exporter, clock)
        page = await exporter.shows(lambda page: of_entity(page)["verified"] == 3)
        names = {f"ops-{factor.sid[-8:]}" for factor in (one, two)} | {"by-hand"}
        assert {sample.labels["factor"] for sample in page.samples("twilio_verify_factor_verified")} == names
        assert page.factor("verified", f"ops-{one.sid[-8:]}", team="ops") == 1
        assert page.value("twilio_verify_exporter_watchlist_factors") == 3
        assert page.counts()["verified"] == 3
        assert await exporter.status("/-/ready") == 200
        assert IDENTITY not in page.text

        three = simulator.add_factor(identity=IDENTITY, status="unverified")
        simulator.set_status(two.sid, "deleted")
        clock.leap(600)
        page = await exporter.shows(lambda page: of_entity(page)["not_found"] == 1)
        clock.leap(31)
        page = await exporter.shows(lambda page: of_entity(page)["unverified"] == 1)
        assert page.factor("exists", f"ops-{two.sid[-8:]}") == 0
        assert page.factor("verified", f"ops-{three.sid[-8:]}") == 0
        clock.leap(1300)
        page = await exporter.shows(lambda page: sum(of_entity(page).values()) == 3)
        assert page.factor("exists", f"ops-{two.sid[-8:]}") is None
        assert page.factor("info", f"ops-{two.sid[-8:]}") is None


async def test_a_list_that_fails_is_counted_and_changes_nothing(
    simulator: Simulator, tmp_path: Path, brisk: None, clock: LeapingClock, logged: Callable[..., io.StringIO]
) -> None:
    log = logged()
    factor = simulator.add_factor(identity=IDENTITY)
    async with running(watch(tmp_path, simulator), clock=clock) as exporter:
        await begun(exporter, clock)
        await exporter.shows(lambda page: of_entity(page)["verified"] == 1)
        simulator.faults.add(Fault(FaultKind.STATUS, status=500, operation=Endpoint.LIST))
        clock.leap(600)
        listed = (await exporter.scrape()).value(LAST_LISTED, entity="ops")
        page = await exporter.shows(lambda page: page.value("twilio_verify_entity_failures_total") == 1)
        assert page.value(LAST_LISTED, entity="ops") == listed
        assert page.factor("verified", f"ops-{factor.sid[-8:]}") == 1
        assert page.total("twilio_verify_api_requests_total", operation="list", code="500") == 1
        assert page.total("twilio_verify_fetch_failures_total") == 0
        assert log.getvalue().count('msg="listing failed"') == 1
        assert "entity=ops reason=server_error" in log.getvalue()
        simulator.faults.clear()
        clock.leap(600)
        await exporter.shows(lambda _page: "listings recovered" in log.getvalue())
        assert IDENTITY not in log.getvalue()


async def test_an_entity_is_reloaded(
    simulator: Simulator, tmp_path: Path, brisk: None, clock: LeapingClock
) -> None:
    factor = simulator.add_factor(identity=IDENTITY)
    path = watch(tmp_path, simulator)
    async with running(path, clock=clock) as exporter:
        await begun(exporter, clock)
        await exporter.shows(lambda page: of_entity(page)["verified"] == 1)
        watch(tmp_path, simulator, name="crew")
        await exporter.daemon.reload()
        page = await exporter.scrape()
        assert of_entity(page) == {}
        assert of_entity(page, "crew")["verified"] == 1
        assert page.factor("verified", f"crew-{factor.sid[-8:]}") == 1
        write_config(path, {"main": account_of(simulator)}, polling=CALM, watchlist={"allow_empty": True})
        assert await exporter.daemon.reload() == Difference(removed=1)
        page = await exporter.scrape()
        assert page.samples("twilio_verify_entity_factors") == []
        assert page.samples("twilio_verify_factors") == []
        assert page.samples("twilio_verify_entity_failures_total") == []
        assert page.value("twilio_verify_exporter_entities") == 0


async def test_found_factors_outlive_a_restart(
    simulator: Simulator, tmp_path: Path, brisk: None, clock: LeapingClock
) -> None:
    factor = simulator.add_factor(identity=IDENTITY)
    path = watch(tmp_path, simulator, state={"file": "state.jsonl"})
    async with running(path, clock=clock) as exporter:
        await begun(exporter, clock)
        page = await exporter.shows(lambda page: of_entity(page)["verified"] == 1)
        listed = page.value(LAST_LISTED, entity="ops")
        assert listed is not None
        assert 0 <= clock.wall() - listed < 60
    assert IDENTITY not in (tmp_path / "state.jsonl").read_text(encoding="utf-8")
    simulator.faults.add(Fault(FaultKind.STALL_BEFORE_HEADERS))
    async with running(path, clock=LeapingClock(clock.wall() + 5)) as exporter:
        page = await exporter.scrape()
        assert page.factor("verified", f"ops-{factor.sid[-8:]}", team="ops") == 1
        assert of_entity(page)["verified"] == 1
        assert page.value(LAST_LISTED, entity="ops") == listed
        assert await exporter.status("/-/ready") == 503, "the first walk has not ended"
