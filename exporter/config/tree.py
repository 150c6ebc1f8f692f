"""The tree of tables and keys, which sources, error messages, flags, chart and documentation read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, get_args, get_origin

from pydantic import BaseModel

from exporter.config.kinds import Flag, ValueKind
from exporter.config.settings import ENTRIES, HttpSourceEntry, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

NAMED = "*"
"""In a key's path: a name that the user chooses (an account's)."""

LISTED = "[]"
"""In a key's path: any table of an array."""

HTTP = ("watchlist", "http")
"""The array of tables that lists the URLs of watchlists; like the entries, it is no setting."""


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
        """The key as messages show it."""
        return dotted(self.path)

    @property
    def summary(self) -> str:
        """The first sentence of the description, without its full stop."""
        return self.description.partition(". ")[0].rstrip(".")


@dataclass(frozen=True, slots=True)
class Table:
    """A table of keys; ``each`` describes the tables below it, by a chosen name or in an array."""

    path: tuple[str, ...]
    description: str
    below: dict[str, Key | Table] = field(default_factory=dict)
    each: Table | None = None

    @property
    def is_array(self) -> bool:
        """Whether this is an array of tables."""
        return self.each is not None and self.each.path[-1] == LISTED

    def own_keys(self) -> Iterator[Key]:
        """Yield the keys of this table, without those of the tables below it."""
        return (node for node in self.below.values() if isinstance(node, Key))

    def leaves(self) -> Iterator[Key]:
        """Yield every key of this table and of those below it, in the tree's order."""
        for node in self.below.values():
            if isinstance(node, Key):
                yield node
            else:
                yield from node.leaves()
        if self.each is not None:
            yield from self.each.leaves()


def table_of(model: type[BaseModel], path: tuple[str, ...] = ()) -> Table:
    """Return the table that a pydantic model describes."""
    table = Table(path, model.__doc__ or "")
    for name, info in model.model_fields.items():
        table.below[name] = _node(info, (*path, name))
    return table


def settings_tree() -> Table:
    """Return the tree of a configuration file: the settings, with the watchlist's tables after the accounts."""
    tree = Table((), Settings.__doc__ or "")
    for name, node in table_of(Settings).below.items():
        tree.below[name] = node
        if name == "accounts":
            tree.below.update((array, _tables(entry, (array,), LISTED)) for array, entry in ENTRIES.items())
        if isinstance(node, Table) and name == HTTP[0]:
            node.below[HTTP[1]] = _tables(HttpSourceEntry, HTTP, LISTED)
    return tree


def dotted(path: tuple[str, ...]) -> str:
    """Return a path as messages show it, with NAME for a chosen name."""
    return ".".join("NAME" if part == NAMED else part for part in path).replace(f".{LISTED}", LISTED)


def _node(info: FieldInfo, path: tuple[str, ...]) -> Key | Table:
    annotation = info.annotation
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return table_of(annotation, path)
    model = next((part for part in get_args(annotation) if _is_model(part)), None)
    if model is not None:
        return _tables(model, path, NAMED) if get_origin(annotation) is dict else table_of(model, path)
    return Key(
        path=path,
        kind=next(mark for mark in info.metadata if isinstance(mark, ValueKind)),
        description=info.description or "",
        default=None if info.is_required() else info.default,
        required=info.is_required(),
        flag=next((mark for mark in info.metadata if isinstance(mark, Flag)), None),
    )


def _tables(model: type[BaseModel], path: tuple[str, ...], part: str) -> Table:
    each = table_of(model, (*path, part))
    return Table(path, each.description, each=each)


def _is_model(part: object) -> bool:
    return isinstance(part, type) and issubclass(part, BaseModel)
