"""The line of a file where something is wrong, as messages may show it, with the part in question marked.

A line may hold a secret, an identity or a name. So a value is replaced by ``***`` unless it is known to be
harmless: one of the settings that are no credentials, or a SID. Comments are never shown.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, NamedTuple, cast

from exporter.config.checks import LIKE_A_SECRET
from exporter.config.csvfile import COLUMNS, LABEL_PREFIX
from exporter.config.errors import HARMLESS_CHARACTERS, SHOWN_CHARACTERS
from exporter.config.oddities import INVISIBLE
from exporter.config.sources import find
from exporter.config.tree import Key, Table, settings_tree
from exporter.config.values import SID_KINDS
from exporter.watched import FACTOR_TYPES, is_sid

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

MASK = "***"

_SHOWN_COLUMNS = 100
"""The longest line that is shown whole; of a longer one, what is around the marked part."""

_LEAD_COLUMNS = 30
_CUT = "..."

_PLAIN_TABLES = frozenset({"web", "log", "polling", "metrics", "state", "sharding"})
_SID_KEYS = frozenset({"account_sid", "username", "service_sid", "factor_sid"})
_SHORT_KEYS = frozenset({
    "account", "interval", "paused", "max_concurrency", "requests_per_second", "refresh_interval", "timeout",
    "max_entities", "allow_empty",
})  # fmt: skip
_URL_KEYS = frozenset({"base_url", "token_url"})
_TWILIO_URL = re.compile(r"https?://([a-z]{1,12}\.)?twilio\.com(/v2)?(/Services|/token)?/?")
_VARIABLE = re.compile(r"\$\{[A-Z_]+\}")
_HEX_DIGITS = frozenset("0123456789abcdefABCDEF")

_TOKEN = re.compile(
    r"""(?P<space>\s+)|(?P<comment>\#.*)|(?P<variable>\$\{[^{}"']*\}?)
    |(?P<string>\"{3}.*?(?:\"{3}|$)|'{3}.*?(?:'{3}|$)|"(?:[^"\\]|\\.)*(?:"|\\?$)|'[^']*(?:'|$))
    |(?P<mark>[\[\]{},=])
    |(?P<word>[^\s\[\]{},=\#"']+)""",
    re.VERBOSE | re.DOTALL,
)
_KEY_PART = r"""(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')"""
_KEY = re.compile(rf"{_KEY_PART}(?:\s*\.\s*{_KEY_PART})*(?=\s*=)")
_PART = re.compile(_KEY_PART)
_HEADER = re.compile(r"(\ufeff?\s*)(\[\[?)([^\]#]*)(\]{0,2})")
_HEADER_PART = re.compile(r"""[^.\s"']+|"[^"]*"?|'[^']*'?""")
_PLAIN_WORD = re.compile(r"[a-z_]{1,30}")
_CHOSEN_NAME = re.compile(r"[a-z0-9]+(?:[_-][a-z0-9]+)*")
_LABEL_COLUMN = re.compile(rf"{re.escape(LABEL_PREFIX)}[a-z_]{{1,30}}")
_YAML_LINE = re.compile(
    r"""(\s*(?:-\s+)*)(?:("[^"]*"|'[^']*'|[^\s:#"'-][^\s:#"']*)(\s*:)(?=\s|$))?(\s*)(.*)""", re.DOTALL
)
_YAML_SHOWN = ("tls_server_config", "http_server_config", "rate_limit")
_YAML_HIDDEN = frozenset({"cert", "key", "client_ca", "client_allowed_sans"})


class Piece(NamedTuple):
    """A part of a line, by its positions there, and the text in its place."""

    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A line as it may be shown; ``start`` and ``end`` are the positions of the marked part in ``text``."""

    line: int
    text: str
    start: int
    end: int

    def rendered(self, encoding: str = "utf-8") -> str:
        """Return the excerpt in three lines for a terminal with this encoding.

        The carets are below the marked part also after tabs, wide characters, and characters that are shown as
        escapes because they are invisible or the encoding lacks them.
        """
        cells = [_cell(character, encoding) for character in self.text]
        widths = [width for _, width in cells]
        first, last = 0, len(cells)
        if sum(widths) > _SHOWN_COLUMNS:
            first = self._first_shown(widths)
            last, room = first, _SHOWN_COLUMNS
            while last < len(cells) and (room := room - widths[last]) >= 0:
                last += 1
        shown = "".join(text for text, _ in cells[first:last])
        cut = _CUT if first else ""
        before = len(cut) + sum(widths[first : self.start])
        marked = max(1, sum(widths[self.start : min(self.end, last)]))
        number = str(self.line)
        margin = " " * len(number)
        tail = _CUT if last < len(cells) else ""
        text = f"{number} | {cut}{shown}{tail}".rstrip()
        return f"{margin} |\n{text}\n{margin} | {' ' * before}{'^' * marked}\n"

    def _first_shown(self, widths: Sequence[int]) -> int:
        """Return the position from which a long line is shown, so that the marked part is among it."""
        total = sum(widths[: self.end])
        if total <= _SHOWN_COLUMNS:
            return 0
        first, lead = min(self.start, len(widths)), _LEAD_COLUMNS
        while first and (lead := lead - widths[first - 1]) >= 0:
            first -= 1
        return first


def excerpt_of(line: int, pieces: Iterable[Piece], start: int, end: int) -> Excerpt:
    """Return the excerpt that marks what is between two positions of a line."""
    text = ""
    shown_start: int | None = None
    shown_end = 0
    for piece in pieces:
        same = piece.end - piece.start == len(piece.text)
        if shown_start is None and start < piece.end:
            shown_start = len(text) + (max(0, start - piece.start) if same else 0)
        if piece.start < end:
            shown_end = len(text) + (min(end, piece.end) - piece.start if same else len(piece.text))
        text += piece.text
    if shown_start is None:
        shown_start = len(text)
    return Excerpt(line, text, shown_start, max(shown_end, shown_start))


def _cell(character: str, encoding: str) -> tuple[str, int]:
    """Return how a character is shown, and in how many columns."""
    if character == "\t":
        return "    ", 4
    if character.isprintable() and not INVISIBLE.match(character):
        try:
            character.encode(encoding)
        except (UnicodeEncodeError, LookupError):
            pass
        else:
            if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me"):
                return character, 0
            return character, 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1
    escaped = character.encode("unicode_escape").decode("ascii") if character != " " else character
    return escaped, len(escaped)


# TOML


def toml_pieces(line: str, table: Sequence[str], key: Sequence[str] = (), *, valid: bool) -> list[Piece]:
    """Return a line of a TOML document as it may be shown.

    ``table`` is the path of the table that the line is in, and ``key`` that of the key whose value the line
    continues, empty if a statement begins in the line; both without numbers. Of a document that isn't ``valid``,
    keys are shown only if they can't be anything else.
    """
    header = None if key else _HEADER.match(line)
    if header is not None:
        return [*_header_pieces(header, valid=valid), *_hidden(line, header.end())]
    return list(_Masking(line, tuple(table), tuple(key), valid=valid).pieces())


def _header_pieces(header: re.Match[str], *, valid: bool) -> Iterator[Piece]:
    yield Piece(header.start(), header.start(3), header[1] + header[2])
    at = header.start(3)
    before = ""
    for part in _HEADER_PART.finditer(header[3]):
        start, end = header.start(3) + part.start(), header.start(3) + part.end()
        if start > at:
            yield Piece(at, start, header.string[at:start])
        name = part[0].strip("\"'")
        shown = valid or name in _names() or (before == "accounts" and _CHOSEN_NAME.fullmatch(name))
        yield Piece(start, end, part[0] if shown else MASK)
        before, at = name, end
    yield Piece(at, header.end(), header.string[at : header.end()])


def _hidden(line: str, at: int) -> Iterator[Piece]:
    """Yield the rest of a line, masked if it is more than white space."""
    rest = line[at:]
    if rest.strip():
        space = len(rest) - len(rest.lstrip())
        yield Piece(at, at + space, rest[:space])
        yield Piece(at + space, len(line), f"# {MASK}" if rest.lstrip().startswith("#") else MASK)


class _Masking:
    """Goes through a line token by token, and knows which key a value belongs to."""

    def __init__(self, line: str, table: tuple[str, ...], key: tuple[str, ...], *, valid: bool) -> None:
        self._line = line
        self._valid = valid
        self._tables = [table]
        self._key = key
        self._expects_key = not key
        self._after_value = False

    def pieces(self) -> Iterator[Piece]:
        """Yield every part of the line."""
        at = 0
        while at < len(self._line):
            key = _KEY.match(self._line, at) if self._expects_key else None
            if key is not None:
                yield from self._key_pieces(key)
                at = key.end()
            else:
                token = cast("re.Match[str]", _TOKEN.match(self._line, at))
                if self._after_value and not self._valid and token.lastgroup in ("word", "string", "variable"):
                    yield Piece(at, len(self._line), MASK)  # whatever follows a value is no part of it
                    return
                yield Piece(at, token.end(), self._shown(token))
                at = token.end()

    def _shown(self, token: re.Match[str]) -> str:
        """Return a token as it may be shown, and note what may follow it."""
        text = token[0]
        match token.lastgroup:
            case "comment":
                return f"# {MASK}"
            case "space":
                return text
            case "mark":
                self._note_mark(text)
                return text
            case "word" if self._expects_key and not self._valid and text.rstrip(":") in _names():
                self._key = (*self._tables[-1], text.rstrip(":"))  # the equals sign is missing
                self._expects_key = False
                return text
            case kind:
                inner = INVISIBLE.sub("", text.strip("\"'") if kind == "string" else text)
                if kind == "word" and not inner:
                    return text
                self._expects_key, self._after_value = False, True
                if _may_show(self._key, inner):
                    return text
                return f'"{MASK}"' if kind == "string" else MASK

    def _note_mark(self, mark: str) -> None:
        if mark == "{":
            self._tables.append(self._key)
        elif mark == "}" and len(self._tables) > 1:
            self._tables.pop()
        self._expects_key = mark == "{" or (mark == "," and len(self._tables) > 1)
        self._after_value = mark in "}]"

    def _key_pieces(self, key: re.Match[str]) -> Iterator[Piece]:
        names: list[str] = []
        at = key.start()
        for part in _PART.finditer(key.string, key.start(), key.end()):
            if part.start() > at:
                yield Piece(at, part.start(), key.string[at : part.start()])
            name = part[0].strip("\"'")
            shown = self._valid or name in _names() or _PLAIN_WORD.fullmatch(name)
            yield Piece(part.start(), part.end(), part[0] if shown else MASK)
            names.append(name)
            at = part.end()
        self._key = (*self._tables[-1], *names)


@functools.cache
def _tree() -> Table:
    return settings_tree()


@functools.cache
def _names() -> frozenset[str]:
    """Return the names of all keys and tables of a configuration."""

    def names(table: Table) -> Iterator[str]:
        for name, node in table.below.items():
            yield name
            if isinstance(node, Table):
                yield from names(node)
        if table.each is not None:
            yield from names(table.each)

    return frozenset(names(_tree()))


def _may_show(path: tuple[str, ...], value: str) -> bool:
    """Return whether the value of a key is harmless."""
    if not value or _VARIABLE.fullmatch(value):
        return True
    if not path or len(value) > SHOWN_CHARACTERS:
        return False
    name = path[-1]
    if path[0] in _PLAIN_TABLES or path == ("watchlist", "files"):
        key = find(_tree(), path)
        if not isinstance(key, Key) or key.kind.secret:
            return False
        return not (key.kind.path and LIKE_A_SECRET.fullmatch(PurePath(value).name))
    if name in _SID_KEYS and (path[0] != "watchlist"):
        digits = value[:2].upper() in SID_KINDS and set(value[2:]) <= _HEX_DIGITS
        return is_sid(value, SID_KINDS) or digits or len(value) <= HARMLESS_CHARACTERS
    if name.endswith("_file"):
        return "/" in value and not any(LIKE_A_SECRET.fullmatch(part) for part in PurePath(value).parts)
    if name in _URL_KEYS:
        return _TWILIO_URL.fullmatch(value) is not None
    if name == "factor_types":
        return value in FACTOR_TYPES or len(value) <= HARMLESS_CHARACTERS
    return name in _SHORT_KEYS and len(value) <= HARMLESS_CHARACTERS


# CSV


def csv_pieces(line: str, columns: Sequence[str], cells: Sequence[tuple[int, int]]) -> list[Piece]:
    """Return a row as it may be shown: ``cells`` are the positions of its cells, ``columns`` their names."""
    pieces = []
    at = 0
    for index, (start, end) in enumerate(cells):
        if start > at:
            pieces.append(Piece(at, start, line[at:start]))
        name = columns[index] if index < len(columns) else ""
        section = "" if name.startswith(LABEL_PREFIX) else name
        text = line[start:end]
        shown = not text.strip() or _may_show(("factors", section), text.strip('" '))
        pieces.append(Piece(start, end, text if shown else MASK))
        at = end
    if at < len(line):
        pieces.append(Piece(at, len(line), line[at:] if not line[at:].strip(",\r\n\t ") else MASK))
    return pieces


def csv_header_pieces(line: str) -> list[Piece]:
    """Return a header as it may be shown: the names that are known."""
    pieces = []
    for part in re.finditer(r"[,;|\t]|[^,;|\t]+", line):
        name = part[0].strip().strip('"').lower()
        known = name in COLUMNS or _LABEL_COLUMN.fullmatch(name) or len(name) <= HARMLESS_CHARACTERS
        shown = len(part[0]) == 1 or known
        pieces.append(Piece(part.start(), part.end(), part[0] if shown else MASK))
    return pieces


# YAML


def yaml_pieces(line: str, path: Sequence[str], known: frozenset[str]) -> list[Piece]:
    """Return a line of a web config file as it may be shown; ``known`` are the names of fields.

    ``path`` is that of the field, empty where it isn't known.
    """
    match = _YAML_LINE.fullmatch(line)
    if match is None:
        return [Piece(0, len(line), MASK)]
    indent, key, colon, space, value = (text or "" for text in match.groups())
    name = key.strip("\"'")
    pieces = [Piece(0, len(indent), indent)]
    at = len(indent)
    if key:
        pieces.append(Piece(at, at + len(key), key if path or name in known else MASK))
        at += len(key)
        pieces.append(Piece(at, at + len(colon), colon))
        at += len(colon)
    pieces.append(Piece(at, at + len(space), space))
    at += len(space)
    shown = path[:1] and path[0] in _YAML_SHOWN and _YAML_HIDDEN.isdisjoint((*path, name)) and "#" not in value
    if value:
        pieces.append(Piece(at, len(line), value if shown and len(value) <= _SHOWN_COLUMNS else MASK))
    return pieces
