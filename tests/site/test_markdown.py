"""Markdown in the form that Python-Markdown needs, and links as they are on the site."""

from __future__ import annotations

import markdown
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from tests.site.shape import shape
from tools.site.markdown import as_github_reads_it, with_links

WORD = st.text("abc", min_size=1, max_size=4)


def of_github(text: str) -> list[str]:
    return shape(MarkdownIt("gfm-like", {"linkify": False}).render(text))


def of_the_site(text: str) -> list[str]:
    extensions = ["sane_lists", "tables", "pymdownx.superfences"]
    return shape(markdown.markdown(as_github_reads_it(text), extensions=extensions))


@st.composite
def lists(draw: st.DrawFn, depth: int = 2) -> list[str]:
    """Lines of a list; an item may go on in its next line, in a second paragraph, in code, or in a list."""
    marker = draw(st.sampled_from(("- ", "1. ")))
    indent = " " * len(marker)
    lines: list[str] = []
    for _ in range(draw(st.integers(1, 3))):
        block = [draw(WORD)]
        block += draw(st.sampled_from(([], ["goes on"], ["", "second"], ["", "```sh", "a  b", "", "  c", "```"])))
        if depth and draw(st.booleans()):
            block += ["", *draw(lists(depth - 1))]
        lines += [marker + block[0], *(indent + line if line else "" for line in block[1:])]
    return lines


@given(lists())
def test_a_list_has_the_shape_that_it_has_on_github(lines: list[str]) -> None:
    text = "\n".join(["before", "", *lines, "", "after", ""])
    assert of_the_site(text) == of_github(text)


@pytest.mark.parametrize(
    "text",
    [
        "A paragraph\n- and a list\n- at once\n",
        "- an item\n\n  with a paragraph\n- and the next\n",
        "1. one\n\n   ```sh\n   - not an item\n   ```\n2. two\n",
        "| a |\n|---|\n| `--output text\\|json`, *x* |\n",
        "```\n1. no list\n   at all\n```\n",
    ],
)
def test_it_has_the_shape_that_it_has_on_github(text: str) -> None:
    assert of_the_site(text) == of_github(text)


def test_links_change_and_code_does_not() -> None:
    text = "[a](b.md#c) ![d](e.png) `[a](b.md)` [`f`](g)\n\n   ```sh\n   [a](b.md)\n   ```\n[h](i)"
    assert with_links(text, lambda target: f"<{target}>") == (
        "[a](<b.md#c>) ![d](<e.png>) `[a](b.md)` [`f`](<g>)\n\n   ```sh\n   [a](b.md)\n   ```\n[h](<i>)"
    )
