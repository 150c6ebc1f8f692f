"""The line below an error: what it shows of a file, what it hides, and where the carets are."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config.csvfile import cell_spans
from exporter.config.excerpt import (
    Excerpt,
    csv_header_pieces,
    csv_pieces,
    excerpt_of,
    toml_pieces,
    yaml_pieces,
)
from exporter.config.webconfig import FIELDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.config.excerpt import Piece

SID = "VA" + "0" * 32


def shown(pieces: Sequence[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


@pytest.mark.parametrize(
    ("table", "line", "expected"),
    [
        ("polling", 'interval = "5m"  # a secret', 'interval = "5m"  # ***'),
        ("polling", 'unknown = "5m"', 'unknown = "***"'),
        ("polling", f'interval = "{"x" * 61}"', 'interval = "***"'),
        ("", 'polling.interval = "5m"', 'polling.interval = "5m"'),
        ("", 'polling . "interval" = "5m"', 'polling . "interval" = "5m"'),
        ("", 'polling = { interval = "5m", other = "x" }', 'polling = { interval = "5m", other = "***" }'),
        ("web", 'listen_address = [":1", ":2"]', 'listen_address = [":1", ":2"]'),
        ("web", 'config_file = "0123456789abcdef0123"', 'config_file = "***"'),
        ("state", 'file = "/var/lib/state"', 'file = "/var/lib/state"'),
        ("watchlist", 'files = ["a/*.toml"]', 'files = ["a/*.toml"]'),
        ("watchlist.http", 'url = "https://example.com/?sig=x"', 'url = "***"'),
        ("watchlist.http", 'username = "x"', 'username = "***"'),
        ("watchlist.http", 'refresh_interval = "1m"', 'refresh_interval = "1m"'),
        ("accounts.main", 'password = "hunter2"', 'password = "***"'),
        ("accounts.main", "password = 7", "password = ***"),
        ("accounts.main", 'password = ""', 'password = ""'),
        ("accounts.main", 'password = "${TOKEN}"', 'password = "${TOKEN}"'),
        ("accounts.main", 'password = "${t0ken}"', 'password = "***"'),
        ("accounts.main", 'account_sid = "VX12"', 'account_sid = "VX12"'),
        ("accounts.main", f'account_sid = "{SID}"', f'account_sid = "{SID}"'),
        ("accounts.main", 'account_sid = "AC0123456789"', 'account_sid = "AC0123456789"'),
        ("accounts.main", 'account_sid = "a-made-up-secret"', 'account_sid = "***"'),
        ("accounts.main", 'base_url = "https://api.twilio.com/v2"', 'base_url = "https://api.twilio.com/v2"'),
        ("accounts.main", 'base_url = "https://a:b@twilio.com"', 'base_url = "***"'),
        ("accounts.main", 'proxy_url = "http://a:b@c:1"', 'proxy_url = "***"'),
        ("accounts.main", 'password_file = "/run/secrets/x"', 'password_file = "/run/secrets/x"'),
        ("accounts.main", 'password_file = "hunter2"', 'password_file = "***"'),
        ("accounts.main", 'ca_file = "a/0123456789abcdef0123"', 'ca_file = "***"'),
        ("accounts.main", "requests_per_second = 10.5", "requests_per_second = 10.5"),
        ("accounts.main", "max_concurrency = 736401958827", "max_concurrency = ***"),
        (
            "accounts.main",
            'oauth = { client_id = "OQ1", client_secret = "x" }',
            'oauth = { client_id = "***", client_secret = "***" }',
        ),
        ("factors", 'identity = "x"', 'identity = "***"'),
        ("factors", 'name = "x"', 'name = "***"'),
        ("factors", "interval = '5m'", "interval = '5m'"),
        ("factors", 'labels = { a = "x", "b c" = [1, 2] }', 'labels = { a = "***", "b c" = [***, ***] }'),
        ("factors.labels", "team = 'x'", 'team = "***"'),
        ("services", 'factor_types = ["totp", "passkeys", "made-up-identity"]', None),
        ("", "[accounts.main] # x", "[accounts.main] # ***"),
        ("", '[ factors . "labels" ]', '[ factors . "labels" ]'),
    ],
)
def test_a_line_of_toml(table: str, line: str, expected: str | None) -> None:
    parts = table.split(".") if table else []
    pieces = toml_pieces(line, parts, valid=True)
    assert shown(pieces) == (expected or 'factor_types = ["totp", "passkeys", "***"]')
    assert "".join(line[piece.start : piece.end] for piece in pieces) == line


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("  interval 5m", "  interval 5m"),
        ("interval: 5m", "interval: 5m"),
        ('interval = "5m" hunter2', 'interval = "5m" ***'),
        ("hunter2", "***"),
        ('hunter2 = "5m"', '*** = "***"'),
        ("intervall = 5m", "intervall = ***"),
        ("[hunter2", "[***"),
        ("[accounts.main", "[accounts.main"),
        ("[polling] hunter2", "[polling] ***"),
        ("[a.hunter2.accounts.x]", "[***.***.accounts.x]"),
        ('"interval = "5m"', '"***"***'),
        ("[[\u200bfactors]]", "[[***]]"),
        ("\u00a0interval = 5m", "\u00a0interval = 5m"),
        ("interval = \u201c5m\u201d", "interval = \u201c5m\u201d"),
        ("interval = '5m", "interval = '5m"),
        ('interval = """5m', 'interval = """5m'),
        ("= 5m", "= ***"),
    ],
)
def test_a_line_that_is_no_toml(line: str, expected: str) -> None:
    pieces = toml_pieces(line, ["polling"], valid=False)
    assert shown(pieces) == expected
    assert "".join(line[piece.start : piece.end] for piece in pieces) == line


def test_a_line_that_continues_a_value() -> None:
    assert shown(toml_pieces('  ":1", ":2",', [], ["web", "listen_address"], valid=True)) == '  ":1", ":2",'
    assert shown(toml_pieces("password = x", [], ["accounts", "main", "password"], valid=False)) == "*** = ***"
    line = '  { name = "x", service_sid = "VX1" },'
    assert shown(toml_pieces(line, [], ["factors"], valid=True)) == '  { name = "***", service_sid = "VX1" },'


@given(st.text(alphabet=st.sampled_from(list("ab=[]{}\"'.,#: \\\t$")), max_size=40), st.booleans())
def test_no_text_hides_a_secret_from_the_mask(text: str, valid: bool) -> None:
    for line in (f'{text}"hunter2"', f"{text} hunter2"):
        pieces = toml_pieces(line, ["accounts", "main"], valid=valid)
        assert "".join(line[piece.start : piece.end] for piece in pieces) == line
        if not valid:
            assert "hunter2" not in shown(pieces)


def test_a_row_of_csv() -> None:
    line = f'{SID},"made-up-identity",x@y,"5m",,perhaps'
    columns = ["service_sid", "identity", "labels.interval", "interval", "name", "paused"]
    pieces = csv_pieces(line, columns, cell_spans(line))
    assert shown(pieces) == f'{SID},***,***,"5m",,perhaps'
    assert (
        shown(csv_pieces(f"{line},more", columns, cell_spans(f"{line},more"))) == f'{SID},***,***,"5m",,perhaps,***'
    )
    assert shown(csv_pieces("a,b", columns, [(0, 1)])) == "a***"
    assert shown(csv_header_pieces("Service_SID; identity;labels.team,alice-smith")) == (
        "Service_SID; identity;labels.team,***"
    )


@pytest.mark.parametrize(
    ("record", "cells"),
    [
        ("a,b,\n", ["a", "b", ""]),
        ('"a,""b",c\r\nd', ['"a,""b"', "c"]),
        ('a,"b\nc",d\n', ["a", '"b\nc"', "d"]),
        ('a,"b\nc,d\n', ["a", '"b']),
        ('a,"b', ["a", '"b']),
        ('"a"b,c', ['"a"b', "c"]),
        ("", []),
        ("\n", []),
    ],
)
def test_the_cells_of_a_record(record: str, cells: list[str]) -> None:
    assert [record[start:end] for start, end in cell_spans(record)] == cells


@pytest.mark.parametrize(
    ("line", "path", "expected"),
    [
        ("  cert_file: a.pem", ["tls_server_config", "cert_file"], "  cert_file: a.pem"),
        ("  cert_file: a.pem # x", ["tls_server_config", "cert_file"], "  cert_file: ***"),
        ("  key: hunter2", ["tls_server_config", "key"], "  key: ***"),
        ("  alice: hunter2", ["basic_auth_users", "alice"], "  alice: ***"),
        ("  - CurveP256", ["tls_server_config", "curve_preferences"], "  - CurveP256"),
        ("  alice: hunter2", [], "  ***: ***"),
        ("  burst: 1", [], "  burst: ***"),
        ("  hunter2", [], "  ***"),
        ("", [], ""),
    ],
)
def test_a_line_of_yaml(line: str, path: list[str], expected: str) -> None:
    pieces = yaml_pieces(line, path, FIELDS)
    assert shown(pieces) == expected
    assert "".join(line[piece.start : piece.end] for piece in pieces) == line


def test_a_marked_value_keeps_its_place_behind_masks() -> None:
    line = 'labels = { "a b" = "a long secret", le = "x" }'
    start = line.index("le")
    excerpt = excerpt_of(7, toml_pieces(line, ["factors"], valid=True), start, start + 2)
    assert excerpt.text[excerpt.start : excerpt.end] == "le"
    value = line.index('"a long')
    excerpt = excerpt_of(7, toml_pieces(line, ["factors"], valid=True), value + 3, value + 4)
    assert excerpt.text[excerpt.start : excerpt.end] == '"***"'
    excerpt = excerpt_of(7, toml_pieces(line, ["factors"], valid=True), 99, 100)
    assert excerpt.start == excerpt.end == len(excerpt.text)


@pytest.mark.parametrize(
    ("text", "marked", "encoding", "line", "carets"),
    [
        ("a = 1", "1", "utf-8", "a = 1", "    ^"),
        ("\ta = 1", "1", "utf-8", "    a = 1", "        ^"),
        ("\u65e5\u672c = 12", "12", "utf-8", "\u65e5\u672c = 12", "       ^^"),
        ("a = \u65e5\u672c", "\u65e5\u672c", "utf-8", "a = \u65e5\u672c", "    ^^^^"),
        ("e\u0301 = 1", "1", "utf-8", "e\u0301 = 1", "    ^"),
        ("\u00e9 = 1", "1", "ascii", "\\xe9 = 1", "       ^"),
        ("\u00e9 = 1", "1", "latin-1", "\u00e9 = 1", "    ^"),
        ("\u00e9 = 1", "1", "no such encoding", "\\xe9 = 1", "       ^"),
        ("a\u00a0= 1", "\u00a0", "utf-8", "a\\xa0= 1", " ^^^^"),
        ("a\u200b= 1", "\u200b", "utf-8", "a\\u200b= 1", " ^^^^^^"),
        ("a\u202e = 1", "1", "utf-8", "a\\u202e = 1", "          ^"),
        ("a\x1b[31m = 2", "2", "utf-8", "a\\x1b[31m = 2", "            ^"),
    ],
)
def test_the_carets_are_below_what_they_mark(text: str, marked: str, encoding: str, line: str, carets: str) -> None:
    start = text.index(marked)
    rendered = Excerpt(12, text, start, start + len(marked)).rendered(encoding)
    assert rendered == f"   |\n12 | {line}\n   | {carets}\n"


def test_a_long_line_is_cut_around_the_marked_part() -> None:
    text = "a" * 200 + "XYZ" + "b" * 200
    _, line, carets = Excerpt(1, text, 200, 203).rendered().splitlines()
    assert line.startswith("1 | ...aaa")
    assert line.endswith("bbb...")
    assert len(line) < 115
    start = carets.index("^")
    assert (line[start : start + 3], carets.count("^")) == ("XYZ", 3)
    _, line, carets = Excerpt(1, text, 3, 5).rendered().splitlines()
    assert line.startswith("1 | aaaaa")
    assert (carets.index("^"), carets.count("^")) == (7, 2)
    _, line, carets = Excerpt(1, text, 200, 403).rendered().splitlines()
    assert len(carets) <= len(line)


@given(st.text(max_size=150), st.integers(0, 160), st.integers(0, 20), st.sampled_from(["utf-8", "ascii"]))
def test_any_line_can_be_shown(text: str, start: int, length: int, encoding: str) -> None:
    rendered = Excerpt(1, text, start, start + length).rendered(encoding)
    rendered.encode(encoding)
    assert rendered.count("\n") == 3
    assert "^" in rendered.splitlines()[2]
    assert all(
        character.isprintable() or unicodedata.combining(character) for character in rendered.replace("\n", "")
    )
