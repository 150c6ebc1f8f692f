"""Pictures of the documentation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from pathlib import Path


def reduce_colours(picture: Path) -> None:
    """Write a picture again with 256 colours, enough for a page and its text.

    MAXCOVERAGE keeps colours that few pixels have, such as those of a legend; refined, also those of large areas.
    """
    with Image.open(picture) as image:
        reduced = image.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=3)
        reduced.save(picture, optimize=True)
