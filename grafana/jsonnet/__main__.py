"""Generate the configuration, the rules and the dashboards of the mixin: ``python -m grafana.jsonnet``."""

from __future__ import annotations

from pathlib import Path

from grafana.boards.__main__ import BOARDS
from grafana.boards.board import render
from grafana.jsonnet import config, groups

FOLDER = Path(__file__).parents[1] / "mixin"


def files() -> dict[Path, str]:
    """Return the content of every generated file by its path in the mixin."""
    return {
        Path("config.libsonnet"): config.text(),
        Path("groups.libsonnet"): groups.text(),
        **{Path("dashboards") / board.file_name: render(board) for board in BOARDS},
    }


def main() -> None:
    """Write the generated files, and remove dashboards that no longer exist."""
    generated = files()
    for path in (FOLDER / "dashboards").glob("*"):
        if path.relative_to(FOLDER) not in generated:
            path.unlink()
    for path, text in generated.items():
        (FOLDER / path).parent.mkdir(parents=True, exist_ok=True)
        (FOLDER / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
