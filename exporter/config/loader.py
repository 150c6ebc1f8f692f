"""Loading a configuration: file, environment and flags in, a whole Config or every detail out."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from exporter.config.checks import AccountChecks, family_errors, file_error, identity_key
from exporter.config.errors import ConfigError, ConfigWarning, ErrorDetail, did_you_mean, quote
from exporter.config.files import Digest, UnreadableError, decode, expand, parse_toml, read_bytes, shown_path
from exporter.config.kinds import IdentityLabel
from exporter.config.settings import Settings
from exporter.config.sharding import Shard, ShardError, shard_of
from exporter.config.sources import EnvironmentLayer, FileLayer, FlagLayer, Layer, explain, place_of
from exporter.config.tree import NAMED, settings_tree
from exporter.config.validation import Problem, missing, problems
from exporter.config.watchlist import TABLES, Watchlist
from exporter.config.webconfig import WebConfig
from exporter.config.webconfig import read as read_web_config

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from exporter.config.secrets import PasswordSource
    from exporter.config.settings import WebSettings
    from exporter.watched import WatchedEntity, WatchedFactor

_FILES = ("watchlist", "files")
_WEB_FILE = ("web", "config_file")

_STAND_IN = "AC" + "0" * 32
"""Takes the place of an Account SID that is missing, so that the rest of a refused account is checked too."""


@dataclass(frozen=True, slots=True)
class Config:
    """A whole and valid configuration.

    ``factors`` and ``entities`` are those of ``shard``. ``passwords`` are by account; ``sources`` are the files
    read, the configuration file first; ``sha256`` is a digest of their content, and ``referenced_sha256`` one of
    the files that keys name (certificate authorities, the key of the identity label), both in hex. ``web`` is what
    the web config file asks for. Neither ``repr`` nor ``str`` shows a secret or an identity.
    """

    path: Path
    settings: Settings
    shard: Shard
    factors: tuple[WatchedFactor, ...] = field(repr=False)
    entities: tuple[WatchedEntity, ...] = field(repr=False)
    passwords: Mapping[str, PasswordSource]
    identity_key: bytes | None = field(repr=False)
    warnings: tuple[ConfigWarning, ...]
    sources: tuple[Path, ...]
    sha256: str
    referenced_sha256: str
    web: WebConfig


def load(
    path: Path,
    *,
    environ: Mapping[str, str],
    flags: Mapping[str, Any],
    known_families: Collection[str] = (),
) -> Config:
    """Load a configuration; raises ConfigError with every detail at once.

    ``flags`` are dotted keys with their values; ``known_families`` are the short names that
    ``metrics.factor_families`` may choose from (empty: not judged).
    """
    return _Loading(path, environ, flags).run(known_families)


def current_digest(config: Config) -> str:
    """Return the digest that the configuration's files have now; differs from ``sha256`` after a change.

    A file that cannot be read counts as empty, and a new file that fits a pattern counts.
    """
    paths, _warnings = expand(config.path.parent, (("", name) for name in config.settings.watchlist.files))
    digest = Digest()
    for path in (config.path, *(path for _place, path in paths)):
        try:
            digest.add(read_bytes(path))
        except UnreadableError:
            digest.add(b"")
    return digest.hexdigest()


def current_referenced_digest(settings: Settings) -> str:
    """Return the digest that the files named by keys have now, passwords apart: those have a watch of their own."""
    named = [account.ca_file for account in settings.accounts.values()]
    if settings.metrics.identity is IdentityLabel.HMAC:
        named.append(settings.metrics.identity_key_file)
    digest = Digest()
    for path in filter(None, named):
        try:
            digest.add(read_bytes(path))
        except UnreadableError:
            digest.add(b"")
    return digest.hexdigest()


class _Loading:
    """One run of the loader: gathers errors on the way, and carries on past each."""

    def __init__(self, path: Path, environ: Mapping[str, str], flags: Mapping[str, Any]) -> None:
        self._path = path
        self._file = shown_path(path)
        self._environ = environ
        self._tree = settings_tree()
        self._digest = Digest()
        self._errors: list[ErrorDetail] = []
        self._warnings: list[ConfigWarning] = []
        self._misnamed: set[str] = set()
        self._refused: set[tuple[str, ...]] = set()
        document = self._read_document()
        self._listed = {name: document.pop(name) for name in TABLES if name in document}
        file = FileLayer(self._tree, document, self._file, path.parent)
        environment = EnvironmentLayer(self._tree, environ, file.account_names())
        self._layers: tuple[Layer, ...] = (FlagLayer(self._tree, flags), environment, file)
        for layer in reversed(self._layers):
            self._errors.extend(layer.errors)
        self._patterns = dict(enumerate(self._listed_patterns()))

    def run(self, known_families: Collection[str]) -> Config:
        """Check everything; return the Config, or raise ConfigError."""
        settings = self._settings()
        place = place_of(self._layers, ("metrics", "factor_families"))
        self._errors.extend(family_errors(settings.metrics.factor_families, known_families, place))
        accounts = AccountChecks(self._layers, self._refused)
        for name, account in settings.accounts.items():
            accounts.fetch_now(name, account)
        self._errors.extend(accounts.errors)
        key = self._identity_key(settings)
        web = self._web_config(settings.web)
        shard = self._shard(settings.sharding.shard)
        watchlist = Watchlist(self._account_names(), settings.polling.interval)
        inline = watchlist.add_document(self._file, self._listed)
        sources = self._read_files(watchlist)
        self._judge(watchlist)
        if self._errors:
            raise ConfigError(self._errors)
        return Config(
            path=self._path,
            settings=settings.model_copy(update={"factors": inline}),
            shard=shard,
            factors=tuple(
                of for of in watchlist.factors if shard.holds(of.key.account, of.key.service_sid, of.identity)
            ),
            entities=tuple(of for of in watchlist.entities if shard.holds(*of.key)),
            passwords=MappingProxyType(accounts.passwords),
            identity_key=key,
            warnings=tuple(self._warnings),
            sources=(self._path, *sources),
            sha256=self._digest.hexdigest(),
            referenced_sha256=current_referenced_digest(settings),
            web=web,
        )

    def _web_config(self, settings: WebSettings) -> WebConfig:
        place = place_of(self._layers, _WEB_FILE)
        if settings.config_file is None:
            return WebConfig()
        try:
            found = read_web_config(settings.config_file)
        except UnreadableError as error:
            self._errors.append(file_error(place, settings.config_file, error))
            return WebConfig()
        if not isinstance(found, WebConfig):
            self._errors.extend(found)
            return WebConfig()
        self._warnings.extend(found.warnings)
        if found.asks_for_certificate and settings.health_listen_address is None:
            text = "probes have no client certificate; serve them on web.health_listen_address"
            self._warnings.append(ConfigWarning(place, text))
        return found

    def _shard(self, text: str) -> Shard:
        try:
            return shard_of(text, self._environ, socket.gethostname())
        except ShardError as error:
            place = place_of(self._layers, ("sharding", "shard"))
            self._errors.append(ErrorDetail(place, f"{quote(text)} {error}", error.hint))
            return Shard()

    def _identity_key(self, settings: Settings) -> bytes | None:
        match identity_key(settings.metrics, self._layers, self._refused):
            case ErrorDetail() as detail:
                self._errors.append(detail)
            case ConfigWarning() as warning:
                self._warnings.append(warning)
            case bytes() as key:
                return key
        return None

    def _read_document(self) -> dict[str, Any]:
        try:
            content = read_bytes(self._path)
            self._digest.add(content)
            return parse_toml(decode(content))
        except UnreadableError as error:
            raise ConfigError([error.detail(self._file)]) from None

    def _account_names(self) -> tuple[str, ...]:
        names = {name: None for layer in reversed(self._layers) for name in layer.account_names()}
        return tuple(name for name in names if name not in self._misnamed)

    def _settings(self) -> Settings:
        """Return the settings; where some are faulty, those with the faulty ones left at their defaults."""
        first = True
        while True:
            try:
                return Settings.of(self._layers)
            except ValidationError as error:
                for problem in problems(error):
                    self._refused.add(problem.path)
                    if first:
                        self._errors.append(self._fault(problem))
                    if problem.cause is None:
                        self._layers[-1].put(problem.path, _STAND_IN, "")
                    else:
                        for layer in self._layers:
                            layer.drop(problem.path)
            first = False

    def _fault(self, problem: Problem) -> ErrorDetail:
        path = problem.path
        if problem.cause is not None:
            place = place_of(self._layers, path)
            if problem.position is not None:
                place = f"{place}[{problem.position}]"
                if path == _FILES:
                    del self._patterns[problem.position]
            return ErrorDetail(place, explain(problem.cause, path))
        _, account, name = path  # the one key that is required stands in an account
        file = self._layers[-1]
        if ("accounts", account) in file.places:
            key = next(key for key in self._tree.leaves() if key.path == ("accounts", NAMED, name))
            return missing(f"{file.places['accounts', account]}.{name}", key)
        self._misnamed.add(account)
        place = place_of(self._layers, path[:2])
        known = [other for other in file.account_names() if other != account]
        hint = did_you_mean(account, known) or f"set accounts.{account}.{name}"
        return ErrorDetail(place, f"belongs to the account {quote(account)}, which has no {name}", hint)

    def _listed_patterns(self) -> list[Any]:
        """Return watchlist.files as it is given, so that a bad item leaves the others their positions."""
        given = (layer.values["watchlist"]["files"] for layer in self._layers if _FILES in layer.places)
        patterns: object = next(given, ())
        return list(patterns) if isinstance(patterns, list | tuple) else []

    def _read_files(self, watchlist: Watchlist) -> tuple[Path, ...]:
        place = place_of(self._layers, _FILES)
        patterns = ((f"{place}[{position}]", pattern) for position, pattern in self._patterns.items())
        paths, warnings = expand(self._path.parent, patterns)
        self._warnings.extend(warnings)
        for named, path in paths:
            try:
                content = read_bytes(path)
            except UnreadableError as error:
                watchlist.errors.append(ErrorDetail(named, f"{shown_path(path)} {error.problem}", error.hint))
                continue
            self._digest.add(content)
            try:
                watchlist.add_file(path, content)
            except UnreadableError as error:
                watchlist.errors.append(error.detail(shown_path(path)))
        return tuple(path for _place, path in paths)

    def _judge(self, watchlist: Watchlist) -> None:
        self._errors.extend(watchlist.errors)
        if watchlist.without_account:
            count = watchlist.without_account
            needing = "1 watched entry needs one" if count == 1 else f"{count} watched entries need one"
            problem = f"no account is set, and {needing}"
            self._errors.append(ErrorDetail(self._file, problem, "add a table [accounts.main]"))
        self._warnings.extend(watchlist.warnings())
        if not watchlist.factors and not watchlist.entities:
            text = "the watchlist is empty, so nothing is fetched; list factors under [[factors]]"
            self._warnings.append(ConfigWarning(self._file, text))
