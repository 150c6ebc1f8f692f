from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exporter.simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture(autouse=True)
def untouched(clean_environment: None) -> None:
    """Keep our variables out of every test of commands, and put the log back as it was."""


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(seed=7) as running:
        yield running
