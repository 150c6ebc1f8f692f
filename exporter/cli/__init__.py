"""The command line: one module per command (``cli/NAME.py``), imported only if it is the one to run.

A new command needs a module with ``HELP``, ``add_arguments`` and ``run``, and a line in ``COMMANDS``. Shared by
commands: ``help`` (what ``--help`` says below the flags, and exit statuses), ``config_file`` (loading the
configuration), ``process`` (running a daemon until a signal), ``hangup`` (SIGHUP), ``streams`` (standard output),
``crash`` (unexpected errors), ``table`` and ``findings`` (output), ``live`` and ``diagnosis`` (the requests of
``check --live``), ``costs`` and ``counting`` (the arithmetic of ``plan``, and the requests of ``plan --live``),
``named`` (the names that ``fetch`` gets) and ``fetched`` (what it prints).
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from exporter.cli.hangup import Hangup
from exporter.cli.help import epilog
from exporter.cli.streams import complain, discard_unread, prepare, redirect, unread

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

PROGRAM = "verify-factor-exporter"
BAD_USAGE = 64
"""Exit status for bad usage and configuration (EX_USAGE in sysexits.h); ``run`` and ``check`` exit with 1."""

UNEXPECTED = 70
"""Exit status after an unexpected error, which is a bug (EX_SOFTWARE in sysexits.h)."""

INTERRUPTED = 130
"""Exit status of a command that Ctrl-C interrupts: 128 + SIGINT, as in shells."""

OUTPUT_CLOSED = 141
"""Exit status if nobody reads standard output any more: 128 + SIGPIPE, as of programs that the signal ends."""

_LONGEST_MESSAGE = 1000

TRACEBACK = "--traceback"
"""The flag of every command that shows the traceback of an unexpected error."""

COMMANDS = {
    "run": "poll the watched factors and serve their metrics",
    "check": "validate the configuration and the watchlist",
    "plan": "estimate what the configuration costs: request rate, series, scrape size and delay",
    "fetch": "fetch every factor once and print its status",
    "init": "write a first configuration, from flags or from answers on a terminal",
    "simulate": "run the embedded Verify API simulator on its own",
    "demo": "run the simulator and the exporter together; no Twilio account needed",
    "healthcheck": "check whether a running exporter is healthy",
    "completion": "print a script that completes commands and flags in a shell",
    "version": "print the version",
}

_HANDLES_HANGUP = ("run", "demo")
"""The commands that handle SIGHUP; it ends the others, as when a terminal closes."""

_ENDS_WITH_CONTROL_C = ("run", "simulate", "demo")
"""The commands that run until a signal; Ctrl-C interrupts the others."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one readable line and the exit status of its command."""

    status = BAD_USAGE
    command: str | None = None
    """The command that the command line has somewhere, for the errors of the parser of all commands."""

    def error(self, message: str) -> NoReturn:
        from exporter.config.errors import escape  # noqa: PLC0415  it imports much, and is needed only here

        self.exit(self.status, f"{self.prog}: {escape(message, _LONGEST_MESSAGE)}; see {self.prog} --help\n")

    @property
    def arguments(self) -> Sequence[argparse.Action]:
        """The flags and arguments that the help shows."""
        return [action for action in self._actions if action.help != argparse.SUPPRESS]

    def refuse(self, words: Sequence[str]) -> NoReturn:
        """Report words that no flag takes, with the nearest flags; a value may be a secret, and is not repeated."""
        known = [name for action in self.arguments for name in action.option_strings]
        flags = [word.partition("=")[0] for word in words if word.startswith("-")]
        if misplaced := [flag for flag in flags if flag in known]:
            self.error(f"{misplaced[0]} has to follow the command: {self.prog} {misplaced[0]}")
        shown = [f"{flag}{_similar(flag, known)}" for flag in flags]
        self.error(f"unrecognized arguments: {' '.join(shown or words)}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Report a value that is no choice, with the nearest one."""
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            similar = _similar(str(value), map(str, action.choices or ()))
            if action.dest != "command":
                raise argparse.ArgumentError(action, f"{error.message}{similar}") from None
            if self.command is not None:
                similar = f"; flags and their values have to follow the command ({self.command})"
            raise argparse.ArgumentError(None, f'unknown command "{value}"{similar}') from None

    def _print_message(self, message: str, file: Any = None) -> None:
        """Write a message; unlike argparse's own method, it doesn't hide that nobody reads it."""
        if file is None or file is sys.stderr:
            complain(message)
        else:
            file.write(message)


class _Version(argparse.Action):
    """``--version``: print what the command ``version`` prints."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, **options)

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> NoReturn:
        parser.exit(importlib.import_module("exporter.cli.version").run(argparse.Namespace()))


def usage_status(command: str) -> int:
    """Return the exit status of a command for bad usage or configuration."""
    return 1 if command in ("run", "check") else BAD_USAGE


def exit_statuses(command: str, own: Mapping[int, str]) -> dict[int, str]:
    """Return the exit statuses of a command: its own, and those that commands have in common."""
    common = {UNEXPECTED: "unexpected error", OUTPUT_CLOSED: "nobody reads standard output any more"}
    if usage_status(command) == BAD_USAGE:
        common[BAD_USAGE] = "bad usage or configuration"
    if command not in _ENDS_WITH_CONTROL_C:
        common[INTERRUPTED] = "interrupted by Ctrl-C"
    return dict(sorted({**common, **own}.items()))


def parsers(complete: Collection[str]) -> tuple[Parser, dict[str, Parser]]:
    """Return the parser of the command line, and those of the commands by name.

    Only the ``complete`` commands get their flags and their help, because these need the import of their modules.
    """
    whole = Parser(
        prog=PROGRAM,
        description="Prometheus exporter for the status of Twilio Verify factors.",
        epilog=f"Run {PROGRAM} COMMAND --help for the flags, examples, exit statuses and environment variables of "
        f"a command, or {PROGRAM} demo to try it out.",
        allow_abbrev=False,
    )
    whole.add_argument("-V", "--version", action=_Version, help="print the version and exit")
    commands = whole.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)
    by_name: dict[str, Parser] = {}
    for name, purpose in COMMANDS.items():
        command = by_name[name] = commands.add_parser(
            name,
            help=purpose,
            description=f"{purpose[0].upper()}{purpose[1:]}.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.status = usage_status(name)
        if name in complete:
            module = importlib.import_module(f"exporter.cli.{name}")
            module.add_arguments(command)
            command.add_argument(TRACEBACK, action="store_true", help="print the traceback of an unexpected error")
            command.epilog = epilog(PROGRAM, module.HELP, exit_statuses(name, module.HELP.exit_statuses))
    return whole, by_name


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name and return its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    prepare()
    # A plugin would see secrets, and looking for one in every installed package takes a tenth of a start.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    try:
        status = _status(words)
        sys.stdout.flush()  # while a failure can still be reported
    except BrokenPipeError:
        status = OUTPUT_CLOSED
    except OSError as error:
        complain(f"{PROGRAM}: standard output can't be written: {os.strerror(error.errno or 0)}\n")
        redirect(sys.stdout)
        status = UNEXPECTED
    discard_unread()
    return status


def _status(words: list[str]) -> int:
    """Run a command line and return its exit status; raises BrokenPipeError if nobody reads the output."""
    named = next((word for word in words if word in COMMANDS), None)
    try:
        return _run(words, named)
    except SystemExit as ended:  # after --help, or bad usage
        return ended.code if isinstance(ended.code, int) else BAD_USAGE
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        if isinstance(error, BrokenPipeError) and (unread(sys.stdout) or unread(sys.stderr)):
            raise
        crash = importlib.import_module("exporter.cli.crash")
        complain(crash.report(error, named, with_traceback=TRACEBACK in words))
        return UNEXPECTED


def _run(words: list[str], named: str | None) -> int:
    hangup = Hangup()
    if named in _HANDLES_HANGUP:
        hangup.install()
    with _no_garbage_collection():
        whole, commands = parsers(() if named is None else (named,))
    whole.command = named
    parsed, unknown = whole.parse_known_args(words)
    if unknown:  # reported by the command's own parser, which has its exit status
        commands[parsed.command].refuse(unknown)
    parsed.hangup = hangup
    status: int = importlib.import_module(f"exporter.cli.{parsed.command}").run(parsed)
    return status


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Collect no garbage, as while modules are imported: there is hardly any, and a start takes less time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _similar(word: str, known: Iterable[str]) -> str:
    """Return the nearest of the known words as an addition to a message, or an empty string.

    The dashes of flags don't count: they make all flags similar.
    """
    from exporter.config.errors import nearest  # noqa: PLC0415  it imports much, and is needed only here

    bare = {name.lstrip("-"): name for name in known}
    match = nearest(word.lstrip("-"), bare)
    return "" if match is None else f' (did you mean "{bare[match]}"?)'
