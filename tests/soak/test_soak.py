"""The long proofs at reduced size; ``make soak`` runs them in full."""

from __future__ import annotations

import json

import pytest

from tests.support.proofs import large_service
from tests.support.proofs import socket_soak as sockets
from tests.support.proofs import virtual_day as day
from tests.support.proofs.reliability_page import ROOT, section
from tests.support.proofs.soak_report import NUMBERS, soak_table

pytestmark = pytest.mark.slow


def test_hours_of_polling_in_virtual_time() -> None:
    seen = day.run(day.Day(factors=200, hours=3.0, warm_up_hours=1.0))
    assert seen.faults == []
    assert seen.missed == 0
    assert seen.late_seconds < 5
    assert seen.requests > 200 * 3 * 12
    assert seen.retries > 100
    assert set(seen.failures) >= {"decode"}
    assert seen.service_fetches > 0
    assert set(seen.services) == {"0", "1"}, "a service was deleted, and others exist"


async def test_polling_over_real_sockets() -> None:
    load = sockets.Load(60, interval_seconds=1.0, seconds=4.0, warm_up_seconds=2.0, timeout_seconds=1)
    seen = await sockets.run(load)
    assert seen.faults == []
    assert seen.missed == 0
    assert seen.requests >= 60


def test_a_service_within_budget_in_virtual_time() -> None:
    seen = large_service.run(large_service.Size(200, 300, requests_per_second=5.0, change_seconds=300))
    assert seen.faults == []
    assert seen.late_fetches == 0
    assert (seen.stretch, seen.changes) == (1, 12)
    assert max(seen.listing_seconds[1:]) < 1.05 * large_service.DISCOVERY_SECONDS


def test_a_service_over_budget_in_virtual_time() -> None:
    seen = large_service.run(large_service.Size(200, 300, requests_per_second=0.8, hours=2.0, change_seconds=300))
    assert seen.faults == []
    assert seen.stretch > 1
    assert seen.late_seconds < 300 * seen.stretch, "no slot goes by without its fetch"
    assert seen.listing_seconds, "listings go on, and take longer"


def test_the_table_is_made_of_the_numbers() -> None:
    numbers = json.loads(NUMBERS.read_text(encoding="utf-8"))
    assert set(numbers) == {"day", "sockets", "reloads", "kills", "service", "service_over_budget"}
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    assert section(text, "soak") == soak_table(numbers), "run: make soak"
