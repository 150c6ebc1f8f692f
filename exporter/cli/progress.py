"""Progress bars on standard error, shown on a terminal only."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

if TYPE_CHECKING:
    Bar = tqdm[Any]


def progress_bar(total: int | None, unit: str, *, hidden: bool = False, **options: Any) -> Bar:
    """Return a progress bar; ``options`` are those of tqdm."""
    _use_a_lock_between_threads()
    return tqdm(
        total=total,
        unit=unit,
        leave=False,
        disable=True if hidden else None,  # None: shown on a terminal only
        file=sys.stderr,
        **options,
    )


def write_above(line: str) -> None:
    """Write a line to standard error, above a progress bar if one is shown."""
    _use_a_lock_between_threads()
    tqdm.write(line, file=sys.stderr)


def _use_a_lock_between_threads() -> None:
    # The default lock is between processes: since Python 3.14, creating it starts a process that outlives the bar.
    if "_lock" not in vars(tqdm):
        tqdm.set_lock(threading.RLock())
