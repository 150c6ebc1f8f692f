"""``/api/v1/factors``: its shape, its paging, and what it refuses."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from exporter.verify.outcome import Failure, Reason
from tests.daemon.running import LeapingClock

from .house import NOT_FOUND, REQUEST_ID, SERVICE_SID, UNVERIFIED, VERIFIED, entries, serving

if TYPE_CHECKING:
    from pathlib import Path

    from .house import House


async def factors(house: House, query: str = "") -> Any:
    reply = await house.ask(f"/api/v1/factors{query}")
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "application/json; charset=utf-8"
    return json.loads(reply.text)


async def test_a_factor_is_told_whole(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("payments", labels={"team": "payments"}, interval="2m")) as house:
        house.tell("payments", VERIFIED, ago_seconds=20)
        house.tell("payments", Failure(Reason.SERVER_ERROR, "HTTP 503"), duration_seconds=1.5, attempts=3)
        record = house.daemon.ledger[house.key("payments")]
        document = await factors(house)

    assert record.answered is not None
    assert record.last_at is not None
    assert document == {
        "total": 1,
        "factors": [
            {
                "account": "main",
                "service_sid": SERVICE_SID,
                "factor": "payments",
                "factor_sid": f"YF{1:032x}",
                "factor_type": "push",
                "labels": {"team": "payments"},
                "status": "verified",
                "paused": False,
                "up": False,
                "interval_seconds": 120.0,
                "last_success_seconds": record.answered.wall,
                "last_verified_seconds": record.answered.wall,
                "last_fetch_seconds": record.last_at.wall,
                "last_fetch_duration_seconds": 1.5,
                "last_fetch_attempts": 3,
                "last_fetch_request_id": REQUEST_ID,
                "failures": 1,
                "last_failure": "HTTP 503",
                "last_failure_reason": "server_error",
                "mend": "Twilio's side; see its status page",
            }
        ],
    }


async def test_a_factor_that_was_never_tried_has_nulls(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("never")) as house:
        [factor] = (await factors(house))["factors"]

    assert {name for name, value in factor.items() if value is None} == {
        "up",
        "last_success_seconds",
        "last_verified_seconds",
        "last_fetch_seconds",
        "last_fetch_duration_seconds",
        "last_fetch_attempts",
        "last_fetch_request_id",
        "last_failure",
        "last_failure_reason",
        "mend",
    }
    assert (factor["status"], factor["failures"], factor["factor_type"], factor["labels"]) == ("unknown", 0, "", {})


async def test_limit_and_offset_page_through_what_is_wrong_first(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("a-good", "b-gone", "c-new", "d-never")) as house:
        house.tell("a-good", VERIFIED)
        house.tell("b-gone", NOT_FOUND)
        house.tell("c-new", UNVERIFIED)
        seen = {
            query: [factor["factor"] for factor in (await factors(house, query))["factors"]]
            for query in ("", "?limit=2", "?limit=2&offset=2", "?offset=3", "?offset=4", "?offset=999999999")
        }
        totals = {(await factors(house, query))["total"] for query in seen}

    assert seen == {
        "": ["b-gone", "c-new", "d-never", "a-good"],
        "?limit=2": ["b-gone", "c-new"],
        "?limit=2&offset=2": ["d-never", "a-good"],
        "?offset=3": ["a-good"],
        "?offset=4": [],
        "?offset=999999999": [],
    }
    assert totals == {4}


async def test_a_thousand_are_the_most_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path, entries(*(f"factor-{number}" for number in range(1001)))) as house:
        default, more = await factors(house), await factors(house, "?limit=5000")

    assert default["total"] == more["total"] == 1001
    assert len(default["factors"]) == len(more["factors"]) == 1000


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("limit=0", "limit: not a whole number of at least 1\n"),
        ("limit=-1", "limit: not a whole number of at least 1\n"),
        ("limit=ten", "limit: not a whole number of at least 1\n"),
        ("limit=", "limit: not a whole number of at least 1\n"),
        ("limit=1e3", "limit: not a whole number of at least 1\n"),
        ("limit=+1", "limit: not a whole number of at least 1\n"),
        ("offset=-1", "offset: not a whole number of at least 0\n"),
        ("limit=5&offset=%D9%A3", "offset: not a whole number of at least 0\n"),
        ("offset=" + "1" * 5000, "offset: not a whole number of at least 0\n"),
        ("offset=<script>", "offset: not a whole number of at least 0\n"),
    ],
)
async def test_a_bad_number_is_refused_by_the_name_of_its_parameter(tmp_path: Path, query: str, fault: str) -> None:
    async with serving(tmp_path, entries("factor")) as house:
        reply = await house.ask(f"/api/v1/factors?{query}")

    assert (reply.status, reply.text) == (400, fault)
    assert reply.headers["Content-Type"] == "text/plain; charset=utf-8"


async def test_a_stale_status_is_withdrawn_even_when_nothing_ticks(tmp_path: Path) -> None:
    clock = LeapingClock()
    async with serving(tmp_path, entries("factor"), clock=clock) as house:
        house.tell("factor", VERIFIED)
        clock.leap(899)
        [held] = (await factors(house))["factors"]
        clock.leap(2)
        [withdrawn] = (await factors(house))["factors"]

    assert (held["status"], withdrawn["status"]) == ("verified", "unknown")
    assert withdrawn["last_success_seconds"] == held["last_success_seconds"]
