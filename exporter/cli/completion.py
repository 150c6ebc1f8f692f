"""``completion``: print a script that completes commands, flags and their values in a shell."""

from __future__ import annotations

import os
import re
import sys
from pathlib import PurePath
from typing import TYPE_CHECKING

import shtab

from exporter.cli import BAD_USAGE, COMMANDS, PROGRAM, parsers
from exporter.cli.help import Help
from exporter.config import LogFormat, LogLevel

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

SHELLS = ("bash", "zsh", "fish")
_VALUES = {"LEVEL": tuple(map(str, LogLevel)), "FORMAT": tuple(map(str, LogFormat))}
"""The values of flags that the configuration checks, by their placeholders."""

HELP = Help(
    examples={
        "completion bash > ~/.local/share/bash-completion/completions/verify-factor-exporter": "for bash",
        "completion zsh > ~/.zfunc/_verify-factor-exporter": "for zsh, with fpath+=~/.zfunc before compinit in "
        "~/.zshrc",
        "completion fish > ~/.config/fish/completions/verify-factor-exporter.fish": "for fish",
    },
    exit_statuses={0: "printed"},
    variables={"SHELL": "the shell, if none is named"},
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "shell", metavar="SHELL", nargs="?", choices=SHELLS, help=f"{', '.join(SHELLS)} (default: the shell in use)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the script; return 0, or 64 if the shell in use is another one."""
    shell = arguments.shell or PurePath(os.environ.get("SHELL", "")).name
    if shell not in SHELLS:
        print(f"{PROGRAM} completion: name the shell: {', '.join(SHELLS)}", file=sys.stderr)
        return BAD_USAGE
    whole, commands = parsers(COMMANDS)
    for parser in (whole, *commands.values()):
        _describe_values(parser.arguments)
    print(shtab.complete(whole, shell))
    return 0


def _describe_values(actions: Iterable[argparse.Action]) -> None:
    """Say what completes the values of flags, by their placeholders."""
    for action in actions:
        placeholder = action.metavar
        if not isinstance(placeholder, str):
            continue
        if placeholder == "FILE":
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # an attribute that shtab reads
        action.choices = _VALUES.get(placeholder, action.choices)
        action.metavar = re.split(r"\W", placeholder)[0]  # zsh gives punctuation a meaning
