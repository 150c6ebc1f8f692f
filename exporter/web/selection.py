"""Which factors a page shows and in what order: read from a page's query string, and written into its links.

Records are filtered in batches, and the event loop runs other tasks between two batches: with 100,000 factors one
page must not delay fetches and scrapes.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from exporter.polling.record import STATUSES, UNKNOWN
from exporter.verify.outcome import Status
from exporter.watched import canonical_sid
from exporter.web.parameters import ParameterError, choice, read_values, text, whole_number
from exporter.web.views import ATTENTION, FAILING, PAUSED, needs_attention, states, urgency

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from exporter.polling.record import FactorRecord
    from exporter.watched import FactorKey

    _Run = list[tuple[tuple[Any, ...], int, FactorRecord]]

STATES = (Status.NOT_FOUND, Status.UNVERIFIED, UNKNOWN, FAILING, Status.VERIFIED, PAUSED)
LONGEST_TEXT = 200
PAGE_FACTORS = 100
_BATCH = 500
_MOST_PAGES = 10**6


@dataclass(frozen=True, slots=True)
class Query:
    """The query string of a page; an empty text doesn't filter or sort.

    ``status`` is one of :data:`STATES` or ``attention``; ``label`` is ``name=value``, or a name alone; ``q`` is
    searched in names, labels, SIDs and entities; ``sort`` is a key of :data:`SORTS`, descending with a hyphen.
    """

    status: str = ""
    account: str = ""
    service: str = ""
    label: str = ""
    q: str = ""
    sort: str = ""
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
        return any(getattr(self, name) for name in _TEXTS if name != "sort")

    def tests(self) -> list[Callable[[FactorRecord], bool]]:
        """Return the tests that a record must pass."""
        tests: list[Callable[[FactorRecord], bool]] = []
        if self.account:
            tests.append(lambda record: record.watched.key.account == self.account)
        if self.service:
            service_sid = canonical_sid(self.service)
            tests.append(lambda record: record.watched.key.service_sid == service_sid)
        if self.status == ATTENTION:
            tests.append(needs_attention)
        elif self.status:
            tests.append(lambda record: self.status in states(record))
        if self.label:
            tests.append(_labelled(self.label))
        if self.q:
            tests.append(_containing(self.q.casefold()))
        return tests


_TEXTS = ("status", "account", "service", "label", "q", "sort")


def _labelled(label: str) -> Callable[[FactorRecord], bool]:
    name, equals, value = label.partition("=")
    name, value = name.strip(), value.strip()
    if not equals:
        return lambda record: any(own == name for own, _ in record.watched.labels)
    return lambda record: (name, value) in record.watched.labels


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
    text("label", "Only factors with this label.", longest=LONGEST_TEXT),
    text("q", "Only factors that contain all of these words.", longest=LONGEST_TEXT),
    choice("sort", "The order; a hyphen reverses it.", (*SORTS, *(f"-{name}" for name in SORTS))),
    whole_number("page", "Which page.", default=1, least=1),
)


def _newest(seconds: float | None) -> float | None:
    """Return a sort key that puts the newest first."""
    return None if seconds is None else -seconds


@dataclass(frozen=True, slots=True)
class Selection:
    """The records of one page, out of ``matched``; ``counts`` by state and ``attention`` are of all factors."""

    records: list[FactorRecord]
    matched: int
    total: int
    attention: int
    page: int
    pages: int
    counts: Mapping[str, int]


class Found:
    """The records that pass some tests, in order."""

    def __init__(self, runs: list[_Run]) -> None:
        self._runs = runs
        self.matched = sum(map(len, runs))

    async def part(self, skip: int, most: int) -> list[FactorRecord]:
        """Return at most ``most`` records after the first ``skip``."""
        if skip >= self.matched:
            return []
        merged = heapq.merge(*self._runs)
        while skip > 0:
            step = min(skip, _BATCH)
            for _ in islice(merged, step):
                pass
            skip -= step
            await asyncio.sleep(0)
        return [record for _, _, record in islice(merged, most)]


async def find(
    records: Iterable[FactorRecord],
    tests: Collection[Callable[[FactorRecord], bool]],
    key: Callable[[FactorRecord], tuple[Any, ...]],
    visit: Callable[[FactorRecord], None] | None = None,
) -> Found:
    """Return the records that pass every test, sorted by ``key``; ``visit`` is called for every record."""
    everything = list(records)
    runs: list[_Run] = []
    for start in range(0, len(everything), _BATCH):
        if start:
            await asyncio.sleep(0)
        run: _Run = []
        for number, record in enumerate(everything[start : start + _BATCH], start):
            if visit is not None:
                visit(record)
            for test in tests:
                if not test(record):
                    break
            else:
                run.append((key(record), number, record))
        run.sort()
        runs.append(run)
    return Found(runs)


async def select(
    records: Iterable[FactorRecord], query: Query, due: Callable[[FactorKey], float | None]
) -> Selection:
    """Return the requested page, or the last one; ``due`` returns when a factor is fetched next."""
    everything = list(records)
    counts: dict[str, int] = dict.fromkeys((*STATUSES, FAILING, PAUSED), 0)
    attention = 0

    def count(record: FactorRecord) -> None:
        nonlocal attention
        for state in states(record):
            counts[state] += 1
        attention += needs_attention(record)

    found = await find(everything, query.tests(), _key(query.sort, due), count)
    pages = max(1, math.ceil(found.matched / PAGE_FACTORS))
    page = min(query.page, pages)
    return Selection(
        records=await found.part((page - 1) * PAGE_FACTORS, PAGE_FACTORS),
        matched=found.matched,
        total=len(everything),
        attention=attention,
        page=page,
        pages=pages,
        counts=counts,
    )


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
