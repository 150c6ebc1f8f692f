"""Dashboard queries use existing metrics and labels, also in legends, annotations and columns."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import promql_parser
import pytest
from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector

from exporter.exposition.catalogue import CATALOGUE, FACTOR_LABELS, INFO_LABELS, MetricType
from tests.support.dashboards.files import boards, events, filled, panels, parsed, targets, variables
from tests.support.promql import OTHER_SERIES, labels_of, matchers, nodes, result_labels, selectors

if TYPE_CHECKING:
    from collections.abc import Iterator

# Metrics that no dashboard shows, and why.
NOT_SHOWN = {
    "twilio_verify_exporter_config_hash_info": "compares the files of shards, with `curl`",
    "twilio_verify_exporter_web_tls_enabled": "for checks of security across many exporters",
    "twilio_verify_exporter_web_auth_enabled": "for checks of security across many exporters",
    "twilio_verify_exporter_entities": "the table of entities lists them",
    "twilio_verify_exporter_discovery_interval_seconds": "for the alert about entities that can't be listed",
    "twilio_verify_exporter_watchlist_listed_factors": "for the alert about missing shards",
    "twilio_verify_exporter_watchlist_total_factors": "for the alert about missing shards",
    "twilio_verify_exporter_log_lines_dropped_total": "explains gaps in the log, with `curl`",
    "twilio_verify_exporter_shards": "for the alert about missing shards",
    "twilio_verify_exporter_shard_info": "for the alert about missing shards",
}
EXPRESSIONS = {
    **{str(target): target.expression for target in targets()},
    **{f"{item['uid']}: event {event['name']}": event["expr"] for item in boards() for event in events(item)},
    **{
        f"{item['uid']}: variable {name}": variable["query"]["query"]
        .removeprefix("label_values(")
        .rpartition(",")[0]
        for item in boards()
        for name, variable in variables(item).items()
        if variable["type"] == "query"
    },
}


def test_metrics_and_labels_exist() -> None:
    assert len(EXPRESSIONS) > 100
    assert [f"{place}: {what}" for place, text in EXPRESSIONS.items() for what in unknown_names(text)] == []


def unknown_names(expression: str) -> Iterator[str]:
    """Yield the metrics and labels of a query that do not exist."""
    tree = parsed(expression)
    try:
        for selector in selectors(tree):
            yield from sorted(set(matchers(selector)) - labels_of(selector.name))
        result_labels(tree)
    except (KeyError, AssertionError) as error:
        yield str(error)


def test_unknown_metrics_and_labels_are_detected() -> None:
    assert list(unknown_names("sum(twilio_verify_factor_made_up)")) == ["'twilio_verify_factor_made_up'"]
    assert list(unknown_names('sum(up{made_up="1"})')) == ["made_up"]
    assert list(unknown_names("sum by (made_up) (up)")) == ["sum by (made_up) (up): no series has ['made_up']"]
    with pytest.raises(KeyError, match="twilio_verify_factor_made_up"):
        result_labels(parsed("sum(twilio_verify_factor_made_up)"))
    with pytest.raises(KeyError, match="twilio_verify_exporter_queue_length_bucket"):
        labels_of("twilio_verify_exporter_queue_length_bucket")
    with pytest.raises(AssertionError, match=r"no series has \['factor'\]"):
        result_labels(parsed("sum by (factor) (twilio_verify_factors)"))
    with pytest.raises(AssertionError, match=r"not on both sides: \['factor'\]"):
        result_labels(parsed("twilio_verify_factor_up and on (factor) twilio_verify_factors"))


def test_legends_use_existing_labels() -> None:
    for target in targets():
        labels = result_labels(parsed(target.expression))
        assert set(re.findall(r"\{\{(\w+)\}\}", target.query.get("legendFormat", ""))) <= labels, str(target)


def test_annotations_use_existing_labels() -> None:
    for item in boards():
        for event in events(item):
            labels = result_labels(parsed(event["expr"]))
            named = re.findall(r"\{\{(\w+)\}\}", event["titleFormat"] + event["textFormat"])
            assert set(named) | set(event["tagKeys"].split(",")) <= labels, event["name"]


def test_table_columns_are_existing_labels() -> None:
    for item in boards():
        for panel in panels(item):
            if panel["type"] != "table":
                continue
            queries = [result_labels(parsed(query["expr"])) for query in panel["targets"]]
            letters = [query["refId"] for query in panel["targets"]]
            values = {f"Value #{letter}" for letter in letters} if len(letters) > 1 else {"Value"}
            # The identity is optional, and hidden; __name__ is always present on alerts.
            known = values | set().union(*queries) | {"Time", "__name__"}
            organize = panel["transformations"][1]["options"]
            named = {*organize["excludeByName"], *organize["indexByName"]}
            assert named <= known, panel["title"]
            assert values <= named, panel["title"]
            headings = [
                rule["value"]
                for override in panel["fieldConfig"]["overrides"]
                for rule in override["properties"]
                if rule["id"] == "displayName"
            ]
            sorted_by = [entry["displayName"] for entry in panel["options"]["sortBy"]]
            assert sorted_by, panel["title"]
            assert set(sorted_by) <= set(headings), panel["title"]


def test_every_metric_is_on_a_dashboard() -> None:
    names = {selector.name for text in EXPRESSIONS.values() for selector in selectors(parsed(text))}
    shown_families = {re.sub(r"_bucket$", "", name) for name in names}
    assert {family.name for family in CATALOGUE} - shown_families == set(NOT_SHOWN)
    assert all(NOT_SHOWN.values())


def test_process_and_python_metrics_are_those_of_prometheus_client() -> None:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    shown = {sample.name for metric in registry.collect() for sample in metric.samples}
    assert {name for name in OTHER_SERIES if name.startswith(("process_", "python_"))} <= shown


HISTOGRAMS = {family.name for family in CATALOGUE if family.kind is MetricType.HISTOGRAM}


CLASSIC = re.compile("_(bucket|count|sum)$")


def histogram_readers(expression: str) -> list[tuple[str, frozenset[str]]]:
    """Return the series of histograms that a query aggregates, each with the labels that are kept."""
    return [
        (selector.name, frozenset(node.modifier.labels if node.modifier is not None else ()))
        for node in nodes(parsed(expression))
        if isinstance(node, promql_parser.AggregateExpr)
        for selector in selectors(node)
        if CLASSIC.sub("", selector.name) in HISTOGRAMS
    ]


def test_classic_and_native_histograms_are_both_read() -> None:
    seen = set()
    for target in targets():
        assert not re.search(r"\ble *(=|!)", target.expression), f"{target}: pipelines rename the bounds of buckets"
        read = histogram_readers(target.expression)
        classic = {(CLASSIC.sub("", name), labels - {"le"}) for name, labels in read if CLASSIC.search(name)}
        native = {(name, labels) for name, labels in read if not CLASSIC.search(name)}
        assert classic == native, str(target)
        assert all("le" in labels for name, labels in read if name.endswith("_bucket")), str(target)
        seen |= {name for name, _ in native}
    assert seen == HISTOGRAMS
    (name,) = HISTOGRAMS & {"twilio_verify_exporter_schedule_lag_seconds"}
    assert histogram_readers(f"sum by (le) (rate({name}_bucket[5m]))") == [(f"{name}_bucket", frozenset({"le"}))]


def test_topk_is_evaluated_once_per_query() -> None:
    for target in targets():
        if "topk" in target.expression:
            once = target.query.get("instant") or "@ end()" in target.expression.partition("topk(")[2]
            assert once, str(target)


def test_a_factor_is_shown_once_for_all_instances() -> None:
    per_factor = {family.name for family in CATALOGUE if family.labels[: len(FACTOR_LABELS)] == FACTOR_LABELS}
    for target in targets():
        for node in nodes(parsed(target.expression)):
            if isinstance(node, promql_parser.VectorSelector) and node.name in per_factor:
                labels = result_labels(parsed(target.expression))
                assert "instance" not in labels or set(INFO_LABELS) <= labels, str(target)


def test_unknown_variables_are_detected() -> None:
    with pytest.raises(KeyError, match="made_up"):
        filled('up{job=~"$made_up"}')


def test_queries_over_all_factors_have_few_points() -> None:
    for target in targets():
        of_all = "twilio_verify_factor_" in target.expression and "factor=" in target.expression
        if of_all and not target.query.get("instant") and target.board.endswith("overview"):
            assert target.panel["maxDataPoints"] == 360, str(target)
