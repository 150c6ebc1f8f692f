"""The last good watchlist: what a start runs on while the watchlist files can't be used.

All files of ``watchlist.files`` are one source. If one of them is bad, or lists nothing although its last good
version did, the last good entries of all of them are used: what the exporter would still run on if it hadn't been
restarted. Each URL is a source of its own, by its name. The entries of the configuration file are never replaced.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from exporter.config.errors import ErrorDetail, escape
from exporter.config.files import shown_path
from exporter.config.watchlist import TablePlace, Watchlist
from exporter.watched import EntityKey, FactorKey

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from exporter.watched import WatchedEntity, WatchedFactor

    LastGoodReader = Callable[[Path], "LastGood | None"]
    """Returns the last good watchlist beside a state file, None without one; raises ConfigError."""

FILES = "files"
"""The source of the entries of all watchlist files."""

ALLOW_EMPTY = "restore the entries, or set watchlist.allow_empty = true if this is intended"


class ListedFile(NamedTuple):
    """What a watchlist file or a URL lists, in all shards.

    The ``name`` of a file is relative to the configuration file if possible; a URL has no name and no ``pattern``.
    """

    pattern: str
    name: str
    factors: Sequence[WatchedFactor]
    entities: Sequence[WatchedEntity]
    source: str = FILES

    @property
    def lists(self) -> bool:
        """Whether the file lists anything."""
        return bool(self.factors or self.entities)


class StoredFile(NamedTuple):
    """What a file of a source listed: (array, table) pairs with the keys of a watchlist file in TOML."""

    source: str
    pattern: str
    name: str
    entries: Sequence[tuple[str, Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class LastGood:
    """A saved watchlist: when it was saved (wall seconds), the Account SIDs by name, and what each file listed.

    ``digest`` changes with everything but the time.
    """

    path: Path
    saved_seconds: float
    digest: str
    accounts: Mapping[str, str]
    files: Sequence[StoredFile] = field(repr=False)

    def usable(
        self, source: str, accounts: Mapping[str, str], patterns: Collection[str]
    ) -> Iterator[tuple[StoredFile, int]]:
        """Yield each entry of a source whose account and file are still configured: file and position in it."""
        for file in self.files:
            if file.source == source and (source != FILES or file.pattern in patterns):
                for number, (_array, table) in enumerate(file.entries):
                    name = table.get("account")
                    if isinstance(name, str) and name in accounts and accounts[name] == self.accounts.get(name):
                        yield file, number


@dataclass(frozen=True, slots=True)
class Fallback:
    """Why and how the last good watchlist stands in for ``sources``.

    ``errors`` are those of these sources. ``restored`` counts the entries that are used, ``dropped`` those whose
    account or file is no longer configured, and ``superseded`` those that the configuration file or another source
    lists itself, or that conflict with one of its entries.
    """

    sources: tuple[str, ...]
    path: Path
    saved_seconds: float
    errors: tuple[ErrorDetail, ...]
    restored: int
    dropped: int
    superseded: int


class WholeWatchlist:
    """What the sources list before sharding, until it is taken: in memory, it's needed only to be saved.

    ``None`` is nothing to save, because all of it comes from the last good watchlist.
    """

    def __init__(self, files: Sequence[ListedFile] | None = ()) -> None:
        self._files = files

    def take(self) -> Sequence[ListedFile] | None:
        """Return what each file and URL lists, once."""
        files, self._files = self._files, None
        return files


def emptied(
    last_good: LastGood,
    accounts: Mapping[str, str],
    patterns: Mapping[str, str],
    files: Sequence[ListedFile],
    watchlist: Watchlist,
) -> Iterator[ErrorDetail]:
    """Yield an error for each file and pattern that lists nothing, although it did and its entries are missing now.

    ``accounts`` are Account SIDs by name, ``patterns`` the places of the patterns. A file that is gone is none of
    them while its pattern lists something, and entries that are listed elsewhere are not missing.
    """
    full = {file.name for file in files if file.lists}
    empty = {file.name for file in files} - full
    listing = {file.pattern for file in files if file.name in full}
    lost: dict[tuple[str, str], int] = {}
    for file, number in last_good.usable(FILES, accounts, patterns):
        if file.name in empty:
            what = "watchlist", file.name
        elif file.name not in full and file.pattern not in listing:
            what = patterns[file.pattern], file.pattern
        else:
            continue
        if not _listed(watchlist, *file.entries[number]):
            lost[what] = lost.get(what, 0) + 1
    for (place, name), count in lost.items():
        yield _lists_nothing(place, f"{escape(name, 200)} no longer lists anything", count)


def emptied_source(
    last_good: LastGood, accounts: Mapping[str, str], name: str, place: str, watchlist: Watchlist
) -> ErrorDetail | None:
    """Return the error of a URL that lists nothing, although it did and its entries are missing now."""
    usable = last_good.usable(name, accounts, ())
    count = sum(not _listed(watchlist, *file.entries[number]) for file, number in usable)
    return _lists_nothing(place, "no longer lists anything", count) if count else None


def _lists_nothing(place: str, problem: str, count: int) -> ErrorDetail:
    missing = "1 entry is" if count == 1 else f"{count} entries are"
    return ErrorDetail(place, f"{problem}: {missing} missing", ALLOW_EMPTY)


def _listed(watchlist: Watchlist, array: str, table: Mapping[str, Any]) -> bool:
    parts = ("account", "service_sid", "factor_sid" if array == "factors" else "identity")
    key = tuple(str(table.get(part)) for part in parts)
    return watchlist.lists(FactorKey(*key) if array == "factors" else EntityKey(*key))


def stand_in(
    last_good: LastGood, source: str, accounts: Mapping[str, str], patterns: Collection[str], watchlist: Watchlist
) -> tuple[list[ListedFile], int]:
    """Add the last good entries of a source to a watchlist; return what was added, and how many were superseded."""
    listed: list[ListedFile] = []
    superseded = 0
    by_file: dict[int, list[int]] = {}
    files = {id(file): file for file in last_good.files}
    for file, number in last_good.usable(source, accounts, patterns):
        by_file.setdefault(id(file), []).append(number)
    for identifier, numbers in by_file.items():
        file = files[identifier]
        factors, entities = len(watchlist.factors), len(watchlist.entities)
        for number in numbers:
            array, table = file.entries[number]
            superseded += not watchlist.offer(TablePlace(shown_path(last_good.path), array, number), dict(table))
        added = watchlist.factors[factors:], watchlist.entities[entities:]
        listed.append(ListedFile(file.pattern, file.name, *added, source))
    return listed, superseded
