"""What is wrong with text that is not TOML: the words and the place that :mod:`tomllib` lacks, and what to do.

The text itself is never quoted: it may be a secret.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from exporter.config.oddities import CURLY_QUOTES, INVISIBLE, name_of
from exporter.config.tomlscan import statement_at

_COORDINATES = re.compile(r"\(at line ([0-9]+), column ([0-9]+)\)")
_PROBLEMS = {
    "Invalid value": ("is not a TOML value", "put strings in quotes"),
    "Expected '=' after a key": ('expected "=" after a key', ""),
    "Expected newline": ("unexpected text after a value or table name", ""),
    "Expected ']' ": ('expected "]" after a table name', "write it like [polling]"),
    "Expected ']]'": ('expected "]]" after the name of an array of tables', "write it like [[factors]]"),
    "Invalid statement": ("is neither a key nor a table", 'write key = "value" or [table]'),
    "Invalid initial character": ("expected a key", ""),
    "Cannot declare": ("the table is defined twice", "put its keys into one table"),
    "Cannot overwrite": ("the key is defined twice", "remove one of the two"),
    "Duplicate inline": ("the key is defined twice", "remove one of the two"),
    "Cannot mutate": ("adds to a table or list that is already complete", "put everything in one place"),
    "Cannot redefine": ("adds to a table that is already complete", "put everything in one place"),
    "Unterminated string": ("unterminated string", "close its quotes"),
    "Illegal character": ("control character or line break in a string", "close the quotes, or use three of them"),
    "Found invalid character": ("control character in a comment or string", "remove it"),
    "Unescaped": ("unknown escape sequence in a string", "double the backslash, or use single quotes"),
    "Invalid hex value": ("unknown escape sequence in a string", "double the backslash, or use single quotes"),
    "Escaped character": ("escape sequence without a character in a string", "double the backslash"),
    "Unclosed array": ("unclosed list", 'add "," between its values, and "]" after the last one'),
    "Unclosed inline table": ("unclosed inline table", 'add "," between its keys, and "}" after the last one'),
}
_TWICE = frozenset({"Cannot declare", "Cannot overwrite", "Duplicate inline", "Cannot mutate", "Cannot redefine"})
_UNCLOSED = ("Unclosed", "Unterminated", "Illegal character")

_KEY = re.compile(r"""[ \t]*((?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*'|[ \t]*\.[ \t]*)+?)[ \t]*(?==)""")
_HEADER = re.compile(r"[ \t]*(\[\[?[^\]\n]*\]{0,2})")
_BARE = re.compile(r"""[^\s,\[\]{}="'#]+""")
_BARE_BEFORE = re.compile(r"""=[ \t]*([^\s,\[\]{}="'#]+)\Z""")
_WORDS = {
    "true": ("is not a TOML value", "write true in lower case"),
    "false": ("is not a TOML value", "write false in lower case"),
    **dict.fromkeys(("yes", "no", "on", "off"), ("is not a TOML value", "write true or false")),
    **dict.fromkeys(("none", "null", "nil", "~"), ("TOML has no null", "remove the key, or write an empty string")),
}


class BrokenToml(NamedTuple):
    """What is wrong, what to do, and where: a line and a column from 1, or ``None`` where that is unknown."""

    problem: str
    hint: str
    line: int | None
    column: int | None = None


def explain_toml(text: str, message: str) -> BrokenToml:
    """Return what is wrong with a text, given what tomllib said about it."""
    return _Diagnosis(text.replace("\r\n", "\n"), message).result()


class _Diagnosis:
    def __init__(self, text: str, message: str) -> None:
        self._text = text
        self._kind = next((start for start in _PROBLEMS if message.startswith(start)), "")
        self._problem, self._hint = _PROBLEMS.get(self._kind, ("is not valid TOML", "see toml.io for the format"))
        self._at: int | None = None
        coordinates = _COORDINATES.search(message)
        if coordinates is not None:
            self._at = self._position(int(coordinates[1]), int(coordinates[2]))
        elif "at end of document" in message:
            self._at = len(text.rstrip())

    def result(self) -> BrokenToml:
        if self._at is None:
            return BrokenToml(self._problem, self._hint, None)
        self._improve(self._at)
        line = self._text.count("\n", 0, self._at) + 1
        return BrokenToml(self._problem, self._hint, line, self._at - self._text.rfind("\n", 0, self._at))

    def _position(self, line: int, column: int) -> int:
        at = 0
        for _ in range(line - 1):
            at = self._text.index("\n", at) + 1
        return at + column - 1

    def _improve(self, at: int) -> None:
        """Name what is wrong more precisely, and move the place to it."""
        character = self._text[at : at + 1]
        start = self._text.rfind("\n", 0, at) + 1
        if character == "\ufeff":
            self._say(f"invisible character ({name_of(character)})", "remove it; it may only begin a file")
        elif INVISIBLE.match(character):
            self._say(f"invisible character ({name_of(character)})", "remove it, or replace it by a space")
        elif character and character in CURLY_QUOTES:
            self._say(f"curly quote ({name_of(character)})", 'write straight quotes: "')
        elif character == "\r":
            self._say("a carriage return alone is no line end", "save the file with line feeds (LF or CRLF)")
        elif character == "\x00":
            self._say("contains a NUL character", "save the file as UTF-8 text; it may be UTF-16")
        elif self._kind in _TWICE:
            self._go_to_key(start, at)
        elif self._kind.startswith(_UNCLOSED):
            if self._kind == "Illegal character" and character == "\n":
                self._kind = "Unterminated string"
                self._say(*_PROBLEMS[self._kind])
            self._go_to_value(at)
        elif self._kind == "Expected '=' after a key":
            self._name_sign(character)
        elif self._kind in ("Invalid value", "Expected newline"):
            self._name_value(start, at)

    def _say(self, problem: str, hint: str) -> None:
        self._problem, self._hint = problem, hint

    def _go_to_key(self, start: int, at: int) -> None:
        """Go back from the end of a key or header to its beginning, and name the line that has it already."""
        header = _HEADER.match(self._text, start)
        key = header or _KEY.match(self._text, start)
        if key is None:
            return
        name = key[1]
        self._at = key.start(1)
        before = self._text[:start]
        if header is None:  # within the same table
            before = before[before.rfind("\n[") + 1 :]
        pattern = re.compile(rf"^[ \t]*{re.escape(name)}[ \t]*(?:{'=' if header is None else '#|$'})", re.MULTILINE)
        if self._kind in ("Cannot declare", "Cannot overwrite") and (first := pattern.search(before)) is not None:
            line = self._text.count("\n", 0, start - len(before) + first.start()) + 1
            self._problem += f", first in line {line}"

    def _go_to_value(self, at: int) -> None:
        """Name the line in which an unclosed value begins, or go there if it has no end at all."""
        statement = statement_at(self._text, at)
        line = self._text.count("\n", 0, statement.start) + 1
        begins_before = "\n" in self._text[statement.start : at]
        if self._kind.startswith("Unclosed"):
            if begins_before:
                self._problem += f", which begins in line {line}"
        elif (key := _KEY.match(self._text, statement.start)) is not None:
            value = re.compile(r"=[ \t]*").match(self._text, key.end())
            multiline = value is not None and self._text.startswith(('"""', "'''"), value.end())
            in_string = value is not None and self._text[value.end() : value.end() + 1] in ("'", '"')
            if value is not None and in_string and (multiline or not begins_before) and "Illegal" not in self._kind:
                self._at = value.end()

    def _name_sign(self, character: str) -> None:
        if character == ":":
            self._hint = 'write "=" instead of ":"'
        elif character in ("", "\n"):
            self._hint = 'write key = "value"'
        elif character in ("'", '"') or character.isalnum():
            self._hint = 'write "=" between key and value'
        else:
            self._hint = "put a key with other characters than letters, digits, - and _ in quotes"

    def _name_value(self, start: int, at: int) -> None:
        """Name a value without quotes, or what follows a value."""
        before = self._text[start:at]
        glued = _BARE_BEFORE.search(before)
        if self._kind == "Expected newline" and glued is None:
            follows = self._text[at : at + 1]
            if follows == ",":
                self._hint = "remove the comma"
            elif before.endswith(('"', "'")) and follows not in "\"'#":
                self._hint = "a quote within a string ends it: use the other kind of quotes around it"
            elif "=" in before:
                self._hint = "write one value per key, or a list in brackets"
            else:
                self._hint = "begin a new line"
            return
        if glued is not None:
            at = start + glued.start(1)
        word = _BARE.match(self._text, at)
        text = word[0] if word else ""
        self._at = at
        self._say(*_PROBLEMS["Invalid value"])
        if not word and (self._text[at : at + 1] in ("", "\n", "#")):
            self._say("the key has no value", "write one, or remove the key")
        elif text.startswith("$"):
            parts = statement_at(self._text, at).path.split(".")
            variable = "__".join(parts).upper().replace("-", "_")
            known = "the environment variable" if "[" in variable else f"VERIFY_EXPORTER_{variable}"
            self._say("TOML has no variables", f"write the value in quotes, or set {known} instead of this key")
        elif text.isdecimal() and text.startswith("0"):
            self._say("is a number with a leading zero", "remove the zero, or put strings in quotes")
        elif text.lower() in _WORDS:
            self._say(*_WORDS[text.lower()])
