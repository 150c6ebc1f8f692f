"""Responses to List Factors, complete or failed, and the requests for their pages."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.simulator import Endpoint, Fault, FaultKind, Simulator
from exporter.verify.answers import interpret_page, next_page_query
from exporter.verify.client import VerifyClient
from exporter.verify.outcome import FactorPage, Failure, Reason
from exporter.verify.transport import BoundedTransport
from exporter.verify.transports import transport_to
from exporter.watched import EntityKey, WatchedEntity
from tests.support.strategies import JSON

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PAGE_URL = "https://verify.twilio.com/v2/Services/VA1/Entities/somebody-secret/Factors?PageSize=20"
SIDS = tuple(f"YF{n:032x}" for n in range(3))


def body(*entries: Any, **meta: Any) -> bytes:
    return json.dumps({"factors": list(entries), "meta": meta}).encode()


def error(status: int, code: int) -> bytes:
    return json.dumps({"code": code, "message": "m", "more_info": "https://…", "status": status}).encode()


def test_a_page() -> None:
    listed = body(*({"sid": sid, "friendly_name": "x"} for sid in SIDS), next_page_url=None)
    assert interpret_page(200, listed) == FactorPage(SIDS)


def test_sids_are_canonical() -> None:
    assert interpret_page(200, body({"sid": SIDS[1].lower()})) == FactorPage((SIDS[1],))


@pytest.mark.parametrize(
    ("link", "query"),
    [
        (PAGE_URL + "&Page=1&PageToken=PT1", "PageSize=20&Page=1&PageToken=PT1"),
        ("https://elsewhere.test:8443/v2/x?PageToken=P%26T&Identity=x", "PageSize=20&PageToken=P%26T"),
        ("http://user:secret@verify.twilio.com/?Page=2&PageSize=50#end", "PageSize=50&Page=2"),
        ("/v2/Services?Page=1", "PageSize=20&Page=1"),
        ("?Page=1&page=7", "PageSize=20&Page=1"),
    ],
)
def test_the_next_page_has_the_paging_parameters_of_the_link_and_nothing_else(link: str, query: str) -> None:
    page = interpret_page(200, body(next_page_url=link))
    assert page == FactorPage((), query)
    assert "PT1" not in repr(page)


@pytest.mark.parametrize(
    "link",
    [
        "",
        PAGE_URL,
        PAGE_URL + "&Page=",
        PAGE_URL + "&Page=-1",
        PAGE_URL + "&Page=1e3",
        PAGE_URL + "&Page=%FF",
        PAGE_URL + "&PageToken=" + "x" * 8192,
        PAGE_URL + "&x=1" * 16 + "&Page=1",
        "https://[?Page=1",
        7,
        ["?Page=1"],
    ],
)
def test_a_link_without_valid_paging_parameters(link: Any) -> None:
    page = interpret_page(200, body({"sid": SIDS[0]}, next_page_url=link))
    assert page == Failure(Reason.DECODE, "HTTP 200, but the link to the next page has no valid paging parameters")


@given(st.text() | st.builds("https://x.test/?{}={}&Page={}".format, st.text(), st.text(), st.text()))
def test_any_link_becomes_a_query_of_paging_parameters_or_nothing(link: str) -> None:
    query = next_page_query(link)
    if query is not None:
        names = [name for name, _ in parse_qsl(query, strict_parsing=True)]
        assert set(names) <= {"PageSize", "Page", "PageToken"}
        assert len(names) == len(set(names))
        assert query.isascii()
        assert not set(query) & set(" #?/\r\n")


@pytest.mark.parametrize(
    ("code", "content", "reason", "detail"),
    [
        (404, error(404, 20404), Reason.BAD_REQUEST, "HTTP 404, Twilio error 20404: no such service or entity"),
        (404, error(404, 20008), Reason.BAD_REQUEST, "HTTP 404, Twilio error 20008"),
        (404, b"<html>", Reason.DECODE, "HTTP 404, but the body is not a Twilio error"),
        (401, error(401, 20003), Reason.AUTH, "HTTP 401, Twilio error 20003"),
        (403, error(403, 20403), Reason.FORBIDDEN, "HTTP 403, Twilio error 20403"),
        (429, b"", Reason.RATE_LIMITED, "HTTP 429"),
        (503, b"", Reason.SERVER_ERROR, "HTTP 503"),
        (302, b"", Reason.BAD_REQUEST, "HTTP 302"),
        (204, b"", Reason.DECODE, "HTTP 204"),
        (200, b"<html>", Reason.DECODE, "HTTP 200, but the body is not JSON"),
        (200, b"[" * 100_000, Reason.DECODE, "HTTP 200, but the body is not JSON"),
        (200, b'{"factors": [], "factors": []}', Reason.DECODE, "HTTP 200, but a key occurs twice in the body"),
        (200, b"[]", Reason.DECODE, "HTTP 200, but the body is not a list of factors"),
        (200, b'{"factors": null}', Reason.DECODE, "HTTP 200, but the body is not a list of factors"),
        (200, body({}), Reason.DECODE, "HTTP 200, but a listed factor has no valid SID"),
        (200, body(None), Reason.DECODE, "HTTP 200, but a listed factor has no valid SID"),
        (200, body({"sid": "YF1"}), Reason.DECODE, "HTTP 200, but a listed factor has no valid SID"),
    ],
)
def test_responses_that_are_no_page(code: int, content: bytes, reason: Reason, detail: str) -> None:
    assert interpret_page(code, content) == Failure(reason, detail)


@given(st.integers(100, 999), JSON | st.builds(lambda x, y: {"factors": x, "meta": y}, JSON, JSON))
def test_any_answer_is_a_page_or_a_failure(code: int, document: Any) -> None:
    page = interpret_page(code, json.dumps(document).encode())
    assert isinstance(page, FactorPage | Failure)
    if isinstance(page, Failure):
        assert "secret" not in page.detail


# Over a real socket


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(seed=3) as running:
        yield running


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[VerifyClient]:
    client = VerifyClient(
        base_url=simulator.base_url,
        username=simulator.username,
        password=lambda: simulator.password,
        transport=BoundedTransport(
            transport_to(base_url=simulator.base_url, max_connections=2), timeout_seconds=300.0
        ),
    )
    yield client
    await client.aclose()


async def pages(client: VerifyClient, entity: WatchedEntity) -> list[FactorPage]:
    found: list[FactorPage] = []
    query = None
    while True:
        attempt = await client.list_factors(entity, query)
        assert isinstance(attempt.result, FactorPage), attempt
        found.append(attempt.result)
        query = attempt.result.next_query
        if query is None:
            return found


@pytest.mark.parametrize("count", [0, 1, 20, 21, 45])
async def test_pages_of_twenty(simulator: Simulator, client: VerifyClient, count: int) -> None:
    known = simulator.add_entity(identity="ops-oncall-team")
    sids = {simulator.add_factor(identity="ops-oncall-team").sid for _ in range(count)}
    entity = WatchedEntity(EntityKey("main", known.service_sid, "ops-oncall-team"), "ops", 300.0)
    found = await pages(client, entity)
    assert {sid for page in found for sid in page.factor_sids} == sids
    assert [len(page.factor_sids) for page in found][:-1] == [20] * (len(found) - 1)
    assert simulator.calls.by_code == {("list", "200"): len(found)}


async def test_an_unknown_entity_and_a_fault(simulator: Simulator, client: VerifyClient) -> None:
    service = simulator.add_factor().service_sid
    entity = WatchedEntity(EntityKey("main", service, "nobody-at-all"), "nobody", 300.0)
    attempt = await client.list_factors(entity)
    assert attempt.code == 404
    assert isinstance(attempt.result, Failure)
    simulator.faults.add(Fault(FaultKind.CLOSE_IN_BODY, operation=Endpoint.LIST))
    attempt = await client.list_factors(entity)
    assert isinstance(attempt.result, Failure)
    assert attempt.result.reason is Reason.CONNECT
