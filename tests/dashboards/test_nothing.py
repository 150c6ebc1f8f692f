"""What the dashboards show where there is nothing to show, or nothing is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.support.dashboards.files import boards, panels

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def tables() -> Iterator[Mapping[str, Any]]:
    """Yield all tables."""
    for item in boards():
        yield from (panel for panel in panels(item) if panel["type"] == "table")


def test_empty_cells_are_empty() -> None:
    assert list(tables())
    for panel in tables():
        first, *others = panel["fieldConfig"]["overrides"]
        assert first["matcher"] == {"id": "byRegexp", "options": "/.*/"}, panel["title"]
        assert first["properties"] == [{"id": "noValue", "value": ""}], panel["title"]
        named = [rule["id"] for override in others for rule in override["properties"]]
        assert "noValue" not in named, panel["title"]


def test_a_table_without_rows_says_what_that_means() -> None:
    said = [panel["fieldConfig"]["defaults"]["noValue"] for panel in tables()]
    assert all(len(text) > len("no data") for text in said), said
