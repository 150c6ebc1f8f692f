"""What the dashboards show where there is nothing to show, or nothing is known."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import promql_parser

from grafana.boards.states import GREY
from tests.support.dashboards.files import boards, panels, parsed, targets
from tests.support.promql import nodes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def tables() -> Iterator[Mapping[str, Any]]:
    """Yield all tables."""
    for item in boards():
        yield from (panel for panel in panels(item) if panel["type"] == "table")


def test_empty_cells_are_empty() -> None:
    assert list(tables())
    for panel in tables():
        first, *others = panel["fieldConfig"]["overrides"]
        assert first["matcher"] == {"id": "byRegexp", "options": "/.*/"}, panel["title"]
        assert first["properties"] == [{"id": "noValue", "value": ""}], panel["title"]
        named = [rule["id"] for override in others for rule in override["properties"]]
        assert "noValue" not in named, panel["title"]


def test_a_panel_without_rows_says_what_that_means() -> None:
    of_rows = [panel for item in boards() for panel in panels(item) if panel["type"] in {"table", "state-timeline"}]
    said = [panel["fieldConfig"]["defaults"]["noValue"] for panel in of_rows]
    assert len(said) > 12
    assert [text for text in said if not re.search("no samples|known", text)] == []


def stats() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield all panels of single values, each with its place."""
    for item in boards():
        for panel in panels(item):
            if panel["type"] == "stat":
                yield f"{item['uid']}: {panel['title']}", panel


def test_a_value_without_samples_is_unknown_and_grey() -> None:
    assert len(list(stats())) > 20
    for place, panel in stats():
        defaults = panel["fieldConfig"]["defaults"]
        of_nothing = defaults["mappings"][-1]
        assert of_nothing["type"] == "special", place
        assert of_nothing["options"]["match"] == "null+nan", place
        assert of_nothing["options"]["result"] == {"text": "unknown", "color": GREY, "index": 0}, place
        assert defaults["noValue"] == "unknown", place


def test_no_query_has_a_result_without_samples() -> None:
    for target in targets():
        constants = [
            node.func.name
            for node in nodes(parsed(target.expression))
            if isinstance(node, promql_parser.Call) and node.func.name in {"vector", "absent", "absent_over_time"}
        ]
        assert constants == [], str(target)


def test_values_below_zero_are_grey() -> None:
    """See that what stands for an unknown value is shown as such."""
    seen = 0
    for place, panel in stats():
        for mapping in panel["fieldConfig"]["defaults"]["mappings"]:
            if mapping["type"] == "value" and "-1" in mapping["options"]:
                assert mapping["options"]["-1"]["color"] == GREY, place
                seen += 1
        below = any(re.search(r"(?<!\w)- 1\b", query["expr"]) for query in panel["targets"])
        assert below == any("-1" in item["options"] for item in panel["fieldConfig"]["defaults"]["mappings"]), place
    assert seen > 5


def test_a_graph_without_events_says_none() -> None:
    seen = 0
    for item in boards():
        for panel in panels(item):
            if panel["fieldConfig"]["defaults"].get("custom", {}).get("drawStyle") != "bars":
                continue
            legends = [query["legendFormat"] for query in panel["targets"]]
            assert legends[-1] == "none", panel["title"]
            assert len(legends) == len(set(legends)), panel["title"]
            seen += 1
    assert seen > 8
