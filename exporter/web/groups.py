"""Factors counted by state, and by the account, service, type or label that they share.

The counts of a group are one integer, because 100,000 groups of Python objects would be traversed by the garbage
collector, and adding an integer counts every state of a factor at once.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING

from exporter.polling.record import STATUSES, UNKNOWN, counted_type
from exporter.verify.outcome import Status
from exporter.web.views import ATTENTION, FAILING, PAUSED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from exporter.polling.record import FactorRecord

ALL = "all"
TILES = (Status.NOT_FOUND, Status.UNVERIFIED, UNKNOWN, Status.VERIFIED, PAUSED)
"""The states of which every factor has exactly one."""

ACCOUNT, SERVICE, TYPE = "account", "service", "type"
SHARED = (ACCOUNT, SERVICE, TYPE)
"""What factors can be grouped by besides labels."""

_LABEL = "label."
_GROUP = re.compile(rf"({re.escape(_LABEL)})?[a-zA-Z_][a-zA-Z0-9_]*")

_BITS = 32
_PROBLEMS = (Status.NOT_FOUND, Status.UNVERIFIED, UNKNOWN, FAILING)  # the most severe first
_COUNTED = (*_PROBLEMS, ATTENTION, Status.VERIFIED, PAUSED, ALL)
_SHIFTS = MappingProxyType({name: _BITS * place for place, name in enumerate(reversed(_COUNTED))})
_PROBLEM_SHIFT = _SHIFTS[FAILING]


def _one(*states: str) -> int:
    """Return the counts of one factor in these states."""
    return sum(1 << _SHIFTS[state] for state in (*states, ALL))


_PAUSED = _one(PAUSED)
_FAILING = MappingProxyType({status: _one(status, FAILING, ATTENTION) for status in STATUSES})
_CURRENT = MappingProxyType(
    {status: _one(status) if status == Status.VERIFIED else _one(status, ATTENTION) for status in STATUSES}
)


def count_of(record: FactorRecord) -> int:
    """Return the counts of one factor; counts are added with ``+`` and read with :func:`counts_by_state`."""
    if record.watched.paused:
        return _PAUSED
    return (_FAILING if record.up is False else _CURRENT)[record.status or UNKNOWN]


def counts_by_state(counts: int) -> Mapping[str, int]:
    """Return the number of factors in each state, in need of attention, and in all."""
    return {name: counts >> shift & (1 << _BITS) - 1 for name, shift in _SHIFTS.items()}


def worst_first(value: str, counts: int) -> tuple[int, str]:
    """Return the sort key of a group: most not found, unverified, unknown and failing first, then its value."""
    return -(counts >> _PROBLEM_SHIFT), value


def largest_first(value: str, counts: int) -> tuple[int, str]:
    """Return the sort key of a group: most factors first, then its value."""
    return -counts_by_state(counts)[ALL], value


def read_group(text: str) -> str:
    """Return what to group by; raises ValueError for what can't be a label's name either."""
    if not _GROUP.fullmatch(text):
        raise ValueError(f"must be one of {', '.join(SHARED)}, or the name of a label")
    return text


def group_of_label(name: str) -> str:
    """Return what groups by this label."""
    return f"{_LABEL}{name}" if name in SHARED else name


def label_of(group: str) -> str:
    """Return the name of the label to group by, empty where it is none."""
    return "" if group in SHARED else group.removeprefix(_LABEL)


def value_of(group: str) -> Callable[[FactorRecord], str]:
    """Return the function that tells a factor's group by its value; the value of a label that it lacks is empty."""
    match group:
        case "account":
            return lambda record: record.watched.key.account
        case "service":
            return lambda record: record.watched.key.service_sid
        case "type":
            return lambda record: counted_type(record.factor_type)
    name = label_of(group)
    return lambda record: label_value(record, name)


def label_value(record: FactorRecord, name: str) -> str:
    """Return the value of a factor's label without surrounding white space, empty where it has no such label."""
    for own, value in record.watched.labels:
        if own == name:
            return value.strip()
    return ""
