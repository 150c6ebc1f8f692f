"""Where the keys, tables and values of a TOML document are: :mod:`tomllib` doesn't tell.

The scanner runs only to show an error or a warning. It reads valid TOML, and wrong TOML as far as it can.
"""

from __future__ import annotations

import contextlib
import re
import tomllib
from typing import TYPE_CHECKING, NamedTuple

from exporter.config.validation import toml_path

if TYPE_CHECKING:
    from collections.abc import Collection

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACES = re.compile(r"[ \t]*")
_PART = re.compile(r"""[ \t]*(?:([A-Za-z0-9_-]+)|"((?:[^"\\\n]|\\.)*)"|'([^'\n]*)')[ \t]*""")
_STRING = re.compile(
    r'''"""(?:[^\\]|\\.)*?"""(?:"{0,2})|"(?!"")(?:[^"\\\n]|\\.)*"'''
    r"""|'''.*?'''(?:'{0,2})|'(?!'')[^'\n]*'""",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}#\r\n]+")


class Statement(NamedTuple):
    """A header or a ``key = value``: where it begins, the table it is in, and its key's path (empty: a header)."""

    start: int = 0
    table: str = ""
    path: str = ""


class Span(NamedTuple):
    """Where a key or a table is, and its value, as positions in the text; a header is its own value."""

    start: int
    end: int
    value_start: int
    value_end: int
    statement: Statement


def spans_of(text: str, wanted: Collection[str]) -> dict[str, Span]:
    """Return where these paths are, such as ``factors[3].name``, as far as the document has them."""
    scanner = _Scanner(text, wanted)
    with contextlib.suppress(_StopError, RecursionError):
        scanner.document()
    return scanner.found


def statement_at(text: str, position: int) -> Statement:
    """Return the last statement that begins at a position or before it."""
    scanner = _Scanner(text, (), until=position)
    with contextlib.suppress(_StopError, RecursionError):
        scanner.document()
    return scanner.statement


class _StopError(Exception):
    """The text is not TOML."""


class _Part(NamedTuple):
    """A part of a key: its name, and where it is."""

    name: str
    start: int
    end: int


class _Scanner:
    """Reads a TOML document from the beginning; wrong TOML ends it."""

    def __init__(self, text: str, wanted: Collection[str], until: int | None = None) -> None:
        self.found: dict[str, Span] = {}
        self.statement = Statement()
        self._text = text
        self._wanted = wanted
        self._until = len(text) if until is None else until
        self._at = 0
        self._elements: dict[str, int] = {}  # of arrays of tables: the index of the last element

    def document(self) -> None:
        """Read the document until everything wanted is found."""
        table = ""
        while not self._wanted or len(self.found) < len(self._wanted):
            self._skip(_BLANK)
            if self._at >= len(self._text) or self._at > self._until:
                return
            self.statement = Statement(self._at, table)
            if self._text.startswith("[", self._at):
                table = self._header()
            else:
                self._pair(table, of_statement=True)

    def _header(self) -> str:
        start = self._at
        of_array = self._next("[[")
        if not of_array:
            self._expect("[")
        parts = self._parts()
        self._expect("]]" if of_array else "]")
        return self._path("", [part._replace(start=start, end=self._at) for part in parts], of_array=of_array)

    def _pair(self, table: str, *, of_statement: bool = False) -> None:
        path = self._path(table, self._parts())
        if of_statement:
            self.statement = self.statement._replace(path=path)
        self._expect("=")
        self._skip(_SPACES)
        self._value(path)

    def _value(self, path: str) -> None:
        start = self._at
        if self._next("["):
            number = 0
            while not self._closed("]"):
                element = f"{path}[{number}]"
                self._note(element, self._at, self._at)
                self._value(element)
                number += 1
        elif self._next("{"):
            while not self._closed("}"):
                self._pair(path)
        else:
            self._read(_STRING if self._text.startswith(('"', "'"), self._at) else _SCALAR)
        if path in self.found:
            end = start + len(self._text[start : self._at].rstrip())
            self.found[path] = self.found[path]._replace(value_start=start, value_end=end)

    def _closed(self, bracket: str) -> bool:
        """Skip to the next element of an array or inline table; return whether it ends instead."""
        self._skip(_BLANK)
        if self._next(","):
            self._skip(_BLANK)
        return self._next(bracket)

    def _path(self, table: str, parts: list[_Part], *, of_array: bool = False) -> str:
        """Return the path of a key or a table, and note it and those that it creates."""
        path = table
        for number, part in enumerate(parts):
            name = toml_path((part.name,))
            path = f"{path}.{name}" if path else name
            if of_array and number == len(parts) - 1:
                self._elements[path] = self._elements.get(path, -1) + 1
            self._note(path, part.start, part.end)
            if path in self._elements:
                path = f"{path}[{self._elements[path]}]"
                self._note(path, part.start, part.end)
        return path

    def _note(self, path: str, start: int, end: int) -> None:
        if path in self._wanted and path not in self.found:
            self.found[path] = Span(start, end, start, end, self.statement)

    def _parts(self) -> list[_Part]:
        parts = [self._part()]
        while self._next("."):
            parts.append(self._part())
        return parts

    def _part(self) -> _Part:
        match = self._read(_PART)
        number = next(number for number in (1, 2, 3) if match[number] is not None)
        quotes = number > 1
        name = match[number]
        if number == 2 and "\\" in name:
            try:
                name = str(tomllib.loads(f'name = "{name}"')["name"])
            except ValueError:
                raise _StopError from None
        return _Part(name, match.start(number) - quotes, match.end(number) + quotes)

    def _read(self, pattern: re.Pattern[str]) -> re.Match[str]:
        match = pattern.match(self._text, self._at)
        if match is None:
            raise _StopError
        self._at = match.end()
        return match

    def _skip(self, pattern: re.Pattern[str]) -> None:
        self._read(pattern)

    def _next(self, text: str) -> bool:
        if not self._text.startswith(text, self._at):
            return False
        self._at += len(text)
        return True

    def _expect(self, text: str) -> None:
        if not self._next(text):
            raise _StopError
