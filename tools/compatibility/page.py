"""docs/compatibility.md: tables between markers, each written by the command that measures it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

PROJECT = Path(__file__).parents[2]
PAGE = PROJECT / "docs" / "compatibility.md"
INTERPRETERS, SCRAPERS = "interpreters", "scrapers"
CLUSTER, VALUES, FIXTURES = "cluster", "values", "fixtures"

Row = tuple[str, ...]


def rows(text: str, table: str) -> list[Row]:
    """Return the rows of a table, without its head."""
    lines = _pattern(table, text)[2].strip().splitlines()
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines[2:]]


def with_table(text: str, table: str, content: Iterable[Row]) -> str:
    """Return the page with the rows of a table replaced."""
    found = _pattern(table, text)
    head = found[2].strip().splitlines()[:2]
    body = [f"| {' | '.join(cells)} |" for cells in sorted(content, key=_order)]
    return text[: found.start(2)] + "\n".join([*head, *body]) + text[found.end(2) :]


def with_row(text: str, table: str, row: Row, *, keys: int) -> str:
    """Return the page with a row added to a table, in place of the one that has the same first ``keys`` cells."""
    return with_table(text, table, [*(old for old in rows(text, table) if old[:keys] != row[:keys]), row])


def write_table(table: str, content: Iterable[Row]) -> None:
    """Replace the rows of a table of the page."""
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), table, content), encoding="utf-8")


def write_row(table: str, row: Row, *, keys: int) -> None:
    """Add a row to a table of the page, or replace it."""
    PAGE.write_text(with_row(PAGE.read_text(encoding="utf-8"), table, row, keys=keys), encoding="utf-8")


def _pattern(table: str, text: str) -> re.Match[str]:
    found = re.search(rf"(<!-- {table}:begin -->\n\n)(.*?)(\n\n<!-- {table}:end -->)", text, re.DOTALL)
    assert found is not None, f"docs/compatibility.md has no table {table}"
    return found


def _order(row: Row) -> list[tuple[int, str]]:
    """Return what rows are sorted by: text as text, numbers in it as numbers."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", " ".join(row)) if part]
