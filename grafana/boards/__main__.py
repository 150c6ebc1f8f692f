"""Generate the Grafana dashboards."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from grafana.boards.board import RUNBOOKS, render
from grafana.boards.exporter import EXPORTER_BOARD
from grafana.boards.factor import FACTOR_BOARD
from grafana.boards.overview import OVERVIEW_BOARD
from grafana.boards.source import PROMETHEUS

if TYPE_CHECKING:
    from collections.abc import Sequence

BOARDS = (OVERVIEW_BOARD, FACTOR_BOARD, EXPORTER_BOARD)
FOLDER = Path(__file__).parents[1] / "dashboards"


def plugin(text: str) -> str:
    """Return the id of a data source plugin; raises ArgumentTypeError where it can't be one."""
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", text):
        raise argparse.ArgumentTypeError(f'"{text}" is not a plugin id, such as {PROMETHEUS}')
    return text


def main(arguments: Sequence[str] | None = None) -> None:
    """Write every dashboard into a folder, creating it if necessary; raises OSError."""
    parser = argparse.ArgumentParser(prog="python -m grafana.boards", description=__doc__)
    parser.add_argument("--output", type=Path, default=FOLDER, metavar="FOLDER")
    parser.add_argument(
        "--datasource-type",
        type=plugin,
        default=PROMETHEUS,
        metavar="PLUGIN",
        help="plugin id of your data source, such as victoriametrics-metrics-datasource (default: %(default)s)",
    )
    parser.add_argument("--runbooks", default=RUNBOOKS, metavar="URL", help="base URL of the runbooks")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    for board in BOARDS:
        text = render(board, options.datasource_type, options.runbooks.rstrip("/"))
        (options.output / board.file_name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
