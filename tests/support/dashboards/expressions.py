"""What is in an expression of PromQL: its selectors, its calls, and the labels of what it answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import promql_parser

from exporter.exposition.catalogue import CATALOGUE, MetricType
from tests.support.dashboards.files import filled

if TYPE_CHECKING:
    from collections.abc import Iterator

TARGET_LABELS = frozenset({"job", "instance"})
FAMILIES = {family.name: family for family in CATALOGUE}
BY_PROMETHEUS = {
    "up": frozenset[str](),
    "scrape_duration_seconds": frozenset[str](),
    "scrape_samples_scraped": frozenset[str](),
    "ALERTS": frozenset({"alertname", "alertstate", "severity", "account", "service_sid", "factor"}),
    "process_start_time_seconds": frozenset[str](),
    "process_resident_memory_bytes": frozenset[str](),
    "process_cpu_seconds_total": frozenset[str](),
    "process_open_fds": frozenset[str](),
    "process_max_fds": frozenset[str](),
    "python_gc_collections_total": frozenset({"generation"}),
}
_SET_OPERATORS = {"and", "or", "unless"}


def parsed(expression: str) -> Any:
    """Return the tree of an expression, its variables filled; ValueError where it can't be parsed."""
    return promql_parser.parse(filled(expression))


def nodes(tree: Any) -> Iterator[Any]:
    """Yield a tree's nodes, the outer ones first."""
    yield tree
    for name in ("expr", "lhs", "rhs", "param", "vector_selector"):
        below = getattr(tree, name, None)
        if below is not None and not isinstance(below, str | float | int):
            yield from nodes(below)
    for argument in getattr(tree, "args", None) or ():
        yield from nodes(argument)


def selectors(tree: Any) -> Iterator[Any]:
    """Yield the selectors of series."""
    return (node for node in nodes(tree) if isinstance(node, promql_parser.VectorSelector))


def matchers(selector: Any) -> dict[str, list[tuple[str, str]]]:
    """Return what a selector asks of each label: operators and values."""
    found: dict[str, list[tuple[str, str]]] = {}
    for matcher in selector.matchers.matchers:
        found.setdefault(matcher.name, []).append((str(matcher.op), matcher.value))
    return found


def labels_of(name: str) -> frozenset[str]:
    """Return the labels that a series of this name has, those that a user adds apart; KeyError for an unknown one.

    The parts of a histogram are known, the histogram itself is no series.
    """
    family = FAMILIES.get(name)
    if family is not None and family.kind is not MetricType.HISTOGRAM:
        return frozenset(family.labels) | TARGET_LABELS
    for suffix, more in (("_bucket", {"le"}), ("_sum", set[str]()), ("_count", set[str]())):
        family = FAMILIES.get(name.removesuffix(suffix))
        if family is not None and name.endswith(suffix) and family.kind is MetricType.HISTOGRAM:
            return frozenset(family.labels) | TARGET_LABELS | more
    return BY_PROMETHEUS[name] | TARGET_LABELS


def answered_labels(tree: Any) -> frozenset[str]:
    """Return the labels of the series that an expression answers, those that a user adds apart."""
    match type(tree).__name__:
        case "VectorSelector":
            return labels_of(tree.name)
        case "MatrixSelector":
            return answered_labels(tree.vector_selector)
        case "AggregateExpr":
            return _aggregated(tree)
        case "Call":
            found = frozenset[str]().union(*(answered_labels(argument) for argument in tree.args))
            return found - {"le"} if tree.func.name == "histogram_quantile" else found
        case "BinaryExpr":
            return _combined(tree)
        case "ParenExpr" | "SubqueryExpr" | "UnaryExpr":
            return answered_labels(tree.expr)
        case "NumberLiteral":
            return frozenset()
    raise AssertionError(f"what labels has a {type(tree).__name__}?")


def _aggregated(tree: Any) -> frozenset[str]:
    below = answered_labels(tree.expr)
    if str(tree.op) in {"topk", "bottomk"}:
        return below
    kept = frozenset(tree.modifier.labels) if tree.modifier is not None else frozenset[str]()
    assert kept <= below, f"{tree.prettify()}: no series has {sorted(kept - below)}"
    return kept


def _combined(tree: Any) -> frozenset[str]:
    left, right = answered_labels(tree.lhs), answered_labels(tree.rhs)
    matching = tree.modifier.matching if tree.modifier is not None else None
    if matching is not None:
        on = frozenset(matching.labels)
        assert on <= left & right, f"{tree.prettify()}: not on both sides: {sorted(on - (left & right))}"
    if str(tree.op) == "or":
        return left & right if left and right else left | right
    if str(tree.op) in _SET_OPERATORS or not right:
        return left
    return left or right
