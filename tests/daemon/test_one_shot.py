"""An engine that is used once, by a command: it lists everything, then fetches what was chosen."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from exporter.config import load
from exporter.daemon.engine import Engine
from exporter.simulator import Endpoint, Fault, FaultKind
from exporter.verify.outcome import Reason, Status
from tests.support.config_files import account_of, entry, write_config

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.config import Config
    from exporter.simulator import SimulatedFactor, Simulator

IDENTITIES = tuple(f"identity-of-team-{number}" for number in range(3))


def configured(folder: Path, simulator: Simulator, *listed: SimulatedFactor, **account: object) -> Config:
    """Return a configuration with these factors and three entities."""
    entries = [entry(f"by-hand-{number}", factor) for number, factor in enumerate(listed)]
    path = write_config(folder / "config.toml", {"main": account_of(simulator, **account)}, entries)
    service = next(iter(simulator.world.services.values())).sid
    path.write_text(
        path.read_text(encoding="utf-8")
        + "".join(
            f'[[entities]]\nname = "team-{number}"\nservice_sid = "{service}"\nidentity = "{identity}"\n'
            for number, identity in enumerate(IDENTITIES)
        ),
        encoding="utf-8",
    )
    return load(path, environ={}, flags={})


async def test_everything_is_listed_and_then_the_chosen_factors_are_fetched(
    simulator: Simulator, tmp_path: Path
) -> None:
    found = [simulator.add_factor(identity=identity) for identity in IDENTITIES]
    listed = simulator.add_factor(identity=IDENTITIES[0])
    engine = Engine(configured(tmp_path, simulator, listed), one_shot=True)
    left: list[int] = []
    discovered = await asyncio.wait_for(engine.discover_once(left.append), 30)
    names = {f"team-{number}-{factor.sid[-8:]}" for number, factor in enumerate(found)} | {"by-hand-0"}
    assert {factor.name for factor in discovered.factors} == names
    assert discovered.failures == ()
    assert (left[0], left[-1]) == (3, 0)
    assert set(simulator.calls.by_operation()) == {Endpoint.LIST.value}
    chosen = [factor for factor in discovered.factors if factor.name.startswith("team-")]
    await asyncio.wait_for(engine.fetch_once(chosen, left.append), 30)
    assert {record.watched.name: record.status for record in engine.ledger} == dict.fromkeys(
        names - {"by-hand-0"}, Status.VERIFIED
    )
    assert simulator.calls.by_operation()[Endpoint.FETCH.value] == {"200": 3}


async def test_a_listing_that_fails_is_returned_with_its_reason(simulator: Simulator, tmp_path: Path) -> None:
    for identity in IDENTITIES:
        simulator.add_factor(identity=identity)
    simulator.faults.add(Fault(FaultKind.STATUS, status=400, operation=Endpoint.LIST, times=1))
    engine = Engine(configured(tmp_path, simulator, max_concurrency=1), one_shot=True)
    discovered = await asyncio.wait_for(engine.discover_once(), 30)
    await engine.stop_now()
    (failed,) = discovered.failures
    assert (failed.account, failed.failure.reason) == ("main", Reason.BAD_REQUEST)
    found = {factor.name[: len("team-0")] for factor in discovered.factors}
    assert found | {failed.entity} == {"team-0", "team-1", "team-2"}
    assert len(found) == 2
    assert not any(identity in repr(discovered.failures) for identity in IDENTITIES)


async def test_refused_credentials_end_it(simulator: Simulator, tmp_path: Path) -> None:
    simulator.add_factor(identity=IDENTITIES[0])
    engine = Engine(configured(tmp_path, simulator, password="0" * 32), one_shot=True)
    discovered = await asyncio.wait_for(engine.discover_once(), 30)
    assert discovered.factors == ()
    assert {of.entity for of in discovered.failures} == {"team-0", "team-1", "team-2"}
    assert {of.failure.reason for of in discovered.failures} == {Reason.AUTH}
    await asyncio.wait_for(engine.fetch_once([], lambda _left: None), 30)
