"""Pictures of the documentation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from pathlib import Path


def reduce_colours(picture: Path, method: Image.Quantize = Image.Quantize.MAXCOVERAGE) -> None:
    """Write a picture again with 256 colours, enough for a page and its text.

    The usual method keeps colours that few pixels have. MEDIANCUT keeps large areas exactly as they are.
    """
    with Image.open(picture) as image:
        image.convert("RGB").quantize(256, method).save(picture, optimize=True)
