"""YAML with the place of every value: a file's sections and fields, each detail with its line.

Values are taken from the nodes of the document and not from what YAML makes of them, so that a password hash or a
name is what stands in the file. Whatever stands where a secret may be is never quoted.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from exporter.config.errors import ErrorDetail, did_you_mean, escape
from exporter.config.files import UnreadableError

if TYPE_CHECKING:
    from collections.abc import Iterator

_NULL, _MERGE = "tag:yaml.org,2002:null", "tag:yaml.org,2002:merge"
_DEEPEST_MERGE = 4
_TRUE = frozenset({"true", "yes", "on", "y"})
_FALSE = frozenset({"false", "no", "off", "n"})
_WHOLE = re.compile(r"[+-]?[0-9]{1,9}")


def compose(text: str) -> Node | None:
    """Return the document of a text, None where it is empty; raises UnreadableError with the line."""
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        several = "expected a single document" in str(error.context)
        problem = "holds several YAML documents" if several else "is not valid YAML"
        hint = "leave one" if several else "check the indentation, and put odd text into quotes"
        raise UnreadableError(problem, hint, where=where) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise UnreadableError("has a control character", "remove it", where=f"line {line}") from None
    except (RecursionError, yaml.YAMLError):
        raise UnreadableError("is nested too deeply", "write it as the documentation shows") from None


class Section:
    """One mapping of the file; what is wrong in it goes to ``errors``, which all sections of a file share.

    A field that is absent, null or faulty is what the caller gives as its default.
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
            self._refuse(node, path, f"is {_kind(node)}, not a mapping", "write its fields below it, indented")
            return
        for key, value in self._pairs(node):
            name = key.value if isinstance(key, ScalarNode) else ""
            if not isinstance(key, ScalarNode) or not name:
                self._refuse(key, path, "has a field without a name", "remove it")
            elif name in self._nodes:
                self._refuse(key, self.spelt(name), "is given twice", "remove one of the two")
            else:
                self._nodes[name] = value

    def __bool__(self) -> bool:
        return bool(self._nodes)

    def __contains__(self, name: str) -> bool:
        return name in self._nodes and not _is_null(self._nodes[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._nodes)

    def allow(self, *known: str) -> None:
        """Refuse every field that isn't known."""
        for name, node in self._nodes.items():
            if name not in known:
                hint = did_you_mean(name, known) or f"remove it; known here: {', '.join(known)}"
                self._refuse(node, self.spelt(name), "is not a known field", hint)

    def section(self, name: str) -> Section:
        """Return a mapping below this one; empty where there is none."""
        return Section(self._file, self._errors, self._nodes.get(name), self.spelt(name))

    def text(self, name: str) -> str:
        """Return a string; empty where there is none."""
        node = self._nodes.get(name)
        if node is None or _is_null(node):
            return ""
        if not isinstance(node, ScalarNode):
            self._refuse(node, self.spelt(name), f"is {_kind(node)}, not a text", "write one value")
            return ""
        return str(node.value)

    def texts(self, name: str) -> list[tuple[int, str]] | None:
        """Return a list of strings, each with its position; None where there is no list."""
        node = self._nodes.get(name)
        if node is None or _is_null(node):
            return None
        if not isinstance(node, SequenceNode):
            self._refuse(node, self.spelt(name), f"is {_kind(node)}, not a list", 'write a line "- …" for each')
            return None
        found: list[tuple[int, str]] = []
        for position, item in enumerate(node.value):
            if isinstance(item, ScalarNode) and not _is_null(item):
                found.append((position, str(item.value)))
            else:
                self._refuse(item, f"{self.spelt(name)}[{position}]", f"is {_kind(item)}, not a text", "name one")
        return found

    def flag(self, name: str, *, default: bool) -> bool:
        """Return true or false."""
        node = self._nodes.get(name)
        if node is None or _is_null(node):
            return default
        word = node.value.lower() if isinstance(node, ScalarNode) and node.style is None else ""
        if word not in _TRUE | _FALSE:
            self._refuse(node, self.spelt(name), "is neither true nor false", "write true or false, without quotes")
        return word in _TRUE if word in _TRUE | _FALSE else default

    def whole(self, name: str) -> int:
        """Return a whole number; 0 where there is none."""
        node = self._nodes.get(name)
        if node is None or _is_null(node):
            return 0
        if not isinstance(node, ScalarNode) or node.style is not None or not _WHOLE.fullmatch(node.value):
            self._refuse(node, self.spelt(name), "is not a whole number", "write one, without quotes")
            return 0
        return int(node.value)

    def refuse(self, name: str, problem: str, hint: str, position: int | None = None) -> None:
        """Add a detail of a field, or of this section where the name is empty."""
        node = self._nodes.get(name)
        place = self.spelt(name) if name else self._path
        if position is not None:
            place = f"{place}[{position}]"
            if isinstance(node, SequenceNode):
                node = node.value[position]
        self._refuse(node, place, problem, hint)

    def place(self, name: str) -> str:
        """Return where a field stands."""
        return self._place(self._nodes.get(name), self.spelt(name))

    def spelt(self, name: str) -> str:
        """Return a field's name with those of the sections it stands in."""
        return f"{self._path}.{escape(name, 60)}" if self._path else escape(name, 60)

    def _pairs(self, node: MappingNode, depth: int = 0) -> Iterator[tuple[Node, Node]]:
        """Yield the fields of a mapping; those that it merges from another (``<<``) where it has none itself."""
        own = [(key, value) for key, value in node.value if key.tag != _MERGE]
        yield from own
        names = {key.value for key, _ in own if isinstance(key, ScalarNode)}
        for key, value in node.value:
            if key.tag != _MERGE:
                continue
            for one in value.value if isinstance(value, SequenceNode) else [value]:
                if not isinstance(one, MappingNode) or depth == _DEEPEST_MERGE:
                    self._refuse(one, self._path or "<<", "merges something that is no mapping", "remove the <<")
                    continue
                for inner, below in self._pairs(one, depth + 1):
                    if isinstance(inner, ScalarNode) and inner.value not in names:
                        names.add(inner.value)
                        yield inner, below

    def _refuse(self, node: Node | None, path: str, problem: str, hint: str) -> None:
        self._errors.append(ErrorDetail(self._place(node, path), problem, hint))

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
