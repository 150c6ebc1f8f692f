"""The rules of Grafana's dashboard linter hold; what is left out has a reason, and each rule can be broken."""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.dashboards.files import board, boards, targets
from tests.support.dashboards.linter import RULES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

OVERVIEW, FACTOR = "twilio-verify-overview", "twilio-verify-factor"
NO_INSTANCE = "an alert's rule drops the instance, so that a restart neither doubles nor resets it"
NO_JOB = "an alert on something absent may have no job: it is matched too, by an empty alternative"
EXCLUSIONS = {
    (rule, uid, panel): reason
    for uid, panel in (
        (OVERVIEW, "Critical alerts"),
        (OVERVIEW, "Other alerts"),
        (OVERVIEW, "Alerts"),
        (FACTOR, "Alerts"),
    )
    for rule, reason in (("target-job-rule", NO_JOB), ("target-instance-rule", NO_INSTANCE))
}


def complaints(rule: str) -> dict[tuple[str, str, str], str]:
    """Return what a rule has against all boards, exclusions included."""
    return {(rule, item["uid"], where): what for item in boards() for where, what in RULES[rule](item)}


def test_there_are_seventeen_rules() -> None:
    assert len(RULES) == 17


@pytest.mark.parametrize("rule", RULES)
def test_the_rule_holds(rule: str) -> None:
    assert {place: what for place, what in complaints(rule).items() if place not in EXCLUSIONS} == {}


def test_every_exclusion_is_needed_and_concerns_alerts_only() -> None:
    found = {place: what for rule in RULES for place, what in complaints(rule).items()}
    assert set(found) == set(EXCLUSIONS)
    assert all(what.startswith("ALERTS ") for what in found.values())


def test_no_other_series_of_those_panels_is_let_off() -> None:
    excused = {(uid, panel) for _, uid, panel in EXCLUSIONS}
    named = {
        name
        for target in targets()
        if (target.board, target.panel["title"]) in excused
        for name in re.findall(r"(\w+)\{", target.expression)
    }
    assert named == {"ALERTS"}


# Each rule sees what it is for


def of_panel(tree: Any, title: str) -> Any:
    return next(panel for panel in tree["panels"] if panel["title"] == title)


def of_variable(tree: Any, name: str) -> Any:
    return next(item for item in tree["templating"]["list"] if item["name"] == name)


def query(change: Callable[[str], str]) -> Callable[[Any], None]:
    def broken(tree: Any) -> None:
        target = of_panel(tree, "Answers of 429")["targets"][0]
        target["expr"] = change(target["expr"])

    return broken


BREAKS: dict[str, tuple[Callable[[Any], object], ...]] = {
    "template-datasource-rule": (
        lambda tree: of_variable(tree, "datasource").update(name="source"),
        lambda tree: of_variable(tree, "datasource").update(label="Source"),
        lambda tree: of_variable(tree, "datasource").update(query="loki"),
    ),
    "template-job-rule": (
        lambda tree: of_variable(tree, "job").update(name="work"),
        lambda tree: of_variable(tree, "job").update(multi=False),
        lambda tree: of_variable(tree, "job").update(datasource={"uid": "one"}),
    ),
    "template-instance-rule": (lambda tree: of_variable(tree, "instance").update(allValue=".*"),),
    "template-label-promql-rule": (
        lambda tree: of_variable(tree, "job")["query"].update(query="label_values(job)"),
        lambda tree: of_variable(tree, "job")["query"].update(query="label_values(up{, job)"),
    ),
    "template-on-time-change-reload-rule": (lambda tree: of_variable(tree, "account").update(refresh=1),),
    "panel-datasource-rule": (
        lambda tree: of_panel(tree, "CPU").update(datasource={"uid": "one"}),
        lambda tree: of_panel(tree, "CPU")["targets"][0].update(datasource={"uid": "one"}),
    ),
    "panel-title-description-rule": (
        lambda tree: of_panel(tree, "CPU").update(title=""),
        lambda tree: of_panel(tree, "CPU").update(description=""),
    ),
    "panel-units-rule": (lambda tree: of_panel(tree, "CPU")["fieldConfig"]["defaults"].update(unit="cores"),),
    "panel-no-targets-rule": (lambda tree: of_panel(tree, "CPU").update(targets=[]),),
    "target-promql-rule": (query(lambda text: text + ")"),),
    "target-rate-interval-rule": (query(lambda text: text.replace("$__rate_interval", "5m")),),
    "target-job-rule": (
        query(lambda text: text.replace('job=~"$job"', 'job="$job"')),
        query(lambda text: text.replace('job=~"$job", ', "")),
    ),
    "target-instance-rule": (query(lambda text: text.replace('instance=~"$instance", ', "")),),
    "target-counter-agg-rule": (
        query(lambda text: text.replace("increase(", "(").replace("[$__rate_interval]", "")),
        query(lambda text: text.replace("increase(", "changes(")),
    ),
    "uneditable-dashboard-rule": (lambda tree: tree.update(editable=True),),
    "target-logql-rule": (lambda tree: of_panel(tree, "CPU").update(datasource={"type": "loki"}),),
    "target-logql-auto-rule": (
        lambda tree: of_panel(tree, "CPU")["targets"][0].update(datasource={"type": "loki"}),
    ),
}


@pytest.mark.parametrize(
    ("rule", "number"), [(rule, number) for rule, breaks in BREAKS.items() for number in range(len(breaks))]
)
def test_the_rule_sees_a_fault(rule: str, number: int) -> None:
    whole: Mapping[str, Any] = board("twilio-verify-exporter")
    broken = copy.deepcopy(dict(whole))
    BREAKS[rule][number](broken)

    assert list(RULES[rule](whole)) == []
    assert list(RULES[rule](broken))


def test_every_rule_is_broken_once() -> None:
    assert set(BREAKS) == set(RULES)
