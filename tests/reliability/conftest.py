from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from .matrix import RATE_LIMITS, ROWS
from .run import Longest, Seen, run

if TYPE_CHECKING:
    from collections.abc import Mapping


@pytest.fixture(scope="module")
def seen() -> Mapping[str, Seen]:
    """The whole matrix, run once: some seconds."""
    failures = asyncio.run(run(ROWS))
    pauses = asyncio.run(run(RATE_LIMITS, max_attempts=1, jitter=Longest))
    return failures | pauses
