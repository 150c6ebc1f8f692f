"""The web config file: TLS, basic authentication, headers and a rate limit, in the format of exporter-toolkit.

https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from exporter.config import tls
from exporter.config.errors import ConfigWarning, ErrorDetail, did_you_mean, quote
from exporter.config.files import Digest, UnreadableError, decode, read_bytes, shown_path
from exporter.config.webyaml import Section, compose

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LARGEST_FILE_BYTES = 1 << 18
LARGEST_PEM_BYTES = 1 << 20

HEADERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "Content-Security-Policy": (),
        "Strict-Transport-Security": (),
        "X-Content-Type-Options": ("nosniff",),
        "X-Frame-Options": ("deny", "sameorigin"),
        "X-XSS-Protection": (),
    }
)
"""Header → the values it may have; none are listed where any is taken."""

_TLS_FIELDS = (
    "cert", "key", "client_ca", "cert_file", "key_file", "client_auth_type", "client_ca_file",
    "client_allowed_sans", "min_version", "max_version", "cipher_suites", "prefer_server_cipher_suites",
    "curve_preferences",
)  # fmt: skip
_BCRYPT = re.compile(r"\$2[aby]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}")
_DURATION = re.compile(r"\+?(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+")
_DURATION_PART = re.compile(r"([0-9.]+)([a-zµμ]+)")
_UNIT_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}
_FIELD_TEXT = re.compile(r"[\t\x20-\x7e]*")


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A token bucket: one request each ``interval_seconds``, and ``burst`` of them at once."""

    interval_seconds: float
    burst: int


@dataclass(frozen=True, slots=True)
class WebConfig:
    """What a web config file asks for; as it stands, plain HTTP that is open to all.

    ``users`` are bcrypt hashes by name. ``client_names`` are the alternative names that a client's certificate must
    have one of; None for any. ``files`` are those read, the file itself first, and ``sha256`` is a digest of them.
    """

    tls: ssl.SSLContext | None = field(default=None, repr=False)
    client_names: frozenset[str] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[str, str] = field(default_factory=dict, repr=False)
    rate: RateLimit | None = None
    warnings: tuple[ConfigWarning, ...] = ()
    files: tuple[Path, ...] = ()
    sha256: str = ""

    @property
    def asks_for_certificate(self) -> bool:
        """Whether nobody gets in without a client certificate."""
        return self.tls is not None and self.tls.verify_mode is ssl.CERT_REQUIRED


def read(path: Path) -> WebConfig | list[ErrorDetail]:
    """Return what a file asks for, or all that is wrong in it; raises UnreadableError where it can't be read."""
    return _Reading(path).run()


def current_digest(config: WebConfig) -> str:
    """Return the digest that the files of a web config have now; differs from ``sha256`` after a change."""
    if not config.files:
        return ""
    digest = Digest()
    for path in config.files:
        try:
            digest.add(read_bytes(path, limit=LARGEST_PEM_BYTES))
        except UnreadableError:
            digest.add(b"")
    return digest.hexdigest()


class _Reading:
    """One reading of a file: gathers errors on the way, and carries on past each."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = shown_path(path)
        self._errors: list[ErrorDetail] = []
        self._warnings: list[ConfigWarning] = []
        self._files = [path]
        self._digest = Digest()

    def run(self) -> WebConfig | list[ErrorDetail]:
        content = read_bytes(self._path, limit=LARGEST_FILE_BYTES)
        self._digest.add(content)
        try:
            document = compose(decode(content))
        except UnreadableError as error:
            return [error.detail(self._file)]
        top = Section(self._file, self._errors, document)
        top.allow("tls_server_config", "http_server_config", "basic_auth_users", "rate_limit")
        http = top.section("http_server_config")
        http2 = self._http2(http)
        context, names = self._tls(top.section("tls_server_config"), http2=http2)
        headers = self._headers(http.section("headers"))
        users = self._users(top.section("basic_auth_users"))
        rate = self._rate(top.section("rate_limit"))
        if users and context is None and not self._errors:
            text = "passwords cross the network in the clear; add tls_server_config"
            self._warnings.append(ConfigWarning(top.place("basic_auth_users"), text))
        if self._errors:
            return list(dict.fromkeys(self._errors))
        return WebConfig(
            context,
            names,
            MappingProxyType(headers),
            MappingProxyType(users),
            rate,
            tuple(self._warnings),
            tuple(self._files),
            self._digest.hexdigest(),
        )

    def _http2(self, section: Section) -> bool:
        section.allow("http2", "headers")
        http2 = section.flag("http2", default=True)
        if http2 and "http2" in section:
            self._warnings.append(
                ConfigWarning(section.place("http2"), "HTTP/2 is not spoken; clients use HTTP/1.1")
            )
        return http2

    # TLS

    def _tls(self, section: Section, *, http2: bool) -> tuple[ssl.SSLContext | None, frozenset[str] | None]:
        section.allow(*_TLS_FIELDS)
        if not section:
            return None, None
        before = len(self._errors)
        certificate = self._pem(section, "cert")
        key = self._pem(section, "key")
        authorities = self._pem(section, "client_ca", needed=False)
        client_auth = self._client_auth(section)
        names = self._client_names(section, client_auth)
        minimum, maximum = self._versions(section)
        ciphers = self._ciphers(section, minimum, maximum, http2=http2)
        curve = self._curve(section)
        server_chooses = section.flag("prefer_server_cipher_suites", default=True)
        if len(self._errors) > before or certificate is None or key is None:
            return None, None
        wanted = tls.Wanted(
            certificate, key, minimum, maximum, ciphers, server_chooses, curve, client_auth, authorities
        )
        try:
            return tls.server_context(wanted), names
        except UnreadableError as error:
            at = _source(section, "key" if "encrypted" in error.problem else "cert")
            of = "the key" if "encrypted" in error.problem else "certificate and key"
            section.refuse(at, f"{of} {error.problem}", error.hint)
        except (ssl.SSLError, ValueError):
            section.refuse("", "asks for ciphers or a curve that this system's OpenSSL lacks", "choose others")
        return None, None

    def _pem(self, section: Section, name: str, *, needed: bool = True) -> bytes | None:
        """Return what stands in a field, or in the file that its ``…_file`` names."""
        inline, path = section.text(name), section.text(f"{name}_file")
        if inline and path:
            section.refuse(name, f"is set, and so is {name}_file", "remove one of the two")
            return None
        if inline:
            content: bytes | None = inline.encode("utf-8", "replace")
        elif path:
            content = self._read_file(section, f"{name}_file", self._path.parent / path)
        else:
            if needed:
                section.refuse("", f"has neither {name} nor {name}_file", f"set {name}_file")
            return None
        if content is not None and b"-----BEGIN " not in content:
            section.refuse(_source(section, name), "is not in PEM format", 'it has a line "-----BEGIN …"')
            return None
        if content is not None and name == "client_ca":
            try:
                tls.load_authorities(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), content)
            except UnreadableError as error:
                section.refuse(_source(section, name), error.problem, error.hint)
        return content

    def _read_file(self, section: Section, name: str, path: Path) -> bytes | None:
        self._files.append(path)
        try:
            content = read_bytes(path, limit=LARGEST_PEM_BYTES)
        except UnreadableError as error:
            section.refuse(name, f"{shown_path(path)} {error.problem}", error.hint)
            return None
        self._digest.add(content)
        return content

    def _client_auth(self, section: Section) -> ssl.VerifyMode:
        name = section.text("client_auth_type") or "NoClientCert"
        if name in tls.UNVERIFIED_CLIENT_AUTH:
            section.refuse(
                "client_auth_type",
                f"{name} takes certificates that nobody verified, which this server can't",
                "write RequireAndVerifyClientCert, with a client_ca_file",
            )
            return ssl.CERT_REQUIRED
        if name not in tls.CLIENT_AUTH:
            known = ", ".join(tls.CLIENT_AUTH)
            section.refuse("client_auth_type", f"{quote(name)} is not one of {known}", "correct it")
            return ssl.CERT_REQUIRED
        mode = tls.CLIENT_AUTH[name]
        given = section.text("client_ca") or section.text("client_ca_file")
        if mode is ssl.CERT_NONE and given:
            source = _source(section, "client_ca")
            section.refuse(source, "has no effect without a client_auth_type", "add RequireAndVerifyClientCert")
        if mode is not ssl.CERT_NONE and not given:
            text = "no client_ca_file: certificates of every authority that this system trusts are taken"
            self._warnings.append(ConfigWarning(section.place("client_auth_type"), text))
        return mode

    def _client_names(self, section: Section, client_auth: ssl.VerifyMode) -> frozenset[str] | None:
        names = section.texts("client_allowed_sans")
        if names is None:
            return None
        if client_auth is not ssl.CERT_REQUIRED:
            problem = "needs a client_auth_type that asks every client for a certificate"
            section.refuse("client_allowed_sans", problem, "add client_auth_type: RequireAndVerifyClientCert")
        elif not names:
            section.refuse("client_allowed_sans", "is empty, and would let nobody in", "name one, or remove it")
        return frozenset(tls.as_written(name) for _, name in names)

    def _versions(self, section: Section) -> tuple[ssl.TLSVersion, ssl.TLSVersion]:
        found = {}
        for field_name, default in (("min_version", "TLS12"), ("max_version", "TLS13")):
            name = section.text(field_name) or default
            if name in tls.OLD_VERSIONS and field_name == "min_version":
                text = f"{name} is not spoken; the oldest is TLS12"
                self._warnings.append(ConfigWarning(section.place(field_name), text))
                name = "TLS12"
            elif name in tls.OLD_VERSIONS:
                section.refuse(field_name, f"{name} is older than what this server speaks", "write TLS12 or TLS13")
                name = default
            elif name not in tls.VERSIONS:
                known = ", ".join((*tls.OLD_VERSIONS, *tls.VERSIONS))
                section.refuse(field_name, f"{quote(name)} is not one of {known}", "correct it")
                name = default
            found[field_name] = tls.VERSIONS[name]
        if found["min_version"] > found["max_version"]:
            section.refuse("min_version", "is newer than max_version", "exchange the two")
        return found["min_version"], found["max_version"]

    def _ciphers(
        self, section: Section, minimum: ssl.TLSVersion, maximum: ssl.TLSVersion, *, http2: bool
    ) -> tuple[str, ...] | None:
        listed = section.texts("cipher_suites")
        if not listed:
            return None
        known = (*tls.CIPHERS, *tls.TLS13_CIPHERS)
        for position, name in listed:
            if name not in known:
                old = name.startswith("TLS_RSA_WITH_")
                problem = "has no forward secrecy" if old else "is not a known cipher suite"
                hint = "remove it" if old else did_you_mean(name, known) or "see the list in docs/web-config.md"
                section.refuse("cipher_suites", f"{quote(name)} {problem}", hint, position)
        names = tuple(name for _, name in listed if name in known)
        older = [name for name in names if name in tls.CIPHERS]
        if names and minimum < ssl.TLSVersion.TLSv1_3:
            if http2 and tls.HTTP2_CIPHERS.isdisjoint(names):
                wanted = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
                problem = "lacks the cipher suite that HTTP/2 requires"
                section.refuse("cipher_suites", problem, f"add {wanted}, or write http2: false")
            elif not older and maximum < ssl.TLSVersion.TLSv1_3:
                section.refuse("cipher_suites", "has none for max_version TLS12", "add one, or allow TLS13")
        return names

    def _curve(self, section: Section) -> str | None:
        listed = section.texts("curve_preferences") or []
        for position, name in listed:
            if name not in tls.CURVES:
                hint = did_you_mean(name, tls.CURVES) or f"known: {', '.join(tls.CURVES)}"
                section.refuse("curve_preferences", f"{quote(name)} is not a known curve", hint, position)
        if len(listed) > 1:
            problem = "lists several curves, and Python's TLS can be held to one only"
            section.refuse("curve_preferences", problem, "leave one, or none for the usual ones")
        return listed[0][1] if len(listed) == 1 else None

    # HTTP

    def _headers(self, section: Section) -> dict[str, str]:
        found: dict[str, str] = {}
        for name in section:
            value = section.text(name)
            if name not in HEADERS:
                hint = did_you_mean(name, HEADERS) or f"remove it; known: {', '.join(HEADERS)}"
                section.refuse(name, "is a header that can't be set", hint)
            elif HEADERS[name] and value not in HEADERS[name]:
                section.refuse(name, f"{quote(value)} is not one of {', '.join(HEADERS[name])}", "correct it")
            elif not _FIELD_TEXT.fullmatch(value):
                section.refuse(name, "has a line break or a character beyond ASCII", "write it on one line")
            elif value:
                found[name] = value
        return found

    def _users(self, section: Section) -> dict[str, str]:
        found: dict[str, str] = {}
        for name in section:
            value = section.text(name)
            if ":" in name:
                section.refuse(name, "has a colon, which ends a name in this scheme", "choose another name")
            elif not _BCRYPT.fullmatch(value):
                section.refuse(name, "is not a bcrypt hash", 'make one with: htpasswd -nBC 10 "" | tr -d ":\\n"')
            else:
                found[name] = value
        return found

    def _rate(self, section: Section) -> RateLimit | None:
        section.allow("interval", "burst")
        burst = section.whole("burst")
        text = section.text("interval")
        if not text or text == "0":
            return None
        if not _DURATION.fullmatch(text):
            section.refuse("interval", "is not a duration", 'write one such as "1s" or "100ms"; 0 is no limit')
            return None
        seconds = sum(float(number) * _UNIT_SECONDS[unit] for number, unit in _DURATION_PART.findall(text))
        if seconds and burst < 1:
            name = "burst" if "burst" in section else ""
            section.refuse(name, "would let no request through", "write a burst of at least 1, such as 20")
        return RateLimit(seconds, burst) if seconds else None


def _source(section: Section, name: str) -> str:
    """Return the field that gives a certificate or a key: inline, or its file."""
    return name if section.text(name) else f"{name}_file"
