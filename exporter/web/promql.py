"""PromQL queries for one factor's series, for its page to offer.

Apart from pages.py because it is a pure function that the tests check with a PromQL parser.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from exporter.exposition.catalogue import (
    FACTOR_EXISTS,
    FACTOR_FETCH_DURATION,
    FACTOR_FETCH_FAILURES,
    FACTOR_LAST_SUCCESS,
    FACTOR_LAST_VERIFIED,
    FACTOR_PREFIX,
    FACTOR_UP,
    FACTOR_VERIFIED,
)
from exporter.exposition.factors import escape_label_value

if TYPE_CHECKING:
    from collections.abc import Collection

    from exporter.exposition.catalogue import FactorFamily
    from exporter.polling.record import FactorRecord

_QUERIES: tuple[tuple[str, str, FactorFamily], ...] = (
    ("Verified", "{}", FACTOR_VERIFIED),
    ("Exists in the API", "{}", FACTOR_EXISTS),
    ("Last fetch succeeded", "{}", FACTOR_UP),
    ("Seconds since the last answer", "time() - {}", FACTOR_LAST_SUCCESS),
    ("Seconds since last verified", "time() - {}", FACTOR_LAST_VERIFIED),
    ("Duration of the last fetch", "{}", FACTOR_FETCH_DURATION),
    ("Failures in the last hour", "increase({}[1h])", FACTOR_FETCH_FAILURES),
)


class PromQL(NamedTuple):
    """A query and its title."""

    title: str
    text: str


def queries(record: FactorRecord, shown: Collection[FactorFamily]) -> list[PromQL]:
    """Return the queries for a factor, of the families that are ``shown``."""
    if not shown:
        return []
    key = record.watched.key
    labels = {"account": key.account, "service_sid": key.service_sid, "factor": record.watched.name}
    selector = ", ".join(f'{name}="{escape_label_value(value)}"' for name, value in labels.items())
    found = [
        PromQL(title, form.format(f"{family.name}{{{selector}}}"))
        for title, form, family in _QUERIES
        if family in shown
    ]
    return [*found, PromQL("All series of this factor", f'{{__name__=~"{FACTOR_PREFIX}.+", {selector}}}')]
