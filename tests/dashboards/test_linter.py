"""The dashboards pass Grafana's dashboard linter, with justified exclusions; every rule detects violations."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from grafana.rules.exporters import TOTAL_RECORD
from grafana.rules.factors import STATE
from tests.support.dashboards.files import board, boards, panels, targets
from tests.support.dashboards.linter import RULES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

OVERVIEW, FACTOR = "twilio-verify-overview", "twilio-verify-factor"
LINT = Path(__file__).parents[2] / "grafana" / "mixin" / ".lint"


def exclusions() -> dict[tuple[str, str, str], str]:
    """Return the reasons of the linter's own file, by rule, dashboard and panel."""
    uids = {item["title"]: item["uid"] for item in boards()}
    found = {}
    for rule, about in yaml.safe_load(LINT.read_text(encoding="utf-8"))["exclusions"].items():
        for entry in about["entries"]:
            place = (rule, uids[entry["dashboard"]], entry["panel"])
            assert place not in found, place
            found[place] = entry.get("reason", about["reason"])
    return found


EXCLUSIONS = exclusions()
# What the excluded complaints are about: series without the label, and a label.
ABOUT = {
    "target-job-rule": {"ALERTS", "ALERTS_FOR_STATE"},
    "target-instance-rule": {"ALERTS", "ALERTS_FOR_STATE", STATE, TOTAL_RECORD},
    "target-promql-rule": {"factor"},
}


def complaints(rule: str) -> dict[tuple[str, str, str], str]:
    """Return the complaints of a rule about all dashboards, including excluded ones."""
    return {(rule, item["uid"], where): what for item in boards() for where, what in RULES[rule](item)}


def test_there_are_seventeen_rules() -> None:
    assert len(RULES) == 17


def test_dashboards_pass() -> None:
    found = {place: what for rule in RULES for place, what in complaints(rule).items()}
    assert {place: what for place, what in found.items() if place not in EXCLUSIONS} == {}


def test_exclusions_are_needed_and_cover_no_other_series() -> None:
    series: dict[tuple[str, str, str], set[str]] = {}
    for rule in RULES:
        for item in boards():
            for panel, what in RULES[rule](item):
                series.setdefault((rule, item["uid"], panel), set()).add(what.partition(" ")[0])
    assert series.keys() == EXCLUSIONS.keys()
    assert {place: found for place, found in series.items() if not found <= ABOUT[place[0]]} == {}


def test_the_factors_of_an_instance_are_selected_by_another_family() -> None:
    for target in targets(board(OVERVIEW)):
        if STATE in target.expression:
            by_instance = (
                r"and on \([\w, ]+\) (present_over_time\()?twilio_verify_factor_interval_seconds\{[^}]*\$instance"
            )
            assert re.search(by_instance, target.expression), str(target)


# Each rule detects violations


def panel_of(tree: Any, title: str) -> Any:
    return next(panel for panel in panels(tree) if panel["title"] == title)


def variable_of(tree: Any, name: str) -> Any:
    return next(item for item in tree["templating"]["list"] if item["name"] == name)


def query(change: Callable[[str], str]) -> Callable[[Any], None]:
    def broken(tree: Any) -> None:
        target = panel_of(tree, "429 responses")["targets"][0]
        target["expr"] = change(target["expr"])

    return broken


BREAKS: dict[str, tuple[Callable[[Any], object], ...]] = {
    "template-datasource-rule": (
        lambda tree: variable_of(tree, "datasource").update(name="source"),
        lambda tree: variable_of(tree, "datasource").update(label="Source"),
        lambda tree: variable_of(tree, "datasource").update(query="loki"),
    ),
    "template-job-rule": (
        lambda tree: variable_of(tree, "job").update(name="work"),
        lambda tree: variable_of(tree, "job").update(multi=False),
        lambda tree: variable_of(tree, "job").update(datasource={"uid": "one"}),
    ),
    "template-instance-rule": (lambda tree: variable_of(tree, "instance").update(allValue=".*"),),
    "template-label-promql-rule": (
        lambda tree: variable_of(tree, "job")["query"].update(query="label_values(job)"),
        lambda tree: variable_of(tree, "job")["query"].update(query="label_values(up{, job)"),
    ),
    "template-on-time-change-reload-rule": (lambda tree: variable_of(tree, "account").update(refresh=1),),
    "panel-datasource-rule": (
        lambda tree: panel_of(tree, "CPU").update(datasource={"uid": "one"}),
        lambda tree: panel_of(tree, "CPU")["targets"][0].update(datasource={"uid": "one"}),
    ),
    "panel-title-description-rule": (
        lambda tree: panel_of(tree, "CPU").update(title=""),
        lambda tree: panel_of(tree, "CPU").update(description=""),
    ),
    "panel-units-rule": (lambda tree: panel_of(tree, "CPU")["fieldConfig"]["defaults"].update(unit="cores"),),
    "panel-no-targets-rule": (lambda tree: panel_of(tree, "CPU").update(targets=[]),),
    "target-promql-rule": (query(lambda text: text + ")"),),
    "target-rate-interval-rule": (query(lambda text: text.replace("$__rate_interval", "5m")),),
    "target-job-rule": (
        query(lambda text: text.replace('job=~"$job"', 'job="$job"')),
        query(lambda text: text.replace('job=~"$job", ', "")),
    ),
    "target-instance-rule": (query(lambda text: text.replace('instance=~"$instance", ', "")),),
    "target-counter-agg-rule": (
        query(lambda text: text.replace("rate(", "(").replace("[$__rate_interval]", "")),
        query(lambda text: text.replace("rate(", "changes(")),
    ),
    "uneditable-dashboard-rule": (lambda tree: tree.update(editable=True),),
    "target-logql-rule": (lambda tree: panel_of(tree, "CPU").update(datasource={"type": "loki"}),),
    "target-logql-auto-rule": (
        lambda tree: panel_of(tree, "CPU")["targets"][0].update(datasource={"type": "loki"}),
    ),
}


def test_violations_are_detected() -> None:
    whole: Mapping[str, Any] = board("twilio-verify-exporter")
    undetected = []
    for rule, breaks in BREAKS.items():
        assert list(RULES[rule](whole)) == []
        for number, violate in enumerate(breaks):
            broken = copy.deepcopy(dict(whole))
            violate(broken)
            if not list(RULES[rule](broken)):
                undetected.append(f"{rule} {number}")
    assert undetected == []


def test_every_rule_has_a_violation() -> None:
    assert set(BREAKS) == set(RULES)
