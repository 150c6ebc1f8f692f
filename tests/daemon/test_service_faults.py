"""What becomes of a service whose entities can't be listed: it is counted, and no factor suffers."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from exporter.simulator import Endpoint, Fault, FaultKind
from tests.support.config_files import account_of, write_config
from tests.support.running_exporter import LeapingClock, running

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from exporter.simulator import Simulator
    from tests.support.running_exporter import Exporter
    from tests.support.scrape import Scrape

pytestmark = pytest.mark.slow

LAST_LISTED = "twilio_verify_entity_last_listed_timestamp_seconds"
FAILURES = "twilio_verify_entity_failures_total"
FAULTS = {
    "500": Fault(FaultKind.STATUS, status=500),
    "404": Fault(FaultKind.STATUS, status=404),
    "403": Fault(FaultKind.STATUS, status=403),
    "400": Fault(FaultKind.STATUS, status=400),
    "bad JSON": Fault(FaultKind.BAD_JSON),
    "too large": Fault(FaultKind.HUGE_BODY),
    "from a cache": Fault(FaultKind.AGE),
    "a page of HTML": Fault(FaultKind.HTML),
    "an empty answer": Fault(FaultKind.EMPTY),
    "another object": Fault(FaultKind.BODY, body="{}"),
    "an entity without SID": Fault(FaultKind.BODY, body='{"entities": [{"identity": "someone-else"}], "meta": {}}'),
    "a redirect": Fault(FaultKind.REDIRECT),
    "a reset": Fault(FaultKind.RESET_IN_BODY),
    "garbage": Fault(FaultKind.GARBAGE),
}
OF_ONE_ENTITY = {name: FAULTS[name] for name in ("500", "403", "bad JSON")}


async def in_time(exporter: Exporter, clock: LeapingClock, holds: Callable[[Scrape], object]) -> Scrape:
    """Let time pass, a minute at once, until what is said holds."""

    def after_a_minute(page: Scrape) -> object:
        held = holds(page)
        if not held:
            clock.leap(60)
        return held

    return await exporter.shows(after_a_minute)


def failed_since(before: float, listed: list[float]) -> Callable[[Scrape], bool]:
    """Return whether a listing failed; until then, ``listed`` follows the ones that end without the fault."""

    def failed(page: Scrape) -> bool:
        if (page.value(FAILURES) or 0.0) > before:
            return True
        listed[0] = page.value(LAST_LISTED, entity="login") or 0.0
        return False

    return failed


def grown(name: str, before: float) -> Callable[[Scrape], bool]:
    """Return whether a scrape has a larger value of a family with one series."""
    return lambda page: (page.value(name) or 0.0) > before


async def test_no_failure_of_a_listing_touches_a_factor(simulator: Simulator, tmp_path: Path, brisk: None) -> None:
    polling = {"interval": "2m", "discovery_interval": "10m", "stale_after": 1000, "max_attempts": 1}
    path = write_config(tmp_path / "config.toml", {"main": account_of(simulator)}, polling=polling)
    factors = [simulator.add_factor(identity=f"0000-login-user-{number:04d}") for number in range(4)]
    text = f'[[services]]\nname = "login"\nservice_sid = "{factors[0].service_sid}"\n'
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")
    clock = LeapingClock()
    async with running(path, clock=clock) as exporter:
        page = await in_time(exporter, clock, lambda page: page.counts()["verified"] == 4)
        for operation, faults in ((Endpoint.LIST_ENTITIES, FAULTS), (Endpoint.LIST, OF_ONE_ENTITY)):
            for name, fault in faults.items():
                failed, listed = page.value(FAILURES), page.value(LAST_LISTED, entity="login")
                assert failed is not None
                assert listed is not None
                simulator.faults.add(dataclasses.replace(fault, operation=operation))
                before = [listed]
                page = await in_time(exporter, clock, failed_since(failed, before))
                listed = before[0]
                assert page.counts() == {"verified": 4, "unverified": 0, "not_found": 0, "unknown": 0}, name
                assert page.value(LAST_LISTED, entity="login") == listed, name
                assert page.value("twilio_verify_credentials_valid") == 1, name
                simulator.faults.clear()
                page = await in_time(exporter, clock, grown(LAST_LISTED, listed))
        assert page.counts()["verified"] == 4
