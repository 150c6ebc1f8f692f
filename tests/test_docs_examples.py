"""The pages show the files of docs/examples as they are, and no file is left out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
LANGUAGES = {".conf": "nginx", ".py": "python", ".sh": "sh", ".sql": "sql", ".yaml": "yaml"}
# The pages by the folders of the examples that they show.
PAGES = {"examples": "watchlist-sources.md", "kubernetes": "kubernetes/gitops.md"}
EXAMPLES = sorted(path for path in (DOCS / "examples").rglob("*") if path.is_file())


def test_there_are_examples() -> None:
    assert {path.suffix for path in EXAMPLES} == LANGUAGES.keys()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_page_shows_the_file_as_it_is(path: Path) -> None:
    source = DOCS / PAGES[path.parent.name]
    page = source.read_text(encoding="utf-8")
    block = f"```{LANGUAGES[path.suffix]}\n{path.read_text(encoding='utf-8')}```\n"

    assert page.count(block) == 1
    assert f"[{path.name}]({os.path.relpath(path, source.parent)})" in page
