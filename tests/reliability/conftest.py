from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from exporter.verify.outcome import Reason
from tests.support.proofs.fault_matrix import RATE_LIMITS, ROWS
from tests.support.proofs.fault_matrix_run import SHORT, Longest, Seen, run

if TYPE_CHECKING:
    from collections.abc import Mapping


@pytest.fixture(scope="module")
def seen() -> Mapping[str, Seen]:
    """The whole matrix, run once: some seconds."""
    late = [row for row in ROWS if row.result is Reason.TIMEOUT]
    lateness = asyncio.run(run(late, attempt_timeout=SHORT))
    failures = asyncio.run(run([row for row in ROWS if row not in late]))
    pauses = asyncio.run(run(RATE_LIMITS, max_attempts=1, jitter=Longest, still=True))
    return lateness | failures | pauses
