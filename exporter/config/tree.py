"""A walk over the settings tree: its tables and keys, as sources, faults and documentation see them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, get_args, get_origin

from pydantic import BaseModel

from exporter.config.kinds import Flag, ValueKind
from exporter.config.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

NAMED = "*"
"""In a key's path, stands for a name that the user chooses (an account's)."""

LISTED = "[]"
"""In a key's path, stands for the tables of an array."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the configuration."""

    path: tuple[str, ...]
    kind: ValueKind
    description: str
    default: object
    required: bool
    flag: Flag | None

    @property
    def dotted(self) -> str:
        """The key as it is written in messages."""
        return dotted(self.path)

    @property
    def summary(self) -> str:
        """The first sentence of the description, without its full stop."""
        return self.description.partition(". ")[0].rstrip(".")


@dataclass(frozen=True, slots=True)
class Table:
    """A table of keys; ``each`` is what stands below a chosen name or in every table of an array."""

    path: tuple[str, ...]
    description: str
    below: dict[str, Key | Table] = field(default_factory=dict)
    each: Table | None = None

    @property
    def is_array(self) -> bool:
        """Whether this is an array of tables."""
        return self.each is not None and self.each.path[-1] == LISTED

    def leaves(self) -> Iterator[Key]:
        """Every key of this table and those below it, in the tree's order."""
        for node in self.below.values():
            if isinstance(node, Key):
                yield node
            else:
                yield from node.leaves()
        if self.each is not None:
            yield from self.each.leaves()


def table_of(model: type[BaseModel], path: tuple[str, ...] = ()) -> Table:
    """Return the table that a model describes."""
    table = Table(path, model.__doc__ or "")
    for name, info in model.model_fields.items():
        table.below[name] = _node(info, (*path, name))
    return table


def settings_tree() -> Table:
    """Return the whole tree."""
    return table_of(Settings)


def dotted(path: tuple[str, ...]) -> str:
    """Return a path as it is written in messages, with NAME for a chosen name."""
    return ".".join("NAME" if part == NAMED else part for part in path).replace(f".{LISTED}", LISTED)


def _node(info: FieldInfo, path: tuple[str, ...]) -> Key | Table:
    annotation = info.annotation
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return table_of(annotation, path)
    model = next((part for part in get_args(annotation) if _is_model(part)), None)
    if model is not None:
        each = table_of(model, (*path, NAMED if get_origin(annotation) is dict else LISTED))
        return Table(path, each.description, each=each)
    return Key(
        path=path,
        kind=next(mark for mark in info.metadata if isinstance(mark, ValueKind)),
        description=info.description or "",
        default=None if info.is_required() else info.default,
        required=info.is_required(),
        flag=next((mark for mark in info.metadata if isinstance(mark, Flag)), None),
    )


def _is_model(part: object) -> bool:
    return isinstance(part, type) and issubclass(part, BaseModel)
