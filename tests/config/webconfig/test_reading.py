"""Reading a web config file: whatever it holds, there is a web config, or there are errors without a secret."""

from __future__ import annotations

import platform
import ssl
from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.config import tls, webconfig
from exporter.config.files import FileReader, UnreadableError
from exporter.config.webconfig import HEADERS, WebConfig, read
from exporter.config.webyaml import compose

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "made-up-secret-of-somebody"
NAMES = st.sampled_from(
    [
        *("tls_server_config", "http_server_config", "basic_auth_users", "rate_limit", "http2", "headers"),
        *("interval", "burst", "cert", "key", "cert_file", "key_file", "client_ca", "client_ca_file", "<<"),
        *("client_auth_type", "client_allowed_sans", "min_version", "max_version", "cipher_suites"),
        *("curve_preferences", "prefer_server_cipher_suites", *HEADERS, "x"),
    ]
)
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=10), st.dates(), st.binary(max_size=5),
    st.sampled_from([*tls.CLIENT_AUTH, *tls.VERSIONS, *tls.CIPHERS, *tls.CURVES, "server.crt", "server.key", "1s"]),
)  # fmt: skip
DOCUMENTS = st.recursive(
    LEAVES,
    lambda below: st.one_of(st.lists(below, max_size=3), st.dictionaries(NAMES, below, max_size=5)),
    max_leaves=15,
)
USUAL = settings(
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def read_text(folder: Path, content: bytes) -> WebConfig | list[str]:
    (folder / "web.yml").write_bytes(content)
    found = read(folder / "web.yml", FileReader())
    return found if isinstance(found, WebConfig) else [str(error) for error in found]


@pytest.mark.slow
@USUAL
@given(DOCUMENTS)
def test_any_document_is_taken_or_refused(folder: Path, document: object) -> None:
    found = read_text(folder, yaml.safe_dump(document, allow_unicode=True).encode())
    if isinstance(found, list):
        assert found
        assert all(line.startswith(f"{folder}/web.yml: line ") for line in found)
        assert all(line.isprintable() for line in found)


@USUAL
@given(st.binary(max_size=200))
def test_any_bytes_are_taken_or_refused(folder: Path, content: bytes) -> None:
    assert read_text(folder, content)


@pytest.mark.parametrize(
    "text",
    [
        f"basic_auth_users: {{a: {SECRET}}}",
        f"basic_auth_users: {SECRET}",
        f"basic_auth_users: [{SECRET}]",
        f"tls_server_config: {{cert_file: server.crt, key: {SECRET}}}",
        f"tls_server_config: {{key: [{SECRET}]}}",
        f'basic_auth_users: {{a: "{SECRET}',
        f"rate_limit: {{interval: {SECRET}, burst: {SECRET}}}",
    ],
)
def test_what_may_be_a_secret_is_not_quoted(folder: Path, text: str) -> None:
    found = read_text(folder, text.encode())
    assert isinstance(found, list)
    assert SECRET not in "\n".join(found)


def test_a_document_without_end() -> None:
    with pytest.raises(UnreadableError, match="is nested too deeply"):
        compose("[" * 500)


def test_a_merge_without_end(folder: Path) -> None:
    found = read_text(folder, b"rate_limit: &again\n  <<: *again\n")
    assert found == [f"{folder}/web.yml: line 1: rate_limit: merges a value that is not a mapping; remove the <<"]


@pytest.mark.parametrize("listed", ["X25519", "CurveP256, X25519"])
def test_curves_that_can_not_be_enforced_are_reported(
    folder: Path, monkeypatch: pytest.MonkeyPatch, listed: str
) -> None:
    monkeypatch.setitem(tls.CURVES, "X25519", "no-such-curve")
    text = f"tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n  curve_preferences: [{listed}]\n"
    problem = f"can't be enforced by Python {platform.python_version()} with {ssl.OPENSSL_VERSION}"
    hint = "list one of CurveP256, CurveP384 and CurveP521, or remove the field for OpenSSL's defaults"
    place = f"{folder}/web.yml: line 4: tls_server_config.curve_preferences"
    assert read_text(folder, text.encode()) == [f"{place}: {problem}; {hint}"]


def test_cipher_suites_that_openssl_lacks_are_reported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
    monkeypatch.setitem(tls.CIPHERS, name, "no-such-suite")
    text = f"tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n  cipher_suites: [{name}]\n"
    problem = "lists no cipher suite that this system's OpenSSL supports; choose others"
    place = f"{folder}/web.yml: line 4: tls_server_config.cipher_suites"
    assert read_text(folder, text.encode()) == [f"{place}: {problem}"]


def test_the_file_itself_must_be_a_usual_one(folder: Path) -> None:
    with pytest.raises(UnreadableError, match="is a directory"):
        read(folder, FileReader())
    (folder / "web.yml").write_bytes(b"#" * (webconfig.LARGEST_FILE_BYTES + 1))
    with pytest.raises(UnreadableError, match="is larger than"):
        read(folder / "web.yml", FileReader())


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1s", 1.0), ("1h2m3s", 3723.0), ("1.5s", 1.5), (".5m", 30.0), ("250ms", 0.25), ("+2us", 2e-6), ("3µs", 3e-6)],
)
def test_an_interval_is_a_duration_of_go(folder: Path, text: str, seconds: float) -> None:
    found = read_text(folder, f"rate_limit: {{interval: {text}, burst: 1}}".encode())
    assert isinstance(found, WebConfig)
    assert found.rate is not None
    assert found.rate.interval_seconds == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["0", "0s", '""', "~"])
def test_an_interval_of_nothing_is_no_limit(folder: Path, text: str) -> None:
    found = read_text(folder, f"rate_limit: {{interval: {text}}}".encode())
    assert isinstance(found, WebConfig)
    assert found.rate is None
