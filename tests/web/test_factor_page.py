"""A factor's page: its last fetches, older failures, the plot and its description, and the queries."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import promql_parser
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.exposition.catalogue import FACTOR_FAMILIES, FACTOR_UP
from exporter.polling.ledger import Ledger
from exporter.polling.record import FactorRecord
from exporter.verify.outcome import Failure, Reason, Status
from exporter.watched import FactorKey, WatchedFactor
from exporter.web.history import FULL, SHORT, Fetch
from exporter.web.plot import HEIGHT, WIDTH, plot
from exporter.web.promql import queries
from tests.support.html import page_of
from tests.support.served_exporter import (
    NOT_FOUND,
    REQUEST_ID,
    SERVICE_SID,
    UNVERIFIED,
    VERIFIED,
    entries,
    serving,
    stopped,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TIMEOUT = Failure(Reason.TIMEOUT, "no complete answer in time")
OTHER_SERVICE = "VA" + "d4" * 16


def address(name: str, account: str = "main", service_sid: str = SERVICE_SID) -> str:
    return f"/factors/{account}/{service_sid}/{quote(name, safe='')}"


async def test_it_shows_the_last_fetches_newest_first(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("factor", labels={"team": "payments"}), clock=stopped()) as running:
        running.apply("factor", UNVERIFIED, ago_seconds=300)
        running.apply("factor", VERIFIED, ago_seconds=200)
        running.apply("factor", TIMEOUT, ago_seconds=100, duration_seconds=31.25, attempts=3)
        page = await page_of(running, address("factor"))

    assert page.parts["headline"] == "factor"
    assert page.parts["lead"].startswith("✓ verified ! failing the API reports the factor as verified (for 3 min")
    assert page.parts["notice"] == (
        "! no complete answer in time , 100 s ago . "
        "What to do: the API is slow or unreachable; check the network, or raise polling.timeout"
    )
    assert page.rows[0] == [
        *("Ended", "Outcome", "HTTP status", "Twilio code", "Duration", "Attempts", "Request ID"),
    ]
    assert [row[1:] for row in page.rows[1:]] == [
        ["! failed no complete answer in time timeout", "200", "–", "31.2 s", "3", REQUEST_ID],
        ["✓ verified", "200", "–", "212 ms", "1", REQUEST_ID],
        ["✗ unverified", "200", "–", "212 ms", "1", REQUEST_ID],
    ]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC \d+ (s|min) ago", row[0]) for row in page.rows[1:])
    assert "Labels team=payments" in page.parts["facts"]
    assert f"Service {SERVICE_SID} Copy Factor YF{1:032x} Copy Entity YE{'0' * 32} Copy" in page.parts["facts"]
    assert page.parts["plot-description"] == (
        "3 fetches: 1 verified, 1 unverified, 1 failed. Latency: minimum 212 ms, median 212 ms, maximum 31.2 s."
    )
    rule = (
        f"the last {FULL.fetches} fetches; also the last {FULL.failures} failures and the last change of status, "
        "even if they are older."
    )
    assert page.parts["rule"].endswith(rule)


async def test_the_last_change_is_shown_with_its_evidence_however_old(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("gone", "back", "same"), clock=stopped()) as running:
        running.apply("gone", VERIFIED, ago_seconds=90_000)
        running.apply("gone", *[NOT_FOUND] * 30, ago_seconds=86_400, code=404, twilio_code=20404)
        running.apply("back", NOT_FOUND, ago_seconds=90_000, code=404, twilio_code=60390)
        running.apply("back", *[VERIFIED] * 3, ago_seconds=600)
        running.apply("same", VERIFIED)
        pages = {name: await page_of(running, address(name)) for name in ("gone", "back", "same")}

    wanted = f"Last change verified → not found, 24 h ago : HTTP 404, Twilio error 20404, request {REQUEST_ID} "
    assert wanted in pages["gone"].parts["facts"]
    assert (
        f"Last change not found → verified, 10 min ago : HTTP 200, request {REQUEST_ID} "
        in (pages["back"].parts["facts"])
    )
    assert "Last change none since this process started " in pages["same"].parts["facts"]
    assert pages["gone"].rows[1][2:4] == ["404", "20404"]


async def test_failures_are_kept_longer(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("factor"), clock=stopped()) as running:
        running.apply("factor", TIMEOUT, ago_seconds=4000)
        running.apply("factor", *[VERIFIED] * 40)
        page = await page_of(running, address("factor"))

    assert len(page.rows) == 1 + FULL.fetches + 1 + 1
    assert page.rows[-1][1] == "! failed no complete answer in time timeout"
    assert page.parts["older"] == "Older failures"
    assert page.parts["notice"].startswith(
        "! Last failure: no complete answer in time , 66 min ago ; recovered since"
    )


async def test_with_many_factors_it_says_that_less_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.web.history.FULL_FACTORS", 1)
    async with serving(tmp_path, entries("one", "two")) as running:
        running.apply("one", *[VERIFIED] * 10)
        running.apply("two", VERIFIED)
        page = await page_of(running, address("one"))

    rule = (
        f"the last {SHORT.fetches} fetches; also the last {SHORT.failures} failures and the last change of status, "
        "even if they are older."
    )
    assert f"{rule} With at most 10,000 factors, 12 and 10 are kept." in page.parts["rule"]


async def test_a_factor_that_was_never_fetched_claims_nothing(tmp_path: Path) -> None:
    idle = entries("idle", "idle", paused=True)[1]
    async with serving(tmp_path, [*entries("never"), idle]) as running:
        never, paused = await page_of(running, address("never")), await page_of(running, address("idle"))

    assert never.parts["fetch"] == "No fetches yet."
    assert never.parts["lead"] == "? unknown no answer yet, or the last answer is too old to rely on"
    assert "svg" not in never.tags
    assert "notice" not in never.parts
    assert paused.parts["fetch"] == "This factor is paused: it is not polled."
    assert "Next check not polled" in paused.parts["facts"]


async def test_the_link_back_keeps_the_filter(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("factor", interval="1h")) as running:
        listed = await page_of(running, "/?q=fac&sort=-latency&page=1")
        [link] = listed.links("factors/")
        page = await page_of(running, f"/{link}")
        odd = await page_of(running, f"{address('factor')}?status=nonsense&page=x")

    assert page.links("../../../?")[0] == "../../../?q=fac&sort=-latency"
    assert "../../../" in odd.links("../../../")
    assert {"../../../metrics", "../../../-/ready"} <= set(page.links("../../../"))


@pytest.mark.parametrize(
    "name",
    ["a/b", "100 %", "?q=1#x", 'quote"quote', "<b>", "日本語 – ü", "{x}", "a+b", "%2F", "...", "\\", "a;b"],
)
async def test_every_name_has_its_page(tmp_path: Path, name: str) -> None:
    async with serving(tmp_path, entries(name)) as running:
        running.apply(name, VERIFIED)
        [link] = (await page_of(running)).links("factors/")
        page = await page_of(running, f"/{link}")

    assert link == f"factors/main/{SERVICE_SID}/{quote(name, safe='')}"
    assert page.parts["headline"] == " ".join(name.split())


async def test_a_factor_is_found_by_its_sid_and_in_any_case(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("factor")) as running:
        by_sid = await page_of(running, address(f"yf{1:032X}"))
        by_service = await page_of(running, address("factor", service_sid=SERVICE_SID.lower()))

    assert by_sid.parts["headline"] == by_service.parts["headline"] == "factor"


async def test_a_page_finds_its_factor_without_reading_all_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path, entries(*(f"factor-{number}" for number in range(50)))) as running:
        await page_of(
            running, address("factor-7")
        )  # the first page after a change of the watchlist indexes the names

        def fail(_ledger: Ledger) -> Iterator[FactorRecord]:
            pytest.fail("a factor's page reads every record")

        monkeypatch.setattr(Ledger, "__iter__", fail)
        by_name = await page_of(running, address("factor-8"))
        by_sid = await page_of(running, address(f"YF{9:032x}"))

    assert (by_name.parts["headline"], by_sid.parts["headline"]) == ("factor-8", "factor-8")


async def test_an_unknown_factor_is_404_with_similar_ones(tmp_path: Path) -> None:
    elsewhere = entries("spare", "payments-push", service_sid=OTHER_SERVICE)[1]
    factors = [*entries("payments-puhs", "warehouse"), elsewhere]
    async with serving(tmp_path, factors) as running:
        page = await page_of(running, f"{address('payments-push')}?q=pay", status=404)
        nobody = await page_of(running, address("zzz"), status=404)
        exact = await page_of(running, address("payments-push", service_sid=OTHER_SERVICE))
        reply = await running.request(address("<script>"))

    assert page.parts["headline"] == nobody.parts["headline"] == "No such factor"
    assert page.links("../../../factors") == [
        f"../../..{address('payments-push', service_sid=OTHER_SERVICE)}?q=pay",
        f"../../..{address('payments-puhs')}?q=pay",
    ]
    assert nobody.links("../../../factors") == []
    assert exact.parts["headline"] == "payments-push"
    assert "<script>" not in reply.text
    assert reply.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self';")


async def test_a_family_that_is_not_shown_has_no_query(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("factor"), metrics={"factor_families": ["up"]}) as running:
        few = await page_of(running, address("factor"))
    async with serving(tmp_path, entries("factor"), metrics={"factor_families": []}) as running:
        none = await page_of(running, address("factor"))

    assert few.parts["queries"].count("{") == 2
    assert FACTOR_UP.name in few.parts["queries"]
    assert "promql" not in none.parts


def matchers(node: Any) -> dict[str, str]:
    """Return the label matchers of the one selector in a query."""
    match node:
        case promql_parser.VectorSelector():
            return {matcher.name: matcher.value for matcher in node.matchers.matchers}
        case promql_parser.MatrixSelector():
            return matchers(node.vector_selector)
        case promql_parser.Call():
            return matchers(node.args[0])
    return matchers(node.rhs)


@given(st.text(min_size=1, max_size=128), st.sampled_from(["main", "other_account-2"]))
def test_a_query_selects_the_factor_whatever_its_name(name: str, account: str) -> None:
    watched = WatchedFactor(FactorKey(account, SERVICE_SID, "YF" + "0" * 32), name, "identity", 60.0)
    found = queries(FactorRecord(watched), FACTOR_FAMILIES)

    assert len(found) == 8
    for query in found:
        labels = matchers(promql_parser.parse(query.text))
        labels.pop("__name__", None)
        assert labels == {"account": account, "service_sid": SERVICE_SID, "factor": name}


@given(st.lists(st.tuples(st.floats(0, 1000), st.sampled_from([*Status, *Reason])), min_size=2, max_size=30))
def test_every_fetch_is_in_the_plot(results: list[tuple[float, Status | Reason]]) -> None:
    fetches = [Fetch(float(n), result, "", 200, seconds, 1, "") for n, (seconds, result) in enumerate(results)]
    drawn = plot(fetches)

    assert drawn is not None
    assert drawn.top_seconds >= max(seconds for seconds, _ in results)
    assert [mark.fetch for mark in drawn.marks] == fetches[::-1]
    assert all(0 <= mark.x <= WIDTH and 0 <= mark.y <= HEIGHT for mark in drawn.marks)
    assert [mark.x for mark in drawn.marks] == sorted(mark.x for mark in drawn.marks)
    assert {mark.shape for mark in drawn.marks} <= {*Status, "failed"}


def test_a_single_fetch_has_no_plot() -> None:
    assert plot([Fetch(1.0, Status.VERIFIED, "", 200, 0.2, 1, "")]) is None


async def test_a_missing_factor_says_whether_its_service_is_gone(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("factor"), clock=stopped()) as running:
        running.apply("factor", NOT_FOUND)
        doubt = running.daemon.engine.services._doubts["main", SERVICE_SID]
        leads = {}
        for doubt.exists in (None, True, False):
            leads[doubt.exists] = (await page_of(running, address("factor"))).parts["lead"]
        running.apply("factor", VERIFIED)
        verified = (await page_of(running, address("factor"))).parts["lead"]

    assert leads[None] == leads[True]
    assert leads[True].startswith("∅ not found the API returns 404: the factor was deleted, or")
    assert leads[False].startswith(
        "∅ not found the API returns 404 for the factor and for its service. Check whether"
    )
    assert verified.startswith("✓ verified the API reports the factor as verified")
