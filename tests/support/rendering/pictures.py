"""The pictures of the documentation: ``python -m tests.support.rendering.pictures FOLDER``."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from tests.support.rendering.__main__ import arguments, run

# Board, situation and theme.
PICTURES = (
    ("overview", "factor-lost", "light"),
    ("overview", "api-down", "dark"),
    ("factor", "factor-lost", "dark"),
    ("exporter", "api-down", "light"),
)


def main(folder: Path) -> None:
    """Write the pictures into a folder, over histories made for them."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as histories:
        for board, situation, theme in PICTURES:
            picture = folder / f"{board}-{situation}.png"
            words = (board, situation, "--theme", theme, "--picture", str(picture), "--data", histories)
            asyncio.run(run(arguments().parse_args(words)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
