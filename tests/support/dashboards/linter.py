"""The rules of Grafana's dashboard linter (grafana/dashboard-linter, docs/index.md) for Prometheus dashboards.

Each rule yields its complaints about a dashboard as (panel or variable, message). Rule names are the linter's.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import promql_parser

from tests.support.dashboards.files import filled, panels, parsed, targets, variables
from tests.support.promql import matchers, nodes, selectors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Board = Mapping[str, Any]
    Complaints = Iterator[tuple[str, str]]
    Rule = Callable[[Board], Complaints]

SOURCES = {"$datasource", "${datasource}"}
PANELS_WITH_UNITS = {"stat", "singlestat", "graph", "table", "timeseries", "gauge"}
# The units of grafana-data's valueFormats that are used here; the linter has the whole list.
UNITS = {
    "none",
    "short",
    "locale",
    "percentunit",
    "bytes",
    "s",
    "reqps",
    "ops",
    "dateTimeFromNow",
    "dateTimeAsIso",
}
_LABEL_VALUES = re.compile(r"label_values\((?P<series>.+), *(?P<label>\w+)\)")


def template_datasource(board: Board) -> Complaints:
    found = [item for item in variables(board).values() if item["type"] == "datasource"]
    if [item["name"] for item in found] != ["datasource"]:
        yield "datasource", "there must be exactly one data source variable with this name"
    for item in found:
        if item.get("label") != "Data source":
            yield item["name"], "its label must be Data source"
        if item.get("query") != "prometheus":
            yield item["name"], "it must select Prometheus data sources"


def _choice(board: Board, name: str) -> Complaints:
    item = variables(board).get(name)
    if item is None:
        yield name, "is missing"
        return
    wanted = {"type": "query", "label": name.capitalize(), "multi": True, "allValue": ".+"}
    for key, value in wanted.items():
        if item.get(key) != value:
            yield name, f"{key} must be {value}"
    if item.get("datasource", {}).get("uid") not in SOURCES:
        yield name, "must use the data source variable"


def template_job(board: Board) -> Complaints:
    yield from _choice(board, "job")


def template_instance(board: Board) -> Complaints:
    yield from _choice(board, "instance")


def template_label_promql(board: Board) -> Complaints:
    for name, item in variables(board).items():
        if item["type"] != "query":
            continue
        found = _LABEL_VALUES.fullmatch(item["query"]["query"])
        if found is None:
            yield name, "is not label_values(series, label)"
            continue
        try:
            promql_parser.parse(filled(found["series"]))
        except ValueError as error:
            yield name, str(error)


def template_on_time_change_reload(board: Board) -> Complaints:
    for name, item in variables(board).items():
        if item["type"] == "query" and item.get("refresh") != 2:
            yield name, "must refresh on time range change (refresh 2)"


def panel_datasource(board: Board) -> Complaints:
    for panel in panels(board):
        for place in (panel, *panel.get("targets", [])):
            if place.get("datasource", {}).get("uid") not in SOURCES:
                yield panel["title"], "must use the data source variable"


def panel_title_description(board: Board) -> Complaints:
    for panel in panels(board):
        if not panel.get("title"):
            yield str(panel["id"]), "has no title"
        if not panel.get("description"):
            yield panel["title"], "has no description"


def panel_units(board: Board) -> Complaints:
    for panel in panels(board):
        config = panel["fieldConfig"]
        rules = [rule for override in config["overrides"] for rule in override["properties"]]
        units = [config["defaults"].get("unit"), *(rule["value"] for rule in rules if rule["id"] == "unit")]
        if panel["type"] in PANELS_WITH_UNITS and not set(units) <= UNITS:
            yield panel["title"], f"units unknown to Grafana: {units}"


def panel_no_targets(board: Board) -> Complaints:
    for panel in panels(board):
        if not panel.get("targets"):
            yield panel["title"], "has no queries"


def target_promql(board: Board) -> Complaints:
    for target in targets(board):
        try:
            parsed(target.expression)
        except ValueError as error:
            yield target.panel["title"], str(error)
        # The linter has a placeholder without quotes for a variable whose values are whole matchers.
        for label in re.findall(r"(\w+)=\$", target.expression):
            yield target.panel["title"], f"{label} has a matcher from a variable, which the linter can't parse"


def target_rate_interval(board: Board) -> Complaints:
    for target in targets(board):
        windows = re.findall(r"\b(?:rate|irate|increase)\((?:[^()]|\([^()]*\))*\[([^\]]*)\]\)", target.expression)
        calls = [
            node
            for node in nodes(parsed(target.expression))
            if isinstance(node, promql_parser.Call) and node.func.name in {"rate", "irate", "increase"}
        ]
        if len(windows) != len(calls) or any(window != "$__rate_interval" for window in windows):
            yield target.panel["title"], f"rates must use $__rate_interval, not {windows}"


def _matcher(board: Board, label: str) -> Complaints:
    wanted = ("MatchOp.Re", f"${label}")
    for target in targets(board):
        # This variable stays unfilled, so that the matcher can be recognised.
        tree = promql_parser.parse(filled(target.expression, {label: f"${label}"}))
        for selector in selectors(tree):
            if wanted not in matchers(selector).get(label, []):
                yield target.panel["title"], f'{selector.name} does not filter by {label}=~"${label}"'


def target_job(board: Board) -> Complaints:
    yield from _matcher(board, "job")


def target_instance(board: Board) -> Complaints:
    yield from _matcher(board, "instance")


def target_counter_agg(board: Board) -> Complaints:
    for target in targets(board):
        names = [selector.name for selector in selectors(parsed(target.expression))]
        names = [name for name in names if name.endswith("_total")]
        under_rate = re.findall(r"\b(?:rate|irate|increase)\((\w+_total)\{", target.expression)
        if sorted(names) != sorted(under_rate):
            yield target.panel["title"], "counters need rate, irate or increase"


def uneditable_dashboard(board: Board) -> Complaints:
    if board.get("editable") is not False:
        yield board["uid"], "must not be editable"


def _loki(board: Board) -> Complaints:
    for panel in panels(board):
        for place in (panel, *panel.get("targets", [])):
            if place.get("datasource", {}).get("type") != "prometheus":
                yield (
                    panel["title"],
                    "uses a data source other than Prometheus, whose rules are not implemented",
                )


def target_logql(board: Board) -> Complaints:
    yield from _loki(board)


def target_logql_auto(board: Board) -> Complaints:
    yield from _loki(board)


RULES: dict[str, Rule] = {
    f"{rule.__name__.replace('_', '-')}-rule": rule
    for rule in (
        template_datasource,
        template_job,
        template_instance,
        template_label_promql,
        template_on_time_change_reload,
        panel_datasource,
        panel_title_description,
        panel_units,
        panel_no_targets,
        target_promql,
        target_rate_interval,
        target_job,
        target_instance,
        target_counter_agg,
        uneditable_dashboard,
        target_logql,
        target_logql_auto,
    )
}
