"""The whole exposition: the factor families, then the exporter's own metrics.

Separate because only this module knows both halves: :mod:`factors` renders without a registry, :mod:`telemetry`
registers without factors, :mod:`pieces` knows bytes only.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from exporter.exposition.factors import FactorExposition
from exporter.exposition.pieces import Column, Snapshot

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from exporter.exposition.factors import FactorSamples
    from exporter.polling.record import FactorRecord

log = logging.getLogger(__name__)

_OPENMETRICS_END = b"# EOF\n"


def exposition(factors: FactorExposition, own: CollectorRegistry, *, openmetrics: bool) -> Snapshot:
    """Return what a scrape gets now: the lines of all factors, then the exporter's own metrics.

    If rendering the latter fails, the error is logged and the factors are served without them.
    """
    render = generate_openmetrics if openmetrics else generate_latest
    columns = factors.columns(openmetrics=openmetrics)
    try:
        columns.append(Column(render(own)))
    except Exception:
        log.exception("the exporter's own metrics are missing from a scrape: please report this")
        if openmetrics:
            columns.append(Column(_OPENMETRICS_END))
    return Snapshot(columns)


def exposition_of(samples: FactorSamples, record: FactorRecord, *, openmetrics: bool) -> bytes:
    """Return an exposition of one factor only, as ``/probe`` serves it."""
    factors = FactorExposition(samples)
    factors.update(record)
    return bytes(Snapshot(factors.columns(openmetrics=openmetrics))) + (_OPENMETRICS_END if openmetrics else b"")
