"""What ``check`` finds, and how it is printed: as text, as JSON, and as GitHub's workflow commands.

Apart from the command, because the diagnosis in :mod:`exporter.cli.diagnosis` makes findings, too, and because
other commands report the errors of a configuration in the same way.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TextIO

from exporter.config import ConfigWarning, ErrorDetail
from exporter.config.lines import Location, Sought, locate, shown_place, shown_problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from exporter.config import ConfigError
    from exporter.config.excerpt import Excerpt


class Output(StrEnum):
    """The forms of the output."""

    TEXT = "text"
    JSON = "json"
    GITHUB = "github"


class Severity(StrEnum):
    """How bad a finding is; only an error makes the exit status 1."""

    OK = "ok"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Subject(StrEnum):
    """What a finding is about."""

    CONFIGURATION = "configuration"
    CREDENTIALS = "credentials"
    SERVICE = "service"
    FACTOR = "factor"
    ENTITY = "entity"
    ENTITIES = "entities"
    WATCHLIST = "watchlist"
    REQUESTS = "requests"
    PERMISSIONS = "permissions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One finding: where, what was seen, what it means, and what to do.

    ``place`` is where, as text; ``file`` to ``name`` say it again in parts, as far as they apply. ``column`` and
    ``end`` count characters from 1; ``end`` is the column after the last one. ``factor`` is the name of a factor,
    ``name`` also that of an entity, a service or a watchlist URL. ``http_status``, ``twilio_code`` and
    ``request_id`` are the evidence of a request, ``reason`` is why it failed. ``permissions`` are those of a
    restricted API key that were lacking or are needed; ``optional_permissions`` are some of them. No text contains
    a secret or an identity. docs/check-output.schema.json describes the fields; they are an interface.
    """

    severity: Severity
    subject: Subject
    place: str
    seen: str
    meaning: str = ""
    hint: str = ""
    file: str = ""
    line: int | None = None
    column: int | None = None
    end: int | None = None
    table: str = ""
    key: str = ""
    factor: str = ""
    account: str = ""
    service_sid: str = ""
    name: str = ""
    http_status: int | None = None
    twilio_code: int | None = None
    request_id: str = ""
    reason: str = ""
    permissions: tuple[str, ...] = field(default=())
    optional_permissions: tuple[str, ...] = field(default=())
    excerpt: Excerpt | None = None

    @property
    def message(self) -> str:
        """What was seen, and what it means."""
        return "; ".join(filter(None, (self.seen, self.meaning)))

    def __str__(self) -> str:
        text = "; ".join(filter(None, (self.message, self.hint)))
        return f"{self.place}: {text}" if self.place else text

    def as_json(self) -> dict[str, Any]:
        """Return the fields that have a value, and the message."""
        fields = asdict(replace(self, excerpt=None))
        if self.subject is Subject.FACTOR:
            fields["factor"] = self.factor or self.name
        shown = {name: value for name, value in fields.items() if value not in ("", None, ())}
        return {"message": self.message, **shown}


def failed(findings: Iterable[Finding]) -> bool:
    """Return whether one of the findings is an error."""
    return any(finding.severity is Severity.ERROR for finding in findings)


def write(output: Output, findings: list[Finding], summary: Mapping[str, object]) -> None:
    """Print the findings; ``summary`` are further keys of the JSON document.

    As text, errors and warnings go to standard error, the rest to standard output. The other forms go to standard
    output as a whole.
    """
    match output:
        case Output.JSON:
            document = {**summary, "findings": [finding.as_json() for finding in findings]}
            sys.stdout.write(json.dumps(document, indent=2) + "\n")
        case Output.GITHUB:
            sys.stdout.writelines(f"{line}\n" for line in map(_workflow_command, findings))
        case _:
            for finding in findings:
                stream = sys.stderr if finding.severity in (Severity.ERROR, Severity.WARNING) else sys.stdout
                _write_text(stream, finding)


def _write_text(stream: TextIO, finding: Finding) -> None:
    """Print a finding, and below it the line of the file where it is."""
    prefix = "warning: " if finding.severity is Severity.WARNING else ""
    stream.write(f"{prefix}{finding}\n")
    if finding.excerpt is not None:
        stream.write(finding.excerpt.rendered(stream.encoding or "utf-8"))


def refused(error: ConfigError) -> list[Finding]:
    """Return the findings of a refused configuration: its errors, and the warnings that may explain them."""
    return [*from_config(Severity.ERROR, error.errors), *from_config(Severity.WARNING, error.warnings)]


def write_refused(error: ConfigError) -> None:
    """Print why a configuration was refused to standard error, each error with its line."""
    for finding in refused(error):
        _write_text(sys.stderr, finding)


def from_config(severity: Severity, problems: Sequence[ErrorDetail | ConfigWarning]) -> list[Finding]:
    """Return the findings of the loader's errors or warnings, with the lines of files, which are read again."""
    locations = locate(problems)
    return [_finding(severity, problem, locations) for problem in problems]


def _finding(
    severity: Severity, problem: ErrorDetail | ConfigWarning, locations: Mapping[Sought, Location]
) -> Finding:
    location = locations[Sought(problem.place, problem.of_key)]
    match problem:
        case ErrorDetail(problem=seen, name=name):
            pass
        case ConfigWarning(text=seen):
            name = ""
    of_factor = location.table.startswith("factors[") or (location.file and not location.table)
    return Finding(
        severity=severity,
        subject=Subject.CONFIGURATION,
        place=shown_place(problem.place, location, name),
        seen=shown_problem(seen, problem.other, locations),
        hint=problem.hint,
        file=location.file,
        line=location.line,
        column=location.column,
        end=location.end,
        table=location.table,
        key=location.key,
        factor=name if of_factor else "",
        name=name,
        excerpt=location.excerpt,
    )


def _workflow_command(finding: Finding) -> str:
    """Return a line that GitHub Actions shows as an annotation, or a plain line for a finding that is no problem.

    Source: https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands
    """
    if finding.severity in (Severity.OK, Severity.INFO):
        return _escaped(str(finding))
    properties = ",".join(f"{name}={value}" for name, value in _properties(finding))
    return f"::{finding.severity} {properties}::{_escaped(str(finding))}"


def _properties(finding: Finding) -> Iterator[tuple[str, str]]:
    if finding.file:
        yield "file", _escaped(finding.file, ":,")
    if finding.line is not None:
        yield "line", str(finding.line)
    if finding.column is not None:
        yield "col", str(finding.column)
        if finding.end is not None:
            yield "endColumn", str(max(finding.column, finding.end - 1))  # the last one, not the one after it
    yield "title", _escaped(f"verify-factor-exporter: {finding.subject}", ":,")


def _escaped(text: str, also: str = "") -> str:
    """Return text with the characters that would end a workflow command or a property as ``%XX``."""
    for character in f"%\r\n{also}":
        text = text.replace(character, f"%{ord(character):02X}")
    return text
