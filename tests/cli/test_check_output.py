"""The forms of ``check``'s output that programs read: the fields of the schema in docs, and workflow commands."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from exporter.cli.findings import Finding, Output, Severity, Subject, write, write_refused
from exporter.config import ConfigError, ConfigWarning, ErrorDetail
from exporter.config.excerpt import Excerpt
from tests.support.config_texts import SERVICE, account, factor

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.commands import Ran

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "check-output.schema.json").read_text(encoding="utf-8"))
FINDING: dict[str, Any] = SCHEMA["$defs"]["finding"]


def finding(**values: Any) -> Finding:
    given = {"severity": Severity.ERROR, "subject": Subject.CONFIGURATION, "place": "x", "seen": "is wrong"}
    return Finding(**{**given, **values})


def test_the_schema_is_valid_and_has_every_field() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    known = {field.name for field in fields(Finding)} - {"excerpt"}
    assert set(FINDING["properties"]) == known | {"message"}
    assert FINDING["properties"]["severity"]["enum"] == list(Severity)
    assert FINDING["properties"]["subject"]["enum"] == list(Subject)


def test_the_output_of_a_check_follows_the_schema(tmp_path: Path, call: Callable[..., Ran]) -> None:
    path = tmp_path / "config.toml"
    (tmp_path / "w.csv").write_text(f"service_sid,identity,factor_sid,name\n{SERVICE},x,YF{1:032x},laptop\n")
    (tmp_path / "web.yml").write_text("tls_server_config:\n  keyfile: x\n")
    path.write_text(
        '[web]\nconfig_file = "web.yml"\n[watchlist]\nfiles = ["w.csv"]\n[polling]\nintervall = 1\n'
        + account()
        + factor(1, name='"payments"', interval='"5"')
    )
    ran = call("check", "--config.file", str(path), "--output", "json")
    document = json.loads(ran.out)
    jsonschema.validate(document, SCHEMA)
    assert (ran.status, ran.err) == (1, "")
    by_key = {found["key"]: found for found in document["findings"]}
    assert by_key["intervall"] == {
        "message": "unknown key",
        "severity": "error",
        "subject": "configuration",
        "place": f"{path}:6:1: polling.intervall",
        "seen": "unknown key",
        "hint": 'did you mean "interval"?',
        "file": str(path),
        "line": 6,
        "column": 1,
        "end": 10,
        "table": "polling",
        "key": "intervall",
    }
    assert by_key["interval"]["factor"] == by_key["interval"]["name"] == "payments"
    assert (by_key["identity"]["factor"], by_key["identity"]["line"]) == ("laptop", 2)
    assert by_key["tls_server_config.keyfile"]["column"] == 3


def test_a_good_configuration_follows_the_schema(tmp_path: Path, call: Callable[..., Ran]) -> None:
    path = tmp_path / "config.toml"
    path.write_text(account(password='"changeme"') + factor(1))
    ran = call("check", "--config.file", str(path), "--output", "json")
    document = json.loads(ran.out)
    jsonschema.validate(document, SCHEMA)
    assert ran.status == 0
    warning, valid = document["findings"]
    assert (warning["message"], warning["hint"]) == ("is a placeholder", "enter the secret itself")
    assert valid["severity"] == "ok"


def test_workflow_commands_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    found = finding(
        file="a,b:c%.toml",
        place="a,b:c%.toml",
        line=1,
        column=2,
        end=2,
        seen="has 100%,\r\n:: more",
    )
    ok = finding(severity=Severity.OK, place="", seen="50%\n::error::x")
    write(Output.GITHUB, [found, ok, finding(severity=Severity.WARNING)], {})
    title = "title=verify-factor-exporter%3A configuration"
    assert capsys.readouterr().out.splitlines() == [
        f"::error file=a%2Cb%3Ac%25.toml,line=1,col=2,endColumn=2,{title}::a,b:c%25.toml: has 100%25,%0D%0A:: more",
        "50%25%0A::error::x",
        f"::warning {title}::x: is wrong",
    ]


def test_an_excerpt_fits_the_encoding_of_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stderr", stream)
    write(Output.TEXT, [finding(excerpt=Excerpt(3, "\u00e9 = 1", 4, 5))], {})
    stream.seek(0)
    assert stream.read() == "x: is wrong\n  |\n3 | \\xe9 = 1\n  |        ^\n"


def test_the_other_place_that_an_error_names_has_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[web]\n[log]\n")
    place, other = f"{path}: log", f"{path}: web"
    errors = [ErrorDetail(place, f"is like {other}", other=other), ErrorDetail("X", "is like Y", other="Y")]
    write_refused(ConfigError(errors, [ConfigWarning("Z", "is ignored", "rename it")]))
    assert capsys.readouterr().err.splitlines() == [
        f"{path}:2:1: log: is like {path}:1:1: web",
        "  |",
        "2 | [log]",
        "  | ^^^^^",
        "X: is like Y",
        "warning: Z: is ignored; rename it",
    ]


@pytest.mark.parametrize("command", ["run", "plan", "fetch"])
def test_every_command_shows_the_line_of_an_error(tmp_path: Path, call: Callable[..., Ran], command: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[polling]\ninterval = 5m\n")
    ran = call(command, "--config.file", str(path))
    assert ran.err.splitlines() == [
        f"{path}:2:12: is not a TOML value; put strings in quotes",
        "  |",
        "2 | interval = 5m",
        "  |            ^^",
    ]
