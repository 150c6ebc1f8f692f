"""``check``: its exit status, and what goes to which stream."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from exporter.cli import check
from exporter.cli.config_file import load_config
from tests.support.config_texts import account, factor

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


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
    assert err.startswith(
        f'warning: {path}: factors[1]: on Kubernetes, Prometheus usually sets the label "pod" itself '
    )
    assert err.count("\n") == 1


def test_a_bad_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.toml"
    assert check.run(arguments_for("--config.file", str(path))) == 1
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"{path}: does not exist; create it or correct the path\n")


def test_the_other_outputs_name_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.toml"
    path.write_text(account(base_url='"https://api.twilio.com"') + factor(1))
    assert check.run(arguments_for("--config.file", str(path), "--output", "json")) == 1
    document = json.loads(capsys.readouterr().out)
    [found] = document.pop("findings")
    assert document == {"config_file": str(path), "live": False, "exit_status": 1}
    assert (found["severity"], found["subject"], found["file"]) == ("error", "configuration", str(path))
    assert found["place"].startswith(f"{path}: accounts.main.base_url")

    assert check.run(arguments_for("--config.file", str(path), "--output", "github")) == 1
    out, err = capsys.readouterr()
    assert out.startswith(f"::error file={path},title=verify-factor-exporter%3A configuration::{path}: accounts.")
    assert (out.count("\n"), err) == (1, "")


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
