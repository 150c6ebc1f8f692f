"""Reading PromQL expressions: their selectors, the series they read, and the labels of their results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import promql_parser

from exporter.exposition.catalogue import CATALOGUE, FACTOR_LABELS, MetricType
from grafana.rules.exporters import TOTAL_RECORD
from grafana.rules.factors import STATE
from grafana.rules.model import Settings
from grafana.rules.render import groups

if TYPE_CHECKING:
    from collections.abc import Iterator

TARGET_LABELS = frozenset({"job", "instance"})
FAMILIES = {family.name: family for family in CATALOGUE}
HISTOGRAM_LABELS = {"_bucket": frozenset({"le"}), "_count": frozenset[str](), "_sum": frozenset[str]()}
# Series of Prometheus and of the client library, with their labels.
OTHER_SERIES = {
    "up": frozenset[str](),
    "scrape_duration_seconds": frozenset[str](),
    "scrape_samples_scraped": frozenset[str](),
    "ALERTS": frozenset({"alertname", "alertstate", "severity", "account", "service_sid", "factor", "entity"}),
    "ALERTS_FOR_STATE": frozenset({"alertname", "severity", "account", "service_sid", "factor", "entity"}),
    "prometheus_notifications_alertmanagers_discovered": frozenset[str](),
    "process_start_time_seconds": frozenset[str](),
    "process_resident_memory_bytes": frozenset[str](),
    "process_cpu_seconds_total": frozenset[str](),
    "process_open_fds": frozenset[str](),
    "process_max_fds": frozenset[str](),
    "python_gc_collections_total": frozenset({"generation"}),
}
# Recorded series that dashboards read, with their labels; the rules drop the instance.
RECORDED_SERIES = {STATE: frozenset({"job", *FACTOR_LABELS}), TOTAL_RECORD: frozenset({"job"})}
_SET_OPERATORS = {"and", "or", "unless"}


def nodes(tree: Any) -> Iterator[Any]:
    """Yield the nodes of a parsed expression, outer ones first."""
    yield tree
    for name in ("expr", "lhs", "rhs", "param", "vector_selector"):
        below = getattr(tree, name, None)
        if below is not None and not isinstance(below, str | float | int):
            yield from nodes(below)
    for argument in getattr(tree, "args", None) or ():
        yield from nodes(argument)


def selectors(tree: Any) -> Iterator[Any]:
    """Yield the vector selectors of a parsed expression."""
    return (node for node in nodes(tree) if isinstance(node, promql_parser.VectorSelector))


def series_names(expression: str) -> set[str]:
    """Return the names of the series that an expression reads."""
    return {selector.name or "" for selector in selectors(promql_parser.parse(expression))}


def matchers(selector: Any) -> dict[str, list[tuple[str, str]]]:
    """Return the matchers of a selector by label: operators and values."""
    found: dict[str, list[tuple[str, str]]] = {}
    for matcher in selector.matchers.matchers:
        found.setdefault(matcher.name, []).append((str(matcher.op), matcher.value))
    return found


def exporter_series() -> set[str]:
    """Return the names of all series of the exporter, classic and native histograms among them."""
    histograms = [family.name for family in CATALOGUE if family.kind is MetricType.HISTOGRAM]
    return FAMILIES.keys() | {name + suffix for name in histograms for suffix in HISTOGRAM_LABELS}


def recorded_series() -> set[str]:
    """Return the names of all series that the recording rules record."""
    return {rule.record for group in groups(Settings()) for rule in group.recordings}


def existing_series() -> set[str]:
    """Return the names of all series that an expression may read."""
    return exporter_series() | recorded_series() | OTHER_SERIES.keys()


def labels_of(name: str) -> frozenset[str]:
    """Return the labels of a series, without labels that a user adds; KeyError for an unknown series.

    The name of a histogram is that of its native form.
    """
    if name in RECORDED_SERIES:
        return RECORDED_SERIES[name]
    family = FAMILIES.get(name)
    if family is not None:
        return frozenset(family.labels) | TARGET_LABELS
    for suffix, more in HISTOGRAM_LABELS.items():
        family = FAMILIES.get(name.removesuffix(suffix))
        if family is not None and name.endswith(suffix) and family.kind is MetricType.HISTOGRAM:
            return frozenset(family.labels) | TARGET_LABELS | more
    return OTHER_SERIES[name] | TARGET_LABELS


def result_labels(tree: Any) -> frozenset[str]:
    """Return the labels of the series that a parsed expression returns, without labels that a user adds."""
    match type(tree).__name__:
        case "VectorSelector":
            return labels_of(tree.name)
        case "MatrixSelector":
            return result_labels(tree.vector_selector)
        case "AggregateExpr":
            return _aggregated(tree)
        case "Call":
            found = frozenset[str]().union(*(result_labels(argument) for argument in tree.args))
            if tree.func.name == "label_replace":
                return found | {tree.args[1].val}
            return found - {"le"} if tree.func.name == "histogram_quantile" else found
        case "BinaryExpr":
            return _combined(tree)
        case "ParenExpr" | "SubqueryExpr" | "UnaryExpr":
            return result_labels(tree.expr)
        case "NumberLiteral" | "StringLiteral":
            return frozenset()
    raise AssertionError(f"labels of a {type(tree).__name__} are not implemented")


def _aggregated(tree: Any) -> frozenset[str]:
    below = result_labels(tree.expr)
    if str(tree.op) in {"topk", "bottomk"}:
        return below
    kept = frozenset(tree.modifier.labels) if tree.modifier is not None else frozenset[str]()
    assert kept <= below, f"{tree.prettify()}: no series has {sorted(kept - below)}"
    return kept | {tree.param.val} if str(tree.op) == "count_values" else kept


def _combined(tree: Any) -> frozenset[str]:
    left, right = result_labels(tree.lhs), result_labels(tree.rhs)
    matching = tree.modifier.matching if tree.modifier is not None else None
    if matching is not None and str(matching).startswith("on"):
        on = frozenset(matching.labels)
        assert on <= left & right, f"{tree.prettify()}: not on both sides: {sorted(on - (left & right))}"
    if str(tree.op) == "or":
        return left & right if left and right else left | right
    if str(tree.op) in _SET_OPERATORS or not right:
        return left
    card = str(tree.modifier.card) if tree.modifier is not None else ""
    if card.endswith("ManyToOne"):
        return left | frozenset(tree.modifier.group_labels)
    if card.endswith("OneToMany"):
        return right | frozenset(tree.modifier.group_labels)
    return left or right
