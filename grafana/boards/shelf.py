"""All boards."""

from __future__ import annotations

from grafana.boards.exporter import EXPORTER_BOARD
from grafana.boards.factor import FACTOR_BOARD
from grafana.boards.overview import OVERVIEW_BOARD

BOARDS = (OVERVIEW_BOARD, FACTOR_BOARD, EXPORTER_BOARD)
