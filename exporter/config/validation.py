"""What pydantic found wrong, told as errors with the place each value came from."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from exporter.config.errors import ErrorDetail, did_you_mean
from exporter.config.sources import explain, spelt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pydantic import ValidationError

    from exporter.config.tree import Key, Table


class Problem(NamedTuple):
    """One thing pydantic found: the key's path, the index where that is a list, and what is wrong.

    ``cause`` is None where a required key is missing or an unknown one is there.
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


def entry_faults(error: ValidationError, table: Table, place: Callable[[str], str]) -> Iterator[ErrorDetail]:
    """Yield the errors of one entry of the watchlist; ``place`` tells where a key of it stands."""
    for path, _position, kind, cause in problems(error):
        name = spelt(path)
        if cause is not None:
            yield ErrorDetail(place(name), explain(cause, table.path))
        elif kind == "missing":
            yield missing(place(name), next(key for key in table.leaves() if key.path[-1] == name))
        else:
            yield ErrorDetail(place(name), "is not a known key", did_you_mean(name, table.below) or "remove it")


def missing(place: str, key: Key) -> ErrorDetail:
    """Return the detail of a key that must be there and isn't."""
    return ErrorDetail(place, "is missing", f"add it ({key.summary})")
