"""Checks that need more than one key, or a file beside the configuration: credentials, certificates, keys."""

from __future__ import annotations

import re
import ssl
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from exporter.config.errors import ConfigWarning, ErrorDetail, listing, nearest, quote
from exporter.config.files import UnreadableError, read_bytes, shown_path
from exporter.config.kinds import IdentityLabel
from exporter.config.secrets import PasswordSource, read_key
from exporter.config.sources import place_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from exporter.config.settings import AccountSettings, MetricsSettings
    from exporter.config.sources import Layer

_IDENTITY = ("metrics", "identity")
_KEY_FILE = ("metrics", "identity_key_file")
_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
_LIKE_A_SECRET = re.compile(r"(?=.*[0-9])[A-Za-z0-9+_=-]{16,}")


class AccountChecks:
    """Looks at the accounts' secrets and certificates; gathers passwords and errors."""

    def __init__(self, layers: tuple[Layer, ...], refused: Collection[tuple[str, ...]]) -> None:
        self.errors: list[ErrorDetail] = []
        self.passwords: dict[str, PasswordSource] = {}
        self._layers = layers
        self._refused = refused

    def fetch_now(self, name: str, account: AccountSettings) -> None:
        """Read an account's password, and see that its certificates can be loaded."""
        self._read_password(name, account)
        if account.ca_file is not None:
            place = place_of(self._layers, ("accounts", name, "ca_file"))
            try:
                load_authorities(account.ca_file)
            except UnreadableError as error:
                self.errors.append(file_error(place, account.ca_file, error))

    def _read_password(self, name: str, account: AccountSettings) -> None:
        inline, from_file = ("accounts", name, "password"), ("accounts", name, "password_file")
        if account.password is not None and account.password_file is not None:
            first, second = place_of(self._layers, inline), place_of(self._layers, from_file)
            self.errors.append(ErrorDetail(second, f"is set, and so is {first}", "remove one of the two"))
        elif account.password is not None:
            self.passwords[name] = PasswordSource(account.password.get_secret_value())
        elif account.password_file is not None:
            try:
                self.passwords[name] = PasswordSource.from_file(account.password_file)
            except UnreadableError as error:
                place = place_of(self._layers, from_file)
                self.errors.append(file_error(place, account.password_file, error))
        elif inline not in self._refused and from_file not in self._refused:
            place = place_of(tuple(reversed(self._layers)), ("accounts", name))
            self.errors.append(ErrorDetail(place, "has no credential", "set password_file"))


def load_authorities(path: Path) -> None:
    """See that a file holds certificates in PEM; raises UnreadableError."""
    content = read_bytes(path)
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=content.decode("ascii", "ignore"))  # comments may be in any language
    except (ssl.SSLError, ValueError):
        if _CERTIFICATE in content:
            problem = "holds a certificate that can't be read"
            raise UnreadableError(problem, "save the certificates anew, whole and in PEM format") from None
        hint = f'name a file with a line "{_CERTIFICATE.decode()}" for each certificate'
        raise UnreadableError("holds no certificate in PEM format", hint) from None


def identity_key(
    metrics: MetricsSettings, layers: tuple[Layer, ...], refused: Collection[tuple[str, ...]]
) -> bytes | ErrorDetail | ConfigWarning | None:
    """Return the key for the identity label, where that is to be an HMAC; or what is wrong with the key."""
    path = metrics.identity_key_file
    place = place_of(layers, _KEY_FILE)
    if metrics.identity is not IdentityLabel.HMAC:
        unused = path is not None and _IDENTITY not in refused
        return ConfigWarning(place, 'has no effect unless metrics.identity is "hmac"') if unused else None
    if path is None:
        problem = ErrorDetail(place_of(layers, _IDENTITY), '"hmac" needs a key', "set metrics.identity_key_file")
        return None if _KEY_FILE in refused else problem
    try:
        return read_key(path)
    except UnreadableError as error:
        return file_error(place, path, error)


def family_errors(patterns: tuple[str, ...], known: Collection[str], place: str) -> Iterator[ErrorDetail]:
    """Yield a detail for each pattern that fits none of the known families; none are known, none is judged."""
    if not known:
        return
    for index, pattern in enumerate(patterns):
        if not any(fnmatchcase(name, pattern) for name in known):
            match = nearest(pattern, known)
            hint = f'did you mean "{match}"?' if match else f"known: {listing(sorted(known))}"
            yield ErrorDetail(f"{place}[{index}]", f"{quote(pattern)} fits no per-factor metric", hint)


def file_error(place: str, path: Path, error: UnreadableError) -> ErrorDetail:
    """Return the detail of a file that a key names; a path that looks like a secret itself isn't shown."""
    secret = _LIKE_A_SECRET.fullmatch(path.name)
    named = "the file (its name looks like a secret, and isn't shown)" if secret else shown_path(path)
    return ErrorDetail(place, f"{named} {error.problem}", error.hint)
