"""Writing lines from a thread, so that nobody waits for whoever reads them."""

from __future__ import annotations

import io
import os
import select
import threading
from collections import deque
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_CHARACTERS = 1 << 20
"""How much waits for a reader before lines are dropped: some 5,000 lines."""


class BackgroundWriter:
    """A stream of lines, each passed to ``write`` as a whole, in order, by a daemon thread.

    A pipe that nobody reads fills, and writing to it blocks. Then lines wait, up to ``most_characters``; further
    ones are dropped and counted, as are those that can't be written. ``stream`` is None where it was closed before
    the process started. Its descriptor is written to directly: a lock that a blocked thread holds on the stream
    itself would abort Python at its end.
    """

    def __init__(self, stream: TextIO | None, *, most_characters: int = MOST_CHARACTERS) -> None:
        self.dropped = 0
        self._sink = _sink_of(stream)
        self._most_characters = most_characters
        self._lines: deque[str] = deque()
        self._waiting_characters = 0  # until they are written
        self._closed = self._ended = False
        self._changed = threading.Condition()  # reentrant: a finalizer may log while a line is added
        threading.Thread(target=self._work, name="log", daemon=True).start()

    def write(self, line: str) -> None:
        """Add a line, or drop it; never waits."""
        with self._changed:
            if self._ended:  # the queue is empty, and somebody reads
                self._write_out(line)
            elif self._waiting_characters + len(line) > self._most_characters:
                self.dropped += 1
            else:
                self._lines.append(line)
                self._waiting_characters += len(line)
                self._changed.notify_all()

    def flush(self) -> None:
        """Do nothing, as nobody may wait; :meth:`close` waits."""

    def close(self, timeout_seconds: float) -> None:
        """Wait until every line is written, but not longer than this; later lines are written at once."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._ended, timeout_seconds)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines or self._closed)
                if not self._lines:
                    self._ended = True
                    self._changed.notify_all()
                    return
                line = self._lines.popleft()
            self._write_out(line)
            with self._changed:
                self._waiting_characters -= len(line)

    def _write_out(self, line: str) -> None:
        try:
            self._sink(line)
        except (OSError, ValueError):  # closed, or its reader is gone
            with self._changed:
                self.dropped += 1


def _sink_of(stream: TextIO | None) -> Callable[[str], object]:
    if stream is None:
        return _refuse
    try:
        descriptor = stream.fileno()
    except io.UnsupportedOperation:  # in memory
        return stream.write
    encoding = stream.encoding

    def write(line: str) -> None:
        rest = memoryview(line.encode(encoding, "backslashreplace"))
        while rest:
            try:
                rest = rest[os.write(descriptor, rest) :]
            except BlockingIOError:  # another process made the shared descriptor non-blocking
                select.select((), (descriptor,), ())

    return write


def _refuse(_line: str) -> None:
    raise BrokenPipeError
