"""Checks that need several keys or a file that a key names: credentials, certificate authorities, HMAC keys."""

from __future__ import annotations

import re
import ssl
import stat
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from exporter.config.errors import ConfigWarning, ErrorDetail, escape, listing, nearest, quote
from exporter.config.files import UnreadableError, shown_path
from exporter.config.kinds import IdentityLabel
from exporter.config.oddities import doubts
from exporter.config.secrets import PasswordSource, read_key
from exporter.config.sources import variable_name
from exporter.watched import is_loopback

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from pydantic import SecretStr

    from exporter.config.files import FileReader
    from exporter.config.settings import AccountSettings, MetricsSettings
    from exporter.config.sources import Sources

_IDENTITY = ("metrics", "identity")
_KEY_FILE = ("metrics", "identity_key_file")
_CHMOD = "take that permission from others (chmod o-rwx)"
_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
LIKE_A_SECRET = re.compile(r"(?=.*[0-9])[A-Za-z0-9+_=-]{16,}")
"""A file name that may be a secret in the place of its file."""


class AccountChecks:
    """Checks of the accounts' credentials and certificates; collects passwords and errors."""

    def __init__(
        self, sources: Sources, reader: FileReader, refused: Iterable[tuple[str, ...]], config_file: Path
    ) -> None:
        self.errors: list[ErrorDetail] = []
        self.warnings: list[ConfigWarning] = []
        self._config_file = config_file
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
        if (source := self.passwords.get(name)) is not None and not is_loopback(
            urlsplit(account.base_url).hostname or ""
        ):
            self._check_secret(name, account, source)
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
                self.errors.append(ErrorDetail(place, f"conflicts with {oauth}", hint, other=oauth))

    def _read_secret(
        self, name: str, secret: SecretStr | None, file: Path | None, table: tuple[str, ...], key: str
    ) -> None:
        """Read a password or a client secret, which ``key`` or ``key`` with ``_file`` of a table sets."""
        inline, from_file, kind = (*table, key), (*table, f"{key}_file"), key.replace("_", " ")
        if secret is not None and file is not None:
            first, second = self._sources.place(inline), self._sources.place(from_file)
            self.errors.append(
                ErrorDetail(second, f"conflicts with {first}", "set only one of the two", other=first)
            )
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

    def _check_secret(self, name: str, account: AccountSettings, source: PasswordSource) -> None:
        """Add warnings about a secret; an API on this machine is a simulator, and its secrets are made up."""
        path = (
            ("accounts", name, "password")
            if account.oauth is None
            else ("accounts", name, "oauth", "client_secret")
        )
        if source.path is not None:
            path = (*path[:-1], f"{path[-1]}_file")
        place = self._sources.place(path)
        in_file = self._sources.in_file(path)
        variable = variable_name(path, name) if source.path is None and in_file else ""
        self.warnings.extend(secret_warnings(place, source, variable))
        if source.path is None and in_file and readable_by_all(self._config_file):
            text = f"every user can read {shown_path(self._config_file)}, which holds this secret"
            self.warnings.append(ConfigWarning(place, text, f"move the secret to {path[-1]}_file, or {_CHMOD}"))


def secret_warnings(place: str, source: PasswordSource, variable: str = "") -> Iterator[ConfigWarning]:
    """Yield why a secret can't be one, and whether every user can read it; ``variable`` could set it, too."""
    path = source.path
    named = "" if path is None else f"the secret in {_shown_file(path)} "
    for doubt in doubts(source.current):
        hint = doubt.hint
        if doubt.of_variable and path is None:
            hint = f"TOML has no variables: set {variable} instead, or name a file" if variable else doubt.hint
        yield ConfigWarning(place, f"{named}{doubt.problem}", hint)
    if path is not None:
        yield from readable_warnings(place, path)


def readable_warnings(place: str, path: Path) -> Iterator[ConfigWarning]:
    """Yield a warning if every user can read a file with a secret."""
    if readable_by_all(path):
        yield ConfigWarning(place, f"every user can read {_shown_file(path)}", _CHMOD)


def readable_by_all(path: Path) -> bool:
    """Return whether users other than the owner and the group can read a file, as far as permissions tell."""
    try:
        real = path.resolve(strict=True)
        if not real.stat().st_mode & stat.S_IROTH:
            return False
        return all(folder.stat().st_mode & stat.S_IXOTH for folder in real.parents)
    except (OSError, RuntimeError):
        return False


def proxy_warnings(accounts: Mapping[str, AccountSettings], environ: Mapping[str, str]) -> Iterator[ConfigWarning]:
    """Yield a warning if the proxy of the environment, which some account uses, has no scheme."""
    for name, value in sorted(environ.items()):
        if name.lower() != "https_proxy" or not value or "://" in value:
            continue
        if any(account.proxy_url is None and _uses_https(account.base_url) for account in accounts.values()):
            text = "has no scheme, so http is assumed"
            yield ConfigWarning(escape(name, 40), text, 'write it like "http://host:port"')


def _uses_https(base_url: str) -> bool:
    parts = urlsplit(base_url)
    return parts.scheme == "https" and not is_loopback(parts.hostname or "")


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
    return ErrorDetail(place, f"{_shown_file(path)} {error.problem}", error.hint)


def _shown_file(path: Path) -> str:
    secret = LIKE_A_SECRET.fullmatch(path.name)
    return "the file (its name looks like a secret and isn't shown)" if secret else shown_path(path)
