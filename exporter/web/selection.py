"""Which factors or groups a page shows and in what order: read from its query string, and written into its links.

Records are filtered and counted in batches, and the event loop runs other tasks between two batches: with 100,000
factors one page must not delay fetches and scrapes.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import quote, urlencode

from exporter.polling.record import COUNTED_TYPES, UNKNOWN, counted_type
from exporter.verify.outcome import Status
from exporter.watched import canonical_sid
from exporter.web.groups import (
    SHARED,
    count_of,
    counts_by_state,
    label_of,
    label_value,
    largest_first,
    read_group,
    value_of,
    worst_first,
)
from exporter.web.labelfilter import LabelTerm, read_labels, write_labels
from exporter.web.parameters import Parameter, ParameterError, choice, read_values, text, whole_number
from exporter.web.views import ATTENTION, FAILING, PAUSED, needs_attention, states, urgency

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping

    from exporter.polling.record import FactorRecord
    from exporter.watched import FactorKey

STATES = (Status.NOT_FOUND, Status.UNVERIFIED, UNKNOWN, FAILING, Status.VERIFIED, PAUSED)
LONGEST_TEXT = 200
LONGEST_LABELS = 400
PAGE_ROWS = 100
_BATCH = 500
_MOST_PAGES = 10**6
_NEIGHBOURS = 2  # of the current page, on either side, that have a link

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Query:
    """The query string of a page; an empty text doesn't filter or sort.

    ``status`` is one of :data:`STATES` or ``attention``; ``label`` is a text of :mod:`exporter.web.labelfilter`;
    ``q`` is searched in names, labels, SIDs and entities; ``sort`` is a key of :data:`SORTS`, descending with a
    hyphen. ``group`` is one of :data:`exporter.web.groups.SHARED` or a label's name.
    """

    status: str = ""
    account: str = ""
    service: str = ""
    type: str = ""
    label: str = ""
    q: str = ""
    sort: str = ""
    group: str = ""
    page: int = 1

    @classmethod
    def of(cls, parameters: Mapping[str, str]) -> Query:
        """Return the query of these parameters; unknown and blank ones are ignored. Raises ParameterError."""
        given = {name: value for name, spaced in parameters.items() if (value := spaced.strip())}
        values = {name: value for name, value in read_values(_PARAMETERS, given).items() if value is not None}
        return cls(**values | {"page": min(values["page"], _MOST_PAGES)})

    @classmethod
    def kept(cls, parameters: Mapping[str, str]) -> Query:
        """Return the query of these parameters, an empty one where they are invalid."""
        try:
            return cls.of(parameters)
        except ParameterError:
            return cls()

    def __str__(self) -> str:
        """Return it as part of a URL, with its question mark; empty where nothing is set."""
        given = {name: value for name in _TEXTS if (value := getattr(self, name))}
        if self.page > 1:
            given["page"] = str(self.page)
        return f"?{urlencode(given, errors='replace')}" if given else ""

    def but(self, **changes: Any) -> Query:
        """Return a changed copy, on its first page unless a page is given."""
        return replace(self, **{"page": 1, **changes})

    @property
    def narrows(self) -> bool:
        """Whether it filters factors."""
        return any(getattr(self, name) for name in _TEXTS if name not in ("sort", "group"))

    def labelled(self, name: str, value: str) -> Query | None:
        """Return a copy for those of its factors that have this label, or lack it if the value is empty.

        Return ``None`` where that text would be too long.
        """
        kept = (term for term in read_labels(self.label) if term.name != name)
        label = write_labels((*kept, LabelTerm(name, value.strip())))
        return self.but(label=label) if len(label) <= LONGEST_LABELS else None

    def within(self, value: str) -> Query | None:
        """Return the query for the factors of one of its groups, ``None`` where its text would be too long."""
        if self.group in SHARED:
            return self.but(**{"group": "", self.group: value})
        return self.but(group="").labelled(label_of(self.group), value)

    def state_test(self) -> Callable[[FactorRecord], bool] | None:
        """Return the test for the state that a record must have, if any."""
        if self.status == ATTENTION:
            return needs_attention
        return (lambda record: self.status in states(record)) if self.status else None

    def tests(self) -> list[Callable[[FactorRecord], bool]]:
        """Return the tests that a record must pass, without the one for its state."""
        tests: list[Callable[[FactorRecord], bool]] = []
        if self.account:
            tests.append(lambda record: record.watched.key.account == self.account)
        if self.service:
            service_sid = canonical_sid(self.service)
            tests.append(lambda record: record.watched.key.service_sid == service_sid)
        if self.type:
            tests.append(lambda record: counted_type(record.factor_type) == self.type)
        tests += map(_labelled, read_labels(self.label))
        if self.q:
            tests.append(_containing(self.q.casefold()))
        return tests


_TEXTS = ("status", "account", "service", "type", "label", "q", "sort", "group")


def _labelled(term: LabelTerm) -> Callable[[FactorRecord], bool]:
    name, value = term
    if value is None:
        return lambda record: any(own == name for own, _ in record.watched.labels)
    return lambda record: label_value(record, name) == value


def _containing(phrase: str) -> Callable[[FactorRecord], bool]:
    words = phrase.split()

    def contains(record: FactorRecord) -> bool:
        watched = record.watched
        searched = "\n".join(
            (
                watched.name,
                *watched.key,
                record.entity,
                record.entity_sid,
                record.factor_type,
                *(f"{name}={value}" for name, value in watched.labels),
            )
        ).casefold()
        return all(word in searched for word in words)

    return contains


@dataclass(frozen=True, slots=True)
class Order:
    """One way to sort: its column heading, its directions, and a record's key; without a key it comes last."""

    heading: str
    ascending: str
    descending: str
    value: Callable[[FactorRecord, Callable[[FactorKey], float | None]], float | str | None]


SORTS: Mapping[str, Order] = {
    "factor": Order("Factor", "A–Z", "Z–A", lambda record, _: record.watched.name.casefold()),
    "state": Order("State", "problems first", "problems last", lambda record, _: float(urgency(record)[0])),
    "since": Order(
        "In state for",
        "newest first",
        "oldest first",
        lambda record, _: _newest(record.status_since_seconds),
    ),
    "last": Order("Last check", "newest first", "oldest first", lambda record, _: _newest(record.last_seconds)),
    "next": Order("Next check", "soonest first", "latest first", lambda record, due: due(record.watched.key)),
    "latency": Order("Latency", "lowest first", "highest first", lambda record, _: record.duration_seconds),
    "failures": Order(
        "Last failure",
        "newest first",
        "oldest first",
        lambda record, _: _newest(record.failing_since_seconds),
    ),
}


_PARAMETERS = (
    choice("status", "Only factors in this state.", (ATTENTION, *STATES)),
    text("account", "Only factors of this account.", longest=LONGEST_TEXT),
    text("service", "Only factors of this service.", longest=LONGEST_TEXT),
    choice("type", "Only factors of this type.", COUNTED_TYPES),
    text("label", "Only factors with these labels.", longest=LONGEST_LABELS),
    text("q", "Only factors that contain all of these words.", longest=LONGEST_TEXT),
    choice("sort", "The order; a hyphen reverses it.", (*SORTS, *(f"-{name}" for name in SORTS))),
    Parameter("group", "Groups of factors instead of factors.", {"type": "string"}, read_group),
    whole_number("page", "Which page.", default=1, least=1),
)


def _newest(seconds: float | None) -> float | None:
    """Return a sort key that puts the newest first."""
    return None if seconds is None else -seconds


@dataclass(frozen=True, slots=True)
class Group:
    """The factors that share a value, counted by state; ``query`` lists them, ``None`` if it would be too long."""

    value: str
    counts: Mapping[str, int]
    query: Query | None

    @property
    def anchor(self) -> str:
        """Its id in a page."""
        return f"group-{quote(self.value, safe='', errors='replace')}"


@dataclass(frozen=True, slots=True)
class Selection:
    """The records of one page out of ``matched``, or its groups out of ``grouped``.

    ``everything`` counts all factors by state; ``filtered`` counts those that pass every filter but the state.
    """

    records: list[FactorRecord]
    groups: list[Group]
    matched: int
    grouped: int
    page: int
    pages: int
    everything: Mapping[str, int]
    filtered: Mapping[str, int]
    label_names: list[str]

    @property
    def numbers(self) -> list[int]:
        """The pages that have a link: the first, the last and those near this one; 0 stands for pages left out."""
        near = range(max(1, self.page - _NEIGHBOURS), min(self.pages, self.page + _NEIGHBOURS) + 1)
        numbers: list[int] = []
        for number in sorted({1, *near, self.pages}):
            if numbers and number - numbers[-1] > 1:
                numbers.append(number - 1 if number - numbers[-1] == 2 else 0)
            numbers.append(number)
        return numbers


class Found(Generic[_Item]):
    """The items that match, in order."""

    def __init__(self, runs: list[list[tuple[tuple[Any, ...], int, _Item]]]) -> None:
        self._runs = runs
        self.matched = sum(map(len, runs))

    async def part(self, skip: int, most: int) -> list[_Item]:
        """Return at most ``most`` items after the first ``skip``."""
        if skip >= self.matched:
            return []
        merged = heapq.merge(*self._runs)
        while skip > 0:
            step = min(skip, _BATCH)
            for _ in islice(merged, step):
                pass
            skip -= step
            await asyncio.sleep(0)
        return [item for _, _, item in islice(merged, most)]


async def _batches(items: list[_Item]) -> AsyncIterator[list[_Item]]:
    """Yield the items in batches; other tasks run between two of them."""
    for start in range(0, len(items), _BATCH):
        if start:
            await asyncio.sleep(0)
        yield items[start : start + _BATCH]


async def find(
    items: Iterable[_Item], key: Callable[[_Item], tuple[Any, ...]], matches: Callable[[_Item], bool] | None = None
) -> Found[_Item]:
    """Return the items that match, or all of them, sorted by ``key``; ``matches`` is called once per item."""
    runs: list[list[tuple[tuple[Any, ...], int, _Item]]] = []
    number = 0
    async for batch in _batches(list(items)):
        run: list[tuple[tuple[Any, ...], int, _Item]] = []
        for item in batch:
            if matches is None or matches(item):
                run.append((key(item), number, item))
            number += 1
        run.sort()
        runs.append(run)
    return Found(runs)


class _Tally:
    """Counts the records that it is asked about, all of them and those that pass the tests of a query."""

    def __init__(self, query: Query) -> None:
        self._tests = query.tests()
        self._state_test = query.state_test()
        self._value = value_of(query.group) if query.group else None
        self.everything = self.filtered = self.matched = 0
        self.groups: dict[str, int] = {}
        self.label_names: set[str] = set()

    def matches(self, record: FactorRecord) -> bool:
        """Return whether a record matches; its counts and this are of one moment, so that they add up."""
        counts = count_of(record)
        self.everything += counts
        for name, _ in record.watched.labels:
            self.label_names.add(name)
        for test in self._tests:
            if not test(record):
                return False
        self.filtered += counts
        if self._state_test is not None and not self._state_test(record):
            return False
        self.matched += 1
        if self._value is not None:
            value = self._value(record)
            self.groups[value] = self.groups.get(value, 0) + counts
        return True


async def select(
    records: Iterable[FactorRecord], query: Query, due: Callable[[FactorKey], float | None]
) -> Selection:
    """Return the requested page, or the last one; ``due`` returns when a factor is fetched next."""
    tally = _Tally(query)
    page_records: list[FactorRecord] = []
    page_groups: list[tuple[str, int]] = []
    if query.group:
        async for batch in _batches(list(records)):
            for record in batch:
                tally.matches(record)
        order = largest_first if query.status else worst_first
        groups = await find(tally.groups.items(), lambda group: order(*group))
        page, pages = _page(query, groups.matched)
        page_groups = await groups.part((page - 1) * PAGE_ROWS, PAGE_ROWS)
    else:
        found = await find(records, _key(query.sort, due), tally.matches)
        page, pages = _page(query, found.matched)
        page_records = await found.part((page - 1) * PAGE_ROWS, PAGE_ROWS)
    return Selection(
        records=page_records,
        groups=[Group(value, counts_by_state(counts), query.within(value)) for value, counts in page_groups],
        matched=tally.matched,
        grouped=len(tally.groups),
        page=page,
        pages=pages,
        everything=counts_by_state(tally.everything),
        filtered=counts_by_state(tally.filtered),
        label_names=sorted(tally.label_names),
    )


def _page(query: Query, matched: int) -> tuple[int, int]:
    """Return the number of the page to show and the number of pages."""
    pages = max(1, math.ceil(matched / PAGE_ROWS))
    return min(query.page, pages), pages


def _key(sort: str, due: Callable[[FactorKey], float | None]) -> Callable[[FactorRecord], tuple[Any, ...]]:
    if not sort:
        return urgency
    order, descending = SORTS[sort.removeprefix("-")], sort.startswith("-")

    def key(record: FactorRecord) -> tuple[Any, ...]:
        value = order.value(record, due)
        if value is None:
            return (1, urgency(record))
        if isinstance(value, str):
            return (0, _Descending(value) if descending else value, urgency(record))
        return (0, -value if descending else value, urgency(record))

    return key


class _Descending(str):
    """A text that sorts in descending order."""

    __slots__ = ()

    def __lt__(self, other: str) -> bool:
        return str.__gt__(self, other)
