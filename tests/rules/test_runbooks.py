"""The pages of docs/runbooks: one an alert, and what they tell to do can be done."""

from __future__ import annotations

import argparse
import io
import re
import shlex
from contextlib import redirect_stdout
from pathlib import Path
from urllib.parse import urlsplit

import promql_parser
import pytest
import yaml

from exporter.cli import main as command_line
from exporter.exposition.catalogue import CATALOGUE
from grafana.rules.model import Settings
from grafana.rules.render import files
from tests.support.rules.promql import FOREIGN, nodes, own_series, recorded_series, series

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted((DOCS / "runbooks").glob("*.md"))
ALERTS = {
    rule["alert"]
    for text in files(Settings()).values()
    for group in yaml.safe_load(text)["groups"]
    for rule in group["rules"]
    if "alert" in rule
}
HEADINGS = ["Meaning", "Impact", "Diagnosis", "Mitigation", "Silencing"]
# Labels that targets bring, and those of alerts themselves.
TARGET_LABELS = {"job", "instance", "pod", "alertname", "alertstate", "le"}
OTHER_PROGRAMS = {"amtool", "curl", "kubectl"}


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def queries() -> list[tuple[str, str]]:
    return [(path.stem, query) for path in PAGES for query in blocks(path, "promql")]


def commands() -> list[tuple[str, str]]:
    return [(path.stem, line) for path in PAGES for block in blocks(path, "sh") for line in block.splitlines()]


def test_every_alert_has_its_page_and_every_page_its_alert() -> None:
    assert {path.stem for path in PAGES} == ALERTS


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_page_answers_the_same_five_questions(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"# {path.stem}\n")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == HEADINGS
    assert blocks(path, "promql")
    for part in re.split(r"^## .+\n", text, flags=re.MULTILINE)[1:]:
        assert len(part.split()) >= 5, "a heading with nothing below it"
    assert set(re.findall(r"^```(\w+)$", text, re.MULTILINE)) <= {"promql", "sh"}


@pytest.mark.parametrize("path", [*PAGES, DOCS / "alerts.md"], ids=lambda path: path.stem)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", path.read_text(encoding="utf-8")):
        if not urlsplit(target).scheme:
            assert (path.parent / target).resolve().is_file(), target


@pytest.mark.parametrize(("page", "query"), queries())
def test_a_query_reads_what_there_is(page: str, query: str) -> None:
    names = series(query)
    assert names
    assert names <= own_series() | recorded_series() | FOREIGN, page
    labels = {label for family in CATALOGUE for label in family.labels} | TARGET_LABELS
    for node in nodes(query):
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            assert set(node.modifier.labels) <= labels, page
        if isinstance(node, promql_parser.VectorSelector):
            assert {matcher.name for matcher in node.matchers.matchers} <= labels, page


@pytest.mark.parametrize(("page", "line"), commands())
def test_a_command_exists_with_its_options(page: str, line: str) -> None:
    program, *arguments = shlex.split(line)
    if program == "amtool" and arguments[:2] == ["silence", "add"]:
        assert arguments[2] == f"alertname={page}"
        assert any(argument.startswith("--duration=") for argument in arguments)
        assert any(argument.startswith("--comment=") for argument in arguments)
    if program in OTHER_PROGRAMS:
        return
    assert program == "verify-factor-exporter"
    subcommand, *rest = arguments
    help_text = help_of(subcommand)
    for argument in rest:
        if argument.startswith("-"):
            assert re.search(rf"(^|\W){re.escape(argument)}(\W|$)", help_text), argument


def help_of(subcommand: str) -> str:
    told = io.StringIO()
    with redirect_stdout(told), pytest.raises(SystemExit) as ended:
        command_line([subcommand, "--help"])
    assert ended.value.code == 0, f"there is no command {subcommand}"
    return told.getvalue()


def test_a_command_that_is_not_there_would_be_found() -> None:
    with pytest.raises((AssertionError, argparse.ArgumentError)):
        help_of("made-up")


def test_every_page_but_the_watchdogs_tells_how_to_silence_its_alert() -> None:
    silencing = {page for page, line in commands() if line.startswith("amtool silence add")}
    assert silencing == ALERTS - {"TwilioVerifyWatchdog"}
