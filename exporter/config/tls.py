"""TLS of the web server: names of Go's crypto/tls, which the web config file uses, to a context of Python's ssl.

What Python's ssl can't enforce is refused by name. Nothing is left out or replaced by something weaker.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import ssl
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter.config.files import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
OLD_VERSIONS = ("TLS10", "TLS11")

# https://pkg.go.dev/crypto/tls#CipherSuites to https://docs.openssl.org/3.0/man1/openssl-ciphers/
CIPHERS = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
}
TLS13_CIPHERS = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
HTTP2_CIPHERS = frozenset(
    {"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"},
)
"""One of these must be offered where HTTP/2 is (RFC 9113, section 9.2.2); Go refuses a list without."""

CURVES = {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1", "X25519": "X25519"}

CLIENT_AUTH = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
UNVERIFIED_CLIENT_AUTH = ("RequestClientCert", "RequireAnyClientCert", "RequireClientCert")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a context is to be: names checked before, certificates as PEM."""

    certificate: bytes
    key: bytes
    minimum: ssl.TLSVersion
    maximum: ssl.TLSVersion
    ciphers: tuple[str, ...] | None
    server_chooses: bool
    curve: str | None
    client_auth: ssl.VerifyMode
    client_authorities: bytes | None

    def __repr__(self) -> str:
        return "Wanted(...)"


def server_context(wanted: Wanted) -> ssl.SSLContext:
    """Return the context; raises UnreadableError where certificate and key, or the authorities, can't be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version, context.maximum_version = wanted.minimum, wanted.maximum
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    if wanted.server_chooses:
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    else:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    if wanted.ciphers is not None:
        older = [CIPHERS[name] for name in wanted.ciphers if name in CIPHERS]
        if older:
            context.set_ciphers(":".join(older))
        else:  # only suites of TLS 1.3 are listed: no older version has one in common
            context.minimum_version = ssl.TLSVersion.TLSv1_3
    if wanted.curve is not None:
        context.set_ecdh_curve(CURVES[wanted.curve])
    context.set_alpn_protocols(["http/1.1"])
    load_pair(context, wanted.certificate, wanted.key)
    if wanted.client_auth is not ssl.CERT_NONE:
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # any listed certificate is an anchor, as in Go
        if wanted.client_authorities is None:
            context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
        else:
            load_authorities(context, wanted.client_authorities)
    context.verify_mode = wanted.client_auth
    return context


def load_pair(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Let a context use a certificate with its key, both PEM; raises UnreadableError."""
    try:
        with _as_file(certificate) as certificate_file, _as_file(key) as key_file:
            context.load_cert_chain(certificate_file, key_file, password=_no_password)
    except _EncryptedError:
        hint = "store it without a pass phrase, readable by the exporter only"
        raise UnreadableError("is encrypted", hint) from None
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise UnreadableError("do not belong together", "replace both files with one pair") from None
        if error.reason in ("EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"):
            raise UnreadableError(
                "are too weak for this system's OpenSSL", "issue a stronger certificate"
            ) from None
        raise UnreadableError("can't be loaded", "both must be whole and in PEM format") from None


def load_authorities(context: ssl.SSLContext, content: bytes) -> None:
    """Let a context trust these certificates, PEM; raises UnreadableError."""
    try:
        context.load_verify_locations(cadata=content.decode("ascii", "ignore"))  # comments may be in any language
    except (ssl.SSLError, ValueError):
        raise UnreadableError("holds no certificate that can be read", "save it whole, in PEM format") from None


def names_of(certificate: Mapping[str, object]) -> set[str]:
    """Return the subject alternative names of a verified certificate; addresses as Python spells them."""
    found: set[str] = set()
    alternatives: object = certificate.get("subjectAltName", ())
    for kind, value in alternatives if isinstance(alternatives, tuple) else ():
        if kind in ("DNS", "email", "URI"):
            found.add(value)
        elif kind == "IP Address":
            found.add(as_written(value))
    return found


def as_written(name: str) -> str:
    """Return a name, and an address in the one form it is compared in."""
    try:
        return str(ipaddress.ip_address(name.strip()))
    except ValueError:
        return name


def is_allowed(certificate: Mapping[str, object] | None, allowed: Collection[str]) -> bool:
    """Return whether a client's certificate has one of the names that are let in."""
    return certificate is not None and not names_of(certificate).isdisjoint(allowed)


class _EncryptedError(Exception):
    pass


def _no_password() -> str:
    """Stand in for the question on the terminal that OpenSSL would ask."""
    raise _EncryptedError


@contextlib.contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """Give bytes a path, since ssl reads certificates from files only; in memory where the system can."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
        try:
            with os.fdopen(os.dup(descriptor), "wb") as file:
                file.write(content)
            path = f"/proc/self/fd/{descriptor}"
            if os.access(path, os.R_OK):
                yield path
                return
        finally:
            os.close(descriptor)
    with tempfile.NamedTemporaryFile() as file:  # mode 0600
        file.write(content)
        file.flush()
        yield file.name
