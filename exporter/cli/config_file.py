"""Loads a command's configuration from ``--config.file``, the environment variables and its flags.

A module of its own because several commands share it.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from exporter.config import Config, load
from exporter.exposition.catalogue import FACTOR_FAMILIES

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from exporter.config import SourceAnswer
    from exporter.config.last_good import LastGoodReader
    from exporter.config.sharding import Shard

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
    return load(
        Path(arguments.config_file),
        environ=os.environ,
        flags=getattr(arguments, "overrides", {}),
        known_families=[family.short_name for family in FACTOR_FAMILIES],
        shard=shard,
        last_good=last_good,
        fall_back=fall_back,
        answers=answers,
    )
