"""A pipe that nobody reads until a test does."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator

PIPE_BYTES = 4096  # the smallest size of a pipe on Linux


@dataclass(frozen=True, slots=True)
class UnreadPipe:
    """Both ends of a small pipe; ``write_end`` is for a process or a logger."""

    read_end: io.FileIO
    write_end: TextIO

    def line(self) -> str:
        """Read one line, and leave the rest unread."""
        line = b""
        while not line.endswith(b"\n"):
            byte = self.read_end.read(1)
            assert byte, f"it ended after {line!r}"
            line += byte
        return line.decode()

    def line_with(self, word: str) -> str:
        """Read lines up to the first one that contains ``word``, and return that one."""
        while word not in (line := self.line()):
            pass
        return line

    def rest(self) -> list[str]:
        """Close the write end here, and return the lines up to the end of all other writers."""
        self.write_end.close()
        return self.read_end.readall().decode().splitlines()


@contextlib.contextmanager
def unread_pipe() -> Iterator[UnreadPipe]:
    """Yield a pipe, and close its ends."""
    read_end, write_end = os.pipe()
    fcntl.fcntl(read_end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    with os.fdopen(write_end, "w", encoding="utf-8") as writer, io.FileIO(read_end) as reader:
        yield UnreadPipe(reader, writer)
