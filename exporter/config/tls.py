"""TLS of the web server: from the names of Go's crypto/tls, which the web config file uses, to an SSLContext.

What Python's ssl module can't enforce is refused by name; nothing is ignored or weakened.
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
from exporter.config.groups import restrict, verify

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
DEFAULT_CIPHERS = tuple(name for name in CIPHERS if "_CBC_" not in name)
"""Those of TLS 1.2 without a list: authenticated encryption only. Go also offers CBC suites, after the others."""
TLS13_CIPHERS = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
HTTP2_CIPHERS = frozenset(
    {"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"},
)
"""HTTP/2 requires one of these (RFC 9113, section 9.2.2); Go refuses a list without one."""

CURVES = {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1", "X25519": "X25519"}

CLIENT_AUTH = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
UNVERIFIED_CLIENT_AUTH = ("RequestClientCert", "RequireAnyClientCert", "RequireClientCert")


@dataclass(frozen=True, slots=True)
class ContextOptions:
    """The options of a server's SSLContext: checked names, and certificates in PEM format."""

    certificate: bytes
    key: bytes
    minimum: ssl.TLSVersion
    maximum: ssl.TLSVersion
    ciphers: tuple[str, ...] | None
    server_chooses: bool
    curves: tuple[str, ...]
    client_auth: ssl.VerifyMode
    client_authorities: bytes | None

    def __repr__(self) -> str:
        return "ContextOptions(...)"


def server_context(options: ContextOptions) -> ssl.SSLContext:
    """Return the context; raises UnreadableError where certificate, key or authorities can't be used.

    Raises :class:`~exporter.config.groups.GroupsError` where the curves can't be enforced.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version, context.maximum_version = options.minimum, options.maximum
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    if options.server_chooses:
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    else:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    older = [CIPHERS[name] for name in options.ciphers or DEFAULT_CIPHERS if name in CIPHERS]
    if older:
        context.set_ciphers(":".join(older))
    else:  # only TLS 1.3 suites are listed: they exclude every older version
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    groups = [CURVES[name] for name in options.curves]
    if groups:
        restrict(context, groups)
    context.set_alpn_protocols(["http/1.1"])
    load_pair(context, options.certificate, options.key)
    if groups:
        verify(context, groups)
    if options.client_auth is not ssl.CERT_NONE:
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # any listed certificate is a trust anchor, as in Go
        if options.client_authorities is None:
            context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
        else:
            load_authorities(context, options.client_authorities)
    context.verify_mode = options.client_auth
    return context


def load_pair(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Load a certificate and its key, both in PEM format, into a context; raises UnreadableError."""
    try:
        with _as_file(certificate) as certificate_file, _as_file(key) as key_file:
            context.load_cert_chain(certificate_file, key_file, password=_no_password)
    except _EncryptedError:
        hint = "store it without a passphrase, readable only by the exporter"
        raise UnreadableError("is encrypted", hint) from None
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise UnreadableError("don't match", "replace both files with a matching pair") from None
        if error.reason in ("EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"):
            raise UnreadableError("are too weak for this system's OpenSSL", "use a stronger certificate") from None
        raise UnreadableError("can't be loaded", "both must be complete and in PEM format") from None


def load_authorities(context: ssl.SSLContext, content: bytes) -> None:
    """Make a context trust these certificates, in PEM format; raises UnreadableError."""
    try:
        context.load_verify_locations(cadata=content.decode("ascii", "ignore"))  # comments may be in any language
    except (ssl.SSLError, ValueError):
        raise UnreadableError("contains no readable certificate", "save it complete, in PEM format") from None


def names_of(certificate: Mapping[str, object]) -> set[str]:
    """Return the subject alternative names of a verified certificate, addresses in canonical form."""
    found: set[str] = set()
    alternatives: object = certificate.get("subjectAltName", ())
    for kind, value in alternatives if isinstance(alternatives, tuple) else ():
        if kind in ("DNS", "email", "URI"):
            found.add(value)
        elif kind == "IP Address":
            found.add(canonical_name(value))
    return found


def canonical_name(name: str) -> str:
    """Return a name as it is, and an IP address in canonical form."""
    try:
        return str(ipaddress.ip_address(name.strip()))
    except ValueError:
        return name


def is_allowed(certificate: Mapping[str, object] | None, allowed: Collection[str]) -> bool:
    """Return whether a client's certificate has one of the allowed names."""
    return certificate is not None and not names_of(certificate).isdisjoint(allowed)


class _EncryptedError(Exception):
    pass


def _no_password() -> str:
    """Replace OpenSSL's prompt on the terminal."""
    raise _EncryptedError


@contextlib.contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """Yield a path to bytes, as ssl reads certificates from files only; in memory where the system supports it."""
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
