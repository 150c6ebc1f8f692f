"""Loading a configuration: file, environment variables and flags in; a valid Config, or every error, out."""

from __future__ import annotations

import functools
import hashlib
import os
import socket
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from exporter.config.checks import AccountChecks, family_errors, file_error, identity_key
from exporter.config.errors import ConfigError, ConfigWarning, ErrorDetail, did_you_mean, quote
from exporter.config.files import FileReader, FileVersion, UnreadableError, decode, expand, parse_toml, shown_path
from exporter.config.last_good import Fallback, ListedFile, WholeWatchlist, emptied, stand_in
from exporter.config.settings import ENTRIES, Settings
from exporter.config.sharding import Shard, ShardError, shard_of
from exporter.config.sources import EnvironmentSource, FileSource, FlagSource, Sources
from exporter.config.tree import NAMED, settings_tree
from exporter.config.validation import Problem, explain, missing, problems
from exporter.config.watchlist import Watchlist
from exporter.config.webconfig import WebConfig
from exporter.config.webconfig import read as read_web_config

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from exporter.config.last_good import LastGood, LastGoodReader
    from exporter.config.secrets import PasswordSource
    from exporter.config.settings import WebSettings
    from exporter.watched import WatchedEntity, WatchedFactor, WatchedService

_FILES = ("watchlist", "files")
_WEB_FILE = ("web", "config_file")

_STAND_INS = MappingProxyType({"account_sid": "AC" + "0" * 32, "client_id": "OQ" + "0" * 32})
"""Stand in for missing required keys of an account, so that the rest of it is checked, too."""


@dataclass(frozen=True, slots=True)
class Config:
    """A valid configuration.

    ``factors`` and ``entities`` are those of ``shard``, ``services`` those of every shard: each watches its part of
    their entities. ``listed`` counts the entries of all shards by account, without accounts that have none, and
    ``total_factors`` counts the factors among them. ``passwords`` are by account. ``files`` are all files read
    except password files, each with its version; ``fingerprint`` changes with any of them. ``sha256`` is a digest
    (hex) of the contents of the configuration file, the web config file and the watchlist files. ``web`` comes from
    the web config file. ``fallback`` tells if the last good watchlist stands in for the watchlist files; ``whole``
    is what these files list, to be saved as the next one.
    Neither ``repr`` nor ``str`` shows a secret or an identity.
    """

    path: Path
    settings: Settings
    shard: Shard
    factors: tuple[WatchedFactor, ...] = field(repr=False)
    entities: tuple[WatchedEntity, ...] = field(repr=False)
    services: tuple[WatchedService, ...] = field(repr=False)
    listed: Mapping[str, int]
    total_factors: int
    passwords: Mapping[str, PasswordSource]
    identity_key: bytes | None = field(repr=False)
    warnings: tuple[ConfigWarning, ...]
    files: Mapping[Path, FileVersion]
    fingerprint: str
    sha256: str
    web: WebConfig
    fallback: Fallback | None = None
    whole: WholeWatchlist = field(default_factory=WholeWatchlist, repr=False, compare=False)


def load(
    path: Path,
    *,
    environ: Mapping[str, str],
    flags: Mapping[str, Any],
    known_families: Collection[str] = (),
    shard: Shard | None = None,
    last_good: LastGoodReader | None = None,
    fall_back: bool = False,
) -> Config:
    """Load a configuration; raises ConfigError with every error at once.

    ``flags`` are values by dotted key; ``known_families`` are the short names that ``metrics.factor_families`` may
    choose from (empty: not checked). A given ``shard`` is used instead of the configured one. With ``last_good``,
    watchlist files that list nothing although they did are an error, too. With ``fall_back``, the last good
    watchlist stands in for watchlist files with errors.
    """
    return _Loading(path, environ, flags).run(known_families, shard, last_good, fall_back=fall_back)


def current_fingerprint(config: Config) -> str:
    """Return the fingerprint of the configuration's files as they are now; after a change it isn't ``fingerprint``.

    A file that can no longer be read is a change, and so is a new file that matches a pattern. Password files don't
    count.
    """
    reader = FileReader()
    for path, version in config.files.items():
        reader.read_if_possible(path, limit=version.limit_bytes)
    listed, _warnings = expand(config.path.parent, (("", name) for name in config.settings.watchlist.files))
    for _place, path in listed:
        if path not in config.files:
            reader.read_if_possible(path)
    return reader.fingerprint()


class _Loading:
    """One run of the loader, which collects errors and continues after each."""

    def __init__(self, path: Path, environ: Mapping[str, str], flags: Mapping[str, Any]) -> None:
        self._path = path
        self._file = shown_path(path)
        self._environ = environ
        self._tree = settings_tree()
        self._reader = FileReader()
        self._hash = hashlib.sha256()
        self._warnings: list[ConfigWarning] = []
        self._misnamed: set[str] = set()
        self._refused: set[tuple[str, ...]] = set()
        document = self._read_document()
        self._entries = {name: document.pop(name) for name in ENTRIES if name in document}
        file = FileSource(self._tree, document, self._file, path.parent)
        environment = EnvironmentSource(self._tree, environ, file.account_names())
        self._sources = Sources(FlagSource(self._tree, flags), environment, file)
        self._errors = list(self._sources.errors)
        patterns = self._sources.given(*_FILES)
        self._patterns: dict[int, Any] = dict(enumerate(patterns if isinstance(patterns, list | tuple) else ()))

    def run(
        self,
        known_families: Collection[str],
        running_shard: Shard | None,
        last_good: LastGoodReader | None,
        *,
        fall_back: bool,
    ) -> Config:
        """Check everything; return the Config, or raise ConfigError."""
        settings = self._settings()
        place = self._sources.place(("metrics", "factor_families"))
        self._errors.extend(family_errors(settings.metrics.factor_families, known_families, place))
        accounts = AccountChecks(self._sources, self._reader, self._refused)
        for name, account in settings.accounts.items():
            accounts.check(name, account)
        self._errors.extend(accounts.errors)
        key = self._identity_key(settings)
        web = self._web_config(settings.web)
        configured_shard = self._shard(settings.sharding.shard)
        shard = running_shard or configured_shard
        watchlist, files, fallback = self._watchlist(settings, last_good, fall_back=fall_back)
        self._check_watchlist(watchlist)
        self._check_state_file(settings)
        if self._errors:
            raise ConfigError(self._errors)
        return Config(
            path=self._path,
            settings=settings,
            shard=shard,
            factors=tuple(
                of for of in watchlist.factors if shard.holds(of.key.account, of.key.service_sid, of.identity)
            ),
            entities=tuple(of for of in watchlist.entities if shard.holds(*of.key)),
            services=tuple(watchlist.services),
            listed=MappingProxyType(watchlist.entries_by_account()),
            total_factors=len(watchlist.factors),
            passwords=MappingProxyType(accounts.passwords),
            identity_key=key,
            warnings=tuple(self._warnings),
            files=self._reader.versions,
            fingerprint=self._reader.fingerprint(),
            sha256=self._hash.hexdigest(),
            web=web,
            fallback=fallback,
            whole=WholeWatchlist(files),
        )

    def _watchlist(
        self, settings: Settings, last_good: LastGoodReader | None, *, fall_back: bool
    ) -> tuple[Watchlist, Sequence[ListedFile], Fallback | None]:
        """Return the watchlist, what the watchlist files list, and whether the last good one stands in for them."""
        watchlist = self._own_watchlist(settings)
        own_errors = len(watchlist.errors)
        own_hash = self._hash.copy()
        files = self._add_files(watchlist)
        usable = not self._errors and not own_errors and not watchlist.without_account
        if not usable or last_good is None or settings.state.file is None:
            return watchlist, files, None
        read = functools.partial(last_good, settings.state.file)
        stored, errors = self._compare(settings, watchlist, files, read)
        if stored is None or not errors:
            return watchlist, files, None
        substitute = self._own_watchlist(settings)
        fallback = stand_in(stored, _account_sids(settings), self._pattern_places(), substitute, errors)
        if fallback is None:
            if watchlist.errors:
                problem = "lists nothing for the configured accounts and watchlist files, so it isn't used"
                watchlist.errors.append(ErrorDetail(shown_path(stored.path), problem))
            return watchlist, files, None
        if not fall_back:
            watchlist.errors[:] = errors
            return watchlist, files, None
        self._hash = own_hash
        self._hash.update(b"last good %s\n" % stored.digest.encode())
        return substitute, files, fallback

    def _own_watchlist(self, settings: Settings) -> Watchlist:
        """Return what the configuration file itself lists."""
        watchlist = Watchlist(self._account_names(), settings.polling.interval)
        watchlist.add_document(self._file, self._entries)
        return watchlist

    def _compare(
        self,
        settings: Settings,
        watchlist: Watchlist,
        files: Sequence[ListedFile],
        last_good: Callable[[], LastGood | None],
    ) -> tuple[LastGood | None, list[ErrorDetail]]:
        """Return the last good watchlist, and what is wrong with the files or missing from them.

        It's read only if something may be: it may have 100,000 entries.
        """
        patterns = self._pattern_places()
        listing = {file.pattern for file in files if file.lists}
        suspect = patterns.keys() - listing or not all(file.lists for file in files)
        if not watchlist.errors and (settings.watchlist.allow_empty or not suspect):
            return None, []
        try:
            stored = last_good()
        except ConfigError as error:
            if watchlist.errors:
                watchlist.errors.extend(error.errors)
            else:
                self._warnings.extend(ConfigWarning(of.place, of.problem) for of in error.errors)
            return None, []
        if stored is None or watchlist.errors:
            return stored, list(watchlist.errors)
        return stored, list(emptied(stored, _account_sids(settings), patterns, files, watchlist))

    def _read(self, path: Path) -> bytes:
        """Return the content of the configuration file or a watchlist file, which ``sha256`` covers."""
        content = self._reader.read(path, comments=True)
        self._hash.update(b"%d\n" % len(content))
        self._hash.update(content)
        return content

    def _read_document(self) -> dict[str, Any]:
        try:
            return parse_toml(decode(self._read(self._path)))
        except UnreadableError as error:
            raise ConfigError([error.detail(self._file)]) from None

    def _web_config(self, settings: WebSettings) -> WebConfig:
        place = self._sources.place(_WEB_FILE)
        if settings.config_file is None:
            return WebConfig()
        try:
            found = read_web_config(settings.config_file, self._reader)
        except UnreadableError as error:
            self._errors.append(file_error(place, settings.config_file, error))
            return WebConfig()
        if not isinstance(found, WebConfig):
            self._errors.extend(found)
            return WebConfig()
        self._hash.update(b"web %s\n" % self._reader.versions[settings.config_file].sha256.encode())
        self._warnings.extend(found.warnings)
        if found.requires_client_certificate and settings.health_listen_address is None:
            text = "health probes present no client certificate; serve them on web.health_listen_address"
            self._warnings.append(ConfigWarning(place, text))
        return found

    def _shard(self, text: str) -> Shard:
        try:
            return shard_of(text, self._environ, socket.gethostname())
        except ShardError as error:
            place = self._sources.place(("sharding", "shard"))
            self._errors.append(ErrorDetail(place, f"{quote(text)} {error}", error.hint))
            return Shard()

    def _identity_key(self, settings: Settings) -> bytes | None:
        match identity_key(settings.metrics, self._sources, self._reader, self._refused):
            case ErrorDetail() as error:
                self._errors.append(error)
            case ConfigWarning() as warning:
                self._warnings.append(warning)
            case bytes() as key:
                return key
        return None

    def _account_names(self) -> tuple[str, ...]:
        return tuple(name for name in self._sources.account_names() if name not in self._misnamed)

    def _settings(self) -> Settings:
        """Return the settings; where there are errors, with defaults in place of the values refused."""
        first = True
        while True:
            try:
                return self._sources.settings()
            except ValidationError as error:
                for problem in problems(error):
                    self._refused.add(problem.path)
                    if first:
                        self._errors.append(self._error(problem))
                    if problem.cause is None:
                        stand_in_value = _STAND_INS[problem.path[-1]]
                        self._sources.file.put(problem.path, stand_in_value, self._sources.place(problem.path[:2]))
                    else:
                        self._sources.drop(problem.path)
            first = False

    def _error(self, problem: Problem) -> ErrorDetail:
        path = problem.path
        if problem.cause is not None:
            place = self._sources.place(path)
            if problem.position is not None:
                place = f"{place}[{problem.position}]"
                if path == _FILES:
                    del self._patterns[problem.position]
            return ErrorDetail(place, explain(problem.cause, path))
        _, account, *names = path  # the required keys are an account's
        name = ".".join(names)
        file = self._sources.file
        if ("accounts", account) in file.places:
            key = next(key for key in self._tree.leaves() if key.path == ("accounts", NAMED, *names))
            return missing(f"{file.places['accounts', account]}.{name}", key)
        self._misnamed.add(account)
        place = self._sources.place(path[:2])
        known = [other for other in file.account_names() if other != account]
        hint = did_you_mean(account, known) or f"set accounts.{account}.{name}"
        return ErrorDetail(place, f"the account {quote(account)} has no {name}", hint)

    def _pattern_places(self) -> dict[str, str]:
        """Return the places of the paths and patterns of the watchlist files."""
        place = self._sources.place(_FILES)
        return {str(pattern): f"{place}[{index}]" for index, pattern in self._patterns.items()}

    def _add_files(self, watchlist: Watchlist) -> list[ListedFile]:
        """Read the watchlist files; return what each lists."""
        directory = self._path.parent
        places = self._pattern_places()
        patterns = {place: pattern for pattern, place in places.items()}
        paths, warnings = expand(directory, patterns.items())
        self._warnings.extend(warnings)
        files = []
        for named, path in paths:
            factors, entities = len(watchlist.factors), len(watchlist.entities)
            try:
                content = self._read(path)
            except UnreadableError as error:
                self._reader.note_unreadable(path)
                watchlist.errors.append(ErrorDetail(named, f"{shown_path(path)} {error.problem}", error.hint))
                continue
            try:
                watchlist.add_file(path, content)
            except UnreadableError as error:
                watchlist.errors.append(error.detail(shown_path(path)))
            name = str(path.relative_to(directory) if path.is_relative_to(directory) else path)
            listed = watchlist.factors[factors:], watchlist.entities[entities:]
            files.append(ListedFile(patterns[named], name, *listed))
        return files

    def _check_state_file(self, settings: Settings) -> None:
        """Refuse a state file that is read as something else: the first save would replace it."""
        file = settings.state.file
        passwords = (account.secret_file for account in settings.accounts.values())
        if file is not None and any(
            path is not None and os.path.realpath(path) == os.path.realpath(file)
            for path in (*self._reader.versions, *passwords)
        ):
            place = self._sources.place(("state", "file"))
            problem = f"{shown_path(file)} is also read as configuration, and would be overwritten"
            self._errors.append(ErrorDetail(place, problem, "name a file that nothing else uses"))

    def _check_watchlist(self, watchlist: Watchlist) -> None:
        self._errors.extend(watchlist.errors)
        if watchlist.without_account:
            count = watchlist.without_account
            needing = "1 watchlist entry needs one" if count == 1 else f"{count} watchlist entries need one"
            problem = f"no account is configured, and {needing}"
            self._errors.append(ErrorDetail(self._file, problem, "add a table [accounts.main]"))
        self._warnings.extend(watchlist.warnings())
        if not watchlist.entries_by_account():
            text = "the watchlist is empty, so nothing is fetched; list factors under [[factors]]"
            self._warnings.append(ConfigWarning(self._file, text))


def _account_sids(settings: Settings) -> dict[str, str]:
    return {name: account.account_sid for name, account in settings.accounts.items()}
