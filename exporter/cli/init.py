"""``init``: write a first configuration, from flags or from answers on a terminal.

What is watched is a service, an entity or a factor. A service or an entity is listed first, which shows that the
credentials work, and what there is to watch.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import json
import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from exporter.cli import BAD_USAGE, PROGRAM
from exporter.cli.config_file import DEFAULT_CONFIG_FILE, load_config
from exporter.cli.fetch import Pauses
from exporter.cli.fetched import described, not_listed
from exporter.cli.help import CONFIGURATION, REQUESTS, Help
from exporter.cli.table import counted
from exporter.config import ConfigError
from exporter.config.addresses import parse_base_url
from exporter.config.files import UnreadableError, shown_path
from exporter.config.secrets import read_password
from exporter.config.values import (
    parse_account_sid,
    parse_credential,
    parse_factor_sid,
    parse_identity,
    parse_name,
    parse_path,
    parse_service_sid,
    parse_username,
)
from exporter.daemon.engine import Engine
from exporter.daemon.parts import Confidential
from exporter.logs.output import configure

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

    from exporter.cli.fetched import NotListed
    from exporter.config import Config
    from exporter.watched import WatchedFactor

_SECRET_FILE = "twilio-secret"  # noqa: S105  a file's name, no password
_PRIVATE = 0o600
_MOST_SHOWN = 20
_COMMENT_COLUMN = 37


class _FlagError(Exception):
    """A flag that is missing or wrong; the message names it."""


class _NotWrittenError(Exception):
    """Why no configuration was written."""


def parse_secret_path(value: object) -> str:
    """Return the path of a password file; a configuration can only hold one that is UTF-8 text."""
    text = parse_path(value)
    if not text:
        raise ValueError("is empty; name a file")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("is not UTF-8 text; rename the file") from None
    return text


class _Value(NamedTuple):
    """What a configuration is made of: its flag with placeholder and help, its parser, and how to ask for it."""

    flag: str
    placeholder: str
    parse: Callable[[object], str]
    help: str
    question: str = ""
    required: bool = False

    @property
    def dest(self) -> str:
        return self.flag.removeprefix("--").replace("-", "_")


ACCOUNT_SID = _Value(
    "--account-sid",
    "AC…",
    parse_account_sid,
    "SID of the Twilio account that owns the Verify service",
    "Account SID (AC…)",
    required=True,
)
USERNAME = _Value(
    "--username",
    "SK…",
    parse_username,
    "SID of the API key (default: the Account SID, with its auth token)",
    "API key SID (SK…; empty: the Account SID, with its auth token)",
)
PASSWORD_FILE = _Value(
    "--password-file",
    "FILE",
    parse_secret_path,
    "file that contains the API key's secret or the auth token; on a terminal, init creates it if it is missing",
    "File with the API key's secret or the auth token",
    required=True,
)
SERVICE = _Value(
    "--service",
    "VA…",
    parse_service_sid,
    "Verify Service SID; alone, every factor of every entity of the service is watched, and the service is listed",
    "Verify Service SID (VA…)",
    required=True,
)
ENTITY = _Value(
    "--entity",
    "IDENTITY",
    parse_identity,
    "watch every factor of the entity with this identity only; the entity is listed",
    "Identity of an entity, to watch its factors only (empty: every entity of the service)",
)
FACTOR = _Value(
    "--factor",
    "YF…",
    parse_factor_sid,
    "watch this factor of the entity only; no request is sent",
    "Factor SID (YF…), to watch this factor only (empty: every factor of the entity)",
)
NAME = _Value(
    "--name",
    "NAME",
    parse_name,
    "name shown in metrics and on pages, so never a person's (default: service, entity, or the factor SID)",
    "Name shown in metrics and on pages, so never a person's",
)
BASE_URL = _Value(
    "--base-url", "URL", parse_base_url, "URL of the Verify API, for a gateway or a simulator (default: Twilio's)"
)
VALUES = (ACCOUNT_SID, USERNAME, PASSWORD_FILE, SERVICE, ENTITY, FACTOR, NAME, BASE_URL)


@dataclass(frozen=True, slots=True)
class Answers:
    """What to write; an empty text stands for a default. ``repr`` would show the identity."""

    account_sid: str
    username: str
    password_file: str
    service: str
    entity: str
    factor: str
    name: str
    base_url: str

    def __repr__(self) -> str:
        return f"Answers({self.service!r}, ...)"

    @property
    def lists(self) -> bool:
        """Whether what is watched has to be listed: a service, or an entity."""
        return not self.factor


HELP = Help(
    examples={
        "init": "ask for everything, on a terminal, and write config.toml",
        f"init --account-sid AC{'0' * 32} --username SK{'0' * 32} --password-file twilio-secret "
        f"--service VA{'0' * 32} --name consumer": "watch every factor of a service",
    },
    exit_statuses={0: "written", 1: "not written: the file exists, or a request failed"},
    variables=CONFIGURATION | REQUESTS,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument(
        "--config.file",
        dest="config_file",
        metavar="FILE",
        default=DEFAULT_CONFIG_FILE,
        help="configuration file to write; it must not exist (default: %(default)s)",
    )
    for value in VALUES:
        parser.add_argument(value.flag, dest=value.dest, metavar=value.placeholder, help=value.help)


def run(arguments: argparse.Namespace) -> int:
    """Write a configuration that ``check`` accepts; return 0, 1 if it was not written, 64 for bad usage.

    Without ``--account-sid``, ``--password-file`` or ``--service``, a terminal asks for what is missing. No output
    has the secret or the identity.
    """
    path = Path(arguments.config_file)
    try:
        _refuse_existing(path)
        _write(arguments, path, _answers(arguments, path))
    except _FlagError as error:
        print(f"{PROGRAM} init: {error}", file=sys.stderr)
        return BAD_USAGE
    except _NotWrittenError as error:
        print(f"{error}\n{shown_path(path)} was not written", file=sys.stderr)
        return 1
    return 0


def _refuse_existing(path: Path) -> None:
    if os.path.lexists(path):
        raise _exists(path)


def _exists(path: Path) -> _NotWrittenError:
    hint = "choose another one with --config.file, or move it away"
    return _NotWrittenError(f"{shown_path(path)} exists, and init replaces no file; {hint}")


# What to write


def _answers(arguments: argparse.Namespace, path: Path) -> Answers:
    """Return the values of the flags, and of the questions if a flag is missing and there is a terminal."""
    texts = {value: getattr(arguments, value.dest) for value in VALUES}
    given = {value: _of_flag(value, text) for value, text in texts.items() if text is not None}
    missing = [value.flag for value in VALUES if value.required and value not in given]
    terminal = sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()
    if missing and not terminal:
        raise _FlagError(f"missing {', '.join(missing)}; set them, or run init on a terminal, where it asks")
    if missing:
        _ask(given, path)
    if given.get(FACTOR) and not given.get(ENTITY):
        raise _FlagError("--factor needs --entity: the identity of the entity that owns the factor")
    secret = given[PASSWORD_FILE]
    try:
        read_password(Path(secret))
    except UnreadableError as error:
        hint = f"create it, for example with: install -m 600 /dev/stdin {shlex.quote(secret)}"
        hint = hint if not os.path.lexists(secret) else error.hint
        problem = f"{shown_path(Path(secret))} {error.problem}"
        raise _FlagError(f"--password-file: {problem}; {hint}" if hint else f"--password-file: {problem}") from None
    return Answers(**{value.dest: given.get(value, "") for value in VALUES})


def _of_flag(value: _Value, text: str) -> str:
    try:
        return value.parse(text)
    except ValueError as error:
        raise _FlagError(f"{value.flag}: {error}") from None


def _ask(given: dict[_Value, str], path: Path) -> None:
    """Ask for every value that has no flag; raises _NotWrittenError at the end of the input."""
    for value in VALUES:
        if value in given or not value.question or (value is FACTOR and not given.get(ENTITY)):
            continue
        default = "" if not value.required else None
        question = value.question
        if value is PASSWORD_FILE:
            default = str(path.parent / _SECRET_FILE)
        if value is NAME:
            default = _default_name(given)
        if default:
            question += f" [{default}]"
        given[value] = _asked(question, value.parse, default)
        if value is PASSWORD_FILE and os.path.lexists(given[value]):
            print(f"  {shown_path(Path(given[value]))} exists, and is used as it is", file=sys.stderr)
        elif value is PASSWORD_FILE:
            _create_secret(given[value])


def _default_name(given: dict[_Value, str]) -> str:
    if given.get(FACTOR):
        return given[FACTOR]
    return "entity" if given.get(ENTITY) else "service"


def _asked(question: str, parse: Callable[[object], str], default: str | None) -> str:
    """Return a valid answer; an empty one means the default, if there is one."""
    while True:
        print(f"{question}: ", end="", file=sys.stderr, flush=True)
        try:
            line = sys.stdin.readline()
            if not line:
                raise _NotWrittenError("\nno more answers")
            text = line.strip()
            return default if not text and default is not None else parse(text)
        except ValueError as error:
            print(f"  {error}", file=sys.stderr)


def _create_secret(name: str) -> None:
    """Ask for the secret without echo, and write it into a new file that only its owner can read."""
    while True:
        try:
            question = f"{name} does not exist. The secret to write into it (not shown): "
            secret = parse_credential(getpass.getpass(question, stream=sys.stderr).strip())
            break
        except EOFError:
            raise _NotWrittenError("\nno more answers") from None
        except ValueError as error:
            print(f"  {error}", file=sys.stderr)
    _create(Path(name), f"{secret}\n")
    print(f"  {shown_path(Path(name))} created; only you can read it", file=sys.stderr)


def _create(path: Path, text: str) -> None:
    """Write a new file that only its owner can read; raises _NotWrittenError."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        raise _NotWrittenError(f"{shown_path(path)} cannot be written ({error.strerror})") from None


# Writing it


def _write(arguments: argparse.Namespace, path: Path, answers: Answers) -> None:
    """Write the file, check it and list what it watches; without success, no file stays."""
    _create(path, _text(answers, path))
    try:
        found = _found(arguments, answers)
        if answers.entity and answers.lists:
            path.write_text(_text(answers, path, found), encoding="utf-8")
    except OSError as error:
        path.unlink(missing_ok=True)
        raise _NotWrittenError(f"{shown_path(path)} cannot be written ({error.strerror})") from None
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    print(f"{shown_path(path)} written; it watches {_watched(answers, found)}")
    option = "" if str(path) == DEFAULT_CONFIG_FILE else f" --config.file {shlex.quote(str(path))}"
    print("next:")
    for command in ("check --live", "fetch", "run"):
        print(f"  {PROGRAM} {command}{option}")


def _found(arguments: argparse.Namespace, answers: Answers) -> Sequence[WatchedFactor]:
    """Return the factors that are watched now, of a service the first ones; raises _NotWrittenError."""
    try:
        config = load_config(arguments)
        for warning in config.warnings:
            print(f"warning: {warning}", file=sys.stderr)
        if not answers.lists:
            return config.factors
        confidential = Confidential(config)
        configure(level="error", style="logfmt", redact=confidential.redactor)
        factors, failures = asyncio.run(_list(config, confidential))
    except ConfigError as error:
        raise _NotWrittenError(str(error)) from None
    problems = [f"{failed.account}: {text}" for failed, text in described(failures)]
    if problems and not factors:
        raise _NotWrittenError("\n".join(problems))
    for problem in problems or ([] if factors else ["no factor was found yet"]):
        print(f"warning: {problem}", file=sys.stderr)
    return factors


async def _list(config: Config, confidential: Confidential) -> tuple[Sequence[WatchedFactor], Sequence[NotListed]]:
    """List the entity, or the service until its first factor is found."""
    engine = Engine(config, confidential=confidential, one_shot=True)
    pauses = Pauses()

    def enough() -> bool:
        return bool(config.services) and any(True for _ in engine.ledger)

    try:
        discovered = await engine.discover_once(lambda _left: pauses.report(engine), enough)
    finally:
        await engine.stop_now()
    return discovered.factors, not_listed(config, discovered)


def _watched(answers: Answers, found: Sequence[WatchedFactor]) -> str:
    """Return what is watched, in words and without the identity."""
    if answers.factor:
        return f'the factor "{answers.name or answers.factor}"'
    if not answers.entity:
        return f"every factor of the service {answers.service}"
    names = ", ".join(of.name for of in found[:_MOST_SHOWN])
    more = ", …" if len(found) > _MOST_SHOWN else ""
    return f"every factor of an entity, now {counted(len(found), 'factor')}" + (f": {names}{more}" if names else "")


# The text


def quoted(text: str) -> str:
    """Return a TOML basic string; JSON's escapes are TOML's, except pairs of surrogates."""
    return json.dumps(text, ensure_ascii=False)


def _line(key: str, value: str, comment: str = "") -> str:
    line = f"{key} = {value}"
    return f"{line.ljust(_COMMENT_COLUMN - 1)} # {comment}\n" if comment else f"{line}\n"


def _text(answers: Answers, path: Path, found: Sequence[WatchedFactor] = ()) -> str:
    """Return the configuration; ``found`` are factors that its entity has."""
    return "".join(_lines(answers, path, found))


def _lines(answers: Answers, path: Path, found: Sequence[WatchedFactor]) -> Iterator[str]:
    yield f"# Configuration of {PROGRAM}, written by `{PROGRAM} init`.\n"
    yield "# docs/configuration.md describes every key; config.example.toml has all with their defaults.\n\n"
    yield "[accounts.main]\n"
    yield _line("account_sid", quoted(answers.account_sid))
    if answers.username:
        yield _line("username", quoted(answers.username), "the API key")
    secret = "the API key's secret" if answers.username.startswith("SK") else "the account's auth token"
    yield _line("password_file", quoted(_beside(path, answers.password_file)), secret)
    if answers.base_url:
        yield _line("base_url", quoted(answers.base_url))
    yield "\n"
    yield from _entry(answers)
    yield from _choice(answers, found)
    yield "\n# Defaults that are often changed:\n"
    yield "#[polling]\n"
    yield _line("#interval", '"5m"', "between two fetches of a factor")
    yield "#[web]\n"
    yield _line("#listen_address", '":10069"', 'every address; "127.0.0.1:10069" for this machine only')
    yield "#[state]\n"
    yield _line("#file", '""', 'such as "state.jsonl": what is known of the factors survives a restart')


def _entry(answers: Answers) -> Iterator[str]:
    """Yield the entry of what is watched."""
    shown = "shown in metrics and on pages, so never a person's"
    prefix = "the factors' names begin with it; never a person's"
    if answers.factor:
        array, default, purpose = "factors", "", "This factor is watched."
    elif answers.entity:
        array, default = "entities", "entity"
        purpose = "Every factor of this entity is watched, also those enrolled later."
    else:
        array, default = "services", "service"
        purpose = "Every factor of every entity of this service is watched, also those enrolled later."
    yield f"# {purpose}\n[[{array}]]\n"
    name = answers.name or default
    if name:
        yield _line("name", quoted(name), shown if answers.factor else prefix)
    else:
        yield _line("#name", quoted("payments-oncall-push"), f"{shown}; default: the factor SID")
    yield _line("service_sid", quoted(answers.service))
    if answers.entity:
        yield _line("identity", quoted(answers.entity), "personal data")
    if answers.factor:
        yield _line("factor_sid", quoted(answers.factor))
    yield _line("#labels", '{ team = "payments" }', "on every series")


def _choice(answers: Answers, found: Sequence[WatchedFactor]) -> Iterator[str]:
    """Yield the entries of the found factors as comments."""
    if not found:
        return
    factors = counted(len(found), "factor")
    yield f"\n# It had {factors} when this was written. To watch only some, list them instead:\n"
    for of in found[:_MOST_SHOWN]:
        yield "#[[factors]]\n"
        yield _line("#name", quoted(of.name))
        yield _line("#service_sid", quoted(of.key.service_sid))
        yield _line("#identity", quoted(answers.entity))
        yield _line("#factor_sid", quoted(of.key.factor_sid))
    if len(found) > _MOST_SHOWN:
        yield f"# … and {len(found) - _MOST_SHOWN} more\n"


def _beside(path: Path, secret: str) -> str:
    """Return the path of the password file for the configuration: relative to its folder if it is below it."""
    if os.path.isabs(secret):  # noqa: PTH117  as a text
        return secret
    absolute, folder = Path(os.path.abspath(secret)), Path(os.path.abspath(path.parent))  # noqa: PTH100  links stay
    with contextlib.suppress(ValueError):
        return str(absolute.relative_to(folder))
    return str(absolute)
