"""The runbooks in docs/runbooks: one per alert, with commands and queries that work."""

from __future__ import annotations

import io
import re
import shlex
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import promql_parser
import yaml

from exporter.cli import main as command_line
from exporter.exposition.catalogue import CATALOGUE
from grafana.rules.model import Settings
from grafana.rules.render import files
from tests.support.promql import existing_series, nodes, series_names

if TYPE_CHECKING:
    from collections.abc import Iterator

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
SERIES = existing_series()
# The catalogue's labels, those of targets, and those of alerts.
LABELS = {label for family in CATALOGUE for label in family.labels} | {
    *("job", "instance", "pod", "alertname", "alertstate", "le")
}
OTHER_PROGRAMS = {"amtool", "curl", "kubectl"}


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def queries() -> list[tuple[str, str]]:
    pages = [*PAGES, DOCS / "prometheus.md"]
    return [(path.stem, query) for path in pages for query in blocks(path, "promql")]


def commands() -> list[tuple[str, str]]:
    return [(path.stem, line) for path in PAGES for block in blocks(path, "sh") for line in block.splitlines()]


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    assert {path.stem for path in PAGES} == ALERTS


def test_every_runbook_has_the_five_sections() -> None:
    assert [f"{path.stem}: {what}" for path in PAGES for what in malformed(path)] == []


def malformed(path: Path) -> Iterator[str]:
    """Yield what is wrong with the form of a runbook."""
    text = path.read_text(encoding="utf-8")
    if not text.startswith(f"# {path.stem}\n"):
        yield "its title is not its name"
    if (found := re.findall(r"^## (.+)$", text, re.MULTILINE)) != HEADINGS:
        yield f"headings {found}"
    if not blocks(path, "promql"):
        yield "no query"
    if any(len(part.split()) < 5 for part in re.split(r"^## .+\n", text, flags=re.MULTILINE)[1:]):
        yield "an empty section"
    if more := set(re.findall(r"^```(\w+)$", text, re.MULTILINE)) - {"promql", "sh"}:
        yield f"blocks of {more}"


def test_links_lead_to_existing_files() -> None:
    broken = [
        f"{path.stem}: {target}"
        for path in [*PAGES, DOCS / "alerts.md"]
        for target in re.findall(r"\]\(([^)]+)\)", path.read_text(encoding="utf-8"))
        if not urlsplit(target).scheme and not (path.parent / target.partition("#")[0]).resolve().is_file()
    ]
    assert broken == []


def test_queries_read_existing_series_and_labels() -> None:
    assert len(queries()) > 40
    assert [f"{page}: {what}" for page, query in queries() for what in unknown_names(query)] == []


def unknown_names(query: str) -> Iterator[str]:
    """Yield the series and labels of a query that do not exist."""
    names = series_names(query)
    if not names:
        yield f"no series in {query}"
    yield from sorted(names - SERIES)
    for node in nodes(promql_parser.parse(query)):
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            yield from sorted(set(node.modifier.labels) - LABELS)
        if isinstance(node, promql_parser.VectorSelector):
            yield from sorted({matcher.name for matcher in node.matchers.matchers} - LABELS)


def test_commands_exist_with_their_options() -> None:
    assert len(commands()) > 40
    assert [f"{page}: {line}: {what}" for page, line in commands() for what in unknown_words(page, line)] == []


def unknown_words(page: str, line: str) -> Iterator[str]:
    """Yield the words of a command line that its program does not know."""
    program, *arguments = shlex.split(line)
    if program == "amtool" and arguments[:2] == ["silence", "add"]:
        if arguments[2] != f"alertname={page}":
            yield arguments[2]
        for option in ("--duration=", "--comment="):
            if not any(argument.startswith(option) for argument in arguments):
                yield f"lacks {option}"
    elif program == "verify-factor-exporter":
        subcommand, *rest = arguments
        text = help_of(subcommand)
        options = [argument for argument in rest if argument.startswith("-")]
        yield from (option for option in options if not re.search(rf"(^|\W){re.escape(option)}(\W|$)", text))
        if not text:
            yield subcommand
    elif program not in OTHER_PROGRAMS:
        yield program


@cache
def help_of(subcommand: str) -> str:
    """Return the help text of a subcommand; empty if there is none."""
    output = io.StringIO()
    with redirect_stdout(output), redirect_stderr(io.StringIO()):
        status = command_line([subcommand, "--help"])
    return "" if status else output.getvalue()


def test_unknown_names_and_words_are_detected() -> None:
    page = "TwilioVerifyAPIDown"
    assert list(unknown_names("sum by (made_up) (twilio_verify_made_up{nothing='1'})")) == [
        *("twilio_verify_made_up", "made_up", "nothing"),
    ]
    assert list(unknown_names("1 + 1"))
    assert list(unknown_words(page, "verify-factor-exporter made-up")) == ["made-up"]
    assert list(unknown_words(page, "verify-factor-exporter check --made-up")) == ["--made-up"]
    assert list(unknown_words(page, "amtool silence add alertname=Other --duration=1h")) == [
        *("alertname=Other", "lacks --comment="),
    ]
    assert list(unknown_words(page, "made-up")) == ["made-up"]


def test_malformed_runbooks_are_detected(tmp_path: Path) -> None:
    path = tmp_path / "Name.md"
    path.write_text("# Other\n\n## Meaning\n\nShort.\n\n```text\n```\n", encoding="utf-8")
    assert len(list(malformed(path))) == 5


def test_every_runbook_except_the_watchdogs_has_a_silence_command() -> None:
    silencing = {page for page, line in commands() if line.startswith("amtool silence add")}
    assert silencing == ALERTS - {"TwilioVerifyWatchdog"}
