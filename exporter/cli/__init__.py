"""The command line: one module per command (``cli/NAME.py``), imported only if it is the one to run.

A new command needs a module with ``add_arguments`` and ``run``, and a line in ``COMMANDS``. Shared by commands:
``config_file`` (loading the configuration), ``process`` (running a daemon until a signal), ``hangup`` (SIGHUP),
``table`` and ``findings`` (output), ``diagnosis`` (the requests of ``check --live``), ``costs`` and ``counting``
(the arithmetic of ``plan``, and the requests of ``plan --live``), ``named`` (the names that ``fetch`` gets) and
``fetched`` (what it prints).
"""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import TYPE_CHECKING, NoReturn

from exporter.cli.hangup import Hangup

if TYPE_CHECKING:
    from collections.abc import Sequence

PROGRAM = "verify-factor-exporter"
BAD_USAGE = 64
"""Exit status for bad usage and configuration (EX_USAGE in sysexits.h); ``run`` and ``check`` exit with 1."""

INTERRUPTED = 130
"""Exit status of a command that Ctrl-C interrupts: 128 + SIGINT, as in shells."""

COMMANDS = {
    "run": "poll the watched factors and serve their metrics",
    "check": "validate the configuration and the watchlist",
    "plan": "estimate what the configuration costs: request rate, series, scrape size and delay",
    "fetch": "fetch every factor once and print its status",
    "init": "write a first configuration, from flags or from answers on a terminal",
    "simulate": "run the embedded Verify API simulator on its own",
    "demo": "run the simulator and the exporter together; no Twilio account needed",
    "healthcheck": "check whether a running exporter is healthy",
    "version": "print the version",
}


_DAEMONS = ("run", "demo")
"""The commands that handle SIGHUP; it ends the others, as when a terminal closes."""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one readable line and the exit status of its command."""

    status = BAD_USAGE

    def error(self, message: str) -> NoReturn:
        self.exit(self.status, f"{self.prog}: {message}; see {self.prog} --help\n")


def usage_status(command: str) -> int:
    """Return the exit status of a command for bad usage or configuration."""
    return 1 if command in ("run", "check") else BAD_USAGE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name and return its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    named = next((word for word in words if word in COMMANDS), None)
    hangup = Hangup()
    if named in _DAEMONS:
        hangup.install()
    parser = _Parser(
        prog=PROGRAM,
        description="Prometheus exporter for the status of Twilio Verify factors.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    for name, purpose in COMMANDS.items():
        command = commands.add_parser(
            name, help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}.", allow_abbrev=False
        )
        command.status = usage_status(name)
        if name == named:
            importlib.import_module(f"exporter.cli.{name}").add_arguments(command)
    parsed, unknown = parser.parse_known_args(words)
    if unknown:  # reported by the command's own parser, which has its exit status
        commands.choices[parsed.command].error(f"unrecognized arguments: {' '.join(unknown)}")
    parsed.hangup = hangup
    try:
        status: int = importlib.import_module(f"exporter.cli.{parsed.command}").run(parsed)
    except KeyboardInterrupt:
        return INTERRUPTED
    return status
