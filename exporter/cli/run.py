"""``run``: the daemon."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TYPE_CHECKING, Any

from exporter.cli.config_file import add_config_arguments, load_config
from exporter.cli.serving import serve
from exporter.config import ConfigError
from exporter.daemon import Daemon, redactor_of
from exporter.logs import configure
from exporter.web.server import ListenError

if TYPE_CHECKING:
    import argparse

    from exporter.config import Config

log = logging.getLogger(__name__)

_FLAGS = {
    "web.config.file": ("web.config_file", "FILE", "TLS and basic authentication of the web server"),
    "web.telemetry-path": ("web.telemetry_path", "PATH", "path of the metrics"),
    "shard": ("sharding.shard", "I/N", "part of the watchlist that this process watches"),
    "log.level": ("log.level", "LEVEL", "debug, info, warning or error"),
    "log.format": ("log.format", "FORMAT", "logfmt or json"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags; each lies over the configuration file's key of the same meaning."""
    add_config_arguments(parser)
    parser.add_argument(
        "--web.listen-address",
        dest="web.listen_address",
        metavar="ADDRESS",
        action="append",
        help="address to listen on, such as :10069; repeatable",
    )
    for flag, (key, value, purpose) in _FLAGS.items():
        parser.add_argument(f"--{flag}", dest=key, metavar=value, help=purpose)


def overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the configuration keys that the command line sets."""
    keys = ["web.listen_address", *(key for key, _, _ in _FLAGS.values())]
    given = {key: getattr(arguments, key) for key in keys}
    return {key: value for key, value in given.items() if value is not None}


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT; return 0, or 1 after telling why it could not start."""
    arguments.overrides = overrides(arguments)
    try:
        config = load_config(arguments)
        settings = config.settings
        configure(level=settings.log.level, style=settings.log.format, redact=redactor_of(config))
        for notice in config.notices:
            log.warning("%s", notice)
        asyncio.run(_daemon(config))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    except ListenError as error:
        print(f"web.listen_address: {error}", file=sys.stderr)
        return 1
    return 0


async def _daemon(config: Config) -> None:
    await serve(Daemon(config))
