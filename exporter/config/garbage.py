"""No garbage collection while very many objects are made that stay: loading a list, and applying it."""

from __future__ import annotations

import contextlib
import gc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MANY_OBJECTS = 50_000


@contextlib.contextmanager
def without_collection() -> Iterator[None]:
    """Collect no garbage until the end of the block: a sixth of the time of loading a million objects.

    Where there are many new objects then, they are excluded from later collections, too: the first would traverse
    them all at once while the event loop waits.
    """
    enabled = gc.isenabled()
    gc.collect(0)  # else what is garbage already would be excluded
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            if gc.get_count()[0] > MANY_OBJECTS:
                gc.freeze()
            gc.enable()
