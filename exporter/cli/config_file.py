"""Loads a command's configuration from ``--config.file``, the environment variables and its flags.

A module of its own because several commands share it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from exporter.config import Config, ConfigError, load
from exporter.config.files import shown_path
from exporter.config.watchlist import no_progress
from exporter.exposition.catalogue import FACTOR_FAMILIES

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Mapping

    from exporter.config import ErrorDetail, SourceAnswer
    from exporter.config.last_good import LastGoodReader
    from exporter.config.sharding import Shard

_QUIET_SECONDS = 0.5
_PROGRESS = "reading the {desc}: {n:,}{unit}"
DEFAULT_CONFIG_FILE = "config.toml"


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flag that names the configuration file."""
    parser.add_argument(
        "--config.file",
        dest="config_file",
        metavar="FILE",
        default=DEFAULT_CONFIG_FILE,
        help="configuration file (default: %(default)s)",
    )


def load_config(
    arguments: argparse.Namespace,
    *,
    shard: Shard | None = None,
    last_good: LastGoodReader | None = None,
    fall_back: bool = False,
    answers: Mapping[str, SourceAnswer] = MappingProxyType({}),
) -> Config:
    """Load the configuration for a command line; raises ConfigError.

    The keywords are those of :func:`~exporter.config.load`. A command may set
    ``arguments.overrides`` to the values of its flags by dotted key.
    """
    path = Path(arguments.config_file)
    try:
        with _progress() as progress:
            return load(
                path,
                environ=os.environ,
                flags=getattr(arguments, "overrides", {}),
                known_families=[family.short_name for family in FACTOR_FAMILIES],
                shard=shard,
                last_good=last_good,
                fall_back=fall_back,
                answers=answers,
                progress=progress,
            )
    except ConfigError as error:
        if shard is not None:  # a reload: the file was there
            raise
        details = (_for_a_first_start(detail, path) for detail in error.errors)
        raise ConfigError(details, error.warnings) from None


def _for_a_first_start(detail: ErrorDetail, path: Path) -> ErrorDetail:
    """Return an error, with how to begin as its hint if there is no configuration file."""
    if (detail.place, detail.problem) != (shown_path(path), "does not exist"):
        return detail
    hint = (
        "name another file with --config.file, write one (with init, or by hand: config.example.toml has every key)"
    )
    return replace(detail, hint=f'{hint}, or run "verify-factor-exporter demo", which needs none')


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[int], object]]:
    """Show on a terminal how many entries of the watchlist have been read, if that takes longer than a moment."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield no_progress
        return
    from exporter.cli.progress import progress_bar  # noqa: PLC0415  # of no use without a terminal

    with progress_bar(
        None, " entries", desc="watchlist", delay=_QUIET_SECONDS, mininterval=0, bar_format=_PROGRESS
    ) as bar:
        yield bar.update
