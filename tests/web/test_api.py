"""``/api/v1/factors``: its shape, its paging, and what it refuses."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from exporter.verify.outcome import Failure, Reason
from exporter.web.openapi import HISTORY_FIELDS
from tests.support.running_exporter import LeapingClock
from tests.support.served_exporter import NOT_FOUND, REQUEST_ID, SERVICE_SID, UNVERIFIED, VERIFIED, entries, serving

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.served_exporter import ServedExporter


async def factors(running: ServedExporter, query: str = "") -> Any:
    reply = await running.request(f"/api/v1/factors{query}")
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "application/json; charset=utf-8"
    return json.loads(reply.text)


async def test_a_factor_has_every_field(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("payments", labels={"team": "payments"}, interval="2m")) as running:
        running.apply("payments", UNVERIFIED, VERIFIED, ago_seconds=20)
        down = Failure(Reason.SERVER_ERROR, "HTTP 503")
        running.apply("payments", down, duration_seconds=1.5, attempts=3, code=503, twilio_code=20503)
        record = running.daemon.engine.ledger[running.key("payments")]
        document = await factors(running)

    assert record.answered_seconds is not None
    assert record.last_seconds is not None
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
                "last_success_seconds": record.answered_seconds,
                "last_verified_seconds": record.answered_seconds,
                "last_fetch_seconds": record.last_seconds,
                "last_fetch_duration_seconds": 1.5,
                "last_fetch_attempts": 3,
                "last_fetch_http_status": 503,
                "last_fetch_twilio_code": 20503,
                "last_fetch_request_id": REQUEST_ID,
                "last_change_seconds": record.answered_seconds,
                "last_change_from": "unverified",
                "last_change_to": "verified",
                "last_change_http_status": 200,
                "last_change_twilio_code": None,
                "last_change_request_id": REQUEST_ID,
                "failures": 1,
                "last_failure": "HTTP 503",
                "last_failure_reason": "server_error",
                "hint": "Twilio's API has a problem; check Twilio's status page",
            }
        ],
    }


async def test_a_factor_that_was_never_tried_has_nulls(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("never")) as running:
        [factor] = (await factors(running))["factors"]

    assert {name for name, value in factor.items() if value is None} == {
        "up",
        "last_success_seconds",
        "last_verified_seconds",
        "last_fetch_seconds",
        "last_fetch_duration_seconds",
        "last_fetch_attempts",
        "last_fetch_http_status",
        "last_fetch_twilio_code",
        "last_fetch_request_id",
        "last_change_seconds",
        "last_change_from",
        "last_change_to",
        "last_change_http_status",
        "last_change_twilio_code",
        "last_change_request_id",
        "last_failure",
        "last_failure_reason",
        "hint",
    }
    assert (factor["status"], factor["failures"], factor["factor_type"], factor["labels"]) == ("unknown", 0, "", {})


async def test_limit_and_offset_page_through_the_factors_problems_first(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("a-good", "b-gone", "c-new", "d-never")) as running:
        running.apply("a-good", VERIFIED)
        running.apply("b-gone", NOT_FOUND)
        running.apply("c-new", UNVERIFIED)
        seen = {
            query: [factor["factor"] for factor in (await factors(running, query))["factors"]]
            for query in ("", "?limit=2", "?limit=2&offset=2", "?offset=3", "?offset=4", "?offset=999999999")
        }
        totals = {(await factors(running, query))["total"] for query in seen}

    assert seen == {
        "": ["b-gone", "c-new", "d-never", "a-good"],
        "?limit=2": ["b-gone", "c-new"],
        "?limit=2&offset=2": ["d-never", "a-good"],
        "?offset=3": ["a-good"],
        "?offset=4": [],
        "?offset=999999999": [],
    }
    assert totals == {4}


async def test_at_most_a_thousand_factors_are_returned(tmp_path: Path) -> None:
    async with serving(tmp_path, entries(*(f"factor-{number}" for number in range(1001)))) as running:
        default, more = await factors(running), await factors(running, "?limit=5000")

    assert default["total"] == more["total"] == 1001
    assert len(default["factors"]) == len(more["factors"]) == 1000


async def test_the_pages_of_many_add_up_to_all_of_them_in_order(tmp_path: Path) -> None:
    wanted = [f"factor-{number:04d}" for number in range(2345)]
    async with serving(tmp_path, entries(*reversed(wanted))) as running:
        running.apply("factor-2000", NOT_FOUND)
        pages = [await factors(running, f"?limit=900&offset={offset}") for offset in (0, 900, 1800, 2700)]

    assert [len(page["factors"]) for page in pages] == [900, 900, 545, 0]
    wanted.remove("factor-2000")
    assert [factor["factor"] for page in pages for factor in page["factors"]] == ["factor-2000", *wanted]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("limit=0", "limit: must be a whole number of at least 1\n"),
        ("limit=-1", "limit: must be a whole number of at least 1\n"),
        ("limit=ten", "limit: must be a whole number of at least 1\n"),
        ("limit=", "limit: must be a whole number of at least 1\n"),
        ("limit=1e3", "limit: must be a whole number of at least 1\n"),
        ("limit=+1", "limit: must be a whole number of at least 1\n"),
        ("offset=-1", "offset: must be a whole number of at least 0\n"),
        ("limit=5&offset=%D9%A3", "offset: must be a whole number of at least 0\n"),
        ("offset=" + "1" * 5000, "offset: must be a whole number of at least 0\n"),
        ("offset=<script>", "offset: must be a whole number of at least 0\n"),
    ],
)
async def test_an_invalid_number_is_refused_with_the_name_of_its_parameter(
    tmp_path: Path, query: str, message: str
) -> None:
    async with serving(tmp_path, entries("factor")) as running:
        reply = await running.request(f"/api/v1/factors?{query}")

    assert (reply.status, reply.text) == (400, message)
    assert reply.headers["Content-Type"] == "text/plain; charset=utf-8"


async def test_a_stale_status_is_withdrawn_without_a_dispatch(tmp_path: Path) -> None:
    clock = LeapingClock()
    async with serving(tmp_path, entries("factor"), clock=clock) as running:
        running.apply("factor", VERIFIED)
        clock.leap(899)
        [kept] = (await factors(running))["factors"]
        clock.leap(2)
        [withdrawn] = (await factors(running))["factors"]

    assert (kept["status"], withdrawn["status"]) == ("verified", "unknown")
    assert withdrawn["last_success_seconds"] == kept["last_success_seconds"]


# Filters


async def names(running: ServedExporter, query: str) -> list[str]:
    document = await factors(running, query)
    found = [factor["factor"] for factor in document["factors"]]
    assert document["total"] == len(found)
    return found


async def test_factors_are_filtered_by_account_service_status_and_name(tmp_path: Path) -> None:
    service = SERVICE_SID.replace("c", "d")
    watched = [
        *entries("Push one", "push two", "Straße"),
        *entries("push one", account="other"),
        *entries("elsewhere", service_sid=service),
    ]
    async with serving(tmp_path, watched, accounts=("main", "other")) as running:
        running.apply("push two", VERIFIED)
        running.apply("elsewhere", NOT_FOUND)
        assert await names(running, "?account=other") == ["push one"]
        assert await names(running, "?account=nobody") == []
        assert await names(running, f"?service_sid={service.lower()}") == ["elsewhere"]
        assert await names(running, "?status=verified") == ["push two"]
        assert await names(running, "?status=not_found") == ["elsewhere"]
        assert await names(running, "?status=unknown&account=main") == ["Push one", "Straße"]
        assert await names(running, "?name=PUSH&account=main") == ["Push one", "push two"]
        assert await names(running, "?name=STRASSE") == ["Straße"]
        assert await names(running, "?name=%25") == []
        page = await factors(running, "?name=push&limit=1&offset=1")
        assert (page["total"], len(page["factors"])) == (3, 1), "the total is of all that fit"


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("status=bad", "status: must be one of verified, unverified, not_found, unknown"),
        ("name=", "name: must have 1 to 128 characters"),
        ("service_sid=VA1", "service_sid: must be a Verify Service SID: VA followed by 32 hex digits"),
        (
            "nmae=x",
            "nmae: unknown parameter; /api/v1/factors accepts account, service_sid, status, name, limit,",
        ),
        ("limit=1&limit=2", "limit: given more than once"),
        ("%0Aevil%1b=1", "�evil�: unknown parameter;"),
        (f"{'x' * 999}=1", f"{'x' * 60}…: unknown parameter;"),
    ],
)
async def test_an_invalid_query_is_refused_with_the_name_of_its_parameter(
    tmp_path: Path, query: str, message: str
) -> None:
    async with serving(tmp_path) as running:
        reply = await running.request(f"/api/v1/factors?{query}")
    assert reply.status == 400
    assert reply.text.startswith(message)
    assert len(reply.text.splitlines()) == 1


async def test_every_factor_has_its_own_path(tmp_path: Path) -> None:
    name = "a/b?c#d %2F {ü}"
    async with serving(tmp_path, entries(name, "other")) as running:
        running.apply(name, UNVERIFIED)
        place = f"/api/v1/factors/main/{SERVICE_SID.lower()}/{quote(name, safe='')}"
        reply = await running.request(place)
        [listed] = (await factors(running, "?status=unverified"))["factors"]
        own = json.loads(reply.text)
        assert {name: own.pop(name) for name in HISTORY_FIELDS}["status_history"][-1]["to"] == "unverified"
        assert own == listed
        assert (await running.request(place + "x")).status == 404
        assert (await running.request(place.replace("main", "other"))).status == 404
        head = await running.request(place, "HEAD")
        assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", str(len(reply.body)))


async def test_a_new_name_is_found_and_the_old_one_is_not(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("one"), web={"enable_lifecycle": True}) as running:
        place = f"/api/v1/factors/main/{SERVICE_SID}/"
        assert (await running.request(f"{place}one")).status == 200
        path = tmp_path / "config.toml"
        path.write_text(path.read_text().replace('"one"', '"eins"'), encoding="utf-8")
        assert (await running.request("/-/reload", "POST")).status == 200
        assert (await running.request(f"{place}one")).status == 404
        assert (await running.request(f"{place}eins")).status == 200
