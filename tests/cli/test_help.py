"""``--help`` of every command: examples that work, exit statuses and environment variables."""

from __future__ import annotations

import importlib
import re
import shlex
from typing import TYPE_CHECKING

import pytest

from exporter import cli
from exporter.cli.help import CONFIGURATION, REQUESTS, Help

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.commands import Ran

COMMANDS = sorted(cli.COMMANDS)
DAEMONS = {"run", "simulate", "demo"}
LOAD_A_CONFIGURATION = {"run", "check", "plan", "fetch"}


def help_of(command: str) -> Help:
    found: Help = importlib.import_module(f"exporter.cli.{command}").HELP
    return found


def section(text: str, title: str) -> str:
    """Return the lines of one section of a help text."""
    _, found, rest = text.partition(f"\n{title}:\n")
    return rest.partition("\n\n")[0] if found else ""


@pytest.mark.parametrize("command", COMMANDS)
def test_the_examples_are_valid_command_lines(command: str) -> None:
    examples = help_of(command).examples
    whole, _ = cli.parsers((command,))

    assert examples
    for example, meaning in examples.items():
        words = shlex.split(example.partition(" > ")[0])
        assert whole.parse_args(words).command == command
        assert meaning


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_has_examples_exit_statuses_and_variables(
    call: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    text = call(command, "--help").out
    says = help_of(command)

    examples = section(text, "examples").splitlines()
    assert [line.strip() for line in examples if line.startswith("  verify-factor-exporter ")] == [
        f"verify-factor-exporter {example}" for example in says.examples
    ]
    statuses = [int(found) for found in re.findall(r"^  (\d+) ", section(text, "exit statuses"), re.MULTILINE)]
    expected = {0, 70, 141, 1 if command in {"run", "check"} else 64, *says.exit_statuses}
    assert statuses == sorted(expected if command in DAEMONS else expected | {130})
    for name, meaning in says.variables.items():
        assert f"  {name}\n        {meaning[:60]}" in text, name
    assert bool(says.variables) == ("environment variables:" in text)


def test_the_commands_with_a_configuration_name_its_variables() -> None:
    assert {command for command in COMMANDS if help_of(command).variables.keys() >= CONFIGURATION.keys()} >= (
        LOAD_A_CONFIGURATION
    )
    for command in LOAD_A_CONFIGURATION:
        assert help_of(command).variables.keys() >= REQUESTS.keys()


@pytest.mark.parametrize("command", COMMANDS)
def test_the_text_is_wrapped_to_the_terminal(
    call: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = call(command, "--help").out

    commands = {f"  verify-factor-exporter {example}" for example in help_of(command).examples}
    names = {f"  {name}" for name in help_of(command).variables}
    below = text[text.index("\nexamples:\n") :].splitlines()
    assert [line for line in below if len(line) > 80 and line not in commands | names] == []


def test_the_help_of_the_program_says_where_the_rest_is(call: Callable[..., Ran]) -> None:
    ran = call("--help")

    assert (ran.status, ran.err) == (0, "")
    assert "-V, --version" in ran.out
    assert "verify-factor-exporter COMMAND --help" in " ".join(ran.out.split())
