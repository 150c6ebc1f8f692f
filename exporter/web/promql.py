"""Queries of Prometheus for one factor's series, ready to be copied."""

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
    ("Known to the API", "{}", FACTOR_EXISTS),
    ("Last fetch answered", "{}", FACTOR_UP),
    ("Seconds since the last answer", "time() - {}", FACTOR_LAST_SUCCESS),
    ("Seconds since it was last verified", "time() - {}", FACTOR_LAST_VERIFIED),
    ("Duration of the last fetch", "{}", FACTOR_FETCH_DURATION),
    ("Failures in an hour", "increase({}[1h])", FACTOR_FETCH_FAILURES),
)


class PromQL(NamedTuple):
    """A query, and what it asks."""

    asks: str
    text: str


def queries(record: FactorRecord, shown: Collection[FactorFamily]) -> list[PromQL]:
    """Return queries for a factor, of the families that are ``shown``."""
    if not shown:
        return []
    key = record.watched.key
    labels = {"account": key.account, "service_sid": key.service_sid, "factor": record.watched.name}
    selector = ", ".join(f'{name}="{escape_label_value(value)}"' for name, value in labels.items())
    told = [
        PromQL(asks, form.format(f"{family.name}{{{selector}}}"))
        for asks, form, family in _QUERIES
        if family in shown
    ]
    return [*told, PromQL("All its series", f'{{__name__=~"{FACTOR_PREFIX}.+", {selector}}}')]
