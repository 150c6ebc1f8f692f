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
    """Return the rows of the first table under a heading, or of the page's first."""
    below = PAGE.partition(heading)[2]
    table = re.search(r"(?:^\|.*\|\n)+", below, re.MULTILINE)
    assert table is not None, heading
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in table[0].splitlines()]
    return rows[2:]


def test_every_board_with_its_questions() -> None:
    told = {uid.strip("`"): (title, answers) for title, uid, answers in cells("# Dashboards")}
    assert set(told) == {board["uid"] for board in boards()}
    for board in boards():
        title, answers = told[board["uid"]]
        assert title == board["title"]
        questions = [panel["title"].partition(" (")[0] for panel in board["panels"] if panel["type"] == "row"]
        assert re.findall(r"[A-Z][^?]*\?", answers.partition("factor: ")[2] or answers) == questions


def test_every_variable_and_the_boards_that_have_it() -> None:
    told: dict[str, str] = {}
    for labels, on, _ in cells("## Variables"):
        told |= dict.fromkeys(labels.split(", "), on)
    having: dict[str, set[str]] = {}
    for board in boards():
        for item in variables(board).values():
            having.setdefault(item["label"], set()).add(board["uid"])
    assert set(told) == set(having)
    for label, uids in having.items():
        names = ", ".join(name for uid, name in SHORT_NAMES.items() if uid in uids)
        assert told[label] == ("all" if len(uids) == len(boards()) else names), label


def test_every_state() -> None:
    told = [row[0] for row in cells("## How to read them")]
    assert sorted(told[:-1]) == sorted(state.text for state in STATES)


def test_panels_that_are_named_are_there() -> None:
    titles = {panel["title"] for board in boards() for panel in panels(board)}
    headings = {
        rule["value"]
        for board in boards()
        for panel in panels(board)
        for override in panel["fieldConfig"]["overrides"]
        for rule in override["properties"]
        if rule["id"] == "displayName"
    }
    named = {"Critical alerts", "Other alerts", "Factors by status", "Entities"}
    assert named <= titles
    assert all(name in PAGE for name in named)
    assert "Last answer, ago" in headings
    assert "*Last answer, ago*" in PAGE


def test_panels_that_a_label_empties_are_those_that_are_told() -> None:
    by_service = {
        panel["title"]
        for board in boards()
        if "filters" in variables(board)
        for panel in panels(board)
        if not any(
            "twilio_verify_factor_" in query["expr"] and "factor=~" in query["expr"] for query in panel["targets"]
        )
        and "ALERTS" not in panel["targets"][0]["expr"]
    }
    assert by_service == {
        *("Exporter", "Last tick"),
        *("Factors by status", "Entities", "Status changes"),
        *("Changes in its service", "Failures in its service, by reason"),
    }


def test_the_provider_is_one() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    tree = yaml.safe_load(block)
    (provider,) = tree["providers"]
    assert (tree["apiVersion"], provider["type"], provider["allowUiUpdates"]) == (1, "file", False)
