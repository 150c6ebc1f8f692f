"""Hints that name what answered: the host of a redirect, the proxy, an account that is not active."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exporter.verify.answers import parse_redirect_host
from exporter.verify.client import VerifyClient
from exporter.verify.outcome import HINTS, Failure, Reason, from_proxy, hint_of, redirected
from exporter.verify.transport import BoundedTransport
from exporter.verify.transports import proxy_name
from tests.support.requests import IDENTITY, PASSWORD, USERNAME

if TYPE_CHECKING:
    from exporter.watched import WatchedFactor

ORIGIN = "verify.twilio.com"
PROXY = "proxy.example.com:3128"


async def failure_of(watched: WatchedFactor, response: httpx.Response, proxy: str = "") -> Failure:
    transport = BoundedTransport(httpx.MockTransport(lambda _: response), timeout_seconds=300)
    client = VerifyClient(
        base_url=f"https://{ORIGIN}", username=USERNAME, password=lambda: PASSWORD, transport=transport, proxy=proxy
    )
    attempt = await client.fetch_factor(watched)
    assert isinstance(attempt.result, Failure)
    return attempt.result


# Redirects


@pytest.mark.parametrize(
    ("location", "host"),
    [
        ("https://login.example.com/v2/Services", "login.example.com"),
        ("HTTPS://Login.Example.com:8443/?x=y", "login.example.com:8443"),
        ("http://user:secret@login.example.com/", "login.example.com"),
        ("//gateway/path", "gateway"),
        ("https://[2001:DB8::1]:8443/", "[2001:db8::1]:8443"),
        ("https://192.0.2.1", "192.0.2.1"),
        ("/elsewhere", ORIGIN),
        ("elsewhere", ORIGIN),
        ("?page=2", ORIGIN),
        ("", ""),
        ("::::", ""),
        ("https://", ""),
        ("https:login.example.com", ""),
        ("mailto:ops@example.com", ""),
        ("javascript://example.com/%0aalert(1)", ""),
        ("https://example.com:port/", ""),
        ("https://example.com:99999/", ""),
        ("https://[2001:db8::1/", ""),
        ("https://[fe80::1%25eth0]/", ""),
        ("https://example.com\\@evil.test/", ""),
        ("https://ex ample.com/", ""),
        ("https://ex<script>.com/", ""),
        ("https://exämple.com/", ""),
        ("https://example.com/\r\nX: y", ""),
        ("https://-example.com/", ""),
        (f"https://{'a' * 200}.com/", ""),
        (f"https://{IDENTITY}.example.com/", ""),
        (f"https://{IDENTITY.upper()}.example.com/", ""),
    ],
)
def test_the_host_of_a_redirect(location: str, host: str) -> None:
    assert parse_redirect_host(location, ORIGIN, IDENTITY) == host


@given(st.text() | st.from_regex(r"(https?:)?//[^/]*(/.*)?", fullmatch=True), st.sampled_from(("", IDENTITY)))
@example("//[", "")
@example("//[v1.a]", "")
def test_a_redirect_names_a_plain_host_or_none(location: str, identity: str) -> None:
    host = parse_redirect_host(location, ORIGIN, identity)

    assert len(host) <= 136
    assert not set(host) - set("abcdefghijklmnopqrstuvwxyz0123456789_.-:[]")
    assert not identity or identity.lower() not in host
    assert host in ("", ORIGIN) or host.strip("[]").split("]")[0].split(":")[0] in location.lower()


@given(st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z]{2,10}){0,3}", fullmatch=True), st.text("/ab?#1"))
def test_every_host_name_of_a_redirect_is_named(host: str, path: str) -> None:
    assert parse_redirect_host(f"https://{host}/{path}", ORIGIN) == host


async def test_the_hint_of_a_redirect_names_its_host_and_no_path(watched: WatchedFactor) -> None:
    location = f"https://login.example.com/v2/Entities/{IDENTITY}?x={IDENTITY}"
    found = await failure_of(watched, httpx.Response(302, headers={"Location": location}))

    assert found == Failure(Reason.BAD_REQUEST, "HTTP 302, a redirect to login.example.com")
    assert "redirects to login.example.com," in found.hint
    assert "base_url" in found.hint
    assert IDENTITY not in found.detail + found.hint


@pytest.mark.parametrize("headers", [{}, {"Location": "mailto:nobody"}])
async def test_a_redirect_to_nowhere(watched: WatchedFactor, headers: dict[str, str]) -> None:
    found = await failure_of(watched, httpx.Response(301, headers=headers))

    assert found == Failure(Reason.BAD_REQUEST, "HTTP 301, a redirect to an unknown host")
    assert found.hint == "redirects are not followed; check base_url and the proxy"


# Proxies


@pytest.mark.parametrize(("proxy", "named"), [(PROXY, f"the proxy {PROXY} requires"), ("", "a proxy requires")])
async def test_a_407_names_the_proxy(watched: WatchedFactor, proxy: str, named: str) -> None:
    found = await failure_of(watched, httpx.Response(407), proxy)

    assert found == Failure(Reason.BAD_REQUEST, f"HTTP 407, from the proxy {PROXY}" if proxy else "HTTP 407")
    assert found.hint.startswith(named)
    assert "proxy_url" in found.hint


@pytest.mark.parametrize(("proxy", "named"), [(PROXY, f"the proxy {PROXY} requires"), ("", "a proxy requires")])
def test_a_proxy_that_refuses_to_connect_is_named(proxy: str, named: str) -> None:
    detail = from_proxy("the connection failed: the proxy returned HTTP 407", proxy)

    assert proxy in detail
    assert hint_of(Reason.CONNECT, detail).startswith(named)


def test_other_failures_do_not_name_the_proxy() -> None:
    assert from_proxy("HTTP 503", PROXY) == "HTTP 503"
    refused = from_proxy("the connection failed: the proxy returned HTTP 502", PROXY)
    assert refused == f"the connection failed: the proxy {PROXY} returned HTTP 502"
    assert hint_of(Reason.CONNECT, refused) == HINTS[Reason.CONNECT]


def test_a_proxy_is_named_without_credentials() -> None:
    url = "http://user:secret@proxy.example.com:3128/path"
    assert proxy_name("https://verify.twilio.com", url) == PROXY
    assert proxy_name("http://127.0.0.1:1") == ""


# Accounts


@pytest.mark.parametrize("status", [401, 403])
async def test_an_account_that_is_not_active(watched: WatchedFactor, status: int) -> None:
    body = {"code": 20005, "message": "Account not active", "more_info": "", "status": status}
    found = await failure_of(watched, httpx.Response(status, json=body))

    assert found.reason.refused
    assert found.hint.startswith("the Twilio account is not active")


@pytest.mark.parametrize("reason", [Reason.AUTH, Reason.FORBIDDEN])
def test_a_refusal_may_be_about_key_account_or_subaccount(reason: Reason) -> None:
    hint = hint_of(reason, "HTTP 403, Twilio error 70051")
    assert hint == HINTS[reason]
    assert all(word in hint for word in ("subaccount", "suspended"))
    assert ("restricted key" in hint) is (reason is Reason.FORBIDDEN)


@pytest.mark.parametrize("reason", Reason)
@pytest.mark.parametrize("detail", ["", "HTTP 500", "HTTP 403, Twilio error 200051", "HTTP 407 of the API"])
def test_every_other_failure_has_the_hint_of_its_reason(reason: Reason, detail: str) -> None:
    expected = HINTS[reason] if "407" not in detail else hint_of(Reason.BAD_REQUEST, "HTTP 407")
    assert Failure(reason, detail).hint == expected


@given(st.text("abcxyz019.-:[]", min_size=1, max_size=40))  # what a validated host and port consist of
def test_a_hint_of_a_redirect_contains_the_host_of_its_detail(host: str) -> None:
    assert host in hint_of(Reason.BAD_REQUEST, redirected("HTTP 302", host))
