"""Where a configuration's errors are: file, line, column and excerpt, found again from the places that errors name.

It runs only to show an error or a warning; the file is read again for it.
"""

from __future__ import annotations

import bisect
import csv
import io
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from exporter.config.csvfile import cell_spans
from exporter.config.errors import ConfigError
from exporter.config.excerpt import csv_header_pieces, csv_pieces, excerpt_of, toml_pieces, yaml_pieces
from exporter.config.files import UnreadableError, read_bytes
from exporter.config.tomlscan import Statement, spans_of, statement_at
from exporter.config.webconfig import FIELDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from exporter.config.errors import ConfigWarning, ErrorDetail
    from exporter.config.excerpt import Excerpt, Piece
    from exporter.config.tomlscan import Span
    from exporter.config.webyaml import Spot

_NUMBERED = re.compile(
    r"line (?P<line>\d+)(?:, character (?P<character>\d+)|, column (?P<column>\d+)(?: \((?P<key>[^()]+)\))?)?"
    r"(?:: (?P<rest>.+))?"
)
_COMPONENT = re.compile(r'\.?("(?:[^"\\]|\\.)*"|[^.\["]+)|\[\d+\]')
_ENTRY = re.compile(r"(?:factors|entities|services|watchlist\.http)\[\d+\]")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_WORD = re.compile(
    r"""\$\{[^}\n]*\}|\[\[?[A-Za-z][^\]\n"]*\]{1,2}|"(?:[^"\\\n]|\\.)*"?|'[^'\n]*'?|[A-Za-z0-9_.+:-]+|."""
)


_LONGEST_RECORD_LINES = 100


class Sought(NamedTuple):
    """A place to find in a file, and whether the key itself is meant instead of its value."""

    place: str
    of_key: bool = False


@dataclass(frozen=True, slots=True)
class Location:
    """Where something in a configuration is; ``None`` and empty where there is no such part.

    ``column`` and ``end`` count characters from 1; ``end`` is the column after the last one. ``table`` is the path
    of the table, such as ``factors[3]``, and ``key`` that of the key in it, or in CSV the column's name. ``path``
    is the whole path in the file, and in CSV the column.
    """

    file: str = ""
    line: int | None = None
    column: int | None = None
    table: str = ""
    key: str = ""
    path: str = ""
    end: int | None = None
    excerpt: Excerpt | None = field(default=None, compare=False)

    def __str__(self) -> str:
        parts = (self.file, self.line, self.column)
        return ":".join(str(part) for part in parts if part)


def locate(problems: Sequence[ErrorDetail | ConfigWarning]) -> dict[Sought, Location]:
    """Return where each of these problems is; a file that can't be read now has no lines."""
    wanted = {Sought(problem.place, problem.of_key) for problem in problems}
    wanted.update(Sought(problem.other) for problem in problems if problem.other)
    by_file: dict[str, dict[Sought, str]] = {}
    found: dict[Sought, Location] = {}
    for mark in wanted:
        file, _, path = mark.place.partition(": ")
        if not Path(file).is_file():
            found[mark] = Location()  # an environment variable, a flag, or a file that does not exist
        elif not path:
            found[mark] = Location(file)
        else:
            by_file.setdefault(file, {})[mark] = path
    for file, paths in by_file.items():
        found.update(_in_file(file, paths))
    return found


def located(error: ConfigError) -> ConfigError:
    """Return a refusal whose errors name line and column in their places, for messages of one line."""
    locations = locate(error.errors)
    return ConfigError(
        (
            replace(
                detail,
                place=shown_place(detail.place, locations[Sought(detail.place, detail.of_key)], detail.name),
                problem=shown_problem(detail.problem, detail.other, locations),
                name="",
            )
            for detail in error.errors
        ),
        error.warnings,
    )


def shown_place(place: str, location: Location, name: str) -> str:
    """Return a place with line and column, and the name of the entry, as far as they are known."""
    if location.line is None:
        return f'{place} of "{name}"' if name else place
    if not name:
        return ": ".join(filter(None, (str(location), location.path)))
    entry = f'{location.table} "{name}"'.lstrip()
    key = location.key or ("" if location.table else location.path)
    return ": ".join(filter(None, (str(location), entry, key)))


def shown_problem(problem: str, other: str, locations: Mapping[Sought, Location]) -> str:
    """Return a problem that names another place, with line and column there if they are known."""
    if not other or (location := locations[Sought(other)]).line is None:
        return problem
    return problem.replace(other, ": ".join(filter(None, (str(location), location.path))))


def _in_file(file: str, paths: Mapping[Sought, str]) -> dict[Sought, Location]:
    try:
        text = read_bytes(Path(file)).decode("utf-8-sig", "replace")
    except UnreadableError:
        text = ""
    suffix = Path(file).suffix.lower()
    numbered = {mark: match for mark, path in paths.items() if (match := _NUMBERED.fullmatch(path))}
    found = _in_toml(file, text, {mark: path for mark, path in paths.items() if mark not in numbered})
    table = _Rows(text) if suffix == ".csv" else None
    lines = _Lines(text)
    from exporter.config.webyaml import spots_of  # noqa: PLC0415  # YAML takes long to import

    spots = spots_of(text, {match["rest"] for match in numbered.values() if match["rest"]})
    for mark, match in numbered.items():
        if table is not None:
            found[mark] = _in_csv(file, table, match)
        elif suffix in (".yml", ".yaml") or match["rest"]:
            found[mark] = _in_yaml(file, lines, match, spots, of_key=mark.of_key)
        else:
            found[mark] = _in_broken_toml(file, lines, match)
    return found


class _Lines:
    """A text, by lines and columns."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def number(self, position: int) -> int:
        """Return the line of a position, from 1."""
        return bisect.bisect_right(self._starts, position)

    def start(self, line: int) -> int:
        """Return the position at which a line starts; of a line that there isn't, the end."""
        return self._starts[line - 1] if line <= len(self._starts) else len(self.text)

    def line(self, line: int) -> str:
        """Return a line without its end."""
        return self.text[self.start(line) : self.start(line + 1)].rstrip("\r\n")


# TOML


def _in_toml(file: str, text: str, paths: Mapping[Sought, str]) -> dict[Sought, Location]:
    """Return where these paths are; a key that is missing is where its table is."""
    if not paths:
        return {}
    chains = {path: _prefixes(path) for path in set(paths.values())}
    spans = spans_of(text, {prefix for chain in chains.values() for prefix in chain})
    lines = _Lines(text)
    found: dict[Sought, Location] = {}
    for mark, path in paths.items():
        chain = chains[path]
        entry = _ENTRY.match(path)
        table = entry.group() if entry else (chain[-2] if len(chain) > 1 else "")
        key = path[len(table) :].removeprefix(".")
        nearest = next((prefix for prefix in reversed(chain) if prefix in spans), None)
        if nearest is None:
            found[mark] = Location(file, table=table, key=key, path=path)
            continue
        span = spans[nearest]
        # Where the key is missing, a table's value would be all that it contains
        start, end = _marked(span, of_key=mark.of_key or nearest != chain[-1])
        line = lines.number(start)
        first = lines.start(line)
        shown = lines.line(line)
        start, end = start - first, max(start + 1, min(end, first + len(shown))) - first
        pieces = toml_pieces(shown, *_context(span.statement, line, lines), valid=True)
        excerpt = excerpt_of(line, pieces, start, end)
        found[mark] = Location(file, line, start + 1, table, key, path, end + 1, excerpt)
    return found


def _marked(span: Span, *, of_key: bool) -> tuple[int, int]:
    return (span.start, span.end) if of_key else (span.value_start, span.value_end)


def _context(statement: Statement, line: int, lines: _Lines) -> tuple[list[str], list[str]]:
    """Return the table that a line is in, and the key whose value it continues, both as parts without numbers."""
    continued = statement.path if lines.number(statement.start) < line else ""
    return _parts(statement.table), _parts(continued)


def _parts(path: str) -> list[str]:
    return [component[1].strip('"') for component in _COMPONENT.finditer(path) if component[1] is not None]


def _in_broken_toml(file: str, lines: _Lines, match: re.Match[str]) -> Location:
    """Return where text that isn't TOML, or not UTF-8, is wrong."""
    number = int(match["line"])
    shown = lines.line(number)
    column = match["column"] or match["character"]
    if column is None:
        return Location(file, number)
    start = min(int(column) - 1, len(shown))
    word = _WORD.match(shown, start)
    end = max(start + 1, word.end() if word else 0)
    first = lines.start(number)
    statement = statement_at(lines.text, first + start)
    pieces = toml_pieces(shown, *_context(statement, number, lines), valid=False)
    return Location(file, number, start + 1, end=end + 1, excerpt=excerpt_of(number, pieces, start, end))


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


# CSV


class _Rows:
    """A CSV file by lines, as the reader of watchlists counts them."""

    def __init__(self, text: str) -> None:
        self.lines = list(io.StringIO(text, newline=""))
        try:
            header = next((row for row in csv.reader(io.StringIO(text, newline="")) if row), [])
        except csv.Error:
            header = []
        self.columns = [cell.strip().lower() for cell in header]
        self.header_line = next((number for number, line in enumerate(self.lines, 1) if line.strip("\r\n")), 1)

    def record(self, line: int) -> str:
        """Return the text from a line on, at least of the record that begins there."""
        number = line
        record = "".join(self.lines[line - 1 : number])
        while record.count('"') % 2 and number < line + _LONGEST_RECORD_LINES:
            number += 1
            record += "".join(self.lines[number - 1 : number])
        return record


def _in_csv(file: str, rows: _Rows, match: re.Match[str]) -> Location:
    number, cell, key = int(match["line"]), match["column"], match["key"] or ""
    path = key or (f"column {cell}" if cell else "")
    record = rows.record(number)
    spans = cell_spans(record)
    if match["character"]:
        start = min(int(match["character"]) - 1, len(record))
        end = start + 1
    elif cell is None or not spans:
        start, end = 0, spans[-1][1] if spans else 1
    elif int(cell) <= len(spans):
        start, end = spans[int(cell) - 1]
    else:
        start = end = spans[-1][1]
    # The cell may begin on another line of its record
    line_start = record.rfind("\n", 0, start) + 1
    line = number + record.count("\n", 0, start)
    shown = re.split("[\r\n]", record[line_start:], maxsplit=1)[0]
    length = len(shown)
    pieces: Sequence[Piece]
    if number == rows.header_line:
        pieces = csv_header_pieces(shown)
    else:
        cells = [tuple(min(max(at - line_start, 0), length) for at in span) for span in spans]
        pieces = csv_pieces(shown, rows.columns, [(first, last) for first, last in cells])
    start, end = start - line_start, max(start + 1 - line_start, min(end - line_start, length))
    return Location(file, line, start + 1, "", key, path, end + 1, excerpt_of(line, pieces, start, end))


# YAML


def _in_yaml(
    file: str, lines: _Lines, match: re.Match[str], spots: Mapping[str, Spot], *, of_key: bool
) -> Location:
    number, path = int(match["line"]), match["rest"] or ""
    parts: Sequence[str] = ()
    spot = spots.get(path)
    if spot is not None:
        # The value of a section begins below its name
        whole = "\n" in lines.text[spot.key[0] : spot.value[0]]
        if number in (lines.number(spot.key[0]), lines.number(spot.value[0])):
            start, end = spot.key if of_key or whole else spot.value
            number, parts = lines.number(start), spot.parts
            start, end = start - lines.start(number), end - lines.start(number)
        else:
            spot = None
    shown = lines.line(number)
    if spot is None:
        column = match["column"] or match["character"]
        start = min(int(column) - 1, len(shown)) if column else len(shown) - len(shown.lstrip())
        word = _WORD.match(shown, start)
        end = len(shown) if word is None or column is None else word.end()
    end = max(start + 1, min(end, len(shown)))
    excerpt = excerpt_of(number, yaml_pieces(shown, parts, FIELDS), start, end)
    return Location(file, number, start + 1, "", path, path, end + 1, excerpt)
