"""Watchlists in CSV."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exporter.config.csvfile import COLUMNS, CsvWatchlist, lines_of
from tests.support.config_texts import HEADER, IDENTITY, SERVICE, account, factor_sid, row

if TYPE_CHECKING:
    from exporter.config.errors import ErrorDetail
    from tests.config.conftest import Loading, Refusing

FILES = '[watchlist]\nfiles = ["w.csv"]\n'


def read(text: str) -> tuple[list[tuple[str, dict[str, object]]], list[ErrorDetail]]:
    errors: list[ErrorDetail] = []
    rows = [(str(place), content) for place, content in CsvWatchlist("w.csv", text, errors)]
    return rows, errors


@given(
    st.permutations(COLUMNS),
    st.lists(st.lists(st.text(st.characters(codec="utf-8")), min_size=len(COLUMNS), max_size=len(COLUMNS))),
    st.sampled_from(["\n", "\r\n"]),
)
def test_what_a_writer_of_csv_writes_is_read(columns: list[str], cells: list[list[str]], line_end: str) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator=line_end, quoting=csv.QUOTE_ALL)
    writer.writerow(columns)
    writer.writerows(cells)
    rows, errors = read(text.getvalue())
    paused = columns.index("paused")
    wanted = [
        {
            name: cell.lower() == "true" if name == "paused" else cell
            for name, cell in zip(columns, record, strict=True)
            if cell and (name != "paused" or cell.lower() in {"true", "false"})
        }
        for record in cells
    ]
    assert [content for _place, content in rows] == wanted
    assert len(errors) == sum(record[paused].lower() not in {"", "true", "false"} for record in cells)


@given(st.text())
@example(f'{HEADER}\n"a"b\n"\n')
@example(f"{HEADER}\r\r\n,,\x00")
def test_any_text_is_read_or_refused(text: str) -> None:
    for content in (text, f"{HEADER}\n{text}"):
        rows, errors = read(content)
        assert all(detail.place.startswith("w.csv") for detail in errors)
        assert content.startswith(HEADER) or rows or errors


@given(st.text(alphabet='ab",\r\n', max_size=40), st.integers(1, 5))
@example("a\r\nb\rc\n\nd", 1)
def test_a_text_that_is_read_in_parts_has_the_same_lines(text: str, characters: int) -> None:
    with patch("exporter.config.csvfile._PART_CHARACTERS", characters):
        assert list(lines_of(text)) == list(io.StringIO(text, newline=""))


def test_a_place_is_a_line_and_a_column() -> None:
    rows, errors = read(f"{HEADER},name,paused\n" + row(1, "", "") + "\n" + row(2, '"a\nb"', "no") + row(3, "", ""))
    assert [place for place, _content in rows] == ["w.csv: line 2", "w.csv: line 4", "w.csv: line 6"]
    assert [detail.place for detail in errors] == ["w.csv: line 4, column 5 (paused)"]


def test_columns_may_stand_in_any_order_and_empty_cells_are_not_given(load_text: Loading) -> None:
    text = (
        "labels.tier,factor_sid,paused,labels.team,identity,interval,service_sid,name,account\r\n"
        f"gold,{factor_sid(1)},TRUE,,{IDENTITY},2m,{SERVICE},first,main\r\n"
        f',{factor_sid(2)},,"a, ""b""",{IDENTITY},,{SERVICE},,\r\n'
    )
    first, second = load_text(account() + FILES, w_dot_csv="\ufeff" + text).factors
    assert (first.name, first.paused, first.interval_seconds) == ("first", True, 120)
    assert first.labels == (("tier", "gold"),)
    assert (second.name, second.paused, second.interval_seconds) == (factor_sid(2), False, 300)
    assert second.labels == (("team", 'a, "b"'),)


def test_an_error_after_a_broken_row_is_still_reported(errors_of: Refusing) -> None:
    text = f'{HEADER}\n"{SERVICE}"x,a,b\n{row(1)}{row(1)}'
    assert errors_of(account() + FILES, w_dot_csv=text) == [
        'w.csv: line 2, column 1: has text after its closing quote; double every quote inside quoted text ("")',
        "w.csv: line 4: lists the same factor as w.csv: line 3; remove one of the two",
    ]


def test_the_column_of_an_odd_quote(errors_of: Refusing) -> None:
    text = f'{HEADER},name,account,paused\nplain,"a, ""b""",c,"d","x"y,\nplain,"a",,""",b'
    assert [detail.split(": ")[1] for detail in errors_of(account() + FILES, w_dot_csv=text)] == [
        "line 2, column 5",
        "line 3, column 4",
    ]


@pytest.mark.parametrize("value", ['"a\nb"', '"a\r\nb"', "a\u2028b", "a\x85b"])
def test_a_line_break_in_the_cell_of_a_label_is_an_error(errors_of: Refusing, value: str) -> None:
    text = f"{HEADER},name,labels.team\n{row(1, 'first', value)}{row(2, 'second', 'payments')}"
    (error,) = errors_of(account() + FILES, w_dot_csv=text)
    assert error.startswith("w.csv: line 2, column 5 (labels.team)")
    assert error == error.strip()
    assert len(error.splitlines()) == 1


def test_errors_of_rows_are_reported_beside_a_bad_header(errors_of: Refusing) -> None:
    text = f"{HEADER},colour\n{row(1, 'red')}VA1,{IDENTITY},{factor_sid(2)},blue\n"
    assert [detail.split(";")[0] for detail in errors_of(account() + FILES, w_dot_csv=text)] == [
        "w.csv: line 1, column 4: unknown column",
        'w.csv: line 3, column 1 (service_sid): "VA1" is not a Verify Service SID (VA followed by 32 hex digits)',
    ]


def test_old_line_ends_and_a_last_line_without_one(load_text: Loading) -> None:
    text = f"{HEADER}\n{row(1)}{row(2)}".replace("\n", "\r").rstrip("\r")
    assert len(load_text(account() + FILES, w_dot_csv=text).factors) == 2


def test_rows_share_what_they_have_in_common(load_text: Loading) -> None:
    rows = "".join(row(number, "gold", "main") for number in range(2000))
    factors = load_text(account() + FILES, w_dot_csv=f"{HEADER},labels.tier,account\n{rows}").factors
    assert len(factors) == 2000
    assert len({id(factor.key.service_sid) for factor in factors}) == 1
    assert len({id(factor.key.account) for factor in factors}) == 1
    assert len({id(factor.labels) for factor in factors}) == 1
