"""Loading a configuration: file, environment variables and flags in; a valid Config, or every error, out."""

from __future__ import annotations

import functools
import hashlib
import os
import socket
import zlib
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from exporter.config.assembly import Inputs, assemble
from exporter.config.checks import (
    AccountChecks,
    family_errors,
    file_error,
    identity_key,
    proxy_warnings,
    readable_warnings,
)
from exporter.config.errors import ConfigError, ConfigWarning, ErrorDetail, did_you_mean, quote
from exporter.config.files import FileReader, FileVersion, UnreadableError, decode, expand, parse_toml, shown_path
from exporter.config.garbage import without_collection
from exporter.config.http_source import http_sources
from exporter.config.last_good import FILES, ListedFile, WholeWatchlist
from exporter.config.settings import ENTRIES, Settings
from exporter.config.sharding import Shard, ShardError, shard_of
from exporter.config.sources import EnvironmentSource, FileSource, FlagSource, Sources
from exporter.config.tree import HTTP, NAMED, settings_tree
from exporter.config.validation import Problem, explain, missing, problems
from exporter.config.watchlist import Watchlist, no_progress
from exporter.config.webconfig import WebConfig
from exporter.config.webconfig import read as read_web_config

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from exporter.config.assembly import Assembled
    from exporter.config.http_source import HttpSource, SourceAnswer, SourceFailure
    from exporter.config.last_good import Fallback, LastGoodReader
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
    ``total_factors`` counts the factors among them; ``with_entities`` are the accounts of entities among them.
    ``passwords`` are by account. ``files`` are all files read except password files, each with its version;
    ``fingerprint`` changes with any of them. ``sha256`` is a digest (hex) of the contents of the configuration
    file, the web config file and the watchlist files, and of the answers of URLs. ``web`` comes from the web config
    file. ``fallback`` tells if the last good watchlist stands in for a source; ``whole`` is what the sources list,
    to be saved as the next one.
    ``http`` are the URL sources; of those that have an answer, ``answers`` has it, and ``source_entries`` counts
    what it lists, in all shards. ``refused`` tells why others have none. :func:`with_answers` needs ``kept``.
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
    with_entities: frozenset[str]
    passwords: Mapping[str, PasswordSource]
    identity_key: bytes | None = field(repr=False)
    warnings: tuple[ConfigWarning, ...]
    files: Mapping[Path, FileVersion]
    fingerprint: str
    sha256: str
    web: WebConfig
    fallback: Fallback | None = None
    whole: WholeWatchlist = field(default_factory=WholeWatchlist, repr=False, compare=False)
    http: tuple[HttpSource, ...] = ()
    answers: Mapping[str, SourceAnswer] = field(default_factory=dict, repr=False)
    source_entries: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, tuple[ErrorDetail, ...]] = field(default_factory=dict)
    kept: Kept | None = field(default=None, repr=False, compare=False)

    @property
    def unloaded(self) -> tuple[str, ...]:
        """The names of the URL sources of which nothing is known, not even from the last good watchlist."""
        return tuple(source.name for source in self.http if source.name not in self.answers)


def load(
    path: Path,
    *,
    environ: Mapping[str, str],
    flags: Mapping[str, Any],
    known_families: Collection[str] = (),
    shard: Shard | None = None,
    last_good: LastGoodReader | None = None,
    fall_back: bool = False,
    answers: Mapping[str, SourceAnswer] = MappingProxyType({}),
    progress: Callable[[int], object] = no_progress,
) -> Config:
    """Load a configuration; raises ConfigError with every error at once.

    ``flags`` are values by dotted key; ``known_families`` are the short names that ``metrics.factor_families`` may
    choose from (empty: not checked). A given ``shard`` is used instead of the configured one. With ``last_good``,
    watchlist files that list nothing although they did are an error, too. With ``fall_back``, the last good
    watchlist stands in for watchlist files with errors. ``answers`` are those of the URL sources, by name; one
    without an answer adds nothing, and one that was renamed keeps the answer of its URL. ``progress`` gets the
    number of entries read since it was called last.
    """
    with without_collection():
        loading = _Loading(path, environ, flags, progress)
        return loading.run(known_families, shard, last_good, answers, fall_back=fall_back)


def with_answers(
    config: Config,
    answers: Mapping[str, SourceAnswer | SourceFailure],
    *,
    last_good: LastGoodReader | None = None,
    start: bool = False,
) -> Config:
    """Return a configuration with other answers of its URL sources, and everything else as it is.

    No file is read again, so that a file that is bad by now changes nothing. Raises ConfigError if an answer can't
    be used. At a ``start``, its last good entries are used instead, or nothing of this source if there are none.
    """
    kept = config.kept
    if kept is None:
        return config
    with without_collection():
        return _with_answers(config, kept, answers, last_good, start=start)


def _with_answers(
    config: Config,
    kept: Kept,
    answers: Mapping[str, SourceAnswer | SourceFailure],
    last_good: LastGoodReader | None,
    *,
    start: bool,
) -> Config:
    replaceable = {source.name for source in config.http} if start else set()
    if start or (config.fallback is not None and FILES in config.fallback.sources):
        replaceable.add(FILES)
    else:
        last_good = None  # what the files list was compared with it when they were applied
    inputs = kept.inputs(config, last_good)
    assembled = assemble(inputs, {**config.answers, **answers}, replaceable)
    warnings: list[ConfigWarning] = [*kept.warnings, *assembled.warnings]
    if errors := [*assembled.watchlist.errors, *_watchlist_problems(kept.file, assembled.watchlist, warnings)]:
        raise ConfigError(errors)
    changed = replace(config, warnings=tuple(warnings), **_listed(assembled, config.shard))
    assembled.watchlist.release()
    return changed


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


class _WatchlistFiles:
    """The watchlist files that paths and patterns name; ``read`` returns the content of one."""

    def __init__(
        self,
        directory: Path,
        patterns: Mapping[str, str],
        paths: Sequence[tuple[str, Path]],
        read: Callable[[Path], bytes],
    ) -> None:
        self._directory = directory
        self._named = {place: pattern for pattern, place in patterns.items()}
        self._paths = paths
        self._read = read

    def add(self, watchlist: Watchlist, digest: hashlib._Hash) -> list[ListedFile]:
        """Add the files to a watchlist and their contents to a digest; return what each lists."""
        files = []
        for named, path in self._paths:
            factors, entities = len(watchlist.factors), len(watchlist.entities)
            try:
                content = self._read(path)
            except UnreadableError as error:
                watchlist.errors.append(ErrorDetail(named, f"{shown_path(path)} {error.problem}", error.hint))
                continue
            _add_content(digest, content)
            try:
                watchlist.add_file(path, content)
            except UnreadableError as error:
                watchlist.errors.append(error.detail(shown_path(path)))
            inside = path.is_relative_to(self._directory)
            name = str(path.relative_to(self._directory) if inside else path)
            listed = watchlist.factors[factors:], watchlist.entities[entities:]
            files.append(ListedFile(self._named[named], name, *listed))
        return files


@dataclass(frozen=True, slots=True)
class Kept:
    """The files of a configuration as they were read, compressed: what it takes to change an answer alone.

    An unreadable file is an error in ``contents``. ``digest`` has what the digest begins with, and ``warnings`` are
    those that don't come from entries.
    """

    file: str
    accounts: tuple[str, ...]
    patterns: Mapping[str, str]
    paths: Sequence[tuple[str, Path]]
    contents: Mapping[Path, bytes | UnreadableError] = field(repr=False)
    digest: hashlib._Hash
    warnings: tuple[ConfigWarning, ...]

    def inputs(self, config: Config, last_good: LastGoodReader | None) -> Inputs:
        """Return what the watchlist of this configuration is put together from."""
        document = parse_toml(decode(self._read(config.path)))
        entries = {name: document[name] for name in ENTRIES if name in document}
        files = _WatchlistFiles(config.path.parent, self.patterns, self.paths, self._read)
        watchlist = functools.partial(Watchlist, self.accounts, config.settings.polling.interval)
        own = _own_entries(watchlist, self.file, entries)
        return _inputs(config.settings, own, files, self.patterns, config.http, self.digest, last_good)

    def _read(self, path: Path) -> bytes:
        content = self.contents[path]
        if isinstance(content, UnreadableError):
            raise content
        return zlib.decompress(content)


def _own_entries(empty: Callable[[], Watchlist], file: str, entries: Mapping[str, Any]) -> Callable[[], Watchlist]:
    """Return what makes a watchlist with the entries of the configuration file."""

    def own() -> Watchlist:
        watchlist = empty()
        watchlist.add_document(file, entries)
        return watchlist

    return own


def _inputs(
    settings: Settings,
    own: Callable[[], Watchlist],
    files: _WatchlistFiles,
    patterns: Mapping[str, str],
    http: Sequence[HttpSource],
    digest: hashlib._Hash,
    last_good: LastGoodReader | None,
) -> Inputs:
    """Return what a watchlist is put together from."""
    state_file = settings.state.file
    read = None if last_good is None or state_file is None else functools.partial(last_good, state_file)
    return Inputs(settings, own, files.add, patterns, http, digest, read)


def _add_content(digest: hashlib._Hash, content: bytes) -> None:
    digest.update(b"%d\n" % len(content))
    digest.update(content)


def _listed(assembled: Assembled, shard: Shard) -> dict[str, Any]:
    """Return the fields of a Config that depend on its watchlist."""
    watchlist = assembled.watchlist
    return {
        "factors": tuple(
            of for of in watchlist.factors if shard.holds(of.key.account, of.key.service_sid, of.identity)
        ),
        "entities": tuple(of for of in watchlist.entities if shard.holds(*of.key)),
        "services": tuple(watchlist.services),
        "listed": MappingProxyType(watchlist.entries_by_account()),
        "total_factors": len(watchlist.factors),
        "with_entities": frozenset(of.key.account for of in watchlist.entities),
        "sha256": assembled.digest.hexdigest(),
        "fallback": assembled.fallback,
        "whole": WholeWatchlist(assembled.files),
        "answers": MappingProxyType(assembled.answers),
        "source_entries": MappingProxyType(assembled.entries),
        "refused": MappingProxyType(assembled.refused),
    }


def _watchlist_problems(
    file: str, watchlist: Watchlist, warnings: list[ConfigWarning], *, complete: bool = True
) -> Iterator[ErrorDetail]:
    """Yield what is wrong with a whole watchlist, and add its warnings; ``complete`` if every source answered."""
    if watchlist.without_account:
        count = watchlist.without_account
        needing = "1 watchlist entry needs one" if count == 1 else f"{count} watchlist entries need one"
        yield ErrorDetail(file, f"no account is configured, and {needing}", "add a table [accounts.main]")
    warnings.extend(watchlist.warnings())
    if complete and not watchlist.entries_by_account():
        text = "the watchlist is empty, so nothing is fetched; list factors under [[factors]]"
        warnings.append(ConfigWarning(file, text))


class _Loading:
    """One run of the loader, which collects errors and continues after each."""

    def __init__(
        self,
        path: Path,
        environ: Mapping[str, str],
        flags: Mapping[str, Any],
        progress: Callable[[int], object],
    ) -> None:
        self._path = path
        self._progress = progress
        self._file = shown_path(path)
        self._environ = environ
        self._tree = settings_tree()
        self._reader = FileReader()
        self._hash = hashlib.sha256()
        self._contents: dict[Path, bytes | UnreadableError] = {}
        self._http: tuple[HttpSource, ...] = ()
        self._warnings: list[ConfigWarning] = []
        self._misnamed: set[str] = set()
        self._refused: set[tuple[str, ...]] = set()
        document = self._read_document()
        self._entries = {name: document.pop(name) for name in ENTRIES if name in document}
        http = _taken(document, *HTTP)
        file = FileSource(self._tree, document, self._file, path.parent)
        environment = EnvironmentSource(self._tree, environ, file.account_names())
        self._sources = Sources(FlagSource(self._tree, flags), environment, file)
        self._errors = list(self._sources.errors)
        self._warnings.extend(self._sources.warnings)
        self._http = http_sources(self._file, path.parent, http, self._reader, self._errors, self._warnings)
        patterns = self._sources.given(*_FILES)
        self._patterns: dict[int, Any] = dict(enumerate(patterns if isinstance(patterns, list | tuple) else ()))

    def run(
        self,
        known_families: Collection[str],
        running_shard: Shard | None,
        last_good: LastGoodReader | None,
        answers: Mapping[str, SourceAnswer],
        *,
        fall_back: bool,
    ) -> Config:
        """Check everything; return the Config, or raise ConfigError."""
        settings = self._settings()
        self._warnings.extend(self._sources.odd_values(self._refused))
        place = self._sources.place(("metrics", "factor_families"))
        self._errors.extend(family_errors(settings.metrics.factor_families, known_families, place))
        accounts = AccountChecks(self._sources, self._reader, self._refused, self._path)
        for name, account in settings.accounts.items():
            accounts.check(name, account)
        self._errors.extend(accounts.errors)
        self._warnings.extend(accounts.warnings)
        self._warnings.extend(proxy_warnings(settings.accounts, self._environ))
        key = self._identity_key(settings)
        web = self._web_config(settings.web)
        configured_shard = self._shard(settings.sharding.shard)
        shard = running_shard or configured_shard
        kept = self._kept()
        if self._errors or not fall_back:
            replaceable: tuple[str, ...] = ()
        else:
            replaceable = (FILES,)
        if self._http and not settings.accounts:
            hint = "add a table [accounts.main]"
            self._errors.append(
                ErrorDetail(self._file, "no account is configured, and watchlist.http needs one", hint)
            )
        assembled = self._assembled(settings, kept, None if self._errors else last_good, answers, replaceable)
        watchlist = assembled.watchlist
        self._errors.extend(watchlist.errors)
        self._warnings.extend(assembled.warnings)
        complete = assembled.answers.keys() == {source.name for source in self._http}
        self._errors.extend(_watchlist_problems(self._file, watchlist, self._warnings, complete=complete))
        self._check_state_file(settings)
        if self._errors:
            raise ConfigError(self._errors, self._sources.warnings)
        config = Config(
            path=self._path,
            settings=settings,
            shard=shard,
            passwords=MappingProxyType(accounts.passwords),
            identity_key=key,
            warnings=tuple(self._warnings),
            files=self._reader.versions,
            fingerprint=self._reader.fingerprint(),
            web=web,
            http=self._http,
            kept=kept if self._http else None,
            **_listed(assembled, shard),
        )
        watchlist.release()
        return config

    def _kept(self) -> Kept:
        """Return what there is to keep; ``contents`` grows as the watchlist files are read."""
        patterns = self._pattern_places()
        paths, unmatched = expand(self._path.parent, ((place, pattern) for pattern, place in patterns.items()))
        self._warnings.extend(unmatched)
        names = self._account_names()
        warnings = tuple(self._warnings)
        return Kept(self._file, names, patterns, paths, self._contents, self._hash.copy(), warnings)

    def _assembled(
        self,
        settings: Settings,
        kept: Kept,
        last_good: LastGoodReader | None,
        answers: Mapping[str, SourceAnswer],
        replaceable: Collection[str],
    ) -> Assembled:
        """Return the watchlist; a URL source without an answer of its own has the one of its URL."""
        given = dict(answers)
        configured = {source.name for source in self._http}
        for source in self._http:
            renamed = (of for name, of in answers.items() if name not in configured and of.url == source.url)
            if source.name not in given and (answer := next(renamed, None)) is not None:
                given[source.name] = answer
        files = _WatchlistFiles(self._path.parent, kept.patterns, kept.paths, self._read)
        watchlist = functools.partial(Watchlist, kept.accounts, settings.polling.interval, self._progress)
        own = _own_entries(watchlist, kept.file, self._entries)
        inputs = _inputs(settings, own, files, kept.patterns, self._http, kept.digest, last_good)
        return assemble(inputs, given, replaceable)

    def _read(self, path: Path) -> bytes:
        """Return the content of the configuration file or a watchlist file; keep it if there are URL sources."""
        try:
            content = self._reader.read(path, comments=True)
        except UnreadableError as error:
            self._reader.note_unreadable(path)
            self._contents[path] = error
            raise
        if self._http or path == self._path:
            self._contents[path] = zlib.compress(content, 1)
        return content

    def _read_document(self) -> dict[str, Any]:
        try:
            content = self._read(self._path)
            _add_content(self._hash, content)
            return parse_toml(decode(content))
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
                path = settings.metrics.identity_key_file
                if path is not None:
                    place = self._sources.place(("metrics", "identity_key_file"))
                    self._warnings.extend(readable_warnings(place, path))
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
            odd = None if problem.of_key else self._sources.oddity(path, problem.position)
            if odd is not None:
                return ErrorDetail(place, odd.problem, odd.hint)
            return ErrorDetail(place, explain(problem.cause, path), of_key=problem.of_key)
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

    def _check_state_file(self, settings: Settings) -> None:
        """Refuse a state file that is read as something else: the first save would replace it."""
        file = settings.state.file
        secrets = [account.secret_file for account in settings.accounts.values()]
        secrets += [source.secret.path for source in self._http if source.secret is not None]
        if file is not None and any(
            path is not None and os.path.realpath(path) == os.path.realpath(file)
            for path in (*self._reader.versions, *secrets)
        ):
            place = self._sources.place(("state", "file"))
            problem = f"{shown_path(file)} is also read as configuration, and would be overwritten"
            self._errors.append(ErrorDetail(place, problem, "name a file that nothing else uses"))


def _taken(document: dict[str, Any], table: str, name: str) -> object:
    """Remove a key of a table from a document and return its value; an empty list where there is none."""
    within = document.get(table)
    return within.pop(name) if isinstance(within, dict) and name in within else []
