"""What a cache answers in Twilio's place changes neither statuses nor credentials."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exporter.simulator import Fault, FaultKind
from tests.support.config_files import account_of, entry, write_config
from tests.support.running_exporter import LeapingClock, running

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.simulator import Simulator


@pytest.mark.slow
@pytest.mark.parametrize("kind", [FaultKind.AGE, FaultKind.OLD_DATE])
async def test_a_cached_answer_changes_no_status(simulator: Simulator, tmp_path: Path, kind: FaultKind) -> None:
    factors = {f"factor-{number}": simulator.add_factor() for number in range(7)}
    path = write_config(
        tmp_path / "config.toml",
        {"main": account_of(simulator)},
        [entry(name, factor) for name, factor in factors.items()],
        polling={"interval": "5m", "max_attempts": 1},
    )
    clock = LeapingClock()
    async with running(path, clock=clock) as exporter:
        clock.leap(30)
        await exporter.shows(lambda page: all(page.factor("verified", name) == 1 for name in factors))
        simulator.faults.add(Fault(kind, factor_sid=factors["factor-0"].sid))
        simulator.delete(factors["factor-0"].sid)  # the cache has a 404, the exporter believes neither
        clock.leap(300)
        page = await exporter.shows(lambda page: page.factor("up", "factor-0") == 0)
        assert page.factor("verified", "factor-0") == 1
        assert page.factor("exists", "factor-0") == 1
        assert page.failures() == {"decode": 1}

        simulator.faults.clear()
        clock.leap(900)
        page = await exporter.shows(lambda page: page.factor("exists", "factor-0") == 0)
        assert page.factor("up", "factor-0") == 1
