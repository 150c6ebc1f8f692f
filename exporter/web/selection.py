"""Which factors a page shows, and in what order: read from the address, and written into the addresses it links.

At 100,000 factors a page is still one among many things the event loop does: records are looked at in batches,
and others get their turn between two of them.
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
from exporter.web.views import FAILING, PAUSED, TROUBLE, states, troubled, urgency

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


class QueryError(ValueError):
    """An address that asks for what there isn't; the message names the part and the hint."""


@dataclass(frozen=True, slots=True)
class Query:
    """What the address asks for; empty texts ask for nothing.

    ``status`` is one of :data:`STATES` or ``trouble``; ``label`` is ``name=value``, or a name alone; ``q`` is
    searched in names, labels, SIDs and entities; ``sort`` is a key of :data:`SORTS`, backwards with a hyphen.
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
        """Return what these parameters ask for; others are passed over. Raises QueryError."""
        texts = {name: parameters.get(name, "").strip() for name in _TEXTS}
        for name, text in texts.items():
            if len(text) > LONGEST_TEXT:
                raise QueryError(f"{name}: longer than {LONGEST_TEXT} characters")
        if texts["status"] not in ("", TROUBLE, *STATES):
            raise QueryError(f"status: write one of {', '.join((TROUBLE, *STATES))}")
        if texts["sort"].removeprefix("-") not in ("", *SORTS):
            raise QueryError(f"sort: write one of {', '.join(SORTS)}, backwards with a hyphen before it")
        page = parameters.get("page", "1")
        if not (page.isascii() and page.isdigit() and len(page) < 10) or int(page) < 1:
            raise QueryError("page: not a whole number of at least 1")
        return cls(**texts, page=min(int(page), _MOST_PAGES))

    @classmethod
    def kept(cls, parameters: Mapping[str, str]) -> Query:
        """Return what these parameters ask for, and nothing where they can't be read."""
        try:
            return cls.of(parameters)
        except QueryError:
            return cls()

    def __str__(self) -> str:
        """Return it as the address has it, with a question mark; empty where nothing is asked."""
        asked = {name: text for name in _TEXTS if (text := getattr(self, name))}
        if self.page > 1:
            asked["page"] = str(self.page)
        return f"?{urlencode(asked, errors='replace')}" if asked else ""

    def but(self, **changes: Any) -> Query:
        """Return it changed, on its first page unless a page is given."""
        return replace(self, **{"page": 1, **changes})

    @property
    def narrows(self) -> bool:
        """Whether it leaves factors out."""
        return any(getattr(self, name) for name in _TEXTS if name != "sort")

    def tests(self) -> list[Callable[[FactorRecord], bool]]:
        """Return the tests that a record passes which is asked for."""
        tests: list[Callable[[FactorRecord], bool]] = []
        if self.account:
            tests.append(lambda record: record.watched.key.account == self.account)
        if self.service:
            service_sid = canonical_sid(self.service)
            tests.append(lambda record: record.watched.key.service_sid == service_sid)
        if self.status == TROUBLE:
            tests.append(troubled)
        elif self.status:
            tests.append(lambda record: self.status in states(record))
        if self.label:
            tests.append(_labelled(self.label))
        if self.q:
            tests.append(_holding(self.q.casefold()))
        return tests


_TEXTS = ("status", "account", "service", "label", "q", "sort")


def _labelled(text: str) -> Callable[[FactorRecord], bool]:
    name, equals, value = text.partition("=")
    name, value = name.strip(), value.strip()
    if not equals:
        return lambda record: any(own == name for own, _ in record.watched.labels)
    return lambda record: (name, value) in record.watched.labels


def _holding(text: str) -> Callable[[FactorRecord], bool]:
    words = text.split()

    def holds(record: FactorRecord) -> bool:
        watched = record.watched
        shown = "\n".join(
            (
                watched.name,
                *watched.key,
                record.entity,
                record.entity_sid,
                record.factor_type,
                *(f"{name}={value}" for name, value in watched.labels),
            )
        ).casefold()
        return all(word in shown for word in words)

    return holds


@dataclass(frozen=True, slots=True)
class Order:
    """One way to sort: its heading, and the key of a record, whose missing values come last either way."""

    heading: str
    value: Callable[[FactorRecord, Callable[[FactorKey], float | None]], float | str | None]


SORTS: Mapping[str, Order] = {
    "factor": Order("Factor", lambda record, _: record.watched.name.casefold()),
    "state": Order("State", lambda record, _: float(urgency(record)[0])),
    "since": Order("Since", lambda record, _: _back(record.status_since_seconds)),
    "last": Order("Last look", lambda record, _: _back(record.last_seconds)),
    "next": Order("Next look", lambda record, due: due(record.watched.key)),
    "latency": Order("Latency", lambda record, _: record.duration_seconds),
    "failures": Order("Last failure", lambda record, _: _back(record.failing_since_seconds)),
}


def _back(seconds: float | None) -> float | None:
    """Let ages sort: what is newest comes first."""
    return None if seconds is None else -seconds


@dataclass(frozen=True, slots=True)
class Selection:
    """The records of one page, of ``matched`` that were asked for; ``counts`` are by state, of all there are."""

    records: list[FactorRecord]
    matched: int
    total: int
    troubled: int
    page: int
    pages: int
    counts: Mapping[str, int]


class Found:
    """The records that pass some tests, in order."""

    def __init__(self, runs: list[_Run]) -> None:
        self._runs = runs
        self.matched = sum(map(len, runs))

    async def part(self, skip: int, most: int) -> list[FactorRecord]:
        """Return at most so many records, after the first ``skip``."""
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
    look: Callable[[FactorRecord], None] | None = None,
) -> Found:
    """Return the records that pass every test, sorted by ``key``; ``look`` is shown each, passing or not."""
    everything = list(records)
    runs: list[_Run] = []
    for start in range(0, len(everything), _BATCH):
        if start:
            await asyncio.sleep(0)
        run: _Run = []
        for number, record in enumerate(everything[start : start + _BATCH], start):
            if look is not None:
                look(record)
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
    """Return the page that is asked for, or the last one; ``due`` tells when a factor is looked at next."""
    everything = list(records)
    counts: dict[str, int] = dict.fromkeys((*STATUSES, FAILING, PAUSED), 0)
    in_trouble = 0

    def count(record: FactorRecord) -> None:
        nonlocal in_trouble
        for state in states(record):
            counts[state] += 1
        in_trouble += troubled(record)

    found = await find(everything, query.tests(), _key(query.sort, due), count)
    pages = max(1, math.ceil(found.matched / PAGE_FACTORS))
    page = min(query.page, pages)
    return Selection(
        records=await found.part((page - 1) * PAGE_FACTORS, PAGE_FACTORS),
        matched=found.matched,
        total=len(everything),
        troubled=in_trouble,
        page=page,
        pages=pages,
        counts=counts,
    )


def _key(sort: str, due: Callable[[FactorKey], float | None]) -> Callable[[FactorRecord], tuple[Any, ...]]:
    if not sort:
        return urgency
    order, backwards = SORTS[sort.removeprefix("-")], sort.startswith("-")

    def key(record: FactorRecord) -> tuple[Any, ...]:
        value = order.value(record, due)
        if value is None:
            return (1, urgency(record))
        if isinstance(value, str):
            return (0, _Backwards(value) if backwards else value, urgency(record))
        return (0, -value if backwards else value, urgency(record))

    return key


class _Backwards(str):
    """A text that sorts the other way."""

    __slots__ = ()

    def __lt__(self, other: str) -> bool:
        return str.__gt__(self, other)
