"""docs/dashboards.md describes the dashboards as they are."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from grafana.boards.states import STATES
from tests.support.dashboards.files import boards, panels, variables

PAGE = (Path(__file__).parents[2] / "docs" / "dashboards.md").read_text(encoding="utf-8")
SHORT_NAMES = {"twilio-verify-overview": "Overview", "twilio-verify-factor": "Factor"}


def cells(heading: str) -> list[list[str]]:
    """Return the rows of the first table under a heading."""
    below = PAGE.partition(heading)[2]
    table = re.search(r"(?:^\|.*\|\n)+", below, re.MULTILINE)
    assert table is not None, heading
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in table[0].splitlines()]
    return rows[2:]


def test_every_dashboard_with_its_questions() -> None:
    documented = {uid.strip("`"): (title, answers) for title, uid, answers in cells("# Dashboards")}
    assert set(documented) == {board["uid"] for board in boards()}
    for board in boards():
        title, answers = documented[board["uid"]]
        assert title == board["title"]
        questions = [panel["title"].partition(" (")[0] for panel in board["panels"] if panel["type"] == "row"]
        assert re.findall(r"[A-Z][^?]*\?", answers.partition("factor: ")[2] or answers) == questions


def test_every_variable_and_its_dashboards() -> None:
    documented: dict[str, str] = {}
    for labels, on, _ in cells("## Variables"):
        documented |= dict.fromkeys(labels.split(", "), on)
    having: dict[str, set[str]] = {}
    for board in boards():
        for item in variables(board).values():
            having.setdefault(item["label"], set()).add(board["uid"])
    assert set(documented) == set(having)
    for label, uids in having.items():
        names = ", ".join(name for uid, name in SHORT_NAMES.items() if uid in uids)
        assert documented[label] == ("all" if len(uids) == len(boards()) else names), label


def test_every_status() -> None:
    documented = [row[0] for row in cells("## How to read them")]
    assert sorted(documented[:-1]) == sorted(state.text for state in STATES)


def test_named_panels_exist() -> None:
    titles = {panel["title"] for board in boards() for panel in panels(board)}
    headings = {
        rule["value"]
        for board in boards()
        for panel in panels(board)
        for override in panel["fieldConfig"]["overrides"]
        for rule in override["properties"]
        if rule["id"] == "displayName"
    }
    named = {"Critical alerts", "Other alerts", "Factors by status", "Entities", "Changed while verified"}
    assert named <= titles
    assert all(name in PAGE for name in named)
    assert "Last answer" in headings
    assert "*Last answer*" in PAGE


def test_panels_without_factor_labels_are_documented() -> None:
    by_service = {
        panel["title"]
        for board in boards()
        if "filters" in variables(board)
        for panel in panels(board)
        if not any(
            "twilio_verify_factor_" in query["expr"] and "factor=" in query["expr"] for query in panel["targets"]
        )
        and "ALERTS" not in panel["targets"][0]["expr"]
    }
    assert by_service == {
        *("Exporter", "Last dispatch"),
        *("Factors by status", "Entities", "Status changes", "Services with missing factors", "Watched services"),
        *("Factor types", "Push factors by notification platform", "Enrolment duration", "Completed enrolments"),
    }


def test_the_provider_example_is_valid() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    tree = yaml.safe_load(block)
    (provider,) = tree["providers"]
    assert (tree["apiVersion"], provider["type"], provider["allowUiUpdates"]) == (1, "file", False)
