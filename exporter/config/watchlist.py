"""The watchlist: the entries of all files, checked one by one and against each other."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from pydantic import ValidationError

from exporter.config.csvfile import CsvWatchlist
from exporter.config.errors import ConfigWarning, ErrorDetail, did_you_mean, listing, nearest, quote
from exporter.config.files import decode, parse_toml, shown_path
from exporter.config.oddities import oddity
from exporter.config.settings import WATCHLIST_ARRAYS, EntityEntry, FactorEntry, ServiceEntry
from exporter.config.tree import LISTED, table_of
from exporter.config.validation import entry_errors
from exporter.config.values import (
    LONGEST_LABEL_VALUE,
    MOST_LABELS,
    OVERWRITTEN_LABELS,
    kind_of,
    parse_identity,
    parse_name,
)
from exporter.watched import EntityKey, FactorKey, ServiceKey, WatchedEntity, WatchedFactor, WatchedService

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from pathlib import Path

_PROGRESS_ENTRIES = 1_000

_What = TypeVar("_What")
_LabelPairs = tuple[tuple[str, str], ...]


class Place(Protocol):
    """The place of an entry, as ``str`` returns it."""

    def key(self, name: str) -> str:
        """Return the place of one of its keys."""


class TablePlace(NamedTuple):
    """The place of an entry in TOML."""

    file: str
    array: str
    number: int

    def __str__(self) -> str:
        return f"{self.file}: {self.array}[{self.number}]"

    def key(self, name: str) -> str:
        """Return the place of one of its keys."""
        return f"{self}.{name}"


@dataclass(slots=True)
class _Repeated:
    """A warning that many entries may cause; it is reported once, at the first."""

    first: str
    count: int = 1


def no_progress(_entries: int) -> None:
    """Show no progress."""


class Watchlist:
    """What is watched, collected file by file, together with errors and warnings.

    ``progress`` gets the number of entries read since it was called last, every 1,000 entries.
    """

    def __init__(
        self,
        accounts: Collection[str],
        interval_seconds: float,
        progress: Callable[[int], object] = no_progress,
    ) -> None:
        self.errors: list[ErrorDetail] = []
        self.factors: list[WatchedFactor] = []
        self.entities: list[WatchedEntity] = []
        self.services: list[WatchedService] = []
        self.without_account = 0
        self._accounts = tuple(accounts)
        self._interval_seconds = interval_seconds
        self._progress = progress
        self._read = 0
        self._factor_table = table_of(FactorEntry, ("factors", LISTED))
        self._entity_table = table_of(EntityEntry, ("entities", LISTED))
        self._service_table = table_of(ServiceEntry, ("services", LISTED))
        self._keys: dict[FactorKey, Place] = {}
        self._names: dict[tuple[str, str, str], Place] = {}
        self._entity_keys: dict[EntityKey, Place] = {}
        self._service_keys: dict[ServiceKey, Place] = {}
        self._entry_names: dict[tuple[str, str, str], Place] = {}  # of entities and services: prefixes of names
        self._labels: dict[_LabelPairs, _LabelPairs] = {}
        self._overwritten: dict[str, _Repeated] = {}
        self._revealing: dict[str, _Repeated] = {}
        self._excessive: dict[str, _Repeated] = {}
        self._odd: dict[tuple[str, str], _Repeated] = {}

    def add_document(self, file: str, content: Mapping[str, Any]) -> None:
        """Add the arrays ``factors``, ``entities`` and ``services`` of a TOML document."""
        for place, table in self._tables(file, "factors", content.get("factors", [])):
            self._add(self._factor, place, table)
        for place, table in self._tables(file, "entities", content.get("entities", [])):
            self._add(self._entity, place, table)
        for place, table in self._tables(file, "services", content.get("services", [])):
            self._add(self._service, place, table)

    def add_file(self, path: Path, content: bytes) -> None:
        """Add a watchlist file, CSV or TOML by its suffix; raises UnreadableError."""
        file = shown_path(path)
        match path.suffix.lower():
            case ".csv":
                for place, row in CsvWatchlist(file, decode(content), self.errors):
                    self._add(self._factor, place, row)
            case ".toml":
                document = parse_toml(decode(content))
                for name in document.keys() - set(WATCHLIST_ARRAYS):
                    hint = "a watchlist file contains only [[factors]] and [[entities]]"
                    if name == "services":
                        hint = "move [[services]] to the configuration file"
                    self.errors.append(
                        ErrorDetail(f"{file}: {quote(name)}", "is not allowed here", hint, of_key=True)
                    )
                    del document[name]
                self.add_document(file, document)
            case _:
                hint = "rename it, or narrow the pattern"
                self.errors.append(ErrorDetail(file, "is neither a .csv nor a .toml file", hint))

    def lists(self, key: FactorKey | EntityKey) -> bool:
        """Return whether a factor or entity is listed."""
        return key in (self._keys if isinstance(key, FactorKey) else self._entity_keys)

    def offer(self, place: TablePlace, table: dict[str, object]) -> bool:
        """Add an entry unless it is invalid or conflicts with one that is listed; return whether it was added."""
        before = len(self.errors)
        (self._factor if place.array == "factors" else self._entity)(place, table)
        added = len(self.errors) == before
        del self.errors[before:]
        return added

    def entries_by_account(self) -> dict[str, int]:
        """Return the number of factors, entities and services listed, by account."""
        counts = Counter(factor.key.account for factor in self.factors)
        counts.update(entity.key.account for entity in self.entities)
        counts.update(service.key.account for service in self.services)
        return dict(counts)

    def warnings(self) -> tuple[ConfigWarning, ...]:
        """Return the warnings about the entries collected."""
        revealing = dict(self._revealing)
        identities = {factor.identity for factor in self.factors}
        for (_account, _service_sid, name), place in self._names.items():
            if name in identities:
                _count(revealing, "name", place.key("name"))
        warnings = [
            ConfigWarning(
                found.first,
                f'on Kubernetes, Prometheus usually sets the label "{name}" itself and renames this one to '
                f'"exported_{name}"{_times(found)}; choose another name',
                of_key=True,
            )
            for name, found in self._overwritten.items()
        ]
        warnings.extend(
            ConfigWarning(
                found.first,
                f"the {what} is an identity, which metrics and pages would show{_times(found)}; choose another",
            )
            for what, found in revealing.items()
        )
        warnings.extend(
            ConfigWarning(
                found.first,
                f"{what}{_times(found)}; a scrape that exceeds label_limit or label_value_length_limit fails as a "
                "whole, and other systems have limits of their own; use fewer or shorter labels",
            )
            for what, found in self._excessive.items()
        )
        warnings.extend(
            ConfigWarning(found.first, f"{problem}{_times(found)}", hint)
            for (problem, hint), found in self._odd.items()
        )
        return tuple(warnings)

    def release(self) -> None:
        """Drop the places of a million entries one by one: all at once, no other thread could run meanwhile."""
        for index in (self._keys, self._names):
            while index:
                index.popitem()

    def _tables(self, file: str, array: str, content: object) -> list[tuple[TablePlace, dict[str, object]]]:
        if not isinstance(content, list):
            problem = f"is {kind_of(content)}, not an array of tables"
            self.errors.append(ErrorDetail(f"{file}: {array}", problem, f"write [[{array}]] with two brackets"))
            return []
        tables = []
        for index, table in enumerate(content):
            place = TablePlace(file, array, index)
            if isinstance(table, dict):
                tables.append((place, table))
            else:
                self.errors.append(ErrorDetail(str(place), f"is {kind_of(table)}, not a table"))
        return tables

    def _add(
        self, read: Callable[[Place, dict[str, object]], None], place: Place, table: dict[str, object]
    ) -> None:
        """Read one entry; its errors get its name."""
        self._read += 1
        if not self._read % _PROGRESS_ENTRIES:
            self._progress(_PROGRESS_ENTRIES)
        before = len(self.errors)
        read(place, table)
        if len(self.errors) > before:
            name = shown_name(place, table)
            self.errors[before:] = [replace(error, name=name) for error in self.errors[before:]]

    def _entity(self, place: Place, table: dict[str, object]) -> None:
        try:
            entry = EntityEntry.model_validate(table)
        except ValidationError as error:
            self._bad_entry(place, table, entry_errors(error, self._entity_table, place.key, table), error)
            return
        account = self._account(place, entry.account)
        if account is None:
            return
        key = EntityKey(account, sys.intern(entry.service_sid), entry.identity)
        first = self._entity_keys.setdefault(key, place)
        if first is not place:
            self.errors.append(
                ErrorDetail(
                    str(place), f"lists the same entity as {first}", "remove one of the two", other=str(first)
                )
            )
            return
        if not self._is_new_prefix(place, account, entry):
            return
        labels = self._shared(entry.labels) if entry.labels else ()
        self._check_labels(place, labels, entry.identity)
        if entry.name == entry.identity:
            _count(self._revealing, "name", place.key("name"))
        self._check_oddity(place, "name", entry.name)
        self.entities.append(WatchedEntity(key, entry.name, self._interval_seconds, labels))

    def _service(self, place: Place, table: dict[str, object]) -> None:
        try:
            entry = ServiceEntry.model_validate(table)
        except ValidationError as error:
            self._bad_entry(place, table, entry_errors(error, self._service_table, place.key, table), error)
            return
        account = self._account(place, entry.account)
        if account is None:
            return
        key = ServiceKey(account, sys.intern(entry.service_sid))
        first = self._service_keys.setdefault(key, place)
        if first is not place:
            self.errors.append(
                ErrorDetail(
                    str(place), f"lists the same service as {first}", "remove one of the two", other=str(first)
                )
            )
            return
        if not self._is_new_prefix(place, account, entry):
            return
        labels = self._shared(entry.labels) if entry.labels else ()
        self._check_labels(place, labels)
        self._check_oddity(place, "name", entry.name)
        self.services.append(
            WatchedService(key, entry.name, self._interval_seconds, entry.factor_types, entry.max_entities, labels)
        )

    def _is_new_prefix(self, place: Place, account: str, entry: EntityEntry | ServiceEntry) -> bool:
        """Return whether no entity or service of this account and service has the same name already."""
        first = self._entry_names.setdefault((account, entry.service_sid, entry.name), place)
        if first is not place:
            problem = f"is also the name of {first}, in the same account and service"
            self.errors.append(ErrorDetail(place.key("name"), problem, "rename one of the two", other=str(first)))
        return first is place

    def _factor(self, place: Place, table: dict[str, object]) -> None:
        try:
            entry = FactorEntry.model_validate(table)
        except ValidationError as error:
            self._bad_entry(place, table, entry_errors(error, self._factor_table, place.key, table), error)
            return
        account = self._account(place, entry.account)
        if account is None:
            return
        key = FactorKey(account, sys.intern(entry.service_sid), entry.factor_sid)
        name = entry.name or entry.factor_sid
        if self._is_new(place, key, name):
            labels = self._shared(entry.labels) if entry.labels else ()
            self._check_labels(place, labels, entry.identity)
            if entry.name:
                self._check_oddity(place, "name", entry.name)
            seconds = self._interval_seconds if entry.interval is None else entry.interval
            factor = WatchedFactor(key, name, entry.identity, seconds, entry.paused, labels)
            self.factors.append(factor)

    def _bad_entry(
        self, place: Place, table: dict[str, object], errors: Iterable[ErrorDetail], error: ValidationError
    ) -> None:
        """Add an entry's errors, and check the account it names if that is valid."""
        self.errors.extend(errors)
        account = table.get("account")
        checked = {
            part for found in error.errors(include_input=False, include_url=False) for part in found["loc"][:1]
        }
        if "account" not in checked and (account is None or isinstance(account, str)):
            self._account(place, account or None)

    def _account(self, place: Place, name: str | None) -> str | None:
        """Return the account an entry belongs to; None where that is unclear, which is an error."""
        if not self._accounts:
            self.without_account += 1
            return None
        if name is None:
            if len(self._accounts) == 1:
                return self._accounts[0]
            problem = "needs an account, as several are configured"
            self.errors.append(ErrorDetail(str(place), problem, f"set account to one of {listing(self._accounts)}"))
            return None
        if name in self._accounts:
            return sys.intern(name)
        similar = nearest(name, self._accounts)
        problem = f"unknown account {quote(name)}" if similar else "unknown account"
        hint = did_you_mean(name, self._accounts) or f"known: {listing(self._accounts)}"
        self.errors.append(ErrorDetail(place.key("account"), problem, hint))
        return None

    def _is_new(self, place: Place, key: FactorKey, name: str) -> bool:
        """Return whether neither this factor nor its name was listed before; an error names both places."""
        first = self._keys.setdefault(key, place)
        if first is not place:
            self.errors.append(
                ErrorDetail(
                    str(place), f"lists the same factor as {first}", "remove one of the two", other=str(first)
                )
            )
            return False
        first = self._names.setdefault((key.account, key.service_sid, name), place)
        if first is not place:
            problem = f"is also the name of {first}, in the same account and service"
            self.errors.append(ErrorDetail(place.key("name"), problem, "rename one of the two", other=str(first)))
            return False
        return True

    def _shared(self, labels: dict[str, str]) -> _LabelPairs:
        pairs = tuple(sorted(labels.items()))
        return self._labels.setdefault(pairs, pairs)

    def _check_labels(self, place: Place, labels: _LabelPairs, identity: str | None = None) -> None:
        if len(labels) > MOST_LABELS:
            _count(self._excessive, f"has more than {MOST_LABELS} labels", str(place))
        for name, value in labels:
            self._check_oddity(place, f"labels.{name}", value)
            if len(value) > LONGEST_LABEL_VALUE:
                _count(
                    self._excessive,
                    f'the label "{name}" has more than {LONGEST_LABEL_VALUE} characters',
                    place.key(f"labels.{name}"),
                )
            if name in OVERWRITTEN_LABELS:
                _count(self._overwritten, name, place.key(f"labels.{name}"))
            if value == identity:
                _count(self._revealing, f'label "{name}"', place.key(f"labels.{name}"))

    def _check_oddity(self, place: Place, key: str, value: str) -> None:
        # Braces alone may well be part of a name
        if (odd := oddity(value)) is not None and not (odd.of_variable and "$" not in value):
            _count(self._odd, (odd.problem, odd.hint), place.key(key))


def source_place(name: str) -> str:
    """Return how messages name a URL source."""
    return f"watchlist.http {quote(name)}"


def shown_name(place: Place, table: Mapping[str, object]) -> str:
    """Return an entry's name, empty if it has none that errors may show.

    The columns of a CSV file may be swapped, so a name in one that could be an identity isn't shown.
    """
    try:
        name = parse_name(table.get("name"))
    except ValueError:
        return ""
    if name == table.get("identity"):
        return ""
    if isinstance(place, TablePlace):
        return name
    try:
        parse_identity(name.strip())
    except ValueError:
        return "" if "@" in name else name
    return ""


def _count(found: dict[_What, _Repeated], what: _What, place: str) -> None:
    if what in found:
        found[what].count += 1
    else:
        found[what] = _Repeated(place)


def _times(found: _Repeated) -> str:
    return f" (here and in {found.count - 1} more)" if found.count > 1 else ""
