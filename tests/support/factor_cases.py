"""Watched factors and their records, with given values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.exposition.catalogue import FACTOR_PREFIX
from exporter.exposition.pieces import Snapshot
from exporter.polling.record import FactorRecord
from exporter.watched import FactorKey, WatchedFactor

if TYPE_CHECKING:
    from exporter.exposition.factors import FactorExposition

SERVICE_SID = "VA" + "3" * 32
ENTITY_SID = "YE" + "1" * 32
IDENTITY = "ff483d1ff591898a9942916050d2ca3f"


def key_of(number: int) -> FactorKey:
    return FactorKey("main", SERVICE_SID, f"YF{number:032x}")


def watched_factor(number: int = 0, **changes: Any) -> WatchedFactor:
    given = {
        "key": key_of(number),
        "name": f"factor-{number}",
        "identity": IDENTITY,
        "interval_seconds": 300.0,
        **changes,
    }
    return WatchedFactor(**given)


def record_of(number: int = 0, watched: dict[str, Any] | None = None, **known: Any) -> FactorRecord:
    return FactorRecord(watched_factor(number, **(watched or {})), **{"interval_seconds": 300.0, **known})


def page(exposition: FactorExposition, *, openmetrics: bool = False) -> bytes:
    return bytes(Snapshot(exposition.columns(openmetrics=openmetrics)))


def series(page: bytes) -> dict[str, float]:
    """Return the values of an exposition of one factor, by family name without the prefix."""
    samples = [sample for family in parse_text(page.decode()) for sample in family.samples]
    assert len({sample.name for sample in samples}) == len(samples)
    return {sample.name.removeprefix(FACTOR_PREFIX): sample.value for sample in samples}


def labels(page: bytes, name: str) -> dict[str, str]:
    (sample,) = (
        sample
        for family in parse_text(page.decode())
        for sample in family.samples
        if sample.name == FACTOR_PREFIX + name
    )
    return dict(sample.labels)
