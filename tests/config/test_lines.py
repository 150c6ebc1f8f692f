"""The lines and columns of keys and tables in a TOML document, and of the places that errors name."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config import ConfigWarning, ErrorDetail
from exporter.config.lines import Location, Sought, locate
from exporter.config.tomlscan import spans_of, statement_at

if TYPE_CHECKING:
    from pathlib import Path

DOCUMENT = '''\
# [web] in a comment
polling.interval = "5m"

[web] # a comment
listen_address = [
    ":1",  # "x]"
    ":2",
]
text = """
[[factors]]
name = "not this one"
"""
'quoted key' = 1979-05-27 07:32:00
"od\\td" = 1

[accounts.main]
account_sid = 'AC"'
oauth = { client_id = "}", nested.key = [1, { deep = true }] }

[[factors]]
name = "first"

  [factors.labels]
  team = "x"

[[factors]]
name = \'\'\'
[[factors]]\'\'\'
labels.team = "y"
'''

LINES = {
    "polling": 2,
    "polling.interval": 2,
    "web": 4,
    "web.listen_address": 5,
    "web.listen_address[0]": 6,
    "web.listen_address[1]": 7,
    "web.text": 9,
    'web."quoted key"': 13,
    "accounts": 16,
    "accounts.main": 16,
    "accounts.main.account_sid": 17,
    "accounts.main.oauth.client_id": 18,
    "accounts.main.oauth.nested.key[1].deep": 18,
    "factors": 20,
    "factors[0]": 20,
    "factors[0].name": 21,
    "factors[0].labels": 23,
    "factors[0].labels.team": 24,
    "factors[1]": 26,
    "factors[1].name": 27,
    "factors[1].labels.team": 29,
}


def lines_of(text: str, wanted: set[str]) -> dict[str, int]:
    return {path: text.count("\n", 0, span.start) + 1 for path, span in spans_of(text, wanted).items()}


def test_every_key_has_its_line() -> None:
    tomllib.loads(DOCUMENT)
    wanted = {*LINES, "factors[2]", "factors[1].labels.other", "web.name"}
    assert lines_of(DOCUMENT, wanted) == LINES


def test_tables_in_a_list() -> None:
    text = 'factors = [\n  { name = "a" },\n  { name = "b",\n labels = {x = "y"} },\n]\n'
    wanted = {"factors[1]", "factors[1].labels.x", "factors[0].name"}
    assert lines_of(text, wanted) == {"factors[0].name": 2, "factors[1]": 3, "factors[1].labels.x": 4}


def test_a_key_and_its_value_have_their_columns() -> None:
    text = 'a."b c" = [1, "two" ] # x\n[t]\nd = { e = 2024-01-01 07:00:00 , "\\u0066" = 1 }\n[[u]]\n'
    spans = spans_of(text, {"a", 'a."b c"', 'a."b c"[1]', "t", "t.d", "t.d.e", "t.d.f", "u", "u[0]"})
    shown = {path: (text[of.start : of.end], text[of.value_start : of.value_end]) for path, of in spans.items()}
    assert shown == {
        "a": ("a", "a"),
        'a."b c"': ('"b c"', '[1, "two" ]'),
        'a."b c"[1]': ("", '"two"'),
        "t": ("[t]", "[t]"),
        "t.d": ("d", '{ e = 2024-01-01 07:00:00 , "\\u0066" = 1 }'),
        "t.d.e": ("e", "2024-01-01 07:00:00"),
        "t.d.f": ('"\\u0066"', "1"),
        "u": ("[[u]]", "[[u]]"),
        "u[0]": ("[[u]]", "[[u]]"),
    }


@pytest.mark.parametrize(
    ("position", "expected"),
    [(0, "a"), (5, "a"), (9, ""), (14, "t.b"), (25, "t.b"), (30, "t.c"), (99, "t.c")],
)
def test_the_statement_of_a_position(position: int, expected: str) -> None:
    text = 'a = 1\n\n[t]\nb = [\n  "x",\n]\nc = """\nbroken'
    assert statement_at(text, position).path == expected


@pytest.mark.parametrize("text", ['a = """x', "a = [1", "a = {b = ", "[a", "[[a]", "= 1", 'a."b = 1', "a", "a = "])
def test_text_that_is_not_toml_ends_it(text: str) -> None:
    assert lines_of(f"first = 1\n{text}", {"first", "last"}) == {"first": 1}


@given(st.text(alphabet="ab[]{}=\"'.,# \n\\", max_size=60))
def test_any_text_ends_it(text: str) -> None:
    for span in spans_of(text, {"a", "b", "a[0]", "a.b"}).values():
        assert 0 <= span.start <= span.end <= len(text)
        assert 0 <= span.value_start <= span.value_end <= len(text)


def test_places_are_found(tmp_path: Path) -> None:
    toml, rows = tmp_path / "w.toml", tmp_path / "w.csv"
    web = tmp_path / "web.yml"
    toml.write_text(DOCUMENT)
    rows.write_text("a,b\nb\n\n")
    web.write_text("tls_server_config:\n  cert_file: x\n  curve_preferences: [a, b]\n")
    wanted = {
        f"{toml}: factors[1].labels.team": Location(str(toml), 29, 15, "factors[1]", "labels.team", end=18),
        f"{toml}: factors[1].interval": Location(str(toml), 26, 1, "factors[1]", "interval", end=12),
        f"{toml}: factors[1]": Location(str(toml), 26, 1, "factors[1]", "", end=12),
        f"{toml}: factors[7].name": Location(str(toml), 20, 1, "factors[7]", "name", end=12),
        f"{toml}: accounts.main.password": Location(str(toml), 16, 1, "accounts.main", "password", end=16),
        f"{toml}: web.listen_address[1]": Location(str(toml), 7, 5, "web.listen_address", "[1]", end=9),
        f'{toml}: "polling"': Location(str(toml), 2, 1, "", '"polling"', end=8),
        f"{toml}: nowhere": Location(str(toml), None, None, "", "nowhere"),
        f"{toml}: line 3, column 1": Location(str(toml), 3, 1, "", "", end=2),
        f"{toml}: line 4, column 2": Location(str(toml), 4, 2, "", "", end=5),
        f"{toml}: line 4": Location(str(toml), 4, None, "", ""),
        str(toml): Location(str(toml)),
        f"{rows}: line 2, column 1 (labels.team)": Location(str(rows), 2, 1, "", "labels.team", end=2),
        f"{rows}: line 2, column 2": Location(str(rows), 2, 2, "", "", end=3),
        f"{rows}: line 1, character 3": Location(str(rows), 1, 3, "", "", end=4),
        f"{rows}: line 9": Location(str(rows), 9, 1, "", "", end=2),
        f"{web}: line 2: tls_server_config.cert_file": Location(
            str(web), 2, 14, "", "tls_server_config.cert_file", end=15
        ),
        f"{web}: line 3: tls_server_config.curve_preferences[1]": Location(
            str(web), 3, 26, "", "tls_server_config.curve_preferences[1]", end=27
        ),
        f"{web}: line 2: tls_server_config": Location(str(web), 1, 1, "", "tls_server_config", end=18),
        f"{web}: line 3: nowhere": Location(str(web), 3, 3, "", "nowhere", end=28),
        f"{web}: line 3: tls_server_config.cert_file": Location(
            str(web), 3, 3, "", "tls_server_config.cert_file", end=28
        ),
        f"{web}: line 3, column 3": Location(str(web), 3, 3, "", "", end=21),
        "VERIFY_EXPORTER_X": Location(),
        f"{tmp_path}: accounts": Location(),
    }
    found = locate([ErrorDetail(place, "") for place in wanted])
    assert {mark.place: replace(location, path="") for mark, location in found.items()} == wanted
    assert {location.path for location in found.values()} - {""} == {
        *(
            place.removeprefix(f"{toml}: ")
            for place in wanted
            if place.startswith(f"{toml}: ") and "line" not in place
        ),
        *(location.key for place, location in wanted.items() if place.startswith((str(web), str(rows)))),
        "column 2",
    } - {""}


def test_the_key_may_be_meant_instead_of_its_value(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[polling]\nintervall = "5m"\n')
    place = f"{file}: polling.intervall"
    found = locate([ErrorDetail(place, "", of_key=True), ConfigWarning(place, "", other=f"{file}: polling")])
    assert {mark: (of.line, of.column, of.end) for mark, of in found.items()} == {
        Sought(place, of_key=True): (2, 1, 10),
        Sought(place): (2, 13, 17),
        Sought(f"{file}: polling"): (1, 1, 10),
    }


def test_a_file_that_is_not_text_has_no_lines(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(b"\xff\xfe")
    place = f"{file}: web.listen_address"
    assert locate([ErrorDetail(place, "")]) == {
        Sought(place): Location(str(file), None, None, "web", "listen_address", "web.listen_address")
    }


def test_a_cell_may_begin_on_another_line_of_its_record(tmp_path: Path) -> None:
    file = tmp_path / "w.csv"
    file.write_bytes(b'service_sid,identity,factor_sid,interval\r\nVA1,"x\r\ny",YF1,5\r\n')
    place = f"{file}: line 2, column 4 (interval)"
    (location,) = locate([ErrorDetail(place, "")]).values()
    assert (location.line, location.column, location.end) == (3, 8, 9)
    assert location.excerpt is not None
    assert location.excerpt.rendered() == "  |\n3 | ***,YF1,5\n  |         ^\n"
