"""Generate grafana/dashboards/*.json: ``python -m grafana.boards [FOLDER]``."""

from __future__ import annotations

import sys
from pathlib import Path

from grafana.boards.board import render
from grafana.boards.exporter import EXPORTER_BOARD
from grafana.boards.factor import FACTOR_BOARD
from grafana.boards.overview import OVERVIEW_BOARD

BOARDS = (OVERVIEW_BOARD, FACTOR_BOARD, EXPORTER_BOARD)
FOLDER = Path(__file__).parents[1] / "dashboards"


def main(folder: Path = FOLDER) -> None:
    """Write every dashboard into a folder, creating it if necessary; raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    for board in BOARDS:
        (folder / board.file_name).write_text(render(board), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
