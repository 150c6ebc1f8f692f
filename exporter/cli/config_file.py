"""The configuration as every command gets it: ``--config.file``, the environment, and the command's flags."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.config import Config, load
from exporter.exposition.catalogue import FACTOR_FAMILIES

if TYPE_CHECKING:
    import argparse

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


def load_config(arguments: argparse.Namespace) -> Config:
    """Load the configuration that a command line asks for; raises ConfigError.

    ``arguments.overrides``, where a command sets it, holds the values of its flags by dotted key.
    """
    return load(
        Path(arguments.config_file),
        environ=os.environ,
        flags=getattr(arguments, "overrides", {}),
        known_families=[family.short_name for family in FACTOR_FAMILIES],
    )
