"""Where to listen, and what may be called."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config import addresses
from exporter.config.addresses import ListenAddress
from tests.support.config_texts import problem_of


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":10069", ListenAddress(None, 10069)),
        ("127.0.0.1:0", ListenAddress("127.0.0.1", 0)),
        ("[::1]:9", ListenAddress("::1", 9)),
        ("[::]:65535", ListenAddress("::", 65535)),
        ("metrics.example:80", ListenAddress("metrics.example", 80)),
    ],
)
def test_listen_addresses(text: str, address: ListenAddress) -> None:
    assert addresses.parse_listen_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    ["", "10069", ":", ":x", ":65536", ":-1", "::1:9", "[::1]", "[1.2.3.4]:9", "[]:9", "a b:9", "a/:9", ":٣"],
)
def test_no_listen_addresses(text: str) -> None:
    with pytest.raises(ValueError):
        addresses.parse_listen_address(text)


@given(
    st.one_of(
        st.none(),
        st.ip_addresses().map(str),
        st.from_regex(r"[a-z0-9]{1,9}(\.[a-z0-9]{1,9}){0,3}", fullmatch=True),
    ),
    st.integers(0, 65535),
)
def test_a_listen_address_survives_writing_and_reading(host: str | None, port: int) -> None:
    address = ListenAddress(host, port)
    assert addresses.parse_listen_address(str(address)) == address


def test_one_address_or_several() -> None:
    assert addresses.listen_address_list(":1") == [ListenAddress(None, 1)]
    assert addresses.listen_address_list((":1", ":2")) == [":1", ":2"]
    assert addresses.parse_optional_listen_address("") is None
    assert addresses.parse_optional_listen_address(":1") == ListenAddress(None, 1)


def test_a_port_chosen_by_the_system_may_be_asked_for_twice() -> None:
    twice = (ListenAddress("::1", 0), ListenAddress("::1", 0))
    assert addresses.check_different(twice) == twice
    with pytest.raises(ValueError, match="listed twice"):
        addresses.check_different((ListenAddress("::1", 1), ListenAddress("::1", 1)))


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://verify.twilio.com", "https://verify.twilio.com"),
        ("https://verify.twilio.com/", "https://verify.twilio.com"),
        ("https://gateway.example:8443/twilio/", "https://gateway.example:8443/twilio"),
        ("https://verify.dublin.ie1.twilio.com", "https://verify.dublin.ie1.twilio.com"),
        ("https://nottwilio.com", "https://nottwilio.com"),
        ("https://gateway.example/v2/twilio", "https://gateway.example/v2/twilio"),
        ("https://gateway.example/v20", "https://gateway.example/v20"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://127.8.9.1", "http://127.8.9.1"),
        ("http://[::1]:1/", "http://[::1]:1"),
    ],
)
def test_base_urls(text: str, url: str) -> None:
    assert addresses.parse_base_url(text) == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        "verify.twilio.com",
        "https://",
        "https:///x",
        "ftp://localhost",
        "https://a b",
        "https://é",
        "https://[::1",
        "https://user@host",
        "https://user:pw@host",
        "https://:pw@host",
        "https://@host",
        "https://host?",
        "https://host#",
        "https://host?a=b",
        "https://host/#x",
        "https://host:0",
        "https://host:99999",
        "http://example.com",
        "http://localhost.example.com",
        "http://127.0.0.1.example.com",
        "http://10.0.0.1",
        "http://0.0.0.0",
        "http://0x7f000001",
        "http://127.0.0.1\\@example.com",
        "http://localhost@example.com",
    ],
)
def test_no_base_urls(text: str) -> None:
    with pytest.raises(ValueError):
        addresses.parse_base_url(text)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://verify.twilio.com/v2", "https://verify.twilio.com"),
        ("https://verify.twilio.com/v2/", "https://verify.twilio.com"),
        ("https://verify.twilio.com//V2//", "https://verify.twilio.com"),
        ("https://verify.twilio.com/v2/Services", "https://verify.twilio.com"),
        ("https://verify.twilio.com/v2/Services/VA0/Entities", "https://verify.twilio.com"),
        ("http://127.0.0.1:8500/v2", "http://127.0.0.1:8500"),
        ("https://gateway.example:8443/twilio/v2", "https://gateway.example:8443/twilio"),
        ("https://api.twilio.com", "https://verify.twilio.com"),
        ("https://API.twilio.com./v2", "https://verify.twilio.com"),
        ("https://twilio.com", "https://verify.twilio.com"),
        ("https://api-verify.twilio.com", "https://verify.twilio.com"),
    ],
)
def test_a_base_url_of_another_api_or_with_its_version_is_refused_with_the_right_one(text: str, url: str) -> None:
    with pytest.raises(ValueError, match=f'; write "{re.escape(url)}"$'):
        addresses.parse_base_url(text)


@given(
    st.one_of(st.text(), st.text().map("https://".__add__), st.from_regex(r"https?://[^\s]{1,40}"), st.integers())
)
def test_reading_an_address_raises_nothing_but_value_errors(value: object) -> None:
    for parse in (addresses.parse_base_url, addresses.parse_proxy_url, addresses.parse_listen_address):
        assert problem_of(parse, value) != ""


@pytest.mark.parametrize("text", ["http://proxy.example:3128", "https://user:pw@proxy.example/"])
def test_proxies(text: str) -> None:
    assert addresses.parse_proxy_url(text) == text
    assert addresses.parse_proxy_url("") is None


@pytest.mark.parametrize("text", ["proxy:3128", "socks5://proxy:1080", "http://proxy/path", "http://proxy?x", " "])
def test_no_proxies(text: str) -> None:
    with pytest.raises(ValueError):
        addresses.parse_proxy_url(text)


@pytest.mark.parametrize(
    "template",
    [
        "https://host.example/",
        "http://10.0.0.1:3000/d/x?var-factor={factor}",
        "HTTPS://[::1]:8443/{account}/{service_sid}/{factor_sid}#{label._a1}",
        "https://host.example/?filter=%7Bfactor%3D%22{factor}%22%7D",
        "https://host.example?{label.team}",
    ],
)
def test_templates_of_links_stay_as_they_are(template: str) -> None:
    assert addresses.parse_link_template(template) == template


def test_an_unknown_placeholder_is_named_with_the_known_ones() -> None:
    known = "{account}, {service_sid}, {factor}, {factor_sid} and {label.NAME}"
    assert problem_of(addresses.parse_link_template, "https://host.example/{service}") == (
        f'has an unknown placeholder "{{service}}"; known are {known}; did you mean {{service_sid}}?'
    )
    assert problem_of(addresses.parse_link_template, "https://host.example/{Identity}") == (
        f"uses {{identity}}, which is never available: pages show no identity; known are {known}"
    )


@pytest.mark.parametrize(
    "template",
    ["{factor}://host.example/", "https://{factor}/", "https://{factor}@host.example/", "https://host.example:{factor}",
     "https://host.example{factor}/", "//host.example/{factor}", "https:/{factor}", "https://me:{factor}@host.example"],
)  # fmt: skip
def test_no_placeholder_decides_where_a_link_leads(template: str) -> None:
    with pytest.raises(ValueError, match=r"host|start|credentials"):
        addresses.parse_link_template(template)
