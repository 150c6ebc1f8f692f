"""What people see first: what happens now, the cause before its effects, and nothing cut or buried."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import promql_parser
import pytest
import yaml

from benchmarks.boards import WIDTH, panel_step_seconds, step_seconds
from grafana.boards.states import Scope
from grafana.rules.model import Settings
from tests.support.dashboards.files import board, boards, events, panels, parsed, targets
from tests.support.promql import matchers, nodes, result_labels, selectors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).parents[2]

RANGES_SECONDS = (15 * 60, 3600, 6 * 3600)
# The widths of characters of Grafana's font at 14 pixels: narrow ones, wide ones, capitals, all others.
NARROW, WIDE = "fijlrt.,:;'()|- I", "mwMW%@"


def test_what_happens_now_shows_within_a_minute() -> None:
    # Grafana queries up to the last full step, so the newest point is at most a step old.
    late = [
        f"{target}: {step} s in {range_seconds // 60} min"
        for target in targets()
        if not target.query.get("instant")
        for range_seconds in RANGES_SECONDS
        if (step := panel_step_seconds(target.panel, range_seconds, 15)) > 60
    ]
    assert late == []


def test_steps_are_those_of_grafana() -> None:
    assert [step_seconds(6 * 3600, points, 5) for points in (2000, 464, 360, 200)] == [10, 60, 60, 120]
    assert step_seconds(900, 464, 300) == 300


def test_bars_count_each_event_once() -> None:
    bars = [target for target in targets() if is_bar(target.panel)]
    assert len(bars) > 5
    for target in bars:
        assert "[$__rate_interval]" in target.expression, str(target)
        assert "* $__interval_ms / 1000" in target.expression, str(target)
    # The window of a rate is longer than the step: an increase would be drawn in several bars.
    assert [str(target) for target in targets() if re.search(r"\bincrease\(", target.expression)] == []


def is_bar(panel: object) -> bool:
    return isinstance(panel, dict) and panel["fieldConfig"]["defaults"].get("custom", {}).get("drawStyle") == "bars"


def test_the_timeline_is_in_the_order_of_urgency() -> None:
    (target,) = (
        item for item in targets(board("twilio-verify-overview")) if item.panel["title"] == "Status over time"
    )
    # Prometheus sorts series by label, so the first one decides.
    labels = result_labels(parsed(target.expression))
    tree = parsed(target.expression)
    ranks = [node.param.val for node in nodes(tree) if str(getattr(node, "op", "")) == "count_values"]
    assert {min(labels)} == set(ranks)
    # Each rank has two digits, so the order of the texts is that of the numbers.
    numbers = [199 - (100 + 10 * state + worst) for state in range(5) for worst in range(1, 5)]
    assert all(10 <= number <= 99 for number in numbers)
    assert "199 - (topk($rows, " in target.expression


@pytest.mark.parametrize("uid", [item["uid"] for item in boards()])
def test_annotations_leave_the_series_visible(uid: str) -> None:
    marked = {event["name"]: event for event in events(board(uid))}
    assert set(marked) == {"Losses", "Restarts", "Reloads", "Refused reloads"}
    # Of one factor, there are few; of a fleet, there may be one in every step.
    assert {name for name, event in marked.items() if not event["enable"]} == (
        set() if uid == "twilio-verify-factor" else {"Losses"}
    )
    # A condition that lasts would colour the graphs as a span.
    assert "unless" in marked["Refused reloads"]["expr"]
    assert "offset 60s" in marked["Refused reloads"]["expr"]


def test_only_losses_are_annotated() -> None:
    for item in boards():
        (losses,) = (event for event in events(item) if event["name"] == "Losses")
        if item["uid"] == "twilio-verify-factor":
            assert ") > (" in losses["expr"]
            continue
        (selector,) = selectors(parsed(losses["expr"]))
        assert matchers(selector)["from"] == [("MatchOp.NotEqual", "not_found")]
        assert matchers(selector)["to"] == [("MatchOp.NotEqual", "verified")]


def width(text: str) -> float:
    """Return the approximate width of a text in pixels."""
    return sum(4.8 if char in NARROW else 12.0 if char in WIDE else 9.5 if char.isupper() else 8.2 for char in text)


def columns(panel: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the formats of a table's columns, by label or value."""
    return {
        item["matcher"]["options"]: {rule["id"]: rule["value"] for rule in item["properties"]}
        for item in panel["fieldConfig"]["overrides"]
        if item["matcher"]["id"] == "byName"
    }


def panel_of(uid: str, title: str) -> Mapping[str, Any]:
    (found,) = (panel for panel in panels(board(uid)) if panel["title"] == title)
    return found


def alerting_rules() -> Iterator[Mapping[str, Any]]:
    for path in sorted((ROOT / "grafana" / "rules").glob("*.rules.yaml")):
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            yield from (rule for rule in group["rules"] if "alert" in rule)


# Alerts


def test_alerts_are_sorted_by_severity_and_scope() -> None:
    table = panel_of("twilio-verify-overview", "Alerts")
    assert table["gridPos"]["w"] == 24
    assert [(by["displayName"], by["desc"]) for by in table["options"]["sortBy"]] == [
        ("Severity", False),
        ("Scope", False),
        ("State", False),
        ("For", True),
    ]
    # Texts are sorted as such, and numbers as numbers, whatever text stands for them.
    assert sorted(["warning", "critical"]) == ["critical", "warning"]
    assert sorted(["pending", "firing"]) == ["firing", "pending"]
    formats = columns(table)
    assert formats["Value #A"]["displayName"] == "Scope"
    ((mapping,), unit) = formats["Value #A"]["mappings"], formats["Value #B"]["unit"]
    texts = {int(number): shown["text"] for number, shown in mapping["options"].items()}
    assert [texts[number] for number in sorted(texts)] == ["exporter", "account", "service", "entity", "factor"]
    assert (formats["Value #B"]["displayName"], unit) == ("For", "s")


def test_the_narrowest_label_is_the_scope() -> None:
    scopes = panel_of("twilio-verify-overview", "Alerts")["targets"][0]["expr"]
    found = re.findall(r'(\d) \* ALERTS\{[^}]*?(?:, (\w+)!="")?\}', scopes)
    assert [(int(number), label) for number, label in found] == [
        (Scope.FACTOR, "factor"),
        (Scope.ENTITY, "entity"),
        (Scope.SERVICE, "service_sid"),
        (Scope.ACCOUNT, "account"),
        (Scope.EXPORTER, ""),
    ]


def test_alerts_lead_to_their_runbooks() -> None:
    (link,) = columns(panel_of("twilio-verify-overview", "Alerts"))["alertname"]["links"]
    for rule in alerting_rules():
        url = link["url"].replace("${__data.fields.alertname}", rule["alert"])
        assert url == rule["annotations"]["runbook_url"]
        assert (ROOT / "docs" / "runbooks" / f"{rule['alert']}.md").is_file()


def test_names_of_alerts_are_not_cut() -> None:
    (longest,) = sorted((rule["alert"] for rule in alerting_rules()), key=width)[-1:]
    assert columns(panel_of("twilio-verify-overview", "Alerts"))["alertname"]["custom.width"] >= width(longest)


# Texts, axes and colours


def test_sids_are_not_cut() -> None:
    for item in boards():
        for panel in panels(item):
            for name, column in columns(panel).items():
                if name.endswith("_sid"):
                    # 34 digits of medium width, and the padding.
                    assert column["custom.width"] >= 34 * 8.6 + 12, panel["title"]


def test_the_job_that_the_rules_expect_is_not_cut() -> None:
    found = [of for item in boards() for panel in panels(item) for of in [columns(panel).get("job")] if of]
    assert [of["custom.width"] >= width(Settings().job) for of in found] == [True] * 3


def test_titles_are_not_cut() -> None:
    # A panel has a gap of 8 pixels, paddings, and the icon of its description.
    cut = {
        panel["title"]
        for item in boards()
        for panel in panels(item)
        if width(panel["title"]) > WIDTH * panel["gridPos"]["w"] / 24 - 70
    }
    assert cut == set()


def test_axes_of_zeros_end_at_a_small_value() -> None:
    # Grafana draws an axis of zeros up to 100, or 10,000%.
    for item in boards():
        for panel in panels(item):
            if panel["type"] == "timeseries":
                defaults = panel["fieldConfig"]["defaults"]
                most = 1e6 if defaults["unit"] == "bytes" else 1
                assert 0 < defaults["custom"]["axisSoftMax"] <= most, panel["title"]


def test_every_share_has_colours() -> None:
    # A single colour says that 11% is as good as 100%.
    shares = [
        panel
        for item in boards()
        for panel in panels(item)
        if panel["type"] == "stat" and panel["fieldConfig"]["defaults"]["unit"] == "percentunit"
    ]
    assert len(shares) == 2
    for panel in shares:
        colours = [step["color"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]]
        assert sorted(colours) == ["green", "orange", "red"], panel["title"]


def test_a_tile_has_one_value_or_names_them() -> None:
    # Tiles of many series are too small to read, and two values without a name are a riddle.
    for item in boards():
        for panel in panels(item):
            if panel["type"] != "stat":
                continue
            (target,) = panel["targets"]
            labels = result_labels(parsed(target["expr"]))
            if item["uid"] == "twilio-verify-factor":
                # Grafana shows the name only if there are several values: of factors of the same name.
                assert panel["options"]["textMode"] == "auto", panel["title"]
                assert target["legendFormat"] == "{{account}} {{service_sid}}", panel["title"]
                assert {"account", "service_sid"} <= labels, panel["title"]
            else:
                assert labels <= ({"version"} if panel["title"] == "Version" else set()), panel["title"]


def test_no_verified_factor_is_said_only_if_known() -> None:
    entities = panel_of("twilio-verify-overview", "Entities")
    (mapping,) = columns(entities)["Value #A"]["mappings"]
    assert {value: (shown["text"], shown["color"]) for value, shown in mapping["options"].items()} == {
        "0": ("0: none", "red"),
        "0.5": ("? unknown", "#8e8e8e"),
    }
    expression = entities["targets"][0]["expr"]
    assert re.search(r'status="verified"\}\) == 0\) \+ 0\.5 and on .*status="unknown"\}\) > 0\) or', expression)


# Cost


def unselected(tree: Any) -> Iterator[Any]:
    """Yield the selectors below a node that are read at each point, without those joined with a few factors."""
    modifier = tree.modifier if isinstance(tree, promql_parser.BinaryExpr) else None
    if modifier is not None and str(modifier.card).endswith("ManyToOne"):
        return
    if isinstance(tree, promql_parser.VectorSelector) and tree.at is None:
        yield tree
    for name in ("expr", "lhs", "rhs", "vector_selector"):
        if getattr(tree, name, None) is not None:
            yield from unselected(getattr(tree, name))
    for argument in getattr(tree, "args", None) or ():
        yield from unselected(argument)


def test_no_graph_aggregates_every_factor_at_each_point() -> None:
    # With 2,000 factors, that takes seconds: ten times as long as reading their samples.
    found = [
        f"{target}: {node.prettify()}"
        for target in targets(board("twilio-verify-overview"))
        if not target.query.get("instant")
        for node in nodes(parsed(target.expression))
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None
        if "factor" in node.modifier.labels and list(unselected(node.expr))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("uid", "collapsed"),
    [
        ("twilio-verify-overview", 2),
        ("twilio-verify-factor", 0),
        ("twilio-verify-exporter", 3),
    ],
)
def test_rarely_used_rows_are_collapsed(uid: str, collapsed: int) -> None:
    rows = [item for item in board(uid)["panels"] if item["type"] == "row"]
    assert [row["collapsed"] for row in rows].count(True) == collapsed
    # The first rows are those that an alert leads to.
    assert not any(row["collapsed"] for row in rows[:2])
