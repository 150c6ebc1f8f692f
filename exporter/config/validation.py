"""What pydantic found wrong, as errors that name the key's place and, unless it may be a secret, the value."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from pydantic import SecretStr

from exporter.config.errors import ErrorDetail, InvalidValueError, did_you_mean, escape
from exporter.config.oddities import INVISIBLE, Oddity, name_of, oddity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pydantic import ValidationError

    from exporter.config.tree import Key, Table

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_WITH_CREDENTIALS = frozenset({"accounts", "factors", "entities", "services"})


class Problem(NamedTuple):
    """One thing pydantic found: the key's path, the position in it where that is a list, and what is wrong.

    ``cause`` is None where a required key is missing or the key is unknown. With ``of_key``, the name of the key is
    wrong.
    """

    path: tuple[str, ...]
    position: int | None
    kind: str
    cause: ValueError | None
    of_key: bool = False


def problems(error: ValidationError) -> Iterator[Problem]:
    """Yield each problem, without the value."""
    for found in error.errors(include_url=False, include_input=False):
        of_key = found["loc"][-1:] == ("[key]",)
        location = found["loc"][:-1] if of_key else found["loc"]
        path = tuple(part for part in location if isinstance(part, str))
        position = next((part for part in found["loc"] if isinstance(part, int)), None)
        cause = found.get("ctx", {}).get("error")
        yield Problem(path, position, found["type"], cause if isinstance(cause, ValueError) else None, of_key)


def entry_errors(
    error: ValidationError, table: Table, place: Callable[[str], str], given: Mapping[str, object]
) -> Iterator[ErrorDetail]:
    """Yield the errors of one entry of the watchlist, ``given`` as it is.

    ``place`` returns the place of one of its keys.
    """
    for path, position, kind, cause, of_key in problems(error):
        name = toml_path(path)
        if cause is not None:
            part = name if position is None else f"{name}[{position}]"
            odd = None if of_key else oddity_at(given, path, position)
            if odd is not None:
                yield ErrorDetail(place(part), odd.problem, odd.hint)
            else:
                yield ErrorDetail(place(part), explain(cause, table.path), of_key=of_key)
        elif kind == "missing":
            yield missing(place(name), next(key for key in table.leaves() if key.path[-1] == name))
        else:
            yield ErrorDetail(place(name), "unknown key", key_hint(path[-1], table.below), of_key=True)


def key_hint(name: str, known: Iterable[str]) -> str:
    """Return what to do about an unknown key."""
    if (found := INVISIBLE.search(name)) is not None:
        return f"it contains an invisible character ({name_of(found.group())}); remove that"
    return did_you_mean(name, known) or "remove it"


def oddity_at(given: Mapping[str, object], path: tuple[str, ...], position: int | None) -> Oddity | None:
    """Return what is odd about the value at a path of keys, and at a position of it where that is a list."""
    value: object = given
    for part in path:
        value = value.get(part) if isinstance(value, Mapping) else None
    if position is not None and isinstance(value, Sequence) and position < len(value):
        value = value[position]
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    return oddity(value) if isinstance(value, str) else None


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
