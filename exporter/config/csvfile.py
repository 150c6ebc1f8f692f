"""Watchlists in CSV (RFC 4180): rows of cells with line and column; no error quotes a cell."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, NamedTuple

from exporter.config.errors import ErrorDetail, did_you_mean, quote
from exporter.config.values import flag_from_text, parse_label_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

REQUIRED_COLUMNS = ("service_sid", "identity", "factor_sid")
COLUMNS = (*REQUIRED_COLUMNS, "name", "account", "interval", "paused")
LABEL_PREFIX = "labels."

_OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_PART_CHARACTERS = 1 << 16
_HEADER_HINT = f"the first line must name the columns {', '.join(REQUIRED_COLUMNS)}, and may name others"


class RowPlace(NamedTuple):
    """The place of a row."""

    file: str
    line: int
    columns: Mapping[str, int]

    def __str__(self) -> str:
        return f"{self.file}: line {self.line}"

    def key(self, name: str) -> str:
        """Return the place of a cell, by the name of its column."""
        column = self.columns.get(name)
        return f"{self}, column {column} ({name})" if column else str(self)


class CsvWatchlist:
    """One CSV file; its errors are added to ``errors`` while its rows are iterated over."""

    def __init__(self, file: str, text: str, errors: list[ErrorDetail]) -> None:
        self.errors = errors
        self._file = file
        self._text = text
        self._reader = csv.reader(lines_of(text), strict=True)
        self._columns: dict[str, int] = {}
        self._labels: dict[str, int] = {}

    def __iter__(self) -> Iterator[tuple[RowPlace, dict[str, object]]]:
        before = len(self.errors)
        records = self._records()
        header = next(records, None)
        if header is None:
            if len(self.errors) == before:
                self.errors.append(ErrorDetail(self._file, "is empty", _HEADER_HINT))
            return
        if not self._read_header(*header):
            return
        numbers = {name: index + 1 for name, index in (*self._columns.items(), *self._labels.items())}
        width = len(header[1])
        columns = tuple(self._columns.items())
        labels = tuple((name.removeprefix(LABEL_PREFIX), index) for name, index in self._labels.items())
        for line, cells in records:
            if len(cells) != width:
                self._refuse_width(line, len(cells), width)
                continue
            place = RowPlace(self._file, line, numbers)
            row: dict[str, object] = {name: cells[index] for name, index in columns if cells[index]}
            if "paused" in row:
                try:
                    row["paused"] = flag_from_text(str(row["paused"]))
                except ValueError:
                    self.errors.append(ErrorDetail(place.key("paused"), "is neither true nor false"))
                    del row["paused"]
            if labels:
                row["labels"] = {name: cells[index] for name, index in labels if cells[index]}
            yield place, row

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the first line and the cells of every record; blank lines are skipped."""
        line = 1
        while True:
            try:
                cells = next(self._reader, None)
            except csv.Error as error:
                self._refuse_quotes(line, str(error))
                cells = []
            if cells is None:
                return
            if cells:
                yield line, cells
            line = self._reader.line_num + 1

    def _read_header(self, line: int, cells: list[str]) -> bool:
        """Read the columns; return whether rows can be read by them."""
        place = f"{self._file}: line {line}"
        if not any(cell in COLUMNS for cell in cells):
            self._refuse_header(place, cells)
            return False
        before = len(self.errors)
        usable = True
        for index, cell in enumerate(cells):
            here = f"{place}, column {index + 1}"
            if cell in self._columns or cell in self._labels:
                self.errors.append(ErrorDetail(here, "duplicate column", "remove one of the two"))
            elif cell in COLUMNS:
                self._columns[cell] = index
            elif cell.startswith(LABEL_PREFIX):
                self._read_label(here, cell, index)
            else:
                known = (*COLUMNS, LABEL_PREFIX + "NAME")
                hint = did_you_mean(cell.strip(), known) or f"remove it; known columns: {', '.join(known)}"
                self.errors.append(ErrorDetail(here, "unknown column", hint))
        for name in REQUIRED_COLUMNS:
            if name not in self._columns:
                usable = False
                if len(self.errors) == before:
                    self.errors.append(ErrorDetail(place, f"has no column {quote(name)}", "add it"))
        return usable

    def _read_label(self, place: str, cell: str, index: int) -> None:
        try:
            parse_label_name(cell.removeprefix(LABEL_PREFIX))
        except ValueError as error:
            self.errors.append(ErrorDetail(place, f"{quote(cell.removeprefix(LABEL_PREFIX))} {error}"))
        else:
            self._labels[cell] = index

    def _refuse_header(self, place: str, cells: list[str]) -> None:
        for separator, name in _OTHER_SEPARATORS.items():
            if any(part.strip() in COLUMNS for cell in cells for part in cell.split(separator)):
                self.errors.append(ErrorDetail(place, f"uses {name} between columns", "use commas"))
                return
        self.errors.append(ErrorDetail(place, "is not a header", _HEADER_HINT))

    def _refuse_width(self, line: int, found: int, wanted: int) -> None:
        if found < wanted:
            place = f"{self._file}: line {line}, column {found + 1}"
            problem = f"is missing; the row has {found} columns, the header {wanted}"
        else:
            place = f"{self._file}: line {line}, column {wanted + 1}"
            problem = f"is unexpected; the row has {found} columns, the header {wanted}"
        self.errors.append(
            ErrorDetail(place, problem, "put text that contains a comma in quotes" if found > wanted else "")
        )

    def _refuse_quotes(self, line: int, message: str) -> None:
        place = f"{self._file}: line {line}"
        if "limit" in message:
            self.errors.append(ErrorDetail(place, f"has a cell of more than {csv.field_size_limit()} characters"))
            return
        lines = list(io.StringIO(self._text, newline=""))
        column, closed = _odd_quote("".join(lines[line - 1 :]))
        problem = "has text after its closing quote" if closed else "has an unclosed quote"
        hint = 'double every quote inside quoted text ("")' if closed else "close it"
        self.errors.append(ErrorDetail(f"{place}, column {column}", problem, hint))


def lines_of(text: str) -> Iterator[str]:
    """Yield the lines of a text as a file would, a part of it at a time: others run between the parts."""
    start = 0
    while start < len(text):
        end = text.find("\n", start + _PART_CHARACTERS) + 1 or len(text)
        yield from io.StringIO(text[start:end], newline="")
        start = end


def _odd_quote(record: str) -> tuple[int, bool]:
    """Return the column whose quotes are wrong, and whether they are closed."""
    column, position = 1, 0
    while position < len(record):
        if record[position] == '"':
            position += 1
            while (end := record.find('"', position)) >= 0 and record[end + 1 : end + 2] == '"':
                position = end + 2
            if end < 0:
                return column, False
            position = end + 1
            if record[position : position + 1] not in {",", "\r", "\n", ""}:
                break
        else:
            while position < len(record) and record[position] not in ",\r\n":
                position += 1
        column += record[position : position + 1] == ","
        position += 1
    return column, True


def cell_spans(text: str) -> list[tuple[int, int]]:
    """Return where the cells of the record at the beginning of a text are, quotes included."""
    spans = []
    start = position = 0
    while True:
        if text.startswith('"', position):
            position += 1
            while (end := text.find('"', position)) >= 0 and text[end + 1 : end + 2] == '"':
                position = end + 2
            if end < 0:  # unclosed: what follows in this line is the cell
                end = min(at for at in (text.find("\n", position), len(text)) if at >= 0) - 1
            position = end + 1
        while position < len(text) and text[position] not in ",\r\n":
            position += 1
        spans.append((start, position))
        if text[position : position + 1] != ",":
            return spans if text[:1] not in {"", "\r", "\n"} else []
        start = position = position + 1
