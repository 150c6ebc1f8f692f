"""The series that a PromQL expression reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import promql_parser

from exporter.exposition.catalogue import CATALOGUE, MetricType
from grafana.rules.model import Settings
from grafana.rules.render import groups

if TYPE_CHECKING:
    from collections.abc import Iterator

HISTOGRAM_SUFFIXES = ("_bucket", "_count", "_sum")
# Series of Prometheus and of the client library.
FOREIGN = {
    "up",
    "ALERTS",
    "process_start_time_seconds",
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "prometheus_notifications_alertmanagers_discovered",
}


def own_series() -> set[str]:
    """Return the names of all series that the exporter exposes."""
    names: set[str] = set()
    for family in CATALOGUE:
        if family.kind is MetricType.HISTOGRAM:
            names.update(family.name + suffix for suffix in HISTOGRAM_SUFFIXES)
        else:
            names.add(family.name)
    return names


def recorded_series() -> set[str]:
    """Return the names of all recorded series."""
    return {rule.record for group in groups(Settings()) for rule in group.recordings}


def nodes(expression: str) -> Iterator[promql_parser.Expr]:
    """Yield every part of an expression."""
    todo = [promql_parser.parse(expression)]
    while todo:
        node = todo.pop()
        yield node
        match node:
            case promql_parser.BinaryExpr():
                todo += [node.lhs, node.rhs]
            case promql_parser.AggregateExpr():
                todo += [node.expr, *([node.param] if node.param is not None else [])]
            case promql_parser.ParenExpr() | promql_parser.SubqueryExpr() | promql_parser.UnaryExpr():
                todo.append(node.expr)
            case promql_parser.Call():
                todo += node.args
            case promql_parser.MatrixSelector():
                todo.append(node.vector_selector)


def series(expression: str) -> set[str]:
    """Return the names of the series that an expression reads."""
    return {node.name or "" for node in nodes(expression) if isinstance(node, promql_parser.VectorSelector)}
