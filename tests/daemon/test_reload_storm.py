"""Fifty reloads while fetches and scrapes go on; ``make soak`` makes it ten thousand."""

from __future__ import annotations

import pytest

from tests.support.proofs.reload_storm import storm

pytestmark = pytest.mark.slow


async def test_no_scrape_fails_or_is_torn_and_nothing_leaks() -> None:
    seen = await storm(50)
    assert seen.faults == []
    assert (seen.reloads, seen.refused) == (45, 5)
    assert seen.scrapes > 0
    assert seen.fetches > 0
    assert seen.leaked == {"tasks": 0, "descriptors": 0, "threads": 0}
    assert seen.connections <= 4 + 4
