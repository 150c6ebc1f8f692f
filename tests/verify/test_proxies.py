"""Requests through a proxy: its address, and what it receives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exporter.verify.http1 import Http1Transport
from exporter.verify.outcome import Failure, Reason
from exporter.verify.transports import proxy_of, transport_to
from tests.support.misbehaving_servers import Proxy, Wire
from tests.support.requests import PASSWORD
from tests.support.transport_attempts import VERIFIED, WELL, Authority, client_of, failure, url_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from exporter.watched import WatchedFactor
    from tests.support.transport_attempts import Authority


TARGET = "https://verify.example:8443"


@pytest.fixture
async def target(authority: Authority) -> AsyncIterator[Wire]:
    async with Wire(WELL, context=authority.server("verify.example")) as wire:
        yield wire


@pytest.mark.parametrize("scheme", ["http://", ""])
async def test_the_proxy_of_the_environment(
    watched: WatchedFactor,
    authority: Authority,
    target: Wire,
    monkeypatch: pytest.MonkeyPatch,
    scheme: str,
) -> None:
    async with Proxy(target.port) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"{scheme}127.0.0.1:{proxy.port}")
        monkeypatch.setenv("NO_PROXY", "other.example,verify.example:443,10.0.0.0/8")
        async with client_of(TARGET, ca_file=authority.file) as client:
            for _ in range(2):
                assert (await client.fetch_factor(watched)).result == VERIFIED
    (request,) = proxy.requests
    assert request.startswith(b"CONNECT verify.example:8443 HTTP/1.1\r\n")
    assert b"proxy-authorization" not in request.lower()
    assert PASSWORD.encode() not in request
    assert len(target.requests) == 2


async def test_proxy_credentials_are_sent_to_the_proxy_only(
    watched: WatchedFactor, authority: Authority, target: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Proxy(target.port) as proxy:
        monkeypatch.setenv("https_proxy", f"http://user:p%40ss@127.0.0.1:{proxy.port}")
        async with client_of(TARGET, ca_file=authority.file) as client:
            for _ in range(2):
                assert (await client.fetch_factor(watched)).result == VERIFIED
    (request,) = proxy.requests
    assert b"\r\nproxy-authorization: basic dxnlcjpwqhnz\r\n" in request.lower()
    assert not any(b"proxy-authorization" in request.lower() for request in target.requests)


@pytest.mark.parametrize(
    "no_proxy", ["verify.example", ".example", "verify.example:8443", "*", "other.example, VERIFY.example"]
)
def test_no_proxy(monkeypatch: pytest.MonkeyPatch, no_proxy: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert proxy_of(TARGET) is None


@pytest.mark.parametrize("base_url", ["http://127.0.0.1:8080", "http://localhost:8080", "http://[::1]:8080"])
def test_loopback_addresses_bypass_a_proxy_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, base_url: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    assert proxy_of(base_url) is None
    assert isinstance(transport_to(base_url=base_url, max_connections=1), Http1Transport)


async def test_http_proxy_is_for_http(watched: WatchedFactor, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Wire(WELL) as proxy:
        monkeypatch.setenv("HTTP_PROXY", url_of(proxy))
        async with client_of("http://verify.example") as client:
            assert (await client.fetch_factor(watched)).result == VERIFIED
        assert proxy_of(TARGET) is None
    (request,) = proxy.requests
    assert request.startswith(b"GET http://verify.example/v2/Services/")


async def test_proxy_url_overrides_the_environment(
    watched: WatchedFactor, authority: Authority, target: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "*")
    async with (
        Proxy(target.port) as proxy,
        client_of(TARGET, ca_file=authority.file, proxy_url=url_of(proxy)) as client,
    ):
        assert (await client.fetch_factor(watched)).result == VERIFIED
    assert len(proxy.requests) == 1


@pytest.mark.parametrize("address", ["socks5://127.0.0.1:1080", "socks5h://127.0.0.1:1080", "ftp://127.0.0.1"])
def test_a_proxy_of_another_kind_is_refused(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    with pytest.raises(ValueError, match="only http and https are supported"):
        transport_to(base_url=TARGET, max_connections=1, proxy_url=address)
    monkeypatch.setenv("HTTPS_PROXY", address)
    with pytest.raises(ValueError, match="only http and https are supported"):
        transport_to(base_url=TARGET, max_connections=1)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("407 Proxy Authentication Required", "the proxy returned HTTP 407"),
        ("403 Forbidden", "the proxy returned HTTP 403"),
        ("502 Bad Gateway", "the proxy returned HTTP 502"),
    ],
)
async def test_a_proxy_that_refuses(
    watched: WatchedFactor, authority: Authority, target: Wire, status: str, words: str
) -> None:
    async with (
        Proxy(target.port, status=status) as proxy,
        client_of(TARGET, ca_file=authority.file, proxy_url=url_of(proxy)) as client,
    ):
        assert failure(await client.fetch_factor(watched)) == Failure(
            Reason.CONNECT, f"the connection failed: {words}"
        )
    assert target.accepted == 0


async def test_an_unreachable_proxy(watched: WatchedFactor) -> None:
    proxy = Wire(WELL)
    async with client_of(TARGET, proxy_url=url_of(proxy)) as client:
        assert failure(await client.fetch_factor(watched)) == Failure(
            Reason.CONNECT, "the connection failed: the proxy is unreachable"
        )
    await proxy.__aexit__()


async def test_a_certificate_is_verified_through_a_proxy_too(watched: WatchedFactor, target: Wire) -> None:
    async with Proxy(target.port) as proxy, client_of(TARGET, proxy_url=url_of(proxy)) as client:
        assert failure(await client.fetch_factor(watched)).reason is Reason.TLS
