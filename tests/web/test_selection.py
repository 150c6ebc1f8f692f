"""Filter, search, sort order and paging of the status page, all in its URL."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.polling.record import COUNTED_TYPES, FactorRecord
from exporter.verify.outcome import Failure, Reason, Status
from exporter.watched import FactorKey, WatchedFactor
from exporter.web.groups import SHARED
from exporter.web.history import FULL, FULL_FACTORS, SHORT
from exporter.web.page_templates import REFRESH_SECONDS
from exporter.web.selection import LONGEST_LABELS, LONGEST_TEXT, SORTS, STATES, Query, select
from exporter.web.views import ATTENTION
from tests.support.html import page_of
from tests.support.served_exporter import NOT_FOUND, SERVICE_SID, UNVERIFIED, VERIFIED, entries, serving, stopped

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.served_exporter import ServedExporter

OTHER_SERVICE = "VA" + "d4" * 16


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[ServedExporter]:
    first = entries("Alpha", "beta", labels={"team": "payments", "tier": "1"})
    second = entries("gamma", "delta", account="other", service_sid=OTHER_SERVICE, labels={"team": "people"})
    idle = entries("idle", "zeta", paused=True)[0] | {"factor_sid": "YF" + "e" * 32}
    async with serving(tmp_path, [*first, *second, idle], accounts=("main", "other"), clock=stopped()) as served:
        served.apply("Alpha", VERIFIED, ago_seconds=20, duration_seconds=0.3)
        served.apply("beta", VERIFIED, Failure(Reason.TIMEOUT, "no complete answer"), ago_seconds=40)
        served.apply("gamma", UNVERIFIED, ago_seconds=10, duration_seconds=0.1)
        served.apply("delta", NOT_FOUND, ago_seconds=30, duration_seconds=0.2)
        yield served


@pytest.mark.slow
@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", ["delta", "gamma", "beta", "Alpha", "idle"]),
        ("status=attention", ["delta", "gamma", "beta"]),
        ("status=verified", ["beta", "Alpha"]),
        ("status=unverified", ["gamma"]),
        ("status=not_found", ["delta"]),
        ("status=failing", ["beta"]),
        ("status=paused", ["idle"]),
        ("account=other", ["delta", "gamma"]),
        ("account=none", []),
        (f"service={OTHER_SERVICE}", ["delta", "gamma"]),
        (f"service={OTHER_SERVICE.lower()}", ["delta", "gamma"]),
        ("label=team%3Dpayments", ["beta", "Alpha"]),
        ("label=+team+%3D+people+", ["delta", "gamma"]),
        ("label=tier", ["beta", "Alpha"]),
        ("label=team%3D", ["idle"]),
        ("label=team%3Dpayments%2C+tier%3D1", ["beta", "Alpha"]),
        ("label=team%3Dpayments%2C+tier%3D2", []),
        ("label=team%3D%22people%22%2C+team", ["delta", "gamma"]),
        ("type=totp", ["gamma"]),
        ("type=unknown", ["delta", "idle"]),
        ("q=ALPHA", ["Alpha"]),
        ("q=people+gam", ["gamma"]),
        ("q=" + "e" * 32, ["idle"]),
        ("q=push", ["beta", "Alpha"]),
        ("q=payments&status=failing&account=main", ["beta"]),
        ("sort=factor", ["Alpha", "beta", "delta", "gamma", "idle"]),
        ("sort=-factor", ["idle", "gamma", "delta", "beta", "Alpha"]),
        ("sort=last", ["gamma", "Alpha", "delta", "beta", "idle"]),
        ("sort=-last", ["beta", "delta", "Alpha", "gamma", "idle"]),
        ("sort=since", ["gamma", "Alpha", "delta", "beta", "idle"]),
        ("sort=latency", ["gamma", "delta", "beta", "Alpha", "idle"]),
        ("sort=-latency", ["Alpha", "beta", "delta", "gamma", "idle"]),
        ("sort=-state", ["idle", "Alpha", "beta", "gamma", "delta"]),
        ("sort=failures", ["beta", "delta", "gamma", "Alpha", "idle"]),
    ],
)
async def test_filters_and_orders(running: ServedExporter, query: str, names: list[str]) -> None:
    page = await page_of(running, f"/?{query}")

    assert page.names == names


async def test_a_filter_is_kept_in_links_and_in_the_form(running: ServedExporter) -> None:
    page = await page_of(running, "/?q=a&status=attention&label=team&sort=-factor&account=other")

    link = page.links("factors/other")[0]
    assert dict(parse_qsl(link.partition("?")[2])) == {
        "q": "a",
        "status": "attention",
        "label": "team",
        "sort": "-factor",
        "account": "other",
    }
    assert page.parts["found"] == "2 of 5 factors match."
    assert ("value", "team") in page.attributes
    assert page.tags.count("form") == 1
    assert [("aria-sort", "descending") in page.attributes, ("aria-sort", "ascending") in page.attributes] == [
        True,
        False,
    ]
    assert any("sort=-latency" in link for link in (await page_of(running, "/?sort=latency")).links("./?"))


async def test_an_empty_result_links_to_all_factors(running: ServedExporter) -> None:
    page = await page_of(running, "/?q=nobody&account=gone&service=VAgone")

    assert page.parts["rows"] == "No factors match. Show all 5"
    assert page.parts["tiles"] == "0 matching 0 ∅ not found 0 ✗ unverified 0 ? unknown 0 ✓ verified"
    assert page.parts["found"] == "0 of 5 factors match."
    assert {"gone", "VAgone"} <= set(page.words)  # the form keeps its values


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("page=0", "page: must be a whole number of at least 1"),
        ("page=-1", "page: must be a whole number of at least 1"),
        ("page=x", "page: must be a whole number of at least 1"),
        ("page=1.0", "page: must be a whole number of at least 1"),
        ("page=٣", "page: must be a whole number of at least 1"),
        ("page=" + "9" * 30, "page: must be a whole number of at least 1"),
        (
            "status=broken",
            "status: must be one of attention, not_found, unverified, unknown, failing, verified, paused",
        ),
        (
            "sort=colour",
            "sort: must be one of factor, state, since, last, next, latency, failures, -factor, -state",
        ),
        ("q=" + "x" * 201, "q: must have 1 to 200 characters"),
        ("label=" + "x" * 401, "label: must have 1 to 400 characters"),
        ("type=sms", "type: must be one of push, totp, passkeys, other, unknown"),
        ("group=the team", "group: must be one of account, service, type, or the name of a label"),
        ("group=label.", "group: must be one of account, service, type, or the name of a label"),
    ],
)
async def test_an_invalid_parameter_is_refused_by_name(running: ServedExporter, query: str, message: str) -> None:
    reply = await running.request(f"/?{quote(query, safe='=&')}")

    assert reply.status == 400
    assert reply.text.startswith(message)
    assert reply.headers["Content-Type"] == "text/plain; charset=utf-8"


async def test_many_factors_are_shown_page_by_page(tmp_path: Path) -> None:
    names = [f"factor-{number:03d}" for number in range(250)]
    async with serving(tmp_path, entries(*names, labels={"half": "1"})) as running:
        pages = [await page_of(running, f"/?label=half&page={number}") for number in (1, 2, 3)]
        beyond = await page_of(running, "/?page=99")

    assert [len(page.names) for page in pages] == [100, 100, 50]
    assert [name for page in pages for name in page.names] == names
    assert [page.parts["pages"] for page in pages] == [
        "1 2 3 Next →",
        "← Previous 1 2 3 Next →",
        "← Previous 1 2 3",
    ]
    assert "./?label=half&page=3" in pages[1].links("./")
    assert beyond.names == pages[2].names
    assert pages[0].parts["found"] == "250 of 250 factors match. Page 1 of 3."


def record_of(number: int) -> FactorRecord:
    watched = WatchedFactor(FactorKey("main", SERVICE_SID, f"YF{number:032x}"), f"f{number:05d}", "x" * 8, 60.0)
    record = FactorRecord(watched)
    record.status = list(Status)[number % 3]
    record.duration_seconds = None if number % 7 == 0 else (number * 7919 % 1000) / 1000
    return record


async def test_with_ten_thousand_factors_other_tasks_run_while_a_page_is_made() -> None:
    records = [record_of(number) for number in range(10_000)]
    steps = 0

    async def others() -> None:
        nonlocal steps
        while True:
            steps += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    try:
        selection = await select(records, Query(sort="-latency", page=50), lambda _key: None)
    finally:
        beside.cancel()

    assert steps >= 15
    assert (selection.matched, selection.page, selection.pages) == (10_000, 50, 100)
    durations = [record.duration_seconds for record in records if record.duration_seconds is not None]
    assert [record.duration_seconds for record in selection.records] == sorted(durations, reverse=True)[4900:5000]


TEXTS = st.text(max_size=LONGEST_TEXT).map(str.strip)
QUERIES = st.builds(
    Query,
    status=st.sampled_from(["", ATTENTION, *STATES]),
    account=TEXTS,
    service=TEXTS,
    type=st.sampled_from(["", *COUNTED_TYPES]),
    label=st.text(max_size=LONGEST_LABELS).map(str.strip),
    q=TEXTS,
    sort=st.sampled_from(["", *SORTS, *(f"-{name}" for name in SORTS)]),
    group=st.sampled_from(["", *SHARED]) | st.from_regex(r"(label\.)?[a-zA-Z_][a-zA-Z0-9_]*", fullmatch=True),
    page=st.integers(1, 10**6),
)


@given(QUERIES)
def test_a_query_string_reads_back(query: Query) -> None:
    text = str(query)

    assert Query.of(dict(parse_qsl(text.removeprefix("?")))) == query
    assert re.fullmatch(r"[!-~]*", text)
    assert not re.search(r"[\"'<>\s]", text)


def test_the_documentation_names_every_query_parameter() -> None:
    text = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
    section = text.partition("## Read the pages")[2]

    words = (ATTENTION, *STATES, *SORTS, *SHARED, *COUNTED_TYPES, "label", "q", "group")
    assert [word for word in words if f"`{word}`" not in section] == []
    assert f"last {FULL.fetches} fetches" in section
    assert f"{FULL.failures} in all" in section
    assert (
        f"more than {FULL_FACTORS:,} factors only the last {SHORT.fetches} fetches and {SHORT.failures} failures"
        in section
    )
    assert f"every {REFRESH_SECONDS} s" in section
