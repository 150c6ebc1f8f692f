"""What a command says about an unexpected error: types and places, and no message, which may have any value in it.

A module of its own because it is imported only after such an error.
"""

from __future__ import annotations

import os
import platform
import traceback
from typing import TYPE_CHECKING

from exporter import __version__
from exporter.cli import PROGRAM, TRACEBACK

if TYPE_CHECKING:
    from collections.abc import Iterator


def report(error: BaseException, command: str | None, *, with_traceback: bool) -> str:
    """Return the lines about an unexpected error, without secrets and identities; the last one says what to do."""
    prefix = f"{PROGRAM} {command}" if command else PROGRAM
    versions = f"version {__version__}, Python {platform.python_version()}"
    line = f"{prefix}: unexpected error: {_summary(error)} ({versions})"
    if not with_traceback:
        return f"{line}; run the command again with {TRACEBACK}, and open an issue with what it prints\n"
    return f"{''.join(_traceback(error))}{line}; open an issue with these lines\n"


def _summary(error: BaseException) -> str:
    """Return the type of an error, the system's reason if it has one, and where in this package it was raised."""
    summary = type(error).__name__
    if isinstance(error, OSError) and error.errno is not None:
        summary = f"{summary}, {os.strerror(error.errno)},"
    places = [
        f"{frame.f_globals['__name__']}, line {line}"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_globals.get("__name__", "").startswith("exporter.")
    ]
    return f"{summary} in {places[-1]}" if places else summary


def _traceback(error: BaseException, seen: frozenset[int] = frozenset()) -> Iterator[str]:
    """Yield the traceback of an error and of those before it and within it; a message is replaced by its length."""
    seen |= {id(error)}
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None and id(cause) not in seen:
        yield from _traceback(cause, seen)
        yield "\nwhich led to\n\n"
    yield "Traceback (most recent call last):\n"
    yield from traceback.format_tb(error.__traceback__)
    kind = type(error)
    yield f"{kind.__module__}.{kind.__qualname__} (message of {len(str(error))} characters left out)\n"
    if isinstance(error, BaseExceptionGroup):
        for within in error.exceptions:
            yield "\nwith\n\n"
            yield from _traceback(within, seen)
