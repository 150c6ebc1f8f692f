"""Responses to Fetch Service, and the request."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.simulator import Endpoint, Fault, FaultKind, Simulator
from exporter.verify.answers import interpret_service
from exporter.verify.client import VerifyClient
from exporter.verify.outcome import Failure, Reason, ServiceAnswer
from exporter.verify.transport import BoundedTransport
from exporter.verify.transports import transport_to
from tests.support.requests import SERVICE_SID
from tests.support.strategies import JSON

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

OTHER_SID = "VA" + "f" * 32
EXISTS, GONE = ServiceAnswer(exists=True), ServiceAnswer(exists=False)


def error(status: int, code: int) -> bytes:
    return json.dumps({"code": code, "message": "m", "more_info": "https://…", "status": status}).encode()


@pytest.mark.parametrize(
    "body",
    [
        {"sid": SERVICE_SID, "friendly_name": "login"},
        {"sid": SERVICE_SID.lower()},
        {"friendly_name": "login"},
        {"sid": None},
        {"sid": "YF" + "f" * 32},
    ],
)
def test_a_service_that_exists(body: dict[str, Any]) -> None:
    assert interpret_service(200, json.dumps(body).encode(), SERVICE_SID) == EXISTS


def test_a_service_that_is_gone() -> None:
    assert interpret_service(404, error(404, 20404), SERVICE_SID) == GONE
    problem = {"type": "t", "title": "t", "status": 404, "code": 20404}
    assert interpret_service(404, json.dumps(problem).encode(), SERVICE_SID) == GONE


@pytest.mark.parametrize(
    ("code", "content", "reason", "detail"),
    [
        (401, error(401, 20003), Reason.AUTH, "HTTP 401, Twilio error 20003"),
        (403, error(403, 70051), Reason.FORBIDDEN, "HTTP 403, Twilio error 70051"),
        (404, error(404, 20008), Reason.BAD_REQUEST, "HTTP 404, Twilio error 20008"),
        (404, error(404, 60390), Reason.BAD_REQUEST, "HTTP 404, Twilio error 60390"),
        (401, b"", Reason.DECODE, "HTTP 401, but the body is not a Twilio error"),
        (403, b"<html>", Reason.DECODE, "HTTP 403, but the body is not a Twilio error"),
        (404, b"<html>", Reason.DECODE, "HTTP 404, but the body is not a Twilio error"),
        (404, error(403, 20404), Reason.DECODE, "HTTP 404, but the body is not a Twilio error"),
        (429, b"", Reason.RATE_LIMITED, "HTTP 429"),
        (503, b"", Reason.SERVER_ERROR, "HTTP 503"),
        (302, b"", Reason.BAD_REQUEST, "HTTP 302"),
        (204, b"", Reason.DECODE, "HTTP 204"),
        (200, b"", Reason.DECODE, "HTTP 200, but the body is not JSON"),
        (200, b"<html>", Reason.DECODE, "HTTP 200, but the body is not JSON"),
        (200, b"[]", Reason.DECODE, "HTTP 200, but the body is not a JSON object"),
        (200, b'{"sid": 1, "sid": 2}', Reason.DECODE, "HTTP 200, but a key occurs twice in the body"),
        (
            200,
            json.dumps({"sid": OTHER_SID}).encode(),
            Reason.DECODE,
            "HTTP 200, but the body is another service's",
        ),
    ],
)
def test_responses_that_say_nothing_about_the_service(
    code: int, content: bytes, reason: Reason, detail: str
) -> None:
    assert interpret_service(code, content, SERVICE_SID) == Failure(reason, detail)


@given(st.integers(100, 999), st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_only_a_404_of_twilio_says_that_a_service_is_gone(code: int, body: bytes) -> None:
    result = interpret_service(code, body, SERVICE_SID)
    assert isinstance(result, ServiceAnswer | Failure)
    assert result != GONE
    assert result != EXISTS or code == 200


# Over a real socket


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(seed=3) as running:
        yield running


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[VerifyClient]:
    client = VerifyClient(
        base_url=simulator.base_url + "/",
        username=simulator.username,
        password=lambda: simulator.password,
        transport=BoundedTransport(
            transport_to(base_url=simulator.base_url, max_connections=2), timeout_seconds=300.0
        ),
    )
    yield client
    await client.aclose()


async def test_a_service_is_fetched_deleted_and_restored(simulator: Simulator, client: VerifyClient) -> None:
    service_sid = simulator.add_factor().service_sid
    attempt = await client.fetch_service(service_sid)
    assert (attempt.result, attempt.code) == (EXISTS, 200)
    assert attempt.request_id
    simulator.delete_service(service_sid)
    attempt = await client.fetch_service(service_sid)
    assert (attempt.result, attempt.code) == (GONE, 404)
    simulator.restore_service(service_sid)
    assert (await client.fetch_service(service_sid)).result == EXISTS
    assert simulator.calls.by_code == {("service", "200"): 2, ("service", "404"): 1}


async def test_a_failed_request_for_a_service(simulator: Simulator, client: VerifyClient) -> None:
    simulator.faults.add(Fault(FaultKind.CLOSE_IN_BODY, operation=Endpoint.SERVICE))
    attempt = await client.fetch_service(simulator.add_factor().service_sid)
    assert isinstance(attempt.result, Failure)
    assert attempt.result.reason is Reason.CONNECT
