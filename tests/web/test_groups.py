"""Tiles and groups count what their links lead to, and add up under every filter."""

from __future__ import annotations

import asyncio
import dataclasses
import html
import json
import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.polling.record import COUNTED_TYPES, FactorRecord
from exporter.verify.outcome import Failure, Reason, Status
from exporter.watched import FactorKey, WatchedFactor
from exporter.web.formatting import format_count
from exporter.web.groups import ALL, SHARED, TILES, group_of_label
from exporter.web.labelfilter import LabelTerm, read_labels, write_labels
from exporter.web.selection import LONGEST_LABELS, PAGE_ROWS, STATES, Query, Selection, select
from exporter.web.views import ATTENTION, needs_attention, states
from tests.support.html import page_of
from tests.support.served_exporter import NOT_FOUND, SERVICE_SID, UNVERIFIED, VERIFIED, entries, serving, stopped

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from tests.support.served_exporter import ServedExporter

TIMEOUT = Failure(Reason.TIMEOUT, "no complete answer in time")
SERVICES = (SERVICE_SID, "VA" + "d4" * 16)
ACCOUNTS = ("main", "other")
VALUES = ("payments", "a, b", '"quoted"', "back\\slash", "x=y", " spaced ", "  ", 'both, "kinds"')
NAMES = ("team", "type", "account")
LABELS = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VALUES), max_size=3)


@st.composite
def watchlists(draw: st.DrawFn) -> list[FactorRecord]:
    """Draw records of few accounts, services, types and labels, in all states."""
    records = []
    for number in range(draw(st.integers(0, 25))):
        key = FactorKey(draw(st.sampled_from(ACCOUNTS)), draw(st.sampled_from(SERVICES)), f"YF{number:032x}")
        labels = tuple(draw(LABELS).items())
        paused = draw(st.integers(0, 5)) == 0
        record = FactorRecord(WatchedFactor(key, f"factor-{number}", "identity", 60.0, paused, labels))
        record.status = draw(st.sampled_from([None, *Status]))
        record.up = draw(st.sampled_from([None, True, False]))
        record.factor_type = draw(st.sampled_from(["", "push", "totp", "sms"]))
        records.append(record)
    return records


QUERIES = st.builds(
    Query,
    status=st.sampled_from(["", ATTENTION, *STATES]),
    account=st.sampled_from(["", *ACCOUNTS]),
    service=st.sampled_from(["", *SERVICES, SERVICES[1].lower()]),
    type=st.sampled_from(["", *COUNTED_TYPES]),
    label=st.sampled_from(["", "team", "team=", "type=x=y", 'team="a, b"', "team=payments, account"]),
    q=st.sampled_from(["", "1", "payments", "push"]),
)
GROUPS = (*SHARED, *map(group_of_label, NAMES), "label.team", "missing")


async def whole(records: Iterable[FactorRecord], query: Query) -> list[Selection]:
    """Return every page of a query."""
    records = list(records)
    first = await select(records, query, lambda _key: None)
    pages = range(2, first.pages + 1)
    return [first, *[await select(records, query.but(page=page), lambda _key: None) for page in pages]]


def matched(records: list[FactorRecord], query: Query) -> int:
    """Return how many rows a query leads to."""
    return sum(len(page.records) for page in asyncio.run(whole(records, query)))


@given(watchlists(), QUERIES)
def test_tiles_add_up_and_lead_to_as_many_rows(records: list[FactorRecord], query: Query) -> None:
    [page] = asyncio.run(whole(records, query))

    assert sum(page.filtered[state] for state in TILES) == page.filtered[ALL]
    assert page.filtered[ALL] == matched(records, query.but(status=""))
    for state in (*STATES, ATTENTION):
        assert page.filtered[state] == matched(records, query.but(status=state))
    assert page.matched == len(page.records) == page.filtered[query.status or ALL]
    assert page.everything[ALL] == len(records)
    assert page.everything[ATTENTION] == sum(map(needs_attention, records))
    assert {state: page.everything[state] for state in STATES} == {
        state: sum(state in states(record) for record in records) for state in STATES
    }


@given(watchlists(), QUERIES, st.sampled_from(GROUPS))
def test_groups_add_up_and_lead_to_as_many_rows(records: list[FactorRecord], query: Query, group: str) -> None:
    grouped = query.but(group=group)
    [page] = asyncio.run(whole(records, grouped))

    assert page.records == []
    assert page.matched == sum(of.counts[ALL] for of in page.groups) == matched(records, query)
    assert page.grouped == len({of.value for of in page.groups})
    for of in page.groups:
        assert of.query is not None
        assert of.query.group == ""
        assert matched(records, of.query) == of.counts[ALL] > 0
        assert sum(of.counts[state] for state in TILES) == of.counts[ALL]
        if not query.status:
            for state in STATES:
                assert matched(records, of.query.but(status=state)) == of.counts[state]
    order = [
        (-of.counts[ALL],)
        if query.status
        else tuple(-of.counts[state] for state in ("not_found", "unverified", "unknown", "failing"))
        for of in page.groups
    ]
    assert [*zip(order, (of.value for of in page.groups), strict=True)] == sorted(
        zip(order, (of.value for of in page.groups), strict=True)
    )


TERMS = st.builds(
    LabelTerm,
    st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,9}", fullmatch=True),
    st.none() | st.text(max_size=20).map(str.strip),
)


@given(st.lists(TERMS))
def test_a_label_filter_reads_back(terms: list[LabelTerm]) -> None:
    assert read_labels(write_labels(terms)) == terms


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("", []),
        (" , ", []),
        ("team", [("team", None)]),
        (" team = people ", [("team", "people")]),
        ("team=", [("team", "")]),
        ("team=a=b", [("team", "a=b")]),
        ("team=payments,tier=1", [("team", "payments"), ("tier", "1")]),
        ('team="a, b" , tier', [("team", "a, b"), ("tier", None)]),
        (r'team="\"a\\"', [("team", '"a\\')]),
        ('team=the "a" team', [("team", 'the "a" team')]),
        ('team="not closed, tier', [("team", '"not closed'), ("tier", None)]),
        ('team="a" b', [("team", '"a" b')]),
    ],
)
def test_how_a_label_filter_is_read(text: str, terms: list[tuple[str, str | None]]) -> None:
    assert read_labels(text) == terms


@given(st.text(max_size=LONGEST_LABELS))
def test_any_label_filter_can_be_read(text: str) -> None:
    assert all(term.name == term.name.strip() for term in read_labels(text))


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[ServedExporter]:
    """Serve factors of three teams, two accounts and two services."""
    payments = entries("pay-1", "pay-2", "pay-3", labels={"team": "payments", "tier": "1"})
    people = entries("people-1", "people-2", account="other", service_sid=SERVICES[1], labels={"team": "people"})
    loner = entries("*", "*", "*", "loner")[3:]
    idle = entries(*"*****", "idle", paused=True, labels={"team": "a, b"})[5:]
    async with serving(tmp_path, [*payments, *people, *loner, *idle], accounts=ACCOUNTS, clock=stopped()) as served:
        served.apply("pay-1", VERIFIED)
        served.apply("pay-2", VERIFIED, TIMEOUT)
        served.apply("pay-3", UNVERIFIED)
        served.apply("people-1", NOT_FOUND)
        served.apply("people-2", VERIFIED)
        yield served


async def tiles(running: ServedExporter, address: str) -> dict[str, tuple[str, int]]:
    """Return the link and the number of every tile, and of the two numbers below them."""
    text = (await running.request(address)).text
    found = re.findall(r'id="(?:tile|these)-(\w+)" href="\.([^"]*)"[^>]*>(?:<b>)?([\d,]+)', text)
    return {name: (html.unescape(link), int(number)) for name, link, number in found}


@pytest.mark.slow
@pytest.mark.parametrize("status", ["", ATTENTION, *STATES])
async def test_every_tile_of_a_page_leads_to_as_many_rows(running: ServedExporter, status: str) -> None:
    for address in ("/", "/?label=team", "/?label=team%3Dpayments", "/?account=other", "/?q=1", "/?q=nobody"):
        shown = await tiles(running, f"{address}{'&' if '?' in address else '?'}status={status}")
        for link, number in shown.values():
            assert len((await page_of(running, link)).names) == number
        numbers = {name: number for name, (_, number) in shown.items()}
        assert numbers.pop("all") == sum(numbers[state] for state in TILES if state in numbers)


async def test_groups_are_listed_worst_first(running: ServedExporter) -> None:
    page = await page_of(running, "/?group=team")

    assert page.parts["factors"] == "Factors by team"
    assert page.parts["found"] == "4 groups."
    assert page.rows[0] == [
        "team",
        "Factors",
        "∅ Not found",
        "✗ Unverified",
        "? Unknown",
        "✓ Verified",
        "‖ Paused",
        "! Failing",
    ]
    assert page.rows[1:5] == [
        ["people", "2", "1", "0", "0", "1", "0", "0"],
        ["payments", "3", "0", "1", "0", "2", "0", "1"],
        ["no team", "1", "0", "0", "1", "0", "0", "0"],
        ["a, b", "1", "0", "0", "0", "0", "1", "0"],
    ]
    [link] = [link for link in page.links("./") if "people" in link and "status" not in link]
    assert (await page_of(running, link[1:])).names == ["people-1", "people-2"]


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("group=account", [["other", "2"], ["main", "5"]]),
        ("group=service", [[SERVICES[1], "2"], [SERVICES[0], "5"]]),
        ("group=type", [["unknown", "3"], ["totp", "1"], ["push", "3"]]),
        ("group=tier&label=team%3Dpayments", [["1", "3"]]),
        ("group=label.tier", [["no tier", "4"], ["1", "3"]]),
        ("group=team&status=verified", [["payments", "2"], ["people", "1"]]),
        ("group=team&status=attention", [["payments", "2"], ["no team", "1"], ["people", "1"]]),
        ("group=elsewhere&q=loner", [["no elsewhere", "1"]]),
    ],
)
async def test_what_factors_can_be_grouped_by(running: ServedExporter, query: str, rows: list[list[str]]) -> None:
    page = await page_of(running, f"/?{query}")

    assert [row[:2] for row in page.rows[1 : len(rows) + 1]] == rows
    assert ("data-label", page.rows[0][1]) in page.attributes
    assert page.rows[len(rows) + 1][0] == "Account"


async def test_a_group_keeps_the_filter(running: ServedExporter) -> None:
    page = await page_of(running, "/?group=team&label=tier%3D1&status=attention&sort=latency")

    [link] = [link for link in page.links("./") if "payments" in link]
    assert link == "./?status=attention&label=tier%3D1%2C+team%3Dpayments&sort=latency"
    assert (await page_of(running, link[1:])).names == ["pay-3", "pay-2"]


async def test_no_group_matches(running: ServedExporter) -> None:
    page = await page_of(running, "/?group=team&q=nobody")

    assert page.parts["rows"] == "No factors match. Show all 7"
    assert page.parts["found"] == "0 of 7 factors match. 0 groups."


async def test_a_label_too_long_for_an_address_has_no_link(tmp_path: Path) -> None:
    value = "x" * 500
    async with serving(tmp_path, entries("factor", labels={"team": value})) as running:
        listed = await page_of(running)
        grouped = await page_of(running, "/?group=team")

    assert value in listed.row("factor")[0]
    assert grouped.rows[1][:2] == [value, "1"]
    assert not any("xxx" in link for page in (listed, grouped) for link in page.links("./"))


@pytest.mark.parametrize(
    ("page", "pages", "numbers"),
    [
        (1, 1, [1]),
        (1, 2, [1, 2]),
        (1, 5, [1, 2, 3, 4, 5]),
        (1, 6, [1, 2, 3, 0, 6]),
        (5, 9, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (6, 11, [1, 0, 4, 5, 6, 7, 8, 0, 11]),
        (1000, 1000, [1, 0, 998, 999, 1000]),
    ],
)
async def test_the_first_the_last_and_near_pages_have_a_number(page: int, pages: int, numbers: list[int]) -> None:
    selection = await select([], Query(), lambda _key: None)

    assert dataclasses.replace(selection, page=page, pages=pages).numbers == numbers


def record_of(number: int) -> FactorRecord:
    key, labels = FactorKey("main", SERVICE_SID, f"YF{number:032x}"), (("team", f"team-{number:05d}"),)
    watched = WatchedFactor(key, "factor", "identity", 60.0, labels=labels)
    record = FactorRecord(watched)
    record.status = Status.UNVERIFIED if number % 1000 == 999 else Status.VERIFIED
    return record


async def test_with_ten_thousand_groups_other_tasks_run_while_a_page_is_made() -> None:
    records = [record_of(number) for number in range(10_000)]
    steps = 0

    async def others() -> None:
        nonlocal steps
        while True:
            steps += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    try:
        first = await select(records, Query(group="team"), lambda _key: None)
        steps_of_first = steps
        last = await select(records, Query(group="team", page=10**6), lambda _key: None)
    finally:
        beside.cancel()

    assert steps_of_first >= 30  # 20 batches of records, then 20 of groups
    assert (first.grouped, first.pages, last.page) == (10_000, 100, 100)
    assert [group.value for group in first.groups[:11]] == [
        *(f"team-{number:05d}" for number in range(999, 10_000, 1000)),
        "team-00000",
    ]
    assert len(first.groups) == len(last.groups) == PAGE_ROWS
    assert last.groups[-1].value == "team-09998"


async def test_thousands_are_separated_on_pages_only(tmp_path: Path) -> None:
    names = [f"factor-{number:04d}" for number in range(1234)]
    async with serving(tmp_path, entries(*names)) as running:
        page = await page_of(running, "/?label=team%3D&page=12")
        api = json.loads((await running.request("/api/v1/factors?limit=1")).text)
        metrics = (await running.request("/metrics")).text

    assert page.parts["headline"] == "✗ 1,234 of 1,234 factors need attention"
    assert page.parts["tiles"].startswith("1,234 matching")
    assert page.parts["these"] == "Of these, 1,234 need attention ."
    assert page.parts["found"] == "1,234 of 1,234 factors match. Page 12 of 13."
    assert "0 unverified, 1,234 unknown" in page.text
    assert page.row("main")[5] == "1,234"
    assert api["total"] == 1234
    assert "1,234" not in metrics
    assert re.search(r'twilio_verify_factors\{[^}]*status="unknown"\} 1234\.0', metrics)


def test_how_counts_are_shown() -> None:
    assert [*map(format_count, (0, 999, 1000, 1234567))] == ["0", "999", "1,000", "1,234,567"]
