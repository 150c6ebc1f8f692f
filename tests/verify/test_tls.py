"""TLS on real sockets: which certificates are trusted, and how failures are reported."""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from exporter.verify.outcome import Reason
from exporter.verify.transports import transport_to
from tests.support.misbehaving_servers import Wire, answer, then_closes, then_repeats, then_resets, then_stalls
from tests.support.processes import PATIENCE_SECONDS
from tests.support.transport_attempts import (
    CLOSED,
    CUT_SHORT,
    HEAD,
    RESET,
    RESET_IN_BODY,
    SHORT_BODY,
    SHORT_SECONDS,
    VERIFIED,
    WELL,
    Authority,
    assert_broken,
    assert_recovers,
    client_of,
    failure,
    tls_url,
)

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.watched import WatchedFactor
    from tests.support.misbehaving_servers import Behaviour
    from tests.support.transport_attempts import Authority


pytestmark = pytest.mark.usefixtures("each_transport")


@pytest.fixture(scope="module")
def self_signed(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("self-signed") / "both.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


async def test_ca_file_is_trusted(watched: WatchedFactor, authority: Authority) -> None:
    async with (
        Wire(WELL, context=authority.server()) as wire,
        client_of(tls_url(wire), ca_file=authority.file) as client,
    ):
        for _ in range(3):
            assert (await client.fetch_factor(watched)).result == VERIFIED
    assert wire.accepted == 1


async def assert_tls_failure(watched: WatchedFactor, wire: Wire, ca_file: Path | None, words: str) -> None:
    async with wire, client_of(tls_url(wire), ca_file=ca_file) as client:
        for _ in range(2):
            result = failure(await client.fetch_factor(watched))
            assert result.reason is Reason.TLS
            assert result.detail.startswith("the TLS handshake failed: ")
            assert words in result.detail
    assert wire.requests == []


async def test_an_authority_that_is_not_trusted(watched: WatchedFactor, authority: Authority) -> None:
    await assert_tls_failure(watched, Wire(WELL, context=authority.server()), None, "unable to get local issuer")


async def test_a_self_signed_certificate(
    watched: WatchedFactor, authority: Authority, self_signed: ssl.SSLContext
) -> None:
    await assert_tls_failure(watched, Wire(WELL, context=self_signed), authority.file, "self-signed certificate")


async def test_an_expired_certificate(watched: WatchedFactor, authority: Authority) -> None:
    context = authority.server(not_after=datetime.now(UTC) - timedelta(days=1))
    await assert_tls_failure(watched, Wire(WELL, context=context), authority.file, "certificate has expired")


async def test_a_certificate_of_another_host(watched: WatchedFactor, authority: Authority) -> None:
    context = authority.server("elsewhere.example")
    await assert_tls_failure(watched, Wire(WELL, context=context), authority.file, "Hostname mismatch")


async def test_a_server_that_refuses_the_handshake(watched: WatchedFactor, authority: Authority) -> None:
    wire = Wire(WELL)
    wire.greet = then_closes(b"\x15\x03\x03\x00\x02\x02\x28")  # the alert "handshake_failure"
    await assert_tls_failure(watched, wire, authority.file, "alert handshake failure")


async def test_plain_http_on_a_tls_port(watched: WatchedFactor, authority: Authority) -> None:
    wire = Wire(WELL)
    wire.greet = then_closes(answer(b"<html>", status="400 Bad Request"))
    await assert_tls_failure(watched, wire, authority.file, "")


@pytest.mark.parametrize("breaks", [then_closes(), then_resets()])
async def test_a_connection_that_breaks_in_the_handshake(
    watched: WatchedFactor, authority: Authority, breaks: Behaviour
) -> None:
    async with Wire(WELL) as wire, client_of(tls_url(wire), ca_file=authority.file) as client:
        wire.greet = breaks
        assert failure(await client.fetch_factor(watched)).reason is Reason.CONNECT


async def test_a_handshake_that_stalls(watched: WatchedFactor, authority: Authority) -> None:
    async with Wire(WELL) as wire:
        wire.greet = then_stalls()
        async with client_of(tls_url(wire), ca_file=authority.file, timeout_seconds=SHORT_SECONDS) as client:
            async with asyncio.timeout(PATIENCE_SECONDS):
                assert failure(await client.fetch_factor(watched)).reason is Reason.TIMEOUT


@pytest.mark.parametrize(
    ("behave", "detail"),
    [
        pytest.param(then_closes(), CLOSED, id="closed before headers"),
        pytest.param(then_resets(), RESET, id="reset before headers"),
        pytest.param(then_closes(SHORT_BODY), CUT_SHORT, id="closed inside the body"),
        pytest.param(then_resets(SHORT_BODY), RESET_IN_BODY, id="reset inside the body"),
    ],
)
async def test_a_connection_that_breaks_after_the_handshake_is_no_tls_failure(
    watched: WatchedFactor, authority: Authority, behave: Behaviour, detail: str
) -> None:
    async with (
        Wire(behave, context=authority.server()) as wire,
        client_of(tls_url(wire), ca_file=authority.file) as client,
    ):
        assert_broken(await client.fetch_factor(watched), detail)
        await assert_recovers(client, wire, watched)


async def test_a_dribbling_body_over_tls_times_out(watched: WatchedFactor, authority: Authority) -> None:
    async with (
        Wire(then_repeats(HEAD + b"\r\n", b" ", 0.01), context=authority.server()) as wire,
        client_of(tls_url(wire), ca_file=authority.file, timeout_seconds=SHORT_SECONDS) as client,
    ):
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert failure(await client.fetch_factor(watched)).reason is Reason.TIMEOUT
        await assert_recovers(client, wire, watched)


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_a_ca_file_that_cannot_be_loaded(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(OSError):
        transport_to(base_url="https://localhost", max_connections=1, ca_file=file)
