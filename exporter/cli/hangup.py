"""SIGHUP for the whole life of a daemon's process.

Apart from process.py because ``main`` needs it before it imports anything else.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Hangup:
    """Handles SIGHUP, which would end a process that doesn't: remembers it until there is a daemon to reload."""

    def __init__(self) -> None:
        self._remembered = False
        self._reload: Callable[[], object] | None = None

    def install(self) -> None:
        """Handle SIGHUP from now on; for the main thread."""
        signal.signal(signal.SIGHUP, lambda _number, _frame: self._received())

    def _received(self) -> None:
        if self._reload is None:
            self._remembered = True
        else:
            self._reload()

    def deliver(self, reload: Callable[[], object]) -> None:
        """Call ``reload`` for every SIGHUP, and at once if one was remembered; it is called between two lines."""
        self._reload = reload
        if self._remembered:
            self._remembered = False
            reload()

    def ignore(self) -> None:
        """Ignore SIGHUP until the process ends: nothing is left to reload."""
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
