"""The command line as such: what it refuses, with which status, and what it doesn't import."""

from __future__ import annotations

import gc
import importlib
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from exporter import cli
from tests.support.commands import Ran

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

COMMANDS = sorted(cli.COMMANDS)
HEAVY = (
    *("pydantic", "pydantic_settings", "aiohttp", "httpx", "jinja2", "prometheus_client", "apscheduler", "tqdm"),
    *("asyncio", "shtab"),
)
FLAGS = {
    "run": (
        "--config.file",
        "--web.listen-address",
        "--web.config.file",
        "--web.telemetry-path",
        "--shard",
        "--log.level",
        "--log.format",
    ),
    "check": ("--config.file", "--live"),
    "fetch": ("--config.file", "--output", "NAME"),
    "simulate": ("--host", "--port", "--factors", "--seed", "--latency", "--fault", "--config-out"),
    "demo": ("--web.listen-address",),
    "healthcheck": (
        "--config.file",
        "--url",
        "--verified",
        "--wait",
        "--username-file",
        "--password-file",
        "--cert-file",
        "--key-file",
        "--server-name",
        "--insecure-skip-verify",
    ),
    "completion": ("SHELL",),
    "version": (),
}
MISSING = (
    "does not exist; name another file with --config.file, write one (with init, or by hand: config.example.toml "
    'has every key), or run "verify-factor-exporter demo", which needs none'
)


def status_for(command: str) -> int:
    return 1 if command in {"run", "check"} else 64


def test_no_command(call: Callable[..., Ran]) -> None:
    ran = call()

    assert (ran.status, ran.out) == (64, "")
    assert ran.err.startswith("verify-factor-exporter: ")
    assert ran.err.endswith("; see verify-factor-exporter --help\n")
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize("word", ["rum", "", "Run", "config.toml", "--", "-x", "--bogus"])
def test_an_unknown_command(call: Callable[..., Ran], word: str) -> None:
    ran = call(word)

    assert (ran.status, ran.out) == (64, "")
    assert ran.err.endswith("; see verify-factor-exporter --help\n")
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    ("word", "nearest"), [("rum", "run"), ("Fetch", "fetch"), ("chek", "check"), ("healtcheck", "healthcheck")]
)
def test_an_unknown_command_names_the_nearest(call: Callable[..., Ran], word: str, nearest: str) -> None:
    assert call(word).err == (
        f'verify-factor-exporter: unknown command "{word}" (did you mean "{nearest}"?); '
        "see verify-factor-exporter --help\n"
    )


@pytest.mark.parametrize("words", [("a\nb",), ("run", "--a\nb"), ("run", "a\nb"), ("check", "--output", "a\nb")])
def test_an_error_is_one_line_whatever_the_words_are(call: Callable[..., Ran], words: tuple[str, ...]) -> None:
    ran = call(*words)

    assert ran.err.count("\n") == 1
    assert "a\\nb" in ran.err


def test_an_unknown_command_without_a_similar_one(call: Callable[..., Ran]) -> None:
    assert call("frobnicate").err == (
        'verify-factor-exporter: unknown command "frobnicate"; see verify-factor-exporter --help\n'
    )


@pytest.mark.parametrize(
    ("command", "flag", "nearest"),
    [
        ("run", "--config-file=config.toml", "--config.file"),
        ("run", "--listen-address=:1", "--web.listen-address"),
        ("run", "-config.file=config.toml", "--config.file"),
        ("fetch", "--ouput=json", "--output"),
        ("check", "--lives", "--live"),
        ("simulate", "--factor=3", "--factors"),
    ],
)
def test_an_unknown_flag_names_the_nearest_and_no_value(
    call: Callable[..., Ran], command: str, flag: str, nearest: str
) -> None:
    ran = call(command, flag)

    assert (ran.status, ran.out) == (status_for(command), "")
    assert ran.err == (
        f"verify-factor-exporter {command}: unrecognized arguments: {flag.partition('=')[0]} "
        f'(did you mean "{nearest}"?); see verify-factor-exporter {command} --help\n'
    )


def test_the_value_of_an_unknown_flag_is_not_repeated(call: Callable[..., Ran]) -> None:
    ran = call("check", "--password", "hunter2", "--bogus=hunter2")

    assert "unrecognized arguments: --password --bogus; see" in ran.err
    assert "hunter2" not in ran.err


def test_a_value_that_is_no_choice_names_the_nearest(call: Callable[..., Ran]) -> None:
    ran = call("check", "--output", "jsn")

    assert ran.status == 1
    assert "argument --output: invalid choice: 'jsn' " in ran.err
    assert '(did you mean "json"?)' in ran.err


@pytest.mark.parametrize("words", [("--config.file", "x.toml", "run"), ("--config.file=x.toml", "run")])
def test_flags_before_the_command(call: Callable[..., Ran], words: tuple[str, ...]) -> None:
    ran = call(*words)

    assert (ran.status, ran.out) == (1 if len(words) == 2 else 64, "")
    assert "to follow the command" in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("place", ["after", "before"])
def test_an_unknown_flag_is_reported_by_the_command(call: Callable[..., Ran], command: str, place: str) -> None:
    ran = call(command, "--bogus") if place == "after" else call("--bogus", command)

    assert (ran.status, ran.out) == (status_for(command), "")
    assert ran.err == (
        f"verify-factor-exporter {command}: unrecognized arguments: --bogus; "
        f"see verify-factor-exporter {command} --help\n"
    )


@pytest.mark.parametrize(
    ("command", "flag"),
    [
        ("run", "--config.fil=config.toml"),
        ("run", "--web.listen=:1"),
        ("run", "--log.l=debug"),
        ("check", "--config"),
        ("check", "--liv"),
        ("fetch", "--out=json"),
        ("simulate", "--fac=3"),
        ("demo", "--web.listen=:1"),
        ("healthcheck", "--ur=http://127.0.0.1"),
    ],
)
def test_abbreviated_flags_are_refused(call: Callable[..., Ran], command: str, flag: str) -> None:
    ran = call(command, flag)

    assert ran.status == status_for(command)
    assert f"unrecognized arguments: {flag.partition('=')[0]}" in ran.err


@pytest.mark.parametrize(
    ("command", "flag"), [("run", "--log.level"), ("check", "--config.file"), ("fetch", "--output")]
)
def test_a_flag_without_its_value(call: Callable[..., Ran], command: str, flag: str) -> None:
    ran = call(command, flag)

    assert ran.status == status_for(command)
    assert f"argument {flag}: expected one argument" in ran.err


def test_a_superfluous_argument(call: Callable[..., Ran]) -> None:
    assert call("run", "fetch").status == 1
    assert call("version", "please").status == 64


@pytest.mark.parametrize("command", ["run", "check", "plan", "fetch"])
def test_a_configuration_that_is_missing(call: Callable[..., Ran], tmp_path: Path, command: str) -> None:
    path = tmp_path / "nowhere.toml"
    ran = call(command, "--config.file", str(path))

    assert (ran.status, ran.out) == (status_for(command), "")
    assert ran.err == f"{path}: {MISSING}\n"


def test_another_file_that_is_missing_gets_no_advice_for_a_first_start(
    call: Callable[..., Ran], tmp_path: Path
) -> None:
    path = tmp_path / "config.toml"
    path.write_text('[watchlist]\nfiles = ["missing.toml"]\n')
    ran = call("check", "--config.file", str(path))

    assert ran.status == 1
    assert "does not exist; create it or correct the path" in ran.err
    assert "demo" not in ran.err


@pytest.mark.parametrize("command", ["run", "check", "fetch"])
def test_every_error_of_a_configuration_is_reported(call: Callable[..., Ran], tmp_path: Path, command: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text('[polling]\ninterval = "5"\n[log]\nlevle = "info"\n[metrics]\nfactor_families = ["verifed"]\n')
    ran = call(command, "--config.file", str(path))

    assert (ran.status, ran.out) == (status_for(command), "")
    lines = [line for line in ran.err.splitlines() if not re.match(r" *\d* \|", line)]
    assert len(lines) == 3
    assert any("polling.interval" in line and "has no unit" in line for line in lines)
    assert any("log.levle" in line and 'did you mean "level"?' in line for line in lines)
    assert any("metrics.factor_families[0]" in line and 'did you mean "verified"?' in line for line in lines)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(call: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    ran = call(command, "--help")

    assert (ran.status, ran.err) == (0, "")
    assert ran.out.startswith(f"usage: verify-factor-exporter {command} ")
    assert f"{cli.COMMANDS[command][1:]}." in ran.out
    for flag in FLAGS.get(command, ()):
        assert re.search(rf"^  {re.escape(flag)}\b", ran.out, re.MULTILINE), flag


def test_help_lists_the_commands_without_importing_them() -> None:
    listed = python("from exporter.cli import main; main(['--help'])")

    for name, purpose in cli.COMMANDS.items():
        assert re.search(rf"^ +{name}\s+{re.escape(purpose)}$", listed, re.MULTILINE)
    assert json.loads(listed.splitlines()[-1]) == []


@pytest.mark.parametrize(
    "words",
    [
        *(["version"], ["version", "--help"], ["--version"], ["-V"]),
        *(["healthcheck", "--url", "http://127.0.0.1:1"], ["healthcheck", "--help"]),
    ],
)
def test_commands_that_must_start_fast_import_no_library(words: list[str]) -> None:
    assert json.loads(python(f"from exporter.cli import main; main({words!r})").splitlines()[-1]) == []


def python(statement: str) -> str:
    """Run a statement in a new process; the last line it prints are the heavy modules that were imported."""
    code = (
        f"import json, sys\ntry:\n    {statement}\nexcept SystemExit:\n    pass\n"
        f"print(json.dumps(sorted(set(sys.modules) & set({HEAVY!r}))))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
        env=os.environ | {"COLUMNS": "200"},
    )
    return ended.stdout


def test_python_m_and_the_script_are_the_same_command() -> None:
    root = Path(__file__).parents[2]
    scripts = tomllib.loads((root / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, name = scripts["verify-factor-exporter"].partition(":")
    assert getattr(importlib.import_module(module), name) is cli.main

    ended = subprocess.run(
        [sys.executable, "-m", "exporter", "version"], capture_output=True, text=True, timeout=300, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("verify-factor-exporter ")


def test_an_interrupted_command_ends_as_a_shell_expects(
    call: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_arguments: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib.import_module("exporter.cli.version"), "run", interrupted)

    assert call("version") == Ran(130, "", "")


def test_a_command_is_imported_without_garbage_collection(
    call: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    collecting: list[tuple[str, bool]] = []
    load = importlib.import_module

    def watch(name: str) -> ModuleType:
        collecting.append((name, gc.isenabled()))
        return load(name)

    monkeypatch.setattr(importlib, "import_module", watch)
    assert call("version").status == 0
    assert collecting[0] == ("exporter.cli.version", False)
    assert gc.isenabled()
