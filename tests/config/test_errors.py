"""Errors and warnings as a reader sees them."""

from __future__ import annotations

import pickle

from hypothesis import given
from hypothesis import strategies as st

from exporter.config.errors import (
    ConfigError,
    ConfigWarning,
    ErrorDetail,
    InvalidValueError,
    escape,
    listing,
    nearest,
    quote,
)


def test_an_error_says_where_what_and_what_to_do() -> None:
    assert (
        str(ErrorDetail("config.toml: web", "is a string", "write [web]"))
        == "config.toml: web: is a string; write [web]"
    )
    assert str(ErrorDetail("config.toml", "does not exist")) == "config.toml: does not exist"
    assert str(ConfigWarning("config.toml", "is empty")) == "config.toml: is empty"


def test_a_refusal_has_one_line_per_error() -> None:
    error = ConfigError([ErrorDetail("a", "b"), ErrorDetail("c", "d", "e")])
    assert str(error) == "a: b\nc: d; e"
    assert error.errors == (ErrorDetail("a", "b"), ErrorDetail("c", "d", "e"))
    assert pickle.loads(pickle.dumps(error.errors)) == error.errors  # noqa: S301  what it pickled itself


@given(st.text(max_size=300))
def test_a_quoted_value_is_short_and_on_one_line(value: str) -> None:
    quoted = quote(value)
    assert len(quoted) <= 62
    assert quoted.isprintable()


def test_an_escaped_value_keeps_what_can_be_read() -> None:
    assert escape("a\tb\x1b[0m\u202e", 60) == r"a\tb\x1b[0m\u202e"
    assert escape("x" * 61, 60) == "x" * 59 + "…"
    assert escape("é€", 60) == "é€"


def test_a_value_that_may_be_a_secret_is_not_quoted_by_default() -> None:
    assert str(InvalidValueError("VX12", "is wrong")) == '"VX12" is wrong'
    assert str(InvalidValueError("x" * 20, "is wrong")) == "the value (20 characters) is wrong"
    assert str(InvalidValueError("x" * 20, "is wrong", harmless=True)) == f'"{"x" * 20}" is wrong'


def test_names_that_are_alike() -> None:
    assert nearest("intervall", ["interval", "timeout"]) == "interval"
    assert nearest("quux", ["interval", "timeout"]) is None
    assert listing("abc") == '"a", "b", "c"'
    assert listing(map(str, range(12))).endswith('"9", and 2 more')
