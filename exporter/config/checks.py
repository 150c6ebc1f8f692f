"""Checks that need several keys or a file that a key names: credentials, certificate authorities, HMAC keys."""

from __future__ import annotations

import re
import ssl
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from exporter.config.errors import ConfigWarning, ErrorDetail, listing, nearest, quote
from exporter.config.files import UnreadableError, shown_path
from exporter.config.kinds import IdentityLabel
from exporter.config.secrets import PasswordSource, read_key

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

    from pydantic import SecretStr

    from exporter.config.files import FileReader
    from exporter.config.settings import AccountSettings, MetricsSettings
    from exporter.config.sources import Sources

_IDENTITY = ("metrics", "identity")
_KEY_FILE = ("metrics", "identity_key_file")
_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
_LIKE_A_SECRET = re.compile(r"(?=.*[0-9])[A-Za-z0-9+_=-]{16,}")


class AccountChecks:
    """Checks of the accounts' credentials and certificates; collects passwords and errors."""

    def __init__(self, sources: Sources, reader: FileReader, refused: Iterable[tuple[str, ...]]) -> None:
        self.errors: list[ErrorDetail] = []
        self.passwords: dict[str, PasswordSource] = {}
        self._sources = sources
        self._reader = reader
        self._refused = frozenset(refused)

    def check(self, name: str, account: AccountSettings) -> None:
        """Read an account's password, and check that its certificate authorities can be loaded."""
        self._check_kinds(name, account)
        if account.oauth is None:
            self._read_secret(name, account.password, account.password_file, ("accounts", name), "password")
        else:
            secret, file = account.oauth.client_secret, account.oauth.client_secret_file
            self._read_secret(name, secret, file, ("accounts", name, "oauth"), "client_secret")
        if account.ca_file is not None:
            place = self._sources.place(("accounts", name, "ca_file"))
            try:
                check_authorities(self._reader.read(account.ca_file))
            except UnreadableError as error:
                self.errors.append(file_error(place, account.ca_file, error))

    def _check_kinds(self, name: str, account: AccountSettings) -> None:
        """Check that an account with an OAuth app has no user name and no password."""
        if account.oauth is None:
            return
        oauth = self._sources.place(("accounts", name, "oauth"))
        for key in ("username", "password", "password_file"):
            if getattr(account, key) is not None:
                place = self._sources.place(("accounts", name, key))
                hint = "remove it: an OAuth app has a client ID" if key == "username" else "set only one of the two"
                self.errors.append(ErrorDetail(place, f"conflicts with {oauth}", hint))

    def _read_secret(
        self, name: str, secret: SecretStr | None, file: Path | None, table: tuple[str, ...], key: str
    ) -> None:
        """Read a password or a client secret, which ``key`` or ``key`` with ``_file`` of a table sets."""
        inline, from_file, kind = (*table, key), (*table, f"{key}_file"), key.replace("_", " ")
        if secret is not None and file is not None:
            first, second = self._sources.place(inline), self._sources.place(from_file)
            self.errors.append(ErrorDetail(second, f"conflicts with {first}", "set only one of the two"))
        elif secret is not None:
            self.passwords[name] = PasswordSource(secret.get_secret_value(), kind=kind)
        elif file is not None:
            try:
                self.passwords[name] = PasswordSource.from_file(file, kind)
            except UnreadableError as error:
                self.errors.append(file_error(self._sources.place(from_file), file, error))
        elif not self._refused.intersection((inline, from_file, table)):
            place = self._sources.place(table)
            found, hint = f"has neither {key}_file nor {key}", f"set {key}_file"
            if key == "password":
                found, hint = f"has none of {key}_file, {key} and oauth", f"{hint} or oauth"
            self.errors.append(ErrorDetail(place, found, hint))


def check_authorities(content: bytes) -> None:
    """Check that a file holds certificates in PEM format; raises UnreadableError."""
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=content.decode("ascii", "ignore"))  # comments may be in any language
    except (ssl.SSLError, ValueError):
        if _CERTIFICATE in content:
            problem = "contains a certificate that can't be read"
            raise UnreadableError(problem, "save the complete certificates again, in PEM format") from None
        hint = f'each certificate begins with a line "{_CERTIFICATE.decode()}"'
        raise UnreadableError("contains no certificate in PEM format", hint) from None


def identity_key(
    metrics: MetricsSettings, sources: Sources, reader: FileReader, refused: Collection[tuple[str, ...]]
) -> bytes | ErrorDetail | ConfigWarning | None:
    """Return the key of the identity label where that is an HMAC, or what is wrong with the key."""
    path = metrics.identity_key_file
    place = sources.place(_KEY_FILE)
    if metrics.identity is not IdentityLabel.HMAC:
        unused = path is not None and _IDENTITY not in refused
        return ConfigWarning(place, 'has no effect unless metrics.identity is "hmac"') if unused else None
    if path is None:
        error = ErrorDetail(sources.place(_IDENTITY), '"hmac" needs a key', "set metrics.identity_key_file")
        return None if _KEY_FILE in refused else error
    try:
        return read_key(path, reader)
    except UnreadableError as unreadable:
        return file_error(place, path, unreadable)


def family_errors(patterns: tuple[str, ...], known: Collection[str], place: str) -> Iterator[ErrorDetail]:
    """Yield an error for each pattern that matches no known family; without known families, none."""
    if not known:
        return
    for index, pattern in enumerate(patterns):
        if not any(fnmatchcase(name, pattern) for name in known):
            match = nearest(pattern, known)
            hint = f'did you mean "{match}"?' if match else f"known: {listing(sorted(known))}"
            yield ErrorDetail(f"{place}[{index}]", f"{quote(pattern)} matches no per-factor metric", hint)


def file_error(place: str, path: Path, error: UnreadableError) -> ErrorDetail:
    """Return the error of a file that a key names; a path that looks like a secret itself isn't shown."""
    secret = _LIKE_A_SECRET.fullmatch(path.name)
    named = "the file (its name looks like a secret and isn't shown)" if secret else shown_path(path)
    return ErrorDetail(place, f"{named} {error.problem}", error.hint)
