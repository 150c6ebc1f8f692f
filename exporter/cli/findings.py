"""What ``check`` finds, and how it is printed: as text, as JSON, and as GitHub's workflow commands.

Apart from the command, because the diagnosis in :mod:`exporter.cli.diagnosis` makes findings, too.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


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

    ``place`` is where, as text; ``file`` to ``name`` say it again in parts, as far as they apply. ``http_status``,
    ``twilio_code`` and ``request_id`` are the evidence of a request, ``reason`` is why it failed. ``permissions``
    are those of a restricted API key that were lacking or are needed; ``optional_permissions`` are some of them. No
    text contains a secret or an identity.
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
    table: str = ""
    key: str = ""
    account: str = ""
    service_sid: str = ""
    name: str = ""
    http_status: int | None = None
    twilio_code: int | None = None
    request_id: str = ""
    reason: str = ""
    permissions: tuple[str, ...] = field(default=())
    optional_permissions: tuple[str, ...] = field(default=())

    @property
    def message(self) -> str:
        """What was seen, what it means, and what to do, in one line."""
        return "; ".join(filter(None, (self.seen, self.meaning, self.hint)))

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.place else self.message

    def as_json(self) -> dict[str, Any]:
        """Return the fields that have a value."""
        return {name: value for name, value in asdict(self).items() if value not in ("", None, ())}


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
                prefix = "warning: " if finding.severity is Severity.WARNING else ""
                stream.write(f"{prefix}{finding}\n")


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
    yield "title", _escaped(f"verify-factor-exporter: {finding.subject}", ":,")


def _escaped(text: str, also: str = "") -> str:
    """Return text with the characters that would end a workflow command or a property as ``%XX``."""
    for character in f"%\r\n{also}":
        text = text.replace(character, f"%{ord(character):02X}")
    return text
