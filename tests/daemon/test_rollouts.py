"""Replacing pods in the documented order leaves no factor without a status, but while its own pod restarts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.support.proofs.reliability_page import section
from tests.support.rollouts import CHANGES, FACTORS, PAGE, SECTION, measure

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.simulator import Simulator


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, change in CHANGES.items() if change.gapless])
async def test_no_factor_is_without_a_status(name: str, simulator: Simulator, tmp_path: Path) -> None:
    # First fetches are spread over one interval; no status becomes stale, however slow the machine is.
    found = await measure(CHANGES[name], tmp_path, simulator, interval="1s", stale_after=300)
    assert len(found.gaps) == FACTORS
    assert bool(found.moved) == CHANGES[name].moves
    assert found.absent.isdisjoint(found.moved or found.gaps)


def test_the_table_has_every_change() -> None:
    rows = [line.strip("| ").split(" | ") for line in section(PAGE.read_text("utf-8"), SECTION).splitlines()[2:]]
    assert [row[0] for row in rows] == [change.row for change in CHANGES.values()]
    for (_, stay, move), change in zip(rows, CHANGES.values(), strict=True):
        assert ("none" in {stay, move}) == change.gapless
        assert (move == "–") != change.moves
        assert all(re.fullmatch(r"none|–|\d+ s", cell) for cell in (stay, move))
