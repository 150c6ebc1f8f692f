"""The last good watchlist: the entries of the watchlist files and URLs as they were when last applied.

Lines of JSON in ``watchlist.last-good`` beside the state file: a header with the SHA-256 of the lines after it, the
Account SIDs, and for every watchlist file and URL source a line that names it (never the URL), followed by its
entries with the keys of a watchlist file in TOML. Unlike the state file, it holds names, labels
and identities; no secrets.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from exporter.config.errors import ConfigError
from exporter.config.files import UnreadableError, read_bytes, shown_path
from exporter.config.last_good import LastGood, StoredFile
from exporter.config.values import format_duration
from exporter.logs.output import fields
from exporter.state.file import LARGEST_BYTES, StateFileError, keep_refused, remove_abandoned, replace_file
from exporter.threads import in_daemon_thread

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from exporter.config import Config
    from exporter.config.last_good import ListedFile
    from exporter.polling.clock import Clock
    from exporter.watched import WatchedEntity, WatchedFactor

log = logging.getLogger(__name__)

NAME = "watchlist.last-good"
FORMAT = "verify-factor-exporter watchlist"
VERSION = 1
RETRY_SECONDS = 60.0
_CHUNK_LINES = 1000
_ENCODER = json.JSONEncoder(separators=(",", ":"))  # json.dumps would make one per line
_REPLACED = "the next good watchlist replaces it"


class Listed(NamedTuple):
    """A watchlist to save: the Account SIDs by name, the default interval, and what each file and URL lists."""

    accounts: Mapping[str, str]
    interval_seconds: float
    files: Sequence[ListedFile]


def beside(state_file: Path) -> Path:
    """Return the path of the last good watchlist that belongs to a state file."""
    return state_file.with_name(NAME)


# The format


def read(state_file: Path) -> LastGood | None:
    """Return the last good watchlist beside a state file, ``None`` without one; raises ConfigError."""
    path = beside(state_file)
    if not os.path.lexists(path):
        return None
    try:
        return _parsed(path, read_bytes(path, limit=LARGEST_BYTES))
    except UnreadableError as error:
        raise ConfigError([error.detail(shown_path(path))]) from None


def _parsed(path: Path, content: bytes) -> LastGood:
    first, _, body = content.partition(b"\n")
    header = _object(first)
    if header.get("format") != FORMAT:
        raise UnreadableError("is not a watchlist that this exporter saved", _REPLACED)
    if header.get("version") != VERSION:
        raise UnreadableError("was written by another version", _REPLACED)
    saved, digest = header.get("saved"), hashlib.sha256(body).hexdigest()
    if header.get("sha256") != digest or not isinstance(saved, int | float) or not math.isfinite(saved):
        raise UnreadableError("is truncated or modified", _REPLACED)
    accounts: dict[str, str] = {}
    files: list[StoredFile] = []
    entries: list[tuple[str, Mapping[str, Any]]] = []
    for line in body.splitlines():
        match _object(line):
            case {"accounts": dict(found)}:
                accounts = found
            case {"source": str(source), "pattern": str(pattern), "file": str(name)}:
                entries = []
                files.append(StoredFile(source, pattern, name, entries))
            case {"factor": dict(table)}:
                entries.append(("factors", table))
            case {"entity": dict(table)}:
                entries.append(("entities", table))
    return LastGood(path, float(saved), digest, accounts, files)


def _object(line: bytes) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def write(path: Path, saved_seconds: float, listed: Listed, *, present: str = "") -> int:
    """Write the file atomically; return its size in bytes. Raises StateFileError.

    ``present`` is the digest of the lines that are in it already: with the same ones, it isn't written, which is 0.
    """
    digest = hashlib.sha256()
    for chunk in _chunks(listed):
        digest.update(chunk)
    sha256 = digest.hexdigest()
    if present == sha256:
        return 0
    header = {"format": FORMAT, "version": VERSION, "saved": round(saved_seconds, 3), "sha256": sha256}
    return replace_file(path, _headed(header, _chunks(listed)))


def _body_sha256(path: Path) -> str:
    """Return the digest of a whole file of this format, or an empty string."""
    try:
        content = read_bytes(path, limit=LARGEST_BYTES)
    except UnreadableError:
        return ""
    first, _, body = content.partition(b"\n")
    header, sha256 = _object(first), hashlib.sha256(body).hexdigest()
    whole = {"format": FORMAT, "version": VERSION, "sha256": sha256}.items() <= header.items()
    return sha256 if whole else ""


def _headed(header: Mapping[str, object], chunks: Iterable[bytes]) -> Iterator[bytes]:
    yield _line(header)
    yield from chunks


def _chunks(listed: Listed) -> Iterator[bytes]:
    lines: list[bytes] = []
    for line in _lines(listed):
        lines.append(line)
        if len(lines) == _CHUNK_LINES:
            yield b"".join(lines)
            lines = []
    yield b"".join(lines)


def _lines(listed: Listed) -> Iterator[bytes]:
    yield _line({"accounts": dict(sorted(listed.accounts.items()))})
    for file in listed.files:
        yield _line({"source": file.source, "pattern": file.pattern, "file": file.name})
        for factor in file.factors:
            yield _line({"factor": _factor(factor, listed.interval_seconds)})
        for entity in file.entities:
            yield _line({"entity": _entity(entity)})


def _factor(watched: WatchedFactor, interval_seconds: float) -> dict[str, object]:
    """Return a table; an interval that is the default is left out, to follow the default."""
    table: dict[str, object] = {**watched.key._asdict(), "identity": watched.identity}
    if watched.name != watched.key.factor_sid:
        table["name"] = watched.name
    if watched.interval_seconds != interval_seconds:
        table["interval"] = format_duration(watched.interval_seconds)
    if watched.paused:
        table["paused"] = True
    if watched.labels:
        table["labels"] = dict(watched.labels)
    return table


def _entity(watched: WatchedEntity) -> dict[str, object]:
    table: dict[str, object] = {**watched.key._asdict(), "name": watched.name}
    if watched.labels:
        table["labels"] = dict(watched.labels)
    return table


def _line(value: object) -> bytes:
    return _ENCODER.encode(value).encode() + b"\n"


# Saving


class WatchlistKeeper:
    """Saves the watchlist of every configuration that is applied, beside the state file, if there is one.

    What can't be saved is logged once, and tried again every minute. A file that isn't a whole last good watchlist
    is kept as ``watchlist.last-good.refused-TIME``.
    """

    def __init__(self, state_file: Path | None, clock: Clock) -> None:
        self._path = None if state_file is None else beside(state_file)
        self._clock = clock
        self._unsaved: Listed | None = None
        self._tried = clock.steady()
        self._problem = ""
        self._writing = threading.Lock()

    def applied(self, config: Config) -> None:
        """Take the watchlist of a configuration that is applied, to save it; a fallback alone is none to save."""
        files = config.whole.take()
        if self._path is None or files is None:
            return
        settings = config.settings
        accounts = {name: account.account_sid for name, account in settings.accounts.items()}
        self._unsaved = Listed(accounts, settings.polling.interval, files)

    @property
    def due(self) -> bool:
        """Whether to try again, as the watchlist couldn't be saved a minute ago."""
        return self._unsaved is not None and self._clock.steady() - self._tried >= RETRY_SECONDS

    async def save(self) -> None:
        """Save the watchlist that was applied last, if it isn't saved; a failure has no other effect."""
        path, listed = self._path, self._unsaved
        if path is None or listed is None:
            return
        self._tried = self._clock.steady()
        saved_seconds, started = self._clock.wall(), time.perf_counter()
        try:
            size = await in_daemon_thread(lambda: self._write(path, saved_seconds, listed), name="watchlist-writer")
        except StateFileError as error:
            if str(error) != self._problem:
                self._problem = str(error)
                log.error("last good watchlist not saved", extra=fields(problem=self._problem))
            return
        if self._unsaved is listed:
            self._unsaved = None
        self._problem = ""
        if size:
            seconds = round(time.perf_counter() - started, 3)
            log.info("last good watchlist saved", extra=fields(file=path, bytes=size, seconds=seconds))

    def _write(self, path: Path, saved_seconds: float, listed: Listed) -> int:
        """Write the file, in a thread; an older watchlist never replaces a newer one."""
        with self._writing:
            if listed is not self._unsaved:
                return 0
            remove_abandoned(path)
            present = _body_sha256(path)
            if not present:
                self._keep_refused(path, saved_seconds)
                if not listed.files:
                    return 0
            return write(path, saved_seconds, listed, present=present)

    def _keep_refused(self, path: Path, now_wall: float) -> None:
        if not os.path.lexists(path):
            return
        refused = keep_refused(path, now_wall)
        if refused is None:
            raise StateFileError(path, "is not a regular file", "move it away")
        log.warning("unusable last good watchlist kept", extra=fields(file=refused))
