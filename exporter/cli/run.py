"""``run``: run the exporter as a daemon."""

from __future__ import annotations

import functools
import logging
import sys
from typing import TYPE_CHECKING, Any

from exporter.cli.config_file import add_config_arguments, load_config
from exporter.cli.help import CONFIGURATION, REQUESTS, Help
from exporter.cli.process import (
    freeze_gc,
    run_to_end,
    serve,
    too_few_descriptors,
    trim_memory,
    unless_stopped,
)
from exporter.config import ConfigError
from exporter.config.tree import settings_tree
from exporter.daemon.daemon import Daemon
from exporter.daemon.parts import Confidential
from exporter.daemon.url_sources import with_first_answers
from exporter.logs.output import configure, fields
from exporter.state.keeper import StateLockedError
from exporter.state.watchlist import read as read_last_good
from exporter.web.server.sockets import ListenError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from exporter.cli.hangup import Hangup
    from exporter.config import Config
    from exporter.config.kinds import Flag
    from exporter.config.tree import Key
    from exporter.logs.output import LogOutput

log = logging.getLogger(__name__)

_LAST_LINES_SECONDS = 2.0


HELP = Help(
    examples={
        "run": "run with config.toml in the working directory",
        "run --config.file /etc/exporter/config.toml --web.listen-address 127.0.0.1:10069": "listen on loopback",
        "run --shard 0/2 --log.format json": "watch half of the watchlist, and log as JSON",
    },
    exit_statuses={
        0: "stopped by SIGTERM or SIGINT",
        1: "it could not start: bad usage or configuration, an address in use, a locked state file",
    },
    variables=CONFIGURATION | REQUESTS,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags; each overrides the configuration key of the same meaning."""
    add_config_arguments(parser)
    for key, flag in _flags():
        parser.add_argument(
            flag.name,
            dest=key.dotted,
            metavar=flag.value,
            action="append" if flag.repeatable else "store",
            help=_purpose(key, flag).replace("%", "%%"),
        )


def overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the configuration keys that the command line sets."""
    given = {key.dotted: getattr(arguments, key.dotted) for key, _flag in _flags()}
    return {key: value for key, value in given.items() if value is not None}


def _flags() -> Iterator[tuple[Key, Flag]]:
    """Yield every key of the settings tree that has a flag."""
    for key in settings_tree().leaves():
        if key.flag is not None:
            yield key, key.flag


def _purpose(key: Key, flag: Flag) -> str:
    """Return a flag's help text: the meaning of its key."""
    first, _, rest = key.summary.replace("`", "").partition(" ")
    words = f"{first if first.isupper() else first.lower()} {rest}"
    if flag.repeatable:
        words += "; repeatable"
    return words


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT; return 0, or 1 after reporting why it could not start."""
    if problem := too_few_descriptors():
        print(problem, file=sys.stderr)
        return 1
    arguments.overrides = overrides(arguments)
    try:
        config = load_config(arguments, last_good=read_last_good, fall_back=True)
    except ConfigError as error:
        from exporter.cli.findings import write_refused  # noqa: PLC0415  # for refused configurations only

        write_refused(error)
        return 1
    log_settings = config.settings.log
    confidential = Confidential(config)
    output = configure(
        level=log_settings.level, style=log_settings.format, redact=confidential.redactor, background=True
    )
    try:
        load = functools.partial(load_config, arguments)
        run_to_end(_daemon(config, confidential, output, load, arguments.hangup))
    except (ConfigError, StateLockedError) as error:
        output.write(str(error))
        return 1
    except ListenError as error:
        output.write(f"{error.key}: {error}")
        return 1
    finally:
        output.close(_LAST_LINES_SECONDS)
    return 0


async def _daemon(
    config: Config, confidential: Confidential, output: LogOutput, load: Callable[..., Config], hangup: Hangup
) -> None:
    applied = await unless_stopped(with_first_answers(config, last_good=read_last_good))
    if applied is None:
        return
    config = applied
    confidential.add(config)
    for warning in config.warnings:
        log.warning("configuration warning", extra=fields(warning=str(warning)))
    daemon = Daemon(config, confidential=confidential, log_output=output, load=load, trim=trim_memory)
    await serve(daemon, freeze_gc, hangup)
