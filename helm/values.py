"""Reading values.yaml with its comments, which describe each value."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

_KEY = re.compile(r"( *)([A-Za-z][A-Za-z0-9]*):(?: |$)")
_INDENT = 2
_SCHEMA = "# @schema "
_EXAMPLE = "# Example:"


@dataclass(slots=True)
class Value:
    """A key of values.yaml with the keys below it.

    ``schema`` is what its line with @schema adds to the schema, ``example`` is an example as YAML.
    """

    path: tuple[str, ...]
    default: Any
    description: str
    schema: dict[str, Any]
    below: list[Value] = field(default_factory=list)
    example: str = ""

    def leaves(self) -> Iterator[Value]:
        """Yield the values without keys below this one, or this one if it has none."""
        if not self.below:
            yield self
        for value in self.below:
            yield from value.leaves()


@dataclass(frozen=True, slots=True)
class Section:
    """The values below a ``##`` line."""

    title: str
    values: list[Value]


@dataclass(slots=True)
class _Comment:
    """The comment lines since the last key."""

    lines: list[str] = field(default_factory=list)
    schema: dict[str, Any] = field(default_factory=dict)

    def add(self, line: str) -> None:
        if line.startswith(_SCHEMA):
            self.schema |= yaml.safe_load(line.removeprefix(_SCHEMA))
        else:
            self.lines.append(line.removeprefix("#").strip())


def read(text: str) -> list[Section]:
    """Return the sections of values.yaml.

    A block mapping is read key by key, unless its line with @schema defines what it may contain.
    """
    document = yaml.safe_load(text)
    sections: list[Section] = []
    open_values: list[Value] = []
    comment, example = _Comment(), None
    for line in text.splitlines():
        stripped = line.strip()
        if line.startswith("## "):
            sections.append(Section(line[3:], []))
        elif stripped == _EXAMPLE:
            example = open_values[-1]
            continue
        elif example is not None and stripped.startswith("#"):
            example.example += stripped[2:] + "\n"
            continue
        elif stripped.startswith("#"):
            comment.add(stripped)
            continue
        elif (key := _KEY.match(line)) and sections:
            depth = len(key[1]) // _INDENT
            if depth <= len(open_values) and not _is_closed(open_values[:depth]):
                del open_values[depth:]
                path = (*(value.path[-1] for value in open_values), key[2])
                value = Value(path, _at(document, path), " ".join(comment.lines), comment.schema)
                (open_values[-1].below if open_values else sections[-1].values).append(value)
                open_values.append(value)
        comment, example = _Comment(), None
    return sections


def _is_closed(parents: list[Value]) -> bool:
    """Whether a line below these parents is part of a default value rather than a key of the chart."""
    return any(
        not isinstance(value.default, dict) or value.schema.keys() & {"additionalProperties", "$ref", "type"}
        for value in parents
    )


def _at(document: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        document = document[part]
    return document
