"""Values survive being written as jsonnet, and strings read the keys they name."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from grafana.jsonnet.values import expressions, read, written
from tests.support.jsonnet import evaluated

# Every short text of what jsonnet, its formatting or this writer treats specially.
TEXTS = ["".join(some) for length in range(4) for some in itertools.product("a '\"\\%|\n", repeat=length)]
VALUES: list[Any] = [
    *TEXTS,
    *("a|||b\nc", "|||\na", "a\n  b\n\nc", "a\n  b\nc", "%(a)s", "é 日"),
    *(
        {},
        [],
        {"for": "a"},
        {"a b": {"if": [1, -2.5, True, {"x": ["a\nb"]}]}},
        {"a": "b", "'": "c"},
        [[], [{}], {}],
    ),
]
LINES = "local lines(text) = std.rstripChars(text, '\\n');\n"


def test_a_value_is_read_back() -> None:
    assert evaluated(LINES + written(VALUES)) == VALUES


@pytest.mark.parametrize(
    ("text", "result"),
    [
        (f"up > {read('ratio * 100')}% of 100%", "up > 12.5% of 100%"),
        (f"up\n> {read('ratio * 100')}%", "up\n> 12.5%"),
        (read("'%g' % config.ratio"), "0.125"),
        ("100% and %s", "100% and %s"),
    ],
)
def test_a_text_reads_the_configuration(text: str, result: str) -> None:
    head = (
        LINES + "local config = { ratio: 0.125 };\nlocal values = { 'ratio * 100': '%g' % (config.ratio * 100) };\n"
    )
    assert evaluated(head + written(text)) == result


def test_expressions_are_found_once_and_not_where_they_are_the_whole_text() -> None:
    assert expressions([f"{read('a')} {read('b')}", f"{read('a')} ", read("c"), "d"]) == ["a", "b"]
