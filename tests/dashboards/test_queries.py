"""What the boards ask for is there: every metric, every label, every name in a legend."""

from __future__ import annotations

import re

import promql_parser
import pytest
from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector

from exporter.exposition.catalogue import CATALOGUE, FACTOR_LABELS, INFO_LABELS
from tests.support.dashboards.expressions import (
    BY_PROMETHEUS,
    answered_labels,
    labels_of,
    matchers,
    nodes,
    parsed,
    selectors,
)
from tests.support.dashboards.files import boards, events, filled, targets, variables

# Each series that the boards do without, and why.
NOT_SHOWN = {
    "twilio_verify_exporter_config_hash_info": "tells shards apart that run on different files: for `curl`",
    "twilio_verify_exporter_entities": "the table of entities shows each of them",
    "twilio_verify_exporter_shards": "for the alert on shards that are missing",
    "twilio_verify_exporter_shard_info": "for the alert on shards that are missing",
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


def test_there_is_something_to_look_at() -> None:
    assert len(EXPRESSIONS) > 100


@pytest.mark.parametrize("place", EXPRESSIONS)
def test_every_metric_and_every_label_is_there(place: str) -> None:
    tree = parsed(EXPRESSIONS[place])
    for selector in selectors(tree):
        assert set(matchers(selector)) <= labels_of(selector.name), selector.prettify()
    answered_labels(tree)


def test_a_metric_or_a_label_that_is_not_there_is_seen() -> None:
    with pytest.raises(KeyError, match="twilio_verify_factor_made_up"):
        answered_labels(parsed("sum(twilio_verify_factor_made_up)"))
    with pytest.raises(KeyError, match="twilio_verify_api_request_duration_seconds"):
        labels_of("twilio_verify_api_request_duration_seconds")
    with pytest.raises(AssertionError, match=r"no series has \['factor'\]"):
        answered_labels(parsed("sum by (factor) (twilio_verify_factors)"))
    with pytest.raises(AssertionError, match=r"not on both sides: \['factor'\]"):
        answered_labels(parsed("twilio_verify_factor_up and on (factor) twilio_verify_factors"))


def test_legends_name_labels_that_are_answered() -> None:
    for target in targets():
        labels = answered_labels(parsed(target.expression))
        assert set(re.findall(r"\{\{(\w+)\}\}", target.query.get("legendFormat", ""))) <= labels, str(target)


def test_events_name_labels_that_are_answered() -> None:
    for item in boards():
        for event in events(item):
            labels = answered_labels(parsed(event["expr"]))
            named = re.findall(r"\{\{(\w+)\}\}", event["titleFormat"] + event["textFormat"])
            assert set(named) | set(event["tagKeys"].split(",")) <= labels, event["name"]


def test_tables_have_columns_of_labels_that_are_answered() -> None:
    for item in boards():
        for panel in item["panels"]:
            if panel["type"] != "table":
                continue
            queries = [answered_labels(parsed(query["expr"])) for query in panel["targets"]]
            letters = [query["refId"] for query in panel["targets"]]
            values = {f"Value #{letter}" for letter in letters} if len(letters) > 1 else {"Value"}
            # The identity is there by choice only, and hidden; the alerts' own names are there always.
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
            assert [entry["displayName"] in headings for entry in panel["options"]["sortBy"]] == [True]


def test_every_family_of_the_catalogue_is_on_a_board() -> None:
    names = {selector.name for text in EXPRESSIONS.values() for selector in selectors(parsed(text))}
    asked = {re.sub(r"_bucket$", "", name) for name in names}
    assert {family.name for family in CATALOGUE} - asked == set(NOT_SHOWN)
    assert all(NOT_SHOWN.values())


def test_the_names_of_prometheus_client_are_its_own() -> None:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    shown = {sample.name for metric in registry.collect() for sample in metric.samples}
    assert {name for name in BY_PROMETHEUS if name.startswith(("process_", "python_"))} <= shown


def test_a_quantile_keeps_the_buckets() -> None:
    quantiles = [
        node
        for target in targets()
        for node in nodes(parsed(target.expression))
        if isinstance(node, promql_parser.Call) and node.func.name == "histogram_quantile"
    ]
    assert quantiles
    for node in quantiles:
        assert "le" in node.args[1].modifier.labels


def test_the_greatest_are_chosen_once_and_not_at_each_point() -> None:
    for target in targets():
        if "topk" in target.expression:
            once = target.query.get("instant") or "@ end()" in target.expression.partition("topk(")[2]
            assert once, str(target)


def test_a_factor_is_shown_once_whichever_exporter_tells_of_it() -> None:
    per_factor = {family.name for family in CATALOGUE if family.labels[: len(FACTOR_LABELS)] == FACTOR_LABELS}
    for target in targets():
        for node in nodes(parsed(target.expression)):
            if isinstance(node, promql_parser.VectorSelector) and node.name in per_factor:
                labels = answered_labels(parsed(target.expression))
                assert "instance" not in labels or set(INFO_LABELS) <= labels, str(target)


def test_parsing_sees_a_variable_that_is_not_there() -> None:
    with pytest.raises(KeyError, match="made_up"):
        filled('up{job=~"$made_up"}')


def test_what_happens_now_and_then_is_counted_once() -> None:
    for target in targets():
        if "increase(" in target.expression:
            # The window of a bar is longer than its step by one scrape: a wide step leaves little to count twice.
            assert target.panel["interval"] == "5m", str(target)
            assert target.panel["fieldConfig"]["defaults"]["custom"]["drawStyle"] == "bars", str(target)


def test_what_reads_every_factor_is_asked_for_few_points() -> None:
    for target in targets():
        of_all = "twilio_verify_factor_" in target.expression and "factor=~" in target.expression
        if of_all and not target.query.get("instant") and target.board.endswith("overview"):
            assert target.panel["maxDataPoints"] == 200, str(target)
