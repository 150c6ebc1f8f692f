"""``version``: print the versions of the exporter, Python and the platform."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from exporter import __revision__, __version__
from exporter.cli.help import Help

if TYPE_CHECKING:
    import argparse


HELP = Help(
    examples={"version": "print the versions of the exporter, Python and the platform"},
    exit_statuses={0: "printed"},
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add no flags."""


def run(_arguments: argparse.Namespace) -> int:
    """Print version, Python and platform; return 0."""
    revision = f" ({__revision__})" if __revision__ else ""
    print(f"verify-factor-exporter {__version__}{revision}")
    print(f"Python {platform.python_version()}")
    print(platform.platform())
    return 0
