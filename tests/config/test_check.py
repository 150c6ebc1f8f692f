"""``check``: its exit status, and what goes to which stream."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

import pytest

from exporter.cli import check
from exporter.cli.config_file import load_config
from tests.support.config_texts import SERVICE, account, factor

if TYPE_CHECKING:
    from pathlib import Path


def arguments_for(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    check.add_arguments(parser)
    return parser.parse_args(words)


def test_the_configuration_file_has_a_default() -> None:
    assert arguments_for().config_file == "config.toml"
    assert arguments_for("--config.file", "x.toml").config_file == "x.toml"


def test_a_good_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.toml"
    path.write_text(account() + factor(1) + factor(2, labels='{ pod = "x" }'))
    assert check.run(arguments_for("--config.file", str(path))) == 0
    out, err = capsys.readouterr()
    assert out == f"{path} is valid: 1 account, 2 factors\n"
    line = path.read_text().count("\n")
    assert err.startswith(
        f'warning: {path}:{line}:12: factors[1].labels.pod: on Kubernetes, Prometheus usually sets the label "pod" '
    )
    assert err.splitlines()[2:] == [f'{line} | labels = {{ pod = "***" }}', "   |            ^^^"]


def test_a_bad_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.toml"
    assert check.run(arguments_for("--config.file", str(path))) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"{path}: does not exist; name another file with --config.file, ")


def test_the_other_outputs_name_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.toml"
    path.write_text(account(base_url='"https://api.twilio.com"') + factor(1))
    assert check.run(arguments_for("--config.file", str(path), "--output", "json")) == 1
    document = json.loads(capsys.readouterr().out)
    [found] = document.pop("findings")
    assert document == {"config_file": str(path), "live": False, "exit_status": 1}
    assert (found["severity"], found["subject"], found["file"]) == ("error", "configuration", str(path))
    assert (found["line"], found["column"], found["end"]) == (4, 12, 36)
    assert (found["table"], found["key"]) == ("accounts.main", "base_url")
    assert found["place"] == f"{path}:4:12: accounts.main.base_url"
    assert found["message"].startswith("is a host of Twilio")

    assert check.run(arguments_for("--config.file", str(path), "--output", "github")) == 1
    out, err = capsys.readouterr()
    title = "verify-factor-exporter%3A configuration"
    place = f"{path}:4:12: accounts.main.base_url: "
    assert out.startswith(f"::error file={path},line=4,col=12,endColumn=35,title={title}::{place}")
    assert (out.count("\n"), err) == (1, "")


def test_an_error_of_an_entry_has_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, rows = tmp_path / "config.toml", tmp_path / "rows.csv"
    entity = f'[[entities]]\nname = "ops"\nservice_sid = "{SERVICE}"\nidentity = "x"\n'
    files = '[watchlist]\nfiles = ["rows.csv"]\n'
    path.write_text(files + account() + factor(1, name='"payments"', interval='"5"') + entity)
    rows.write_text(f"service_sid,identity,factor_sid,name\nVX12,identity-1,YF{2:032x},laptop\n")
    assert check.run(arguments_for("--config.file", str(path), "--output", "json")) == 1
    document = json.loads(capsys.readouterr().out)
    assert check.run(arguments_for("--config.file", str(path))) == 1
    printed = capsys.readouterr().err.splitlines()

    keys = ("line", "column", "table", "key", "name", "factor")
    lines = path.read_text().splitlines()
    interval, identity = lines.index('interval = "5"') + 1, lines.index('identity = "x"') + 1
    assert [tuple(found.get(key) for key in keys) for found in document["findings"]] == [
        (interval, 12, "factors[0]", "interval", "payments", "payments"),
        (identity, 12, "entities[0]", "identity", "ops", None),
        (2, 1, None, "service_sid", "laptop", "laptop"),
    ]
    places = (
        f'{path}:{interval}:12: factors[0] "payments": interval: "5" has no unit',
        f'{path}:{identity}:12: entities[0] "ops": identity: has 1 character',
        f'{rows}:2:1: "laptop": service_sid: "VX12" is not a Verify Service SID',
    )
    assert [line[: len(place)] for line, place in zip(printed[::4], places, strict=True)] == list(places)
    assert [line[-9:] for line in printed[2::4]] == ['val = "5"', 'y = "***"', "00002,***"]
    assert printed[11] == "  | ^^^^"


@pytest.mark.parametrize("name", ["identity-0001", "identity-0001-of-another", "", "a\tb"])
def test_a_name_that_may_be_an_identity_is_not_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    path, rows = tmp_path / "config.toml", tmp_path / "rows.csv"
    path.write_text('[watchlist]\nfiles = ["rows.csv"]\n' + account())
    rows.write_text(f"service_sid,identity,factor_sid,name\nVX12,identity-0001,YF{2:032x},{name}\n")
    assert check.run(arguments_for("--config.file", str(path))) == 1
    err = capsys.readouterr().err
    assert 'service_sid: "VX12" is not' in err
    assert "identity-0001" not in err


def test_the_process_environment_and_the_flags_of_a_command_take_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config.toml"
    path.write_text("")
    monkeypatch.setenv("VERIFY_EXPORTER_POLLING__INTERVAL", "7m")
    arguments = arguments_for("--config.file", str(path))
    arguments.overrides = {"log.level": "debug"}
    config = load_config(arguments)
    assert config.settings.polling.interval == 420
    assert config.settings.log.level == "debug"
