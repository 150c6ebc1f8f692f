"""The last good watchlist: what a start runs on while the watchlist files can't be used.

All files of ``watchlist.files`` are one source. If one of them is bad, or lists nothing although its last good
version did, the last good entries of all of them are used: what the exporter would still run on if it hadn't been
restarted. The entries of the configuration file are never replaced. Another kind of source has a name of its own in
:class:`StoredFile`, and is judged on its own.
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

_ALLOW_EMPTY = "restore the entries, or set watchlist.allow_empty = true if this is intended"


class ListedFile(NamedTuple):
    """What a watchlist file lists, in all shards; ``name`` is relative to the configuration file if possible."""

    pattern: str
    name: str
    factors: Sequence[WatchedFactor]
    entities: Sequence[WatchedEntity]

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

    def usable(self, accounts: Mapping[str, str], patterns: Collection[str]) -> Iterator[tuple[StoredFile, int]]:
        """Yield each entry of an account and a file that are still configured, as the file and a position in it."""
        for file in self.files:
            if file.source == FILES and file.pattern in patterns:
                for number, (_array, table) in enumerate(file.entries):
                    name = table.get("account")
                    if isinstance(name, str) and name in accounts and accounts[name] == self.accounts.get(name):
                        yield file, number


@dataclass(frozen=True, slots=True)
class Fallback:
    """Why and how the last good watchlist stands in.

    ``errors`` are those of the watchlist files. ``restored`` counts the entries that are used, ``dropped`` those
    whose account or file is no longer configured, and ``superseded`` those that the configuration file lists
    itself, or that conflict with one of its entries.
    """

    path: Path
    saved_seconds: float
    errors: tuple[ErrorDetail, ...]
    restored: int
    dropped: int
    superseded: int


class WholeWatchlist:
    """What the watchlist files list before sharding, until it is taken: in memory, it's needed only to be saved."""

    def __init__(self, files: Sequence[ListedFile] = ()) -> None:
        self._files: Sequence[ListedFile] | None = files

    def take(self) -> Sequence[ListedFile] | None:
        """Return what each file lists, once."""
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
    for file, number in last_good.usable(accounts, patterns):
        if file.name in empty:
            what = "watchlist", file.name
        elif file.name not in full and file.pattern not in listing:
            what = patterns[file.pattern], file.pattern
        else:
            continue
        if not _listed(watchlist, *file.entries[number]):
            lost[what] = lost.get(what, 0) + 1
    for (place, name), count in lost.items():
        missing = "1 entry is" if count == 1 else f"{count} entries are"
        yield ErrorDetail(place, f"{escape(name, 200)} no longer lists anything: {missing} missing", _ALLOW_EMPTY)


def _listed(watchlist: Watchlist, array: str, table: Mapping[str, Any]) -> bool:
    parts = ("account", "service_sid", "factor_sid" if array == "factors" else "identity")
    key = tuple(str(table.get(part)) for part in parts)
    return watchlist.lists(FactorKey(*key) if array == "factors" else EntityKey(*key))


def stand_in(
    last_good: LastGood,
    accounts: Mapping[str, str],
    patterns: Collection[str],
    watchlist: Watchlist,
    errors: Sequence[ErrorDetail],
) -> Fallback | None:
    """Add the last good entries to a watchlist of the configuration file's own; return None if there are none.

    ``errors`` are those of the watchlist files.
    """
    restored = superseded = 0
    for file, number in last_good.usable(accounts, patterns):
        array, table = file.entries[number]
        if watchlist.offer(TablePlace(shown_path(last_good.path), array, number), dict(table)):
            restored += 1
        else:
            superseded += 1
    if not restored:
        return None
    total = sum(len(file.entries) for file in last_good.files)
    return Fallback(
        path=last_good.path,
        saved_seconds=last_good.saved_seconds,
        errors=tuple(errors),
        restored=restored,
        dropped=total - restored - superseded,
        superseded=superseded,
    )
