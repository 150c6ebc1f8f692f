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
from exporter.config.checks import readable_warnings
from exporter.config.errors import ConfigWarning, ErrorDetail, did_you_mean, quote
from exporter.config.files import UnreadableError, decode, shown_path
from exporter.config.groups import GroupsError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from exporter.config.files import FileReader
    from exporter.config.webyaml import Section

LARGEST_FILE_BYTES = 1 << 18
LARGEST_PEM_BYTES = 1 << 20
COSTLY = 12
"""The highest ordinary cost of a bcrypt hash; one more doubles the time of a check, which is about 0.2 s here."""

HEADERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "Content-Security-Policy": (),
        "Strict-Transport-Security": (),
        "X-Content-Type-Options": ("nosniff",),
        "X-Frame-Options": ("deny", "sameorigin"),
        "X-XSS-Protection": (),
    }
)
"""Header → its allowed values; an empty tuple allows any."""

_TLS_FIELDS = (
    "cert", "key", "client_ca", "cert_file", "key_file", "client_auth_type", "client_ca_file",
    "client_allowed_sans", "min_version", "max_version", "cipher_suites", "prefer_server_cipher_suites",
    "curve_preferences",
)  # fmt: skip
FIELDS = frozenset({
    "tls_server_config", "http_server_config", "basic_auth_users", "rate_limit", "http2", "headers", "interval",
    "burst", *_TLS_FIELDS, *HEADERS,
})  # fmt: skip
"""The names of all fields."""

_BCRYPT = re.compile(r"\$2[aby]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}")
_DURATION = re.compile(r"\+?(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+")
_DURATION_PART = re.compile(r"([0-9.]+)([a-zµμ]+)")
_UNIT_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}
_FIELD_TEXT = re.compile(r"[\t\x20-\x7e]*")


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A token bucket: one request per ``interval_seconds``, and at most ``burst`` at once; with 0, none at all."""

    interval_seconds: float
    burst: int


@dataclass(frozen=True, slots=True)
class WebConfig:
    """What a web config file holds; by default, plain HTTP that is open to everyone.

    ``users`` are bcrypt hashes by name. ``client_names`` are subject alternative names, of which a client's
    certificate must have one; None accepts any certificate. With ``own_authorities``, the file names the
    authorities of client certificates; otherwise they are those that the system trusts. ``chosen`` are the fields
    ``cipher_suites`` and ``curve_preferences`` that the file sets.
    """

    tls: ssl.SSLContext | None = field(default=None, repr=False)
    client_names: frozenset[str] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[str, str] = field(default_factory=dict, repr=False)
    rate: RateLimit | None = None
    warnings: tuple[ConfigWarning, ...] = ()
    own_authorities: bool = False
    chosen: frozenset[str] = frozenset()

    @property
    def requires_client_certificate(self) -> bool:
        """Whether every client must present a certificate."""
        return self.tls is not None and self.tls.verify_mode is ssl.CERT_REQUIRED


def read(path: Path, reader: FileReader) -> WebConfig | list[ErrorDetail]:
    """Return what a file holds, or all of its errors; raises UnreadableError where it can't be read."""
    return _Reading(path, reader).run()


class _Reading:
    """One reading of a file, which collects errors and continues after each."""

    def __init__(self, path: Path, reader: FileReader) -> None:
        self._path = path
        self._reader = reader
        self._file = shown_path(path)
        self._errors: list[ErrorDetail] = []
        self._warnings: list[ConfigWarning] = []
        self._own_authorities = False
        self._chosen: frozenset[str] = frozenset()

    def run(self) -> WebConfig | list[ErrorDetail]:
        from exporter.config.webyaml import Section, compose  # noqa: PLC0415  # most exporters have no such file

        content = self._reader.read(self._path, limit=LARGEST_FILE_BYTES, comments=True)
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
            text = "passwords are sent unencrypted; add tls_server_config"
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
            self._own_authorities,
            self._chosen,
        )

    def _http2(self, section: Section) -> bool:
        section.allow("http2", "headers")
        http2 = section.flag("http2", default=True)
        if http2 and "http2" in section:
            self._warnings.append(
                ConfigWarning(section.place("http2"), "HTTP/2 is not supported; clients use HTTP/1.1")
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
        self._own_authorities = authorities is not None
        client_auth = self._client_auth(section)
        names = self._client_names(section, client_auth)
        minimum, maximum = self._versions(section)
        ciphers = self._ciphers(section, minimum, maximum, http2=http2)
        curves = self._curves(section)
        fields = {"cipher_suites": ciphers is not None, "curve_preferences": bool(curves)}
        self._chosen = frozenset(name for name, given in fields.items() if given)
        server_chooses = section.flag("prefer_server_cipher_suites", default=True)
        if len(self._errors) > before or certificate is None or key is None:
            return None, None
        options = tls.ContextOptions(
            certificate, key, minimum, maximum, ciphers, server_chooses, curves, client_auth, authorities
        )
        try:
            return tls.server_context(options), names
        except UnreadableError as error:
            at = _source(section, "key" if "encrypted" in error.problem else "cert")
            of = "the key" if "encrypted" in error.problem else "certificate and key"
            section.refuse(at, f"{of} {error.problem}", error.hint)
        except GroupsError as error:
            hint = "list one of CurveP256, CurveP384 and CurveP521, or remove the field for OpenSSL's defaults"
            section.refuse("curve_preferences", str(error), hint)
        except ssl.SSLError:
            problem = "lists no cipher suite that this system's OpenSSL supports"
            section.refuse("cipher_suites", problem, "choose others")
        return None, None

    def _pem(self, section: Section, name: str, *, needed: bool = True) -> bytes | None:
        """Return the content of a field, or of the file that its ``…_file`` names."""
        inline, path = section.text(name), section.text(f"{name}_file")
        if inline and path:
            section.refuse(name, f"conflicts with {name}_file", "set only one of the two")
            return None
        if inline:
            content: bytes | None = inline.encode("utf-8", "replace")
        elif path:
            content = self._read_file(section, f"{name}_file", self._path.parent / path)
            if name == "key":
                self._warnings.extend(readable_warnings(section.place("key_file"), self._path.parent / path))
        else:
            if needed:
                section.refuse("", f"has neither {name} nor {name}_file", f"set {name}_file")
            return None
        if content is not None and b"-----BEGIN " not in content:
            what = "" if inline else f"{shown_path(self._path.parent / path)} "
            problem = f"{what}is not in PEM format" if content.strip() else f"{what}is empty"
            section.refuse(_source(section, name), problem, 'PEM begins with a line "-----BEGIN …"')
            return None
        if content is not None and name == "client_ca":
            try:
                tls.load_authorities(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), content)
            except UnreadableError as error:
                section.refuse(_source(section, name), error.problem, error.hint)
        return content

    def _read_file(self, section: Section, name: str, path: Path) -> bytes | None:
        try:
            return self._reader.read(path, limit=LARGEST_PEM_BYTES)
        except UnreadableError as error:
            section.refuse(name, f"{shown_path(path)} {error.problem}", error.hint)
            return None

    def _client_auth(self, section: Section) -> ssl.VerifyMode:
        name = section.text("client_auth_type") or "NoClientCert"
        if name in tls.UNVERIFIED_CLIENT_AUTH:
            section.refuse(
                "client_auth_type",
                f"{name} accepts unverified certificates, which this server doesn't support",
                "use RequireAndVerifyClientCert with a client_ca_file",
            )
            return ssl.CERT_REQUIRED
        if name not in tls.CLIENT_AUTH:
            known = ", ".join(tls.CLIENT_AUTH)
            section.refuse("client_auth_type", f"{quote(name)} is not one of {known}", "choose one of these")
            return ssl.CERT_REQUIRED
        mode = tls.CLIENT_AUTH[name]
        given = section.text("client_ca") or section.text("client_ca_file")
        if mode is ssl.CERT_NONE and given:
            source = _source(section, "client_ca")
            section.refuse(
                source, "has no effect without client_auth_type", "add client_auth_type: RequireAndVerifyClientCert"
            )
        if mode is not ssl.CERT_NONE and not given:
            text = "no client_ca_file: certificates from every authority that this system trusts are accepted"
            self._warnings.append(ConfigWarning(section.place("client_auth_type"), text))
        return mode

    def _client_names(self, section: Section, client_auth: ssl.VerifyMode) -> frozenset[str] | None:
        names = section.texts("client_allowed_sans")
        if names is None:
            return None
        if client_auth is not ssl.CERT_REQUIRED:
            problem = "needs a client_auth_type that requires a certificate"
            section.refuse("client_allowed_sans", problem, "add client_auth_type: RequireAndVerifyClientCert")
        elif not names:
            section.refuse("client_allowed_sans", "is empty and would accept no client", "add a name, or remove it")
        return frozenset(tls.canonical_name(name) for _, name in names)

    def _versions(self, section: Section) -> tuple[ssl.TLSVersion, ssl.TLSVersion]:
        found = {}
        for field_name, default in (("min_version", "TLS12"), ("max_version", "TLS13")):
            name = section.text(field_name) or default
            if name in tls.OLD_VERSIONS and field_name == "min_version":
                text = f"{name} is not supported; TLS12 is used instead"
                self._warnings.append(ConfigWarning(section.place(field_name), text))
                name = "TLS12"
            elif name in tls.OLD_VERSIONS:
                section.refuse(field_name, f"{name} is not supported", "use TLS12 or TLS13")
                name = default
            elif name not in tls.VERSIONS:
                known = ", ".join((*tls.OLD_VERSIONS, *tls.VERSIONS))
                section.refuse(field_name, f"{quote(name)} is not one of {known}", "choose one of these")
                name = default
            found[field_name] = tls.VERSIONS[name]
        if found["min_version"] > found["max_version"]:
            section.refuse("min_version", "is newer than max_version", "swap the two")
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
                section.refuse("cipher_suites", problem, f"add {wanted}, or set http2: false")
            elif not older and maximum < ssl.TLSVersion.TLSv1_3:
                section.refuse("cipher_suites", "has no suite for max_version TLS12", "add one, or allow TLS13")
        return names

    def _curves(self, section: Section) -> tuple[str, ...]:
        listed = section.texts("curve_preferences") or []
        for position, name in listed:
            if name not in tls.CURVES:
                hint = did_you_mean(name, tls.CURVES) or f"known: {', '.join(tls.CURVES)}"
                section.refuse("curve_preferences", f"{quote(name)} is not a known curve", hint, position)
        return tuple(name for _, name in listed)

    # HTTP

    def _headers(self, section: Section) -> dict[str, str]:
        found: dict[str, str] = {}
        for name in section:
            value = section.text(name)
            if name not in HEADERS:
                hint = did_you_mean(name, HEADERS) or f"remove it; supported: {', '.join(HEADERS)}"
                section.refuse(name, "is not a supported header", hint, of_key=True)
            elif HEADERS[name] and value not in HEADERS[name]:
                section.refuse(name, f"{quote(value)} is not allowed", f"use {' or '.join(HEADERS[name])}")
            elif not _FIELD_TEXT.fullmatch(value):
                section.refuse(name, "contains a line break or a non-ASCII character", "remove it")
            elif value:
                found[name] = value
        return found

    def _users(self, section: Section) -> dict[str, str]:
        found: dict[str, str] = {}
        for name in section:
            value = section.text(name)
            if ":" in name:
                problem = "contains a colon, which is not allowed in a user name"
                section.refuse(name, problem, "choose another name", of_key=True)
            elif not _BCRYPT.fullmatch(value):
                section.refuse(name, "is not a bcrypt hash", 'create one with: htpasswd -nBC 10 "" | tr -d ":\\n"')
            else:
                found[name] = value
                if cost_of(value) > COSTLY:
                    self._warnings.append(ConfigWarning(section.place(name), _costly(cost_of(value))))
        return found

    def _rate(self, section: Section) -> RateLimit | None:
        section.allow("interval", "burst")
        burst = section.whole("burst")
        text = section.text("interval")
        if not text or text == "0":
            return None
        if not _DURATION.fullmatch(text):
            section.refuse("interval", "is not a duration", 'write for example "1s" or "100ms", or 0 for no limit')
            return None
        seconds = sum(float(number) * _UNIT_SECONDS[unit] for number, unit in _DURATION_PART.findall(text))
        if seconds and burst < 1:
            place = section.place("burst" if "burst" in section else "interval")
            text = "every request except health checks is refused with 429; set a burst of at least 1, such as 20"
            self._warnings.append(ConfigWarning(place, text))
        return RateLimit(seconds, burst) if seconds else None


def cost_of(hashed: str) -> int:
    """Return the cost of a bcrypt hash."""
    return int(hashed[4:6])


def _costly(cost: int) -> str:
    times = 2 ** (cost - COSTLY)
    return (
        f"the hash has cost {cost}: checking a password takes about {times:,} times as long as with cost {COSTLY}; "
        f"use a cost of 10 to {COSTLY}"
    )


def _source(section: Section, name: str) -> str:
    """Return the field that sets a certificate or key: the inline one, or the one that names a file."""
    return name if section.text(name) else f"{name}_file"
