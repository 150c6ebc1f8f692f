from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exporter.simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Clock:
    """A clock that stands still until a test moves it."""

    def __init__(self, now: float = 1_767_225_600.0) -> None:  # 2026-01-01T00:00:00Z
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def simulator(clock: Clock) -> AsyncIterator[Simulator]:
    async with Simulator(seed=7, clock=clock) as running:
        yield running
