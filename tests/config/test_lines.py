"""The lines of keys and tables in a TOML document, and of the places that errors name."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config.lines import Location, lines_of, locate

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


def test_every_key_has_its_line() -> None:
    tomllib.loads(DOCUMENT)
    wanted = {*LINES, "factors[2]", "factors[1].labels.other", "web.name"}
    assert lines_of(DOCUMENT, wanted) == LINES


def test_tables_in_a_list() -> None:
    text = 'factors = [\n  { name = "a" },\n  { name = "b",\n labels = {x = "y"} },\n]\n'
    wanted = {"factors[1]", "factors[1].labels.x", "factors[0].name"}
    assert lines_of(text, wanted) == {"factors[0].name": 2, "factors[1]": 3, "factors[1].labels.x": 4}


@pytest.mark.parametrize("text", ['a = """x', "a = [1", "a = {b = ", "[a", "[[a]", "= 1", 'a."b = 1', "a", "a = "])
def test_text_that_is_not_toml_ends_it(text: str) -> None:
    assert lines_of(f"first = 1\n{text}", {"first", "last"}) == {"first": 1}


@given(st.text(alphabet="ab[]{}=\"'.,# \n\\", max_size=60))
def test_any_text_ends_it(text: str) -> None:
    assert all(1 <= line <= text.count("\n") + 1 for line in lines_of(text, {"a", "b", "a[0]", "a.b"}).values())


def test_places_are_found(tmp_path: Path) -> None:
    toml, rows = tmp_path / "w.toml", tmp_path / "w.csv"
    toml.write_text(DOCUMENT)
    rows.write_text("a\nb\n")
    wanted = {
        f"{toml}: factors[1].labels.team": Location(str(toml), 29, None, "factors[1]", "labels.team"),
        f"{toml}: factors[1].interval": Location(str(toml), 26, None, "factors[1]", "interval"),
        f"{toml}: factors[1]": Location(str(toml), 26, None, "factors[1]", ""),
        f"{toml}: factors[7].name": Location(str(toml), 20, None, "factors[7]", "name"),
        f"{toml}: accounts.main.password": Location(str(toml), 16, None, "accounts.main", "password"),
        f"{toml}: web.listen_address[1]": Location(str(toml), 7, None, "web.listen_address", "[1]"),
        f'{toml}: "polling"': Location(str(toml), 2, None, "", '"polling"'),
        f"{toml}: nowhere": Location(str(toml), None, None, "", "nowhere"),
        f"{toml}: line 3, column 5": Location(str(toml), 3, 5, "", ""),
        str(toml): Location(str(toml)),
        f"{rows}: line 2, column 1 (labels.team)": Location(str(rows), 2, 1, "", "labels.team"),
        f"{rows}: line 4": Location(str(rows), 4),
        f"{rows}: line 6: tls_server_config.cert": Location(str(rows), 6, None, "", "tls_server_config.cert"),
        "VERIFY_EXPORTER_X": Location(),
        f"{tmp_path}: accounts": Location(),
    }
    found = locate(wanted)
    assert {place: replace(location, path="") for place, location in found.items()} == wanted
    assert {location.path for location in found.values()} - {""} == {
        place.removeprefix(f"{toml}: ") for place in wanted if place.startswith(f"{toml}: ") and "line" not in place
    }


def test_a_file_that_is_not_text_has_no_lines(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(b"\xff\xfe")
    place = f"{file}: web.listen_address"
    assert locate([place]) == {
        place: Location(str(file), None, None, "web", "listen_address", "web.listen_address")
    }
