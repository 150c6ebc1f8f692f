"""Markdown as GitHub reads it, written so that Python-Markdown reads the same."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from markdown_it.token import Token

_INDENT = 4
_MARKER = re.compile(r"(?:[-+*]|\d{1,9}[.)])(?: {1,4}(?=\S)|(?= |$))")
# Code is matched first, so that nothing in it is taken for a link.
_LINK = re.compile(
    r"^[ \t]*(?P<fence>`{3,}).*?^[ \t]*(?P=fence)|`+[^`\n]+`+|\]\((?P<target>[^)\s]+)\)", re.DOTALL | re.MULTILINE
)
_CODE_IN_A_CELL = re.compile(r"`([^`\n]*\\\|[^`\n]*)`")


def with_links(text: str, changed: Callable[[str], str]) -> str:
    """Return the text with the target of every link and picture as ``changed`` returns it; code stays as it is."""

    def link(found: re.Match[str]) -> str:
        return found[0] if found["target"] is None else f"]({changed(found['target'])})"

    return _LINK.sub(link, text)


def as_github_reads_it(text: str) -> str:
    """Return the text with lists and table cells in the form that Python-Markdown needs."""
    lines = text.split("\n")
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(text)
    for token in tokens:
        if token.type == "tr_open" and token.map is not None:
            row = token.map[0]
            lines[row] = _CODE_IN_A_CELL.sub(_code, lines[row])
    # A nested item is widened before the one around it, so that the columns of the outer one still hold.
    for item in sorted((token for token in tokens if _is_item(token)), key=lambda token: -token.level):
        _widen(lines, item)
    for number in sorted(_joined(tokens, lines), reverse=True):
        lines.insert(number, "")
    return "\n".join(lines)


def _code(found: re.Match[str]) -> str:
    r"""Return code with ``\|`` as HTML: in a cell, GitHub reads that as ``|``, and Python-Markdown as both."""
    text = found[1].replace(r"\|", "|")
    return f"<code>{''.join(c if c.isalnum() or c == ' ' else f'&#{ord(c)};' for c in text)}</code>"


def _is_item(token: Token) -> bool:
    return token.type == "list_item_open" and token.map is not None


def _widen(lines: list[str], item: Token) -> None:
    """Indent what belongs to an item by four spaces; CommonMark takes the width of its marker ("1. " is three)."""
    assert item.map is not None
    first, end = item.map
    before = len(lines[first]) - len(lines[first].lstrip(" "))
    found = _MARKER.match(lines[first], before)
    assert found, lines[first]
    width = len(found[0])
    for number in range(first + 1, end):
        if width < _INDENT and lines[number][: before + width].isspace():
            lines[number] = " " * (_INDENT - width) + lines[number]


def _joined(tokens: list[Token], lines: list[str]) -> Iterator[int]:
    """Yield the lines of items that follow a paragraph without a blank line, which Python-Markdown would join."""
    lists: list[bool] = []  # of each open list, whether the line before its next item may be a paragraph's
    for token in tokens:
        if token.type.endswith("_list_open"):
            lists.append(not lists)
        elif token.type.endswith("_list_close"):
            lists.pop()
        elif _is_item(token):
            assert token.map is not None
            first, end = token.map
            if first and lists[-1] and lines[first - 1].strip():
                yield first
            lists[-1] = any(not line.strip() for line in lines[first : end - 1])
