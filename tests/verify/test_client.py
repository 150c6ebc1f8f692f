"""The client of one account: the request it makes, and what it reads of the answer."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import logging
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import respx

from exporter import __version__
from exporter.verify.client import VerifyClient
from exporter.verify.outcome import Answer, Attempt, EntityPage, Failure, ListedEntity, Reason, Status
from exporter.verify.transport import AttemptError, BoundedTransport
from exporter.watched import EntityKey, FactorKey, WatchedEntity, WatchedFactor
from tests.support.requests import FACTOR_SID, IDENTITY, PASSWORD, SERVICE_SID, USERNAME

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

BASE_URL = "https://verify.twilio.com"
PATH = f"/v2/Services/{SERVICE_SID}/Entities/{IDENTITY}/Factors/{FACTOR_SID}"
VERIFIED = {"sid": FACTOR_SID, "status": "verified"}


@pytest.fixture
def router() -> Iterator[respx.Router]:
    router = respx.Router(assert_all_mocked=True)
    yield router
    router.assert_all_called()


@asynccontextmanager
async def client_of(
    router: respx.Router, *, password: Callable[[], str] = lambda: PASSWORD, **options: Any
) -> AsyncIterator[VerifyClient]:
    transport = BoundedTransport(httpx.MockTransport(router.async_handler), timeout_seconds=300)
    client = VerifyClient(
        **{"base_url": BASE_URL, "username": USERNAME, "password": password, "transport": transport, **options}
    )
    try:
        yield client
    finally:
        await client.aclose()


async def fetch(router: respx.Router, watched: WatchedFactor, **options: Any) -> Attempt:
    async with client_of(router, **options) as client:
        return await client.fetch_factor(watched)


def sent(router: respx.Router) -> httpx.Request:
    (call,) = router.calls
    request = call.request
    assert isinstance(request, httpx.Request)
    return request


# The request


async def test_the_request(router: respx.Router, watched: WatchedFactor) -> None:
    router.route().respond(json=VERIFIED)
    attempt = await fetch(router, watched)
    request = sent(router)
    assert request.method == "GET"
    assert str(request.url) == BASE_URL + PATH
    assert request.content == b""
    assert dict(request.headers) == {
        "host": "verify.twilio.com",
        "user-agent": request.headers["user-agent"],
        "accept": "application/json",
        "accept-encoding": "identity",
        "authorization": "Basic " + base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode(),
    }
    assert re.fullmatch(
        rf"verify-factor-exporter/{re.escape(__version__)} \(\S+ \S+\) Python/3\.\d+\.\d+\S*",
        request.headers["user-agent"],
    )
    assert attempt.result == Answer(Status.VERIFIED)


async def test_only_the_transport_limits_an_attempt(router: respx.Router, watched: WatchedFactor) -> None:
    router.route().respond(json=VERIFIED)
    await fetch(router, watched)
    assert sent(router).extensions["timeout"] == {"connect": None, "read": None, "write": None, "pool": None}


@pytest.mark.parametrize(
    ("identity", "quoted"),
    [
        ("a-b-c-1234", "a-b-c-1234"),
        ("with space", "with%20space"),
        ("a/b?c#d&e=f+g", "a%2Fb%3Fc%23d%26e%3Df%2Bg"),
        ("100%25", "100%2525"),
        ("../../Secrets", "..%2F..%2FSecrets"),
        ("Zoë@例", "Zo%C3%AB%40%E4%BE%8B"),
        ("a;b:c\\d", "a%3Bb%3Ac%5Cd"),
        ("tab\there", "tab%09here"),
    ],
)
async def test_an_unusual_identity_stays_one_segment_of_the_path(
    router: respx.Router, watched: WatchedFactor, identity: str, quoted: str
) -> None:
    router.route().respond(json=VERIFIED)
    await fetch(router, dataclasses.replace(watched, identity=identity))
    assert sent(router).url.raw_path.decode() == PATH.replace(IDENTITY, quoted)


async def test_unusual_sids_stay_in_their_segments(router: respx.Router) -> None:
    router.route().respond(404)
    key = FactorKey("main", "VA/1", "YF?2")
    await fetch(router, WatchedFactor(key=key, name="x", identity=IDENTITY, interval_seconds=60))
    assert sent(router).url.raw_path.decode() == f"/v2/Services/VA%2F1/Entities/{IDENTITY}/Factors/YF%3F2"


@pytest.mark.parametrize("base_url", ["http://127.0.0.1:8080", "http://127.0.0.1:8080/", "http://127.0.0.1:8080//"])
async def test_the_base_url_may_end_in_a_slash(router: respx.Router, watched: WatchedFactor, base_url: str) -> None:
    router.route().respond(json=VERIFIED)
    await fetch(router, watched, base_url=base_url)
    assert str(sent(router).url) == "http://127.0.0.1:8080" + PATH


async def test_the_password_is_read_for_every_request(router: respx.Router, watched: WatchedFactor) -> None:
    route = router.route().respond(json=VERIFIED)
    passwords = iter(["first", "second:with:colons", "drïtte"])
    async with client_of(router, password=lambda: next(passwords)) as client:
        for _ in range(3):
            await client.fetch_factor(watched)
    authorizations = [call.request.headers["authorization"].removeprefix("Basic ") for call in route.calls]
    assert [base64.b64decode(text).decode() for text in authorizations] == [
        f"{USERNAME}:first",
        f"{USERNAME}:second:with:colons",
        f"{USERNAME}:drïtte",
    ]


async def test_cookies_are_neither_sent_nor_kept(router: respx.Router, watched: WatchedFactor) -> None:
    route = router.route().respond(json=VERIFIED, headers={"Set-Cookie": "session=1; Path=/; Max-Age=3600"})
    async with client_of(router) as client:
        for _ in range(3):
            await client.fetch_factor(watched)
    assert route.call_count == 3
    assert all("cookie" not in call.request.headers for call in route.calls)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    ("location", "host"),
    [
        ("https://elsewhere.example/", "elsewhere.example"),
        (PATH, "verify.twilio.com"),
        ("", "an unknown host"),
        ("::::", "an unknown host"),
    ],
)
async def test_no_redirect_is_followed(
    router: respx.Router, watched: WatchedFactor, code: int, location: str, host: str
) -> None:
    router.route().respond(code, headers={"Location": location})
    attempt = await fetch(router, watched)
    assert attempt.code == code
    assert attempt.result == Failure(Reason.BAD_REQUEST, f"HTTP {code}, a redirect to {host}")
    assert sent(router).url.host == "verify.twilio.com"


async def test_a_401_is_not_retried(router: respx.Router, watched: WatchedFactor) -> None:
    error = {"code": 20003, "message": "Authenticate", "status": 401}
    headers = {"WWW-Authenticate": 'Basic realm="x", Digest realm="x", nonce="y"'}
    router.route().respond(401, json=error, headers=headers)
    attempt = await fetch(router, watched)
    assert attempt.result == Failure(Reason.AUTH, "HTTP 401, Twilio error 20003")
    assert sent(router).headers["authorization"].startswith("Basic ")


# The answer


async def test_headers_of_a_response_are_read(router: respx.Router, watched: WatchedFactor) -> None:
    router.route().respond(
        429,
        json={"code": 20429},
        headers={
            "Retry-After": "12",
            "Twilio-Request-Id": "RQ" + "5" * 32,
            "Twilio-Request-Duration": "0.080",
            "Twilio-Concurrent-Requests": "101",
        },
    )
    ticks = iter([100.0, 100.25])
    attempt = await fetch(router, watched, monotonic=lambda: next(ticks))
    assert attempt == Attempt(
        result=Failure(Reason.RATE_LIMITED, "HTTP 429, Twilio error 20429"),
        duration_seconds=0.25,
        code=429,
        request_id="RQ" + "5" * 32,
        server_duration_seconds=0.08,
        retry_after_seconds=12.0,
        concurrent_requests=101,
    )


@pytest.mark.parametrize(
    ("status", "body", "twilio_code"),
    [
        (404, {"code": 20404, "message": "m", "status": 404}, 20404),
        (403, {"type": "t", "title": "t", "status": 403, "code": 20403}, 20403),
        (503, {"code": 20503, "message": "m", "httpStatusCode": 503}, 20503),
        (503, {"code": 20503}, None),  # nobody knows who sent it
        (404, {"code": 999, "message": "m", "status": 404}, None),
        (404, {"code": 1_000_000, "message": "m", "status": 404}, None),
        (404, {"code": "20404", "message": "m", "status": 404}, None),
        (404, {"code": True, "message": "m", "status": 404}, None),
        (200, {**VERIFIED, "code": 20404, "message": "m", "status": 200}, None),
    ],
)
async def test_the_code_of_a_twilio_error_is_read(
    router: respx.Router, watched: WatchedFactor, status: int, body: dict[str, Any], twilio_code: int | None
) -> None:
    router.route().respond(status, json=body)
    attempt = await fetch(router, watched)
    assert (attempt.code, attempt.twilio_code) == (status, twilio_code)


async def test_a_request_id_that_is_an_identity_is_dropped(router: respx.Router, watched: WatchedFactor) -> None:
    router.route().respond(json=VERIFIED, headers={"Twilio-Request-Id": IDENTITY.upper()})
    entity = WatchedEntity(EntityKey("main", SERVICE_SID, IDENTITY), "ops", 900.0)
    async with client_of(router) as client:
        attempts = [await client.fetch_factor(watched), await client.list_factors(entity)]
    assert [attempt.request_id for attempt in attempts] == ["", ""]


async def test_the_requests_for_pages_of_entities(router: respx.Router) -> None:
    listed = {"sid": "YE" + "e" * 32, "identity": IDENTITY}
    router.route().respond(json={"entities": [listed], "meta": {"next_page_url": "?PageSize=50&Page=1"}})
    async with client_of(router, base_url=BASE_URL + "/gateway") as client:
        attempts = [
            await client.list_entities(SERVICE_SID),
            await client.list_entities(SERVICE_SID, "PageSize=50&Page=1"),
        ]
    page = EntityPage((ListedEntity(listed["sid"], IDENTITY),), "PageSize=50&Page=1")
    assert [attempt.result for attempt in attempts] == [page, page]
    assert IDENTITY not in repr(attempts)
    path = f"{BASE_URL}/gateway/v2/Services/{SERVICE_SID}/Entities"
    assert [str(call.request.url) for call in router.calls] == [path, f"{path}?PageSize=50&Page=1"]


async def test_an_intermediary_that_answers_for_a_page_of_entities(router: respx.Router) -> None:
    router.route().respond(404, html="<html>")
    async with client_of(router) as client:
        attempt = await client.list_entities(SERVICE_SID)
    assert attempt.by_intermediary
    assert isinstance(attempt.result, Failure)
    assert attempt.result.reason is Reason.DECODE


async def test_a_date_in_retry_after_is_relative_to_the_wall_clock(
    router: respx.Router, watched: WatchedFactor
) -> None:
    router.route().respond(429, headers={"Retry-After": "Thu, 30 Jul 2015 20:01:00 GMT"})
    attempt = await fetch(router, watched, wall=lambda: 1438286400.0)
    assert attempt.retry_after_seconds == 60.0


async def test_missing_or_invalid_headers(router: respx.Router, watched: WatchedFactor) -> None:
    router.route().respond(
        404, headers={"Retry-After": "soon", "Twilio-Request-Id": "a b", "Twilio-Request-Duration": "-1"}
    )
    attempt = await fetch(router, watched)
    assert attempt.code == 404
    assert (attempt.request_id, attempt.server_duration_seconds, attempt.retry_after_seconds) == ("", None, None)


async def test_the_body_is_compared_with_the_requested_factor(router: respx.Router, watched: WatchedFactor) -> None:
    router.route().respond(json={"sid": "YF" + "f" * 32, "status": "verified"})
    attempt = await fetch(router, watched)
    assert attempt.code == 200
    assert attempt.result == Failure(Reason.DECODE, "HTTP 200, but the body is another factor's")


async def test_a_200_whose_body_cannot_be_read_keeps_its_status_and_request_id(
    router: respx.Router, watched: WatchedFactor
) -> None:
    router.route().respond(
        200, content=b"x" * ((1 << 20) + 1), headers={"Twilio-Request-Id": "RQ1", "Twilio-Request-Duration": "2"}
    )
    attempt = await fetch(router, watched)
    assert attempt.result == Failure(Reason.DECODE, "HTTP 200, but the body is larger than 1048576 bytes")
    assert (attempt.code, attempt.request_id, attempt.server_duration_seconds) == (200, "RQ1", 2.0)


@pytest.mark.parametrize(
    ("code", "result"),
    [
        (404, Failure(Reason.DECODE, "HTTP 404, but the body is not a Twilio error")),
        (401, Failure(Reason.DECODE, "HTTP 401, but the body is not a Twilio error")),
        (403, Failure(Reason.DECODE, "HTTP 403, but the body is not a Twilio error")),
        (429, Failure(Reason.RATE_LIMITED, "HTTP 429")),
        (503, Failure(Reason.SERVER_ERROR, "HTTP 503")),
        (202, Failure(Reason.DECODE, "HTTP 202")),
    ],
)
@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (b"x" * ((1 << 20) + 1), {}),
        (b"not gzip", {"Content-Encoding": "gzip"}),
        (b"\x1f\x8b", {"Content-Encoding": "gzip"}),
        (b"{}", {"Content-Encoding": "br"}),
    ],
)
async def test_the_status_decides_even_where_the_body_cannot_be_read(
    watched: WatchedFactor,
    code: int,
    result: Answer | Failure,
    content: bytes,
    headers: dict[str, str],
) -> None:
    def answer(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(code, headers={**headers, "Retry-After": "9"}, stream=httpx.ByteStream(content))

    # Not by way of respx, which decompresses what it is given.
    transport = BoundedTransport(httpx.MockTransport(answer), timeout_seconds=300)
    attempt = await fetch(respx.Router(), watched, transport=transport)
    assert (attempt.code, attempt.result, attempt.retry_after_seconds) == (code, result, 9.0)


# What goes wrong


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (httpx.ConnectTimeout, Reason.TIMEOUT),
        (httpx.ReadTimeout, Reason.TIMEOUT),
        (httpx.PoolTimeout, Reason.TIMEOUT),
        (httpx.ConnectError, Reason.CONNECT),
        (httpx.ReadError, Reason.CONNECT),
        (httpx.RemoteProtocolError, Reason.CONNECT),
        (httpx.ProxyError, Reason.CONNECT),
    ],
)
async def test_failures_of_any_httpx_transport_have_their_reason(
    router: respx.Router, watched: WatchedFactor, error: type[httpx.TransportError], reason: Reason
) -> None:
    router.route().mock(side_effect=error)
    attempt = await fetch(router, watched)
    assert isinstance(attempt.result, Failure)
    assert (attempt.code, attempt.result.reason) == (None, reason)


def assert_internal(attempt: Attempt, name: str, record: logging.LogRecord, place: str) -> None:
    assert attempt.code is None
    assert attempt.result == Failure(Reason.INTERNAL, f"an unexpected error in the exporter ({name})")
    values = record.__dict__["fields"]
    assert (record.getMessage(), values["error"]) == ("unexpected error in a request", name)
    assert re.fullmatch(rf"{re.escape(place)}:\d+", values["place"])


async def test_an_internal_error_is_named_without_its_message(
    router: respx.Router, watched: WatchedFactor, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_request: httpx.Request) -> httpx.Response:
        raise LookupError(f"{PATH} {PASSWORD}")

    router.route().mock(side_effect=broken)
    with caplog.at_level(logging.ERROR):
        attempt = await fetch(router, watched)
    (record,) = caplog.records
    assert_internal(attempt, "LookupError", record, __file__)
    assert record.exc_info is None


@pytest.mark.parametrize("error", [PermissionError, TimeoutError, ConnectionError])
async def test_an_unreadable_password_is_an_internal_error(
    watched: WatchedFactor, caplog: pytest.LogCaptureFixture, error: type[OSError]
) -> None:
    def password() -> str:
        raise error(f"/run/secrets/{PASSWORD}")

    router = respx.Router()
    with caplog.at_level(logging.ERROR):
        attempt = await fetch(router, watched, password=password)
    (record,) = caplog.records
    assert_internal(attempt, error.__name__, record, __file__)
    assert not router.calls


async def test_a_closed_client_fails_without_a_request(watched: WatchedFactor) -> None:
    router = respx.Router()
    async with client_of(router) as client:
        await client.aclose()
        attempt = await client.fetch_factor(watched)
    assert attempt.result == Failure(Reason.CONNECT, "the connection failed: closed by the exporter")
    assert not router.calls


async def test_an_error_without_a_traceback_has_no_place(
    watched: WatchedFactor, caplog: pytest.LogCaptureFixture
) -> None:
    class Opaque(httpx.AsyncBaseTransport):
        async def handle_async_request(self, _request: httpx.Request) -> httpx.Response:
            error = AttemptError(Reason.INTERNAL, "an unexpected error in the exporter (X)")
            raise error from KeyError(PATH)

    with caplog.at_level(logging.ERROR):
        await fetch(respx.Router(), watched, transport=Opaque())
    (record,) = caplog.records
    assert record.__dict__["fields"] == {"error": "KeyError", "place": "unknown"}


async def test_cancellation_is_not_caught(watched: WatchedFactor) -> None:
    received = asyncio.Event()

    async def forever(_request: httpx.Request) -> httpx.Response:
        received.set()
        await asyncio.Event().wait()
        raise AssertionError

    transport = BoundedTransport(httpx.MockTransport(forever), timeout_seconds=300)
    task = asyncio.create_task(fetch(respx.Router(), watched, transport=transport))
    await received.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
