"""The whole exposition of one moment, in pieces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from exporter.exposition.factors import FactorExposition


def exposition(factors: FactorExposition, own: CollectorRegistry, *, openmetrics: bool) -> list[bytes]:
    """Return the pieces of a scrape: the ready lines of all factors, then the exporter's own metrics."""
    render = generate_openmetrics if openmetrics else generate_latest
    pieces = factors.pieces(openmetrics=openmetrics)
    pieces.append(render(own))
    return pieces
