"""Standard output and standard error: closed ones, readers that are gone, and characters that an encoding lacks.

A module of its own because ``main`` needs it before it imports anything else.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys
from typing import TextIO


def prepare() -> None:
    """Make standard output safe to write to: no closed descriptor, and no character that its encoding lacks.

    Such a character is escaped, as on standard error.
    """
    open_standard_streams()
    if sys.stdout is None:  # it was closed when Python started
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  open until the end
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def open_standard_streams() -> None:
    """Open the null device in place of a closed standard stream.

    Otherwise a file or a socket gets its descriptor, and what is meant for the stream goes there; libuv aborts.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free descriptor, which is this one


def complain(text: str) -> None:
    """Write a text to standard error, unless it was closed when Python started."""
    if sys.stderr is not None:
        sys.stderr.write(text)


def unread(stream: TextIO | None) -> bool:
    """Return whether a stream is a pipe or a socket whose reader is gone."""
    if stream is None:
        return False
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):  # in memory, or closed
        return False
    poll = select.poll()
    poll.register(descriptor, 0)  # errors are always reported
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def discard_unread() -> None:
    """Send what is left in the buffers of streams without a reader to the null device.

    Otherwise Python tries to write it when it exits, and reports that it failed.
    """
    for stream in (sys.stdout, sys.stderr):
        if unread(stream):
            redirect(stream)


def redirect(stream: TextIO) -> None:
    """Replace the descriptor of a stream by the null device."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
