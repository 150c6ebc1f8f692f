"""Responses to List Factors and List Entities, complete or failed, and the requests for their pages."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.simulator import Endpoint, Fault, FaultKind, Simulator
from exporter.verify.answers import interpret_entity_page, interpret_page, next_page_query
from exporter.verify.client import VerifyClient
from exporter.verify.outcome import EntityPage, FactorPage, Failure, ListedEntity, ListedFactor, Reason
from exporter.verify.transport import BoundedTransport
from exporter.verify.transports import transport_to
from exporter.watched import EntityKey, WatchedEntity
from tests.support.strategies import JSON

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PAGE_URL = "https://verify.twilio.com/v2/Services/VA1/Entities/somebody-secret/Factors?PageSize=20"
SIDS = tuple(f"YF{n:032x}" for n in range(3))


ENTITY_SIDS = tuple(f"YE{n:032x}" for n in range(3))


def body(*entries: Any, **meta: Any) -> bytes:
    return json.dumps({"factors": list(entries), "meta": meta}).encode()


def error(status: int, code: int) -> bytes:
    return json.dumps({"code": code, "message": "m", "more_info": "https://…", "status": status}).encode()


def test_a_page() -> None:
    listed = body(*({"sid": sid, "friendly_name": "x"} for sid in SIDS), next_page_url=None)
    assert interpret_page(200, listed) == FactorPage(tuple(ListedFactor(sid) for sid in SIDS))


def test_sids_are_canonical() -> None:
    assert interpret_page(200, body({"sid": SIDS[1].lower()})) == FactorPage((ListedFactor(SIDS[1]),))


@pytest.mark.parametrize(
    ("given", "factor_type"),
    [
        ("push", "push"),
        ("passkeys", "passkeys"),
        ("voice-2", "voice-2"),
        (None, ""),
        (7, ""),
        ("a b", ""),
        ("x" * 65, ""),
    ],
)
def test_a_factors_type(given: Any, factor_type: str) -> None:
    page = interpret_page(200, body({"sid": SIDS[0], "factor_type": given}))
    assert page == FactorPage((ListedFactor(SIDS[0], factor_type),))


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
    query = next_page_query(link, {})
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


# List Entities


def entities(*entries: Any, **meta: Any) -> bytes:
    return json.dumps({"entities": entries, "meta": meta}).encode()


def test_a_page_of_entities() -> None:
    listed = entities(*({"sid": sid, "identity": f"Person-{sid}"} for sid in ENTITY_SIDS), next_page_url=None)
    page = interpret_entity_page(200, listed)
    assert page == EntityPage(tuple(ListedEntity(sid, f"Person-{sid}") for sid in ENTITY_SIDS))
    assert "Person" not in repr(page)
    assert ENTITY_SIDS[2] in repr(page)


def test_entity_sids_are_canonical_and_identities_are_not_changed() -> None:
    page = interpret_entity_page(200, entities({"sid": ENTITY_SIDS[1].lower(), "identity": "DD6840AEC-Person"}))
    assert page == EntityPage((ListedEntity(ENTITY_SIDS[1], "DD6840AEC-Person"),))


@pytest.mark.parametrize("identity", ["x", "someone@example.com", "…", "a/b", "a b", "x" * 255, "..."])
def test_an_identity_from_before_the_limits(identity: str) -> None:
    page = interpret_entity_page(200, entities({"sid": ENTITY_SIDS[0], "identity": identity}))
    assert page == EntityPage((ListedEntity(ENTITY_SIDS[0], identity),))


@pytest.mark.parametrize(
    ("link", "query"),
    [
        (
            "https://verify.twilio.com/v2/Services/VA1/Entities?PageSize=50&Page=1&PageToken=PT1",
            "PageSize=50&Page=1&PageToken=PT1",
        ),
        ("https://elsewhere.test:8443/v2/x?PageToken=P%26T&Identity=x", "PageToken=P%26T"),
        ("?Page=1", "Page=1"),
    ],
)
def test_the_next_page_of_entities_has_the_size_that_the_link_has(link: str, query: str) -> None:
    page = interpret_entity_page(200, entities(next_page_url=link))
    assert page == EntityPage((), query)
    assert "PT1" not in repr(page)


@pytest.mark.parametrize(
    ("code", "content", "reason", "detail"),
    [
        (404, error(404, 20404), Reason.BAD_REQUEST, "HTTP 404, Twilio error 20404: no such service"),
        (404, error(404, 20008), Reason.BAD_REQUEST, "HTTP 404, Twilio error 20008"),
        (404, b"<html>", Reason.DECODE, "HTTP 404, but the body is not a Twilio error"),
        (401, error(401, 20003), Reason.AUTH, "HTTP 401, Twilio error 20003"),
        (401, b"", Reason.DECODE, "HTTP 401, but the body is not a Twilio error"),
        (403, error(403, 20403), Reason.FORBIDDEN, "HTTP 403, Twilio error 20403"),
        (403, b"<html>", Reason.DECODE, "HTTP 403, but the body is not a Twilio error"),
        (400, error(400, 60373), Reason.BAD_REQUEST, "HTTP 400, Twilio error 60373"),
        (429, b"", Reason.RATE_LIMITED, "HTTP 429"),
        (503, b"", Reason.SERVER_ERROR, "HTTP 503"),
        (302, b"", Reason.BAD_REQUEST, "HTTP 302"),
        (204, b"", Reason.DECODE, "HTTP 204"),
        (200, b"<html>", Reason.DECODE, "HTTP 200, but the body is not JSON"),
        (200, b'{"entities": [], "entities": []}', Reason.DECODE, "HTTP 200, but a key occurs twice in the body"),
        (200, b"[]", Reason.DECODE, "HTTP 200, but the body is not a list of entities"),
        (200, b'{"factors": []}', Reason.DECODE, "HTTP 200, but the body is not a list of entities"),
        (
            200,
            entities(next_page_url="?x=1"),
            Reason.DECODE,
            "HTTP 200, but the link to the next page has no valid paging parameters",
        ),
    ],
)
def test_responses_that_are_no_page_of_entities(code: int, content: bytes, reason: Reason, detail: str) -> None:
    assert interpret_entity_page(code, content) == Failure(reason, detail)


@pytest.mark.parametrize(
    "entry",
    [
        None,
        [],
        {},
        {"identity": "person-0001"},
        {"sid": SIDS[0], "identity": "person-0001"},
        {"sid": "YE1", "identity": "person-0001"},
        {"sid": 7, "identity": "person-0001"},
    ],
)
def test_what_is_listed_is_no_entity(entry: Any) -> None:
    good = {"sid": ENTITY_SIDS[1], "identity": "person-0002"}
    page = interpret_entity_page(200, entities(good, entry))
    assert page == Failure(Reason.DECODE, "HTTP 200, but a listed entity has no valid SID")


@pytest.mark.parametrize(
    "entry",
    [
        {"sid": ENTITY_SIDS[0]},
        {"sid": ENTITY_SIDS[0], "identity": None},
        {"sid": ENTITY_SIDS[0], "identity": 7},
        {"sid": ENTITY_SIDS[0], "identity": ""},
        {"sid": ENTITY_SIDS[0], "identity": ".."},
        {"sid": ENTITY_SIDS[0], "identity": "."},
        {"sid": ENTITY_SIDS[0], "identity": "a\nb"},
        {"sid": ENTITY_SIDS[0], "identity": "\ud800" * 8},
        {"sid": ENTITY_SIDS[0], "identity": "x" * 256},
    ],
)
def test_an_entity_that_could_not_be_listed_leaves_the_others(entry: Any) -> None:
    good = {"sid": ENTITY_SIDS[1], "identity": "person-0002"}
    page = interpret_entity_page(200, entities(entry, good))
    assert page == EntityPage((ListedEntity(ENTITY_SIDS[1], "person-0002"),), unusable=(ENTITY_SIDS[0],))


@given(st.integers(100, 999), JSON | st.builds(lambda x, y: {"entities": x, "meta": y}, JSON, JSON))
def test_any_answer_is_a_page_of_entities_or_a_failure(code: int, document: Any) -> None:
    page = interpret_entity_page(code, json.dumps(document).encode())
    assert isinstance(page, EntityPage | Failure)
    if isinstance(page, Failure):
        assert "secret" not in page.detail


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
    assert {sid for page in found for sid, _type in page.factors} == sids
    assert [len(page.factors) for page in found][:-1] == [20] * (len(found) - 1)
    assert simulator.calls.by_code == {("list", "200"): len(found)}


@pytest.mark.parametrize("count", [0, 1, 50, 51, 120])
async def test_pages_of_entities(simulator: Simulator, client: VerifyClient, count: int) -> None:
    service = simulator.add_service(service_sid="VA" + "5" * 32).sid
    added = [simulator.add_entity(service_sid=service, identity=f"Person-{number:04}") for number in range(count)]
    found: list[EntityPage] = []
    query = None
    while not found or query is not None:
        attempt = await client.list_entities(service, query)
        assert isinstance(attempt.result, EntityPage), attempt
        found.append(attempt.result)
        query = attempt.result.next_query
    assert [of for page in found for of in page.entities] == [ListedEntity(of.sid, of.identity) for of in added]
    assert [len(page.entities) for page in found][:-1] == [50] * (len(found) - 1), "what the API chose"
    assert simulator.calls.by_code == {("list_entities", "200"): len(found)}


async def test_an_unknown_service(simulator: Simulator, client: VerifyClient) -> None:
    attempt = await client.list_entities("VA" + "9" * 32)
    assert attempt.code == 404
    assert attempt.result == Failure(Reason.BAD_REQUEST, "HTTP 404, Twilio error 20404: no such service")


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
