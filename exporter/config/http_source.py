"""Watchlists behind URLs: what is configured of a source, and what it answered.

This package sends no requests: an answer comes from outside, as :class:`SourceAnswer`.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from exporter.config.checks import check_authorities, file_error, secret_warnings
from exporter.config.errors import ConfigWarning, ErrorDetail, quote
from exporter.config.files import UnreadableError
from exporter.config.last_good import FILES
from exporter.config.secrets import PasswordSource
from exporter.config.settings import ENTRIES, WATCHLIST_ARRAYS, HttpSourceEntry
from exporter.config.tree import LISTED, table_of
from exporter.config.validation import entry_errors
from exporter.config.values import kind_of
from exporter.config.watchlist import TablePlace, shown_name, source_place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from exporter.config.files import FileReader
    from exporter.config.watchlist import Watchlist

LARGEST_ANSWER_BYTES = 64 << 20
"""The longest answer, decompressed."""

_ARRAY = "watchlist.http"
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class HttpSource:
    """A URL that answers with a watchlist; ``repr`` shows neither its URL nor its secret.

    ``secret`` is a bearer token, or with a ``username`` its password. ``authorities`` are certificates in PEM
    format to trust instead of the default ones, empty for those.
    """

    name: str
    url: str = field(repr=False)
    refresh_interval_seconds: float
    timeout_seconds: float
    username: str = field(default="", repr=False)
    secret: PasswordSource | None = field(default=None, compare=False)
    authorities: str = field(default="", repr=False)
    entry: HttpSourceEntry | None = field(default=None, repr=False)

    @property
    def place(self) -> str:
        """How messages name it."""
        return source_place(self.name)


class Saved(NamedTuple):
    """Where the last good watchlist is, and when it was saved (wall seconds)."""

    path: Path
    seconds: float


@dataclass(frozen=True, slots=True)
class SourceAnswer:
    """What the source with this ``url`` answered: a JSON document, compressed, its digest (hex) and its ``ETag``.

    ``saved`` is set if this is not an answer, but the source's part of the last good watchlist.
    """

    url: str = field(repr=False)
    compressed: bytes = field(repr=False)
    sha256: str
    etag: str = field(default="", compare=False)
    saved: Saved | None = None

    @classmethod
    def of(cls, url: str, content: bytes, saved: Saved | None = None) -> SourceAnswer:
        """Return the answer with this content."""
        return cls(url, zlib.compress(content, 1), hashlib.sha256(content).hexdigest(), saved=saved)

    @property
    def content(self) -> bytes:
        """The document."""
        return zlib.decompress(self.compressed)


@dataclass(frozen=True, slots=True)
class SourceFailure:
    """Why a source gave no answer: the problem and a hint, without any of its content."""

    problem: str
    hint: str = ""


# The configuration of sources


def http_sources(
    file: str,
    directory: Path,
    content: object,
    reader: FileReader,
    errors: list[ErrorDetail],
    warnings: list[ConfigWarning],
) -> tuple[HttpSource, ...]:
    """Return the sources that the array ``watchlist.http`` of a configuration file lists.

    ``errors`` gets what is wrong with the others, and ``warnings`` what is unusual. ``file`` is the path that
    messages show; relative paths are relative to ``directory``.
    """
    if not isinstance(content, list):
        problem = f"is {kind_of(content)}, not an array of tables"
        errors.append(ErrorDetail(f"{file}: {_ARRAY}", problem, f"write [[{_ARRAY}]] with two brackets"))
        return ()
    table = table_of(HttpSourceEntry, ("watchlist", "http", LISTED))
    names: dict[str, TablePlace] = {}
    sources = []
    for index, given in enumerate(content):
        place = TablePlace(file, _ARRAY, index)
        if not isinstance(given, dict):
            errors.append(ErrorDetail(str(place), f"is {kind_of(given)}, not a table"))
            continue
        try:
            entry = HttpSourceEntry.model_validate(given)
        except ValueError as error:  # pydantic's ValidationError
            errors.extend(entry_errors(error, table, place.key, given))  # type: ignore[arg-type]  # the same
            continue
        if entry.name == FILES:
            errors.append(ErrorDetail(place.key("name"), f'"{FILES}" stands for watchlist.files', "rename it"))
        elif (first := names.setdefault(entry.name, place)) is not place:
            errors.append(ErrorDetail(place.key("name"), f"is also the name of {first}", "rename one of the two"))
        elif (source := _source(place, directory, entry, reader, errors, warnings)) is not None:
            sources.append(source)
    return tuple(sources)


def _source(
    place: TablePlace,
    directory: Path,
    entry: HttpSourceEntry,
    reader: FileReader,
    errors: list[ErrorDetail],
    warnings: list[ConfigWarning],
) -> HttpSource | None:
    """Return a source with its files read; None with an error more."""
    before = len(errors)
    for problem, hint in _conflicts(entry):
        errors.append(ErrorDetail(str(place), problem, hint))
    secret, authorities = None, b""
    name = "password_file" if entry.bearer_token_file is None else "bearer_token_file"
    if (path := entry.bearer_token_file or entry.password_file) is not None:
        path = directory / path
        try:
            secret = PasswordSource.from_file(path)
            warnings.extend(secret_warnings(place.key(name), secret))
        except UnreadableError as error:
            errors.append(file_error(place.key(name), path, error))
    if (path := entry.ca_file) is not None:
        path = directory / path
        try:
            authorities = reader.read(path)
            check_authorities(authorities)
        except UnreadableError as error:
            errors.append(file_error(place.key("ca_file"), path, error))
    if len(errors) > before:
        return None
    return HttpSource(
        name=entry.name,
        url=entry.url,
        refresh_interval_seconds=entry.refresh_interval,
        timeout_seconds=entry.timeout,
        username=entry.username,
        secret=secret,
        authorities=authorities.decode("ascii", "ignore"),
        entry=entry,
    )


def _conflicts(entry: HttpSourceEntry) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a source's credentials, and what to do about it."""
    if entry.bearer_token_file is not None and (entry.username or entry.password_file is not None):
        yield "has both bearer_token_file and username or password_file", "set only one kind of credentials"
    elif bool(entry.username) != (entry.password_file is not None):
        missing = "password_file" if entry.username else "username"
        yield f"has no {missing}", "set both username and password_file, or neither"
    if ":" in entry.username:
        yield "has a colon in its username", "basic authentication allows none (RFC 7617)"


# The answers of sources


class _Repeating(dict[str, Any]):
    """An object of a JSON document that gives a key twice."""

    def __init__(self, values: Mapping[str, Any], key: str) -> None:
        super().__init__(values)
        self.key = key


def add_answer(watchlist: Watchlist, name: str, content: bytes) -> None:
    """Add what a source answered to a watchlist, whose errors tell what is wrong; raises UnreadableError."""
    place = source_place(name)
    document, repeats = _parsed(content)
    if repeats:
        watchlist.errors.extend(_repeated(place, document))
        return
    for key in sorted(document.keys() - set(WATCHLIST_ARRAYS)):
        hint = "an answer contains only factors and entities"
        watchlist.errors.append(ErrorDetail(f"{place}: {quote(key)}", "is not allowed here", hint))
        del document[key]
    for array in WATCHLIST_ARRAYS:
        if array in document and not isinstance(document[array], list):
            problem = f"is {kind_of(document[array])}, not a list of objects"
            watchlist.errors.append(ErrorDetail(f"{place}: {array}", problem))
            return
    watchlist.add_document(place, document)


def tables_of(answer: SourceAnswer) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Yield the entries of a document that this module wrote: array, position and table."""
    document = json.loads(answer.content)
    for array in WATCHLIST_ARRAYS:
        for number, table in enumerate(document.get(array, ())):
            yield array, number, table


def document_of(entries: Sequence[tuple[str, Mapping[str, Any]]]) -> bytes:
    """Return a document with these (array, table) pairs."""
    arrays: dict[str, list[Mapping[str, Any]]] = {array: [] for array in WATCHLIST_ARRAYS}
    for array, table in entries:
        arrays[array].append(table)
    return json.dumps(arrays, separators=(",", ":")).encode()


def _parsed(content: bytes) -> tuple[dict[str, Any], bool]:
    """Return a document, and whether an object in it gives a key twice; raises UnreadableError.

    A key whose value is null counts as not given.
    """
    if content.startswith(_BOM):
        raise UnreadableError("begins with a byte-order mark", "JSON has none (RFC 8259 §8.1)")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnreadableError(f"is not UTF-8: byte {error.start + 1}", "encode it in UTF-8") from None
    start = text[:200].lstrip()
    if not start and not text.strip():
        raise UnreadableError("is empty", 'answer with {"factors": [], "entities": []} if nothing is to be watched')
    if start.startswith("<"):
        raise UnreadableError(
            "is HTML or XML, not JSON", "check the URL: a login page or a proxy may have answered"
        )
    repeats: list[str] = []
    try:
        document = json.loads(text, object_pairs_hook=_collecting(repeats), parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise UnreadableError(f"is not JSON: {error.msg}", where=where) from None
    except RecursionError:
        raise UnreadableError("is nested too deeply") from None
    except ValueError:  # NaN, Infinity, or a number of thousands of digits
        raise UnreadableError("contains a number that is not usable") from None
    if not isinstance(document, dict):
        raise UnreadableError(f"is {kind_of(document)}, not an object", 'answer with {"factors": [...]}')
    if not document and not repeats:
        hint = 'answer with {"factors": [], "entities": []} if nothing is to be watched'
        raise UnreadableError('has neither "factors" nor "entities"', hint)
    return document, bool(repeats)


def _collecting(repeats: list[str]) -> Callable[[list[tuple[str, Any]]], dict[str, Any]]:
    def collect(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) < len(pairs):
            seen: set[str] = set()
            key = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]  # None
            repeats.append(key)
            return _Repeating(table, key)
        return {name: value for name, value in pairs if value is not None} if None in table.values() else table

    return collect


def _no_constant(_text: str) -> None:
    raise ValueError


def _repeated(place: str, document: Mapping[str, Any]) -> Iterator[ErrorDetail]:
    """Yield an error for each object that gives a key twice; the key is shown only if it's one of ours."""
    hint = "give each key once"
    found = False
    for array in WATCHLIST_ARRAYS:
        entries = document.get(array)
        for number, table in enumerate(entries if isinstance(entries, list) else ()):
            at = TablePlace(place, array, number)
            if not isinstance(table, dict):
                continue
            if isinstance(table, _Repeating):
                known = table.key in ENTRIES[array].model_fields
                found, where = True, at.key(table.key) if known else str(at)
                yield ErrorDetail(
                    where, "is given twice" if known else "gives a key twice", hint, shown_name(at, table)
                )
            if isinstance(table.get("labels"), _Repeating):
                found = True
                yield ErrorDetail(at.key("labels"), "gives a label twice", hint, shown_name(at, table))
    if not found:
        known = isinstance(document, _Repeating) and document.key in WATCHLIST_ARRAYS
        what = (
            f'gives "{document.key}" twice' if known and isinstance(document, _Repeating) else "gives a key twice"
        )
        yield ErrorDetail(place, what, hint)
