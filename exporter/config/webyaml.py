"""YAML with the place of every value: a file's sections and fields, with the line of every error.

Values are taken from the document's nodes, before YAML converts them, so that a password hash or a name is exactly
what the file contains. A value in the place of a secret is never quoted.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, NamedTuple

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from exporter.config.errors import ErrorDetail, did_you_mean, escape
from exporter.config.files import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_NULL, _MERGE = "tag:yaml.org,2002:null", "tag:yaml.org,2002:merge"
_DEEPEST_MERGE = 4
_TRUE = frozenset({"true", "yes", "on", "y"})
_FALSE = frozenset({"false", "no", "off", "n"})
_WHOLE = re.compile(r"[+-]?[0-9]{1,9}")


def compose(text: str) -> Node | None:
    """Return the document in a text, or None where it is empty; raises UnreadableError with the line."""
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        several = "expected a single document" in str(error.context)
        problem = "contains several YAML documents" if several else "is not valid YAML"
        hint = "keep one" if several else "check the indentation, and quote text with special characters"
        raise UnreadableError(problem, hint, where=where) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise UnreadableError("contains a control character", "remove it", where=f"line {line}") from None
    except (RecursionError, yaml.YAMLError):
        raise UnreadableError("is nested too deeply", "see docs/web-config.md for the format") from None


class Spot(NamedTuple):
    """Where a field and its value are, as positions in the text, and the names on the way to it."""

    key: tuple[int, int]
    value: tuple[int, int]
    parts: tuple[str, ...]


def spots_of(text: str, wanted: Collection[str]) -> dict[str, Spot]:
    """Return where fields and list items are, by the paths that errors name; none if the text isn't YAML."""
    found: dict[str, Spot] = {}
    if not wanted:
        return found
    with contextlib.suppress(UnreadableError):
        _add_spots(compose(text), "", (), wanted, found)
    return found


def _add_spots(
    node: Node | None, path: str, parts: tuple[str, ...], wanted: Collection[str], found: dict[str, Spot]
) -> None:
    if isinstance(node, MappingNode):
        for key, value in node.value:
            name = key.value if isinstance(key, ScalarNode) else ""
            below = f"{path}.{escape(name, 60)}" if path else escape(name, 60)
            if below in wanted:
                found[below] = Spot(_span(key), _span(value), (*parts, name))  # of two, the error is at the last
            if any(each.startswith((f"{below}.", f"{below}[")) for each in wanted):
                _add_spots(value, below, (*parts, name), wanted, found)
    elif isinstance(node, SequenceNode):
        for number, item in enumerate(node.value):
            if f"{path}[{number}]" in wanted:
                found[f"{path}[{number}]"] = Spot(_span(item), _span(item), parts)


def _span(node: Node) -> tuple[int, int]:
    return node.start_mark.index, node.end_mark.index


class Section:
    """One mapping of the file; its errors go to ``errors``, which all sections of a file share.

    A field that is absent, null or invalid has the caller's default.
    """

    def __init__(self, file: str, errors: list[ErrorDetail], node: Node | None, path: str = "") -> None:
        self._file = file
        self._errors = errors
        self._path = path
        self._line = node.start_mark.line + 1 if node is not None else 1
        self._nodes: dict[str, Node] = {}
        if node is None or _is_null(node):
            return
        if not isinstance(node, MappingNode):
            self._refuse(node, path, f"is {_kind(node)}, not a mapping", "indent its fields below it")
            return
        for key, value in self._pairs(node):
            name = key.value if isinstance(key, ScalarNode) else ""
            if not isinstance(key, ScalarNode) or not name:
                self._refuse(key, path, "has a field without a name", "remove it")
            elif name in self._nodes:
                self._refuse(key, self.field_path(name), "is defined twice", "remove one of the two", of_key=True)
            else:
                self._nodes[name] = value

    def __bool__(self) -> bool:
        return bool(self._nodes)

    def __contains__(self, name: str) -> bool:
        return name in self._nodes and not _is_null(self._nodes[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._nodes)

    def allow(self, *known: str) -> None:
        """Refuse every unknown field."""
        for name, node in self._nodes.items():
            if name not in known:
                hint = did_you_mean(name, known) or f"remove it; known fields: {', '.join(known)}"
                self._refuse(node, self.field_path(name), "unknown field", hint, of_key=True)

    def section(self, name: str) -> Section:
        """Return a mapping below this one, empty if absent."""
        return Section(self._file, self._errors, self._nodes.get(name), self.field_path(name))

    def text(self, name: str) -> str:
        """Return a string, empty if absent."""
        node = self._nodes.get(name)
        if node is None or _is_null(node):
            return ""
        if not isinstance(node, ScalarNode):
            self._refuse(node, self.field_path(name), f"is {_kind(node)}, not a string", "write a single value")
            return ""
        return str(node.value)

    def texts(self, name: str) -> list[tuple[int, str]] | None:
        """Return a list of strings, each with its position; None if absent."""
        node = self._nodes.get(name)
        if node is None or _is_null(node):
            return None
        if not isinstance(node, SequenceNode):
            self._refuse(
                node, self.field_path(name), f"is {_kind(node)}, not a list", 'write one line "- …" per item'
            )
            return None
        found: list[tuple[int, str]] = []
        for position, item in enumerate(node.value):
            if isinstance(item, ScalarNode) and not _is_null(item):
                found.append((position, str(item.value)))
            else:
                self._refuse(
                    item,
                    f"{self.field_path(name)}[{position}]",
                    f"is {_kind(item)}, not a string",
                    "write a single value",
                )
        return found

    def flag(self, name: str, *, default: bool) -> bool:
        """Return a boolean."""
        node = self._nodes.get(name)
        if node is None or _is_null(node):
            return default
        word = node.value.lower() if isinstance(node, ScalarNode) and node.style is None else ""
        if word not in _TRUE | _FALSE:
            self._refuse(
                node, self.field_path(name), "is neither true nor false", "write true or false, without quotes"
            )
        return word in _TRUE if word in _TRUE | _FALSE else default

    def whole(self, name: str) -> int:
        """Return a whole number, 0 if absent."""
        node = self._nodes.get(name)
        if node is None or _is_null(node):
            return 0
        if not isinstance(node, ScalarNode) or node.style is not None or not _WHOLE.fullmatch(node.value):
            self._refuse(node, self.field_path(name), "is not a whole number", "write one, without quotes")
            return 0
        return int(node.value)

    def refuse(
        self, name: str, problem: str, hint: str, position: int | None = None, *, of_key: bool = False
    ) -> None:
        """Add an error of a field, or of this section where the name is empty; ``of_key`` if its name is wrong."""
        node = self._nodes.get(name)
        place = self.field_path(name) if name else self._path
        if position is not None:
            place = f"{place}[{position}]"
            if isinstance(node, SequenceNode):
                node = node.value[position]
        self._refuse(node, place, problem, hint, of_key=of_key)

    def place(self, name: str) -> str:
        """Return the place of a field."""
        return self._place(self._nodes.get(name), self.field_path(name))

    def field_path(self, name: str) -> str:
        """Return a field's name, after those of the sections that contain it."""
        return f"{self._path}.{escape(name, 60)}" if self._path else escape(name, 60)

    def _pairs(self, node: MappingNode, depth: int = 0) -> Iterator[tuple[Node, Node]]:
        """Yield the fields of a mapping, and those merged from others (``<<``) that it doesn't have itself."""
        own = [(key, value) for key, value in node.value if key.tag != _MERGE]
        yield from own
        names = {key.value for key, _ in own if isinstance(key, ScalarNode)}
        for key, value in node.value:
            if key.tag != _MERGE:
                continue
            for one in value.value if isinstance(value, SequenceNode) else [value]:
                if not isinstance(one, MappingNode) or depth == _DEEPEST_MERGE:
                    self._refuse(one, self._path or "<<", "merges a value that is not a mapping", "remove the <<")
                    continue
                for inner, below in self._pairs(one, depth + 1):
                    if isinstance(inner, ScalarNode) and inner.value not in names:
                        names.add(inner.value)
                        yield inner, below

    def _refuse(self, node: Node | None, path: str, problem: str, hint: str, *, of_key: bool = False) -> None:
        self._errors.append(ErrorDetail(self._place(node, path), problem, hint, of_key=of_key))

    def _place(self, node: Node | None, path: str) -> str:
        line = node.start_mark.line + 1 if node is not None else self._line
        return f"{self._file}: line {line}: {path}" if path else f"{self._file}: line {line}"


def _is_null(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.tag == _NULL


def _kind(node: Node) -> str:
    match node:
        case MappingNode():
            return "a mapping"
        case SequenceNode():
            return "a list"
    return "empty" if _is_null(node) else "a single value"
