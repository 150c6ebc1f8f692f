"""The token endpoint: what is sent, what an answer means, and that nothing of it is shown."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.verify.client import VerifyClient
from exporter.verify.http1 import Http1Transport
from exporter.verify.outcome import HINTS, TOKEN_ENDPOINT, Attempt, Failure, Reason, TokenAnswer, hint_of
from exporter.verify.token import LONGEST_LIFETIME_SECONDS, TokenClient, interpret_token
from exporter.verify.transport import BoundedTransport
from tests.support.misbehaving_servers import Proxy, Wire, answer, says, then_closes, then_stalls
from tests.support.requests import PASSWORD, USERNAME
from tests.support.transport_attempts import (
    AMPLE_SECONDS,
    SHORT_SECONDS,
    Authority,
    transport_of,
    url_of,
)

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator

    from exporter.watched import WatchedFactor

CLIENT_ID = "OQ" + "1" * 32
SECRET = "canary-secret/+&="
TOKEN = "canary.access-token"
GRANTED = {"access_token": TOKEN, "token_type": "Bearer", "expires_in": 3600, "id_token": None}


def body(**fields: Any) -> bytes:
    return json.dumps(GRANTED | fields).encode()


# What an answer means


@pytest.mark.parametrize(
    ("given_seconds", "seconds"),
    [
        (60, 60.0),
        (3600, 3600.0),
        ("1800", 1800.0),
        (0.5, 0.5),
        (10**400, LONGEST_LIFETIME_SECONDS),
        (None, 300.0),
        (0, 300.0),
        (0.0, 300.0),
        (-1, 300.0),
        ("soon", 300.0),
        ("-5", 300.0),
        (True, 300.0),
        ([], 300.0),
    ],
)
def test_a_lifetime_that_is_missing_or_not_positive_means_5_minutes(given_seconds: Any, seconds: float) -> None:
    assert interpret_token(200, body(expires_in=given_seconds)) == TokenAnswer(TOKEN, seconds)


def test_only_a_bearer_token_of_the_form_of_one_is_used() -> None:
    without = {key: value for key, value in GRANTED.items() if key not in ("expires_in", "token_type")}
    assert interpret_token(200, json.dumps(without).encode()) == TokenAnswer(TOKEN, 300.0)
    for malformed in (
        b"",
        b"<html>",
        b"[]",
        b'"token"',
        b"[" * 100_000,
        body(access_token=None),
        body(access_token=""),
        body(access_token=7),
        body(access_token="two words"),
        body(access_token="line\nbreak"),
        body(access_token="x" * 20_000),
        body(token_type="mac"),
        body(token_type=None),
        body(padding="x" * 70_000),
    ):
        result = interpret_token(200, malformed)
        assert isinstance(result, Failure)
        assert result.reason is Reason.DECODE
        assert "words" not in result.detail


TWILIO = {"code": 322402, "message": "Invalid credentials", "status": 401}


@pytest.mark.parametrize(
    ("code", "document", "reason", "detail"),
    [
        (401, TWILIO, Reason.AUTH, "HTTP 401, Twilio error 322402"),
        (400, TWILIO, Reason.AUTH, "HTTP 400, Twilio error 322402"),
        (403, {"code": 20003}, Reason.AUTH, "HTTP 403, Twilio error 20003"),
        (401, {"code": 99999}, Reason.AUTH, "HTTP 401, Twilio error 99999"),
        (400, {"error": "invalid_client"}, Reason.AUTH, "HTTP 400, OAuth error invalid_client"),
        (401, {"error": "invalid_request"}, Reason.AUTH, "HTTP 401, OAuth error invalid_request"),
        (400, {"error": "invalid_request"}, Reason.BAD_REQUEST, "HTTP 400, OAuth error invalid_request"),
        (400, {"error": f"no {SECRET}"}, Reason.BAD_REQUEST, "HTTP 400"),
        (400, {"code": 322403}, Reason.BAD_REQUEST, "HTTP 400, Twilio error 322403"),
        (401, {"error": {}}, Reason.DECODE, "HTTP 401, but the body is neither an OAuth nor a Twilio error"),
        (403, [], Reason.DECODE, "HTTP 403, but the body is neither an OAuth nor a Twilio error"),
        (404, {}, Reason.BAD_REQUEST, "HTTP 404"),
        (429, {}, Reason.RATE_LIMITED, "HTTP 429"),
        (503, TWILIO, Reason.SERVER_ERROR, "HTTP 503, Twilio error 322402"),
        (204, {}, Reason.DECODE, "HTTP 204"),
    ],
)
def test_a_refusal_is_auth_and_everything_else_is_none(
    code: int, document: object, reason: Reason, detail: str
) -> None:
    assert interpret_token(code, json.dumps(document).encode()) == Failure(reason, detail)


@given(code=st.integers(100, 599), content=st.binary(max_size=200))
def test_no_answer_raises_and_no_detail_repeats_it(code: int, content: bytes) -> None:
    result = interpret_token(code, content)
    assert isinstance(result, Failure)
    assert result.detail.isprintable()


def test_every_reason_has_a_hint_for_the_token_endpoint() -> None:
    for reason in Reason:
        hint = hint_of(reason, f"{TOKEN_ENDPOINT}HTTP 500")
        assert hint
        assert "base_url" not in hint
        assert "username" not in hint
    assert hint_of(Reason.TLS, f"{TOKEN_ENDPOINT}the TLS handshake failed") == HINTS[Reason.TLS]
    moved = hint_of(Reason.BAD_REQUEST, f"{TOKEN_ENDPOINT}HTTP 302, a redirect to login.example.com")
    assert "redirects to login.example.com" in moved
    assert "if this is the token endpoint's address, set token_url to it" in moved


# On the wire


@asynccontextmanager
async def client_of(
    url: str, *, seconds: float = AMPLE_SECONDS, proxy: str = "", **options: Any
) -> AsyncIterator[TokenClient]:
    transport = BoundedTransport(transport_of(base_url=url, max_connections=1, **options), timeout_seconds=seconds)
    client = TokenClient(
        url=url, client_id=CLIENT_ID, client_secret=lambda: SECRET, transport=transport, proxy=proxy
    )
    try:
        yield client
    finally:
        await client.aclose()


class Endpoint:
    """A token endpoint that keeps the bodies of its requests."""

    def __init__(self, response: bytes) -> None:
        self.forms: list[dict[str, list[str]]] = []
        self._response = response

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        form = await reader.readexactly(len(EXPECTED))
        self.forms.append(parse_qs(form.decode(), strict_parsing=True))
        writer.write(self._response)
        await writer.drain()


EXPECTED = f"grant_type=client_credentials&client_id={CLIENT_ID}&client_secret=canary-secret%2F%2B%26%3D"
FORM = {"grant_type": ["client_credentials"], "client_id": [CLIENT_ID], "client_secret": [SECRET]}


@pytest.mark.usefixtures("each_transport")
async def test_the_request_is_the_one_of_the_standard() -> None:
    endpoint = Endpoint(answer(body(), "Twilio-Request-Id: RQ1"))
    async with Wire(endpoint) as wire, client_of(f"{url_of(wire)}/v2/token") as client:
        first, second = await client.request_token(), await client.request_token()
        port = wire.port
    assert first.result == TokenAnswer(TOKEN, 3600.0)
    assert (first.code, first.request_id) == (200, "RQ1")
    assert second.result == first.result
    assert endpoint.forms == [FORM, FORM]
    head = wire.requests[0].decode().lower()
    assert head.startswith("post /v2/token http/1.1\r\n")
    for header in (
        f"host: 127.0.0.1:{port}",
        "content-type: application/x-www-form-urlencoded",
        f"content-length: {len(EXPECTED)}",
        "accept: application/json",
        "connection: close",
    ):
        assert f"\r\n{header}\r\n" in head
    assert "authorization" not in head
    assert SECRET not in head
    assert first.duration_seconds > 0


@pytest.mark.usefixtures("each_transport")
@pytest.mark.parametrize(
    ("behave", "reason", "detail"),
    [
        (then_closes(), Reason.CONNECT, "the connection failed: closed before the response was complete"),
        (then_stalls(), Reason.TIMEOUT, "no complete answer in time"),
        (says(answer(b"x" * 2_000_000)), Reason.DECODE, "HTTP 200, but the body is larger than 1048576 bytes"),
        (
            says(answer(b"", "Location: https://login.example.com/x", status="307 Temporary Redirect")),
            Reason.BAD_REQUEST,
            "HTTP 307, a redirect to login.example.com",
        ),
    ],
)
async def test_failures_are_those_of_any_request_and_redirects_are_not_followed(
    behave: Any, reason: Reason, detail: str
) -> None:
    seconds = SHORT_SECONDS if reason is Reason.TIMEOUT else AMPLE_SECONDS
    async with Wire(behave) as wire, client_of(f"{url_of(wire)}/v2/token", seconds=seconds) as client:
        attempt = await client.request_token()
    assert attempt.result == Failure(reason, f"{TOKEN_ENDPOINT}{detail}")
    assert wire.accepted == 1


async def test_it_goes_through_the_proxy_and_trusts_the_authorities_of_the_account(authority: Authority) -> None:
    url = "https://oauth.example:8443/v2/token"
    async with (
        Wire(Endpoint(answer(body())), context=authority.server("oauth.example")) as target,
        Proxy(target.port) as proxy,
    ):
        async with client_of(url, ca_file=authority.file, proxy_url=url_of(proxy)) as client:
            assert (await client.request_token()).result == TokenAnswer(TOKEN, 3600.0)
        async with client_of(url, proxy_url=url_of(proxy)) as client:
            untrusted = await client.request_token()
    assert isinstance(untrusted.result, Failure)
    assert untrusted.result.reason is Reason.TLS
    assert [request.split(b" ")[:2] for request in proxy.requests] == [[b"CONNECT", b"oauth.example:8443"]] * 2


async def test_a_proxy_that_wants_a_password_is_named() -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(407))
    client = TokenClient(
        url="https://oauth.example/token",
        client_id=CLIENT_ID,
        client_secret=lambda: SECRET,
        transport=BoundedTransport(transport, timeout_seconds=AMPLE_SECONDS),
        proxy="proxy.example:3128",
    )
    attempt = await client.request_token()
    assert isinstance(attempt.result, Failure)
    assert "the proxy proxy.example:3128 requires a user name" in attempt.result.hint


async def test_an_unexpected_error_is_internal_and_shows_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise LookupError(request.content.decode())

    client = TokenClient(
        url="https://oauth.example/token",
        client_id=CLIENT_ID,
        client_secret=lambda: SECRET,
        transport=httpx.MockTransport(fail),
    )
    attempt = await client.request_token()
    assert isinstance(attempt.result, Failure)
    assert attempt.result.reason is Reason.INTERNAL
    assert "unexpected error in a request" in caplog.text
    for text in (caplog.text, repr(attempt), repr(client), repr(vars(client)), str(attempt.result)):
        assert "canary" not in text


async def test_a_retry_after_is_read() -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(429, headers={"Retry-After": "30"}))
    client = TokenClient(
        url="https://oauth.example/token", client_id=CLIENT_ID, client_secret=lambda: SECRET, transport=transport
    )
    assert (await client.request_token()).retry_after_seconds == 30


async def test_only_gets_and_posts_are_sent() -> None:
    transport = Http1Transport(base_url="https://verify.example", max_connections=1, context=None)
    with pytest.raises(ValueError, match="only sends GET and POST requests"):
        await transport.handle_async_request(httpx.Request("PUT", "https://verify.example/"))


# The client of the API


def requests_with(
    bearer: Any = None, tokens: TokenClient | None = None
) -> tuple[VerifyClient, list[httpx.Request]]:
    sent: list[httpx.Request] = []

    def take(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(503)

    client = VerifyClient(
        base_url="https://verify.example",
        username=USERNAME,
        password=lambda: PASSWORD,
        bearer=bearer,
        tokens=tokens,
        transport=BoundedTransport(httpx.MockTransport(take), timeout_seconds=AMPLE_SECONDS),
    )
    return client, sent


async def test_requests_carry_the_token_of_the_moment(watched: WatchedFactor) -> None:
    tokens = iter(["first", "second", "second"])
    client, sent = requests_with(bearer=lambda: next(tokens))
    for _ in range(3):
        await client.fetch_factor(watched)
    assert [request.headers["Authorization"] for request in sent] == [
        "Bearer first",
        "Bearer second",
        "Bearer second",
    ]
    assert sent[1].headers is sent[2].headers, "built again only when the token changes"
    await client.aclose()


async def test_a_client_without_an_app_requests_no_token() -> None:
    client, _ = requests_with()
    with pytest.raises(ValueError, match="has no OAuth app"):
        await client.request_token()


async def test_a_client_with_an_app_requests_and_closes() -> None:
    async with Wire(Endpoint(answer(body()))) as wire, client_of(f"{url_of(wire)}/v2/token") as tokens:
        client, _ = requests_with(lambda: TOKEN, tokens)
        attempt: Attempt = await client.request_token()
        assert attempt.result == TokenAnswer(TOKEN, 3600.0)
        await client.aclose()
        closed = await client.request_token()
    assert closed.result == Failure(
        Reason.CONNECT, f"{TOKEN_ENDPOINT}the connection failed: closed by the exporter"
    )
