"""What pydantic found wrong, as errors that name the key's place and, unless it may be a secret, the value."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from exporter.config.errors import ErrorDetail, InvalidValueError, did_you_mean, escape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pydantic import ValidationError

    from exporter.config.tree import Key, Table

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_WITH_CREDENTIALS = frozenset({"accounts", "factors", "entities", "services"})


class Problem(NamedTuple):
    """One thing pydantic found: the key's path, the position in it where that is a list, and what is wrong.

    ``cause`` is None where a required key is missing or the key is unknown.
    """

    path: tuple[str, ...]
    position: int | None
    kind: str
    cause: ValueError | None


def problems(error: ValidationError) -> Iterator[Problem]:
    """Yield each problem, without the value."""
    for found in error.errors(include_url=False, include_input=False):
        location = found["loc"][:-1] if found["loc"][-1:] == ("[key]",) else found["loc"]
        path = tuple(part for part in location if isinstance(part, str))
        position = next((part for part in found["loc"] if isinstance(part, int)), None)
        cause = found.get("ctx", {}).get("error")
        yield Problem(path, position, found["type"], cause if isinstance(cause, ValueError) else None)


def entry_errors(error: ValidationError, table: Table, place: Callable[[str], str]) -> Iterator[ErrorDetail]:
    """Yield the errors of one entry of the watchlist; ``place`` returns the place of one of its keys."""
    for path, position, kind, cause in problems(error):
        name = toml_path(path)
        if cause is not None:
            part = name if position is None else f"{name}[{position}]"
            yield ErrorDetail(place(part), explain(cause, table.path))
        elif kind == "missing":
            yield missing(place(name), next(key for key in table.leaves() if key.path[-1] == name))
        else:
            yield ErrorDetail(place(name), "unknown key", did_you_mean(name, table.below) or "remove it")


def missing(place: str, key: Key) -> ErrorDetail:
    """Return the error of a required key that is missing."""
    return ErrorDetail(place, "is missing", f"add it ({key.summary})")


def explain(error: ValueError, path: tuple[str, ...]) -> str:
    """Return what is wrong with a value; the value is left out if it may be a secret in the wrong place."""
    if isinstance(error, InvalidValueError) and path[0] not in _WITH_CREDENTIALS:
        return error.quoted
    return str(error)


def toml_path(path: tuple[str, ...]) -> str:
    """Return a path as TOML writes it, with quotes around names that need them."""
    return ".".join(part if _BARE_KEY.fullmatch(part) else f'"{escape(part, 60)}"' for part in path)
