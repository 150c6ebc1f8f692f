"""Where a configuration's errors are: file, line and column, found again from the places that errors name.

:mod:`tomllib` knows no lines, so a scanner of its own finds them. It runs only to show an error or a warning.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.config.files import UnreadableError, decode, read_bytes
from exporter.config.validation import toml_path

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

_NUMBERED = re.compile(
    r"line (?P<line>\d+)(?:, column (?P<column>\d+)(?: \((?P<key>[^()]+)\))?)?(?:: (?P<rest>.+))?"
)
_COMPONENT = re.compile(r'\.?("(?:[^"\\]|\\.)*"|[^.\["]+)|\[\d+\]')
_ENTRY = re.compile(r"(?:factors|entities|services|watchlist\.http)\[\d+\]")
_BARE = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Location:
    """Where something in a configuration is; ``None`` and empty where there is no such part.

    ``table`` is the path of the table, such as ``factors[3]``, and ``key`` that of the key in it, or in CSV the
    column's name. ``path`` is the whole path in a TOML file.
    """

    file: str = ""
    line: int | None = None
    column: int | None = None
    table: str = ""
    key: str = ""
    path: str = ""


def locate(places: Iterable[str]) -> dict[str, Location]:
    """Return where each of these places is, by place; a file that can't be read now has no lines."""
    paths: dict[str, set[str]] = {}
    found: dict[str, Location] = {}
    for place in places:
        file, _, path = place.partition(": ")
        if not Path(file).is_file():
            found[place] = Location()  # an environment variable, a flag, or a file that does not exist
        elif numbered := _NUMBERED.fullmatch(path):
            column = numbered["column"]
            key = numbered["key"] or numbered["rest"] or ""
            found[place] = Location(file, int(numbered["line"]), int(column) if column else None, key=key)
        else:
            found[place] = Location(file)
            if path:
                paths.setdefault(file, set()).add(path)
    for file, wanted in paths.items():
        for path, location in _in_toml(file, wanted).items():
            found[f"{file}: {path}"] = location
    return found


def _in_toml(file: str, paths: Collection[str]) -> dict[str, Location]:
    """Return where these paths of a TOML file are; a key that is missing is in the line of its table."""
    chains = {path: _prefixes(path) for path in paths}
    try:
        text = decode(read_bytes(Path(file)))
    except UnreadableError:
        text = ""
    lines = lines_of(text, {prefix for chain in chains.values() for prefix in chain})
    found: dict[str, Location] = {}
    for path, chain in chains.items():
        line = next((lines[prefix] for prefix in reversed(chain) if prefix in lines), None)
        entry = _ENTRY.match(path)
        table = entry.group() if entry else (chain[-2] if len(chain) > 1 else "")
        key = path[len(table) :].removeprefix(".")
        found[path] = Location(file, line, None, table, key, path)
    return found


def _prefixes(path: str) -> list[str]:
    """Return the paths that a path begins with, itself the last one, as the scanner writes them."""
    prefixes: list[str] = []
    written = ""
    for component in _COMPONENT.finditer(path):
        if component[1] is None:
            written += component[0]
        else:
            name = component[1].strip('"') if _BARE.fullmatch(component[1].strip('"')) else component[1]
            written = f"{written}.{name}" if written else name
        prefixes.append(written)
    return prefixes


class _StopError(Exception):
    """The text is not TOML, or everything is found."""


_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACES = re.compile(r"[ \t]*")
_PART = re.compile(r"""[ \t]*(?:([A-Za-z0-9_-]+)|"((?:[^"\\\n]|\\.)*)"|'([^'\n]*)')[ \t]*""")
_STRING = re.compile(
    r'''"""(?:[^\\]|\\.)*?"""(?:"{0,2})|"(?:[^"\\\n]|\\.)*"|\'\'\'.*?\'\'\'(?:'{0,2})|'[^'\n]*\'''', re.DOTALL
)
_SCALAR = re.compile(r"[^,\]}#\r\n]+")


def lines_of(text: str, wanted: Collection[str]) -> dict[str, int]:
    """Return the lines of these paths, such as ``factors[3].name``, that the TOML document has."""
    scanner = _Scanner(text, wanted)
    with contextlib.suppress(_StopError, RecursionError):
        scanner.document()
    return scanner.found


class _Scanner:
    """Reads a TOML document from the beginning, without its values; wrong TOML ends it."""

    def __init__(self, text: str, wanted: Collection[str]) -> None:
        self.found: dict[str, int] = {}
        self._text = text
        self._wanted = wanted
        self._at = 0
        self._line, self._counted_to = 1, 0
        self._elements: dict[str, int] = {}  # of arrays of tables: the index of the last element

    def document(self) -> None:
        """Read the whole document."""
        table = ""
        while True:
            self._skip(_BLANK)
            if self._at >= len(self._text):
                return
            if self._next("[["):
                table = self._path("", self._parts(), of_array=True)
                self._expect("]]")
            elif self._next("["):
                table = self._path("", self._parts())
                self._expect("]")
            else:
                self._pair(table)

    def _pair(self, table: str) -> None:
        path = self._path(table, self._parts())
        self._expect("=")
        self._skip(_SPACES)
        self._value(path)

    def _value(self, path: str) -> None:
        if self._next("["):
            number = 0
            while not self._closed("]"):
                self._note(f"{path}[{number}]")
                self._value(f"{path}[{number}]")
                number += 1
        elif self._next("{"):
            while not self._closed("}"):
                self._pair(path)
        else:
            self._read(_STRING if self._text.startswith(('"', "'"), self._at) else _SCALAR)

    def _closed(self, bracket: str) -> bool:
        """Skip to the next element of an array or inline table; return whether it ends instead."""
        self._skip(_BLANK)
        if self._next(","):
            self._skip(_BLANK)
        return self._next(bracket)

    def _path(self, table: str, parts: list[str], *, of_array: bool = False) -> str:
        """Return the path of a key or a table, and note it and those that it creates."""
        path = table
        for number, part in enumerate(parts):
            name = toml_path((part,))
            path = f"{path}.{name}" if path else name
            if of_array and number == len(parts) - 1:
                self._elements[path] = self._elements.get(path, -1) + 1
            self._note(path)
            if path in self._elements:
                path = f"{path}[{self._elements[path]}]"
                self._note(path)
        return path

    def _note(self, path: str) -> None:
        if path in self._wanted and path not in self.found:
            self._line += self._text.count("\n", self._counted_to, self._at)
            self._counted_to = self._at
            self.found[path] = self._line
            if len(self.found) == len(self._wanted):
                raise _StopError

    def _parts(self) -> list[str]:
        parts = [self._part()]
        while self._next("."):
            parts.append(self._part())
        return parts

    def _part(self) -> str:
        bare, basic, literal = self._read(_PART).groups()
        return next(text for text in (bare, basic, literal) if text is not None)

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
