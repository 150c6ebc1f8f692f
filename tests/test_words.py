"""One word per thing: no retired word where people read, and no class name twice."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
GLOSSARY = ROOT / "docs" / "glossary.md"
READ = ("README.md", "docs", "exporter", "grafana", "helm")
SUFFIXES = {".css", ".html", ".js", ".json", ".md", ".py", ".service", ".svg", ".tmpl", ".tpl", ".txt", ".yaml"}

# "each" before a number or a unit stands for "every"; before anything else it is an ordinary word.
EACH = re.compile(r"\beach\s+(?:\d|(?:second|minute|hour|day|ms|s|min|h)\b)", re.IGNORECASE)
REQUIRED = {"anew", "mend", "put in force", "under way", "passed over", "is told"}


def retired() -> list[str]:
    """Return the retired words and phrases of the glossary, those with "each" apart."""
    _, found, below = GLOSSARY.read_text(encoding="utf-8").partition("\n## Retired wording\n")
    assert found
    cells = re.findall(r"^\| ([^|]+) \|", below.partition("\n## ")[0], re.MULTILINE)
    assert cells[0] == "retired"
    words = [word.strip() for cell in cells[1:] for word in cell.split(",")]
    return [word for word in words if not EACH.match(word)]


def patterns() -> list[re.Pattern[str]]:
    """Return what must not be found: a word also with an s at its end, a phrase also across a line break."""
    phrases = (r"\s+".join(map(re.escape, word.split())) for word in retired())
    return [EACH, *(re.compile(rf"\b{phrase}s?\b", re.IGNORECASE) for phrase in phrases)]


def texts() -> Iterator[tuple[Path, str]]:
    """Yield every file that people read, without the marks that begin a line of a comment or a quotation."""
    for name in READ:
        path = ROOT / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.suffix in SUFFIXES and file != GLOSSARY and "__pycache__" not in file.parts:
                yield file.relative_to(ROOT), re.sub(r"\n\s*(?:#|//|>)\s*", "\n", file.read_text(encoding="utf-8"))


def test_the_glossary_lists_the_retired_words() -> None:
    assert set(retired()) >= REQUIRED
    assert EACH.search(GLOSSARY.read_text(encoding="utf-8").partition("## Retired wording")[2])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("polled each 5 minutes", ["each 5"]),
        ("runs each\nsecond", ["each\nsecond"]),
        ("each sample, each string, each service", []),
        ("requests under\n  way; Mends", ["under\n  way", "Mends"]),
        ("amend, mended, this told", []),
    ],
)
def test_the_patterns_find_retired_words_only(text: str, words: list[str]) -> None:
    assert sorted(found[0] for pattern in patterns() for found in pattern.finditer(text)) == sorted(words)


def test_no_retired_word_where_people_read() -> None:
    read = list(texts())
    assert len(read) > 150
    found = [
        f"{path}:{len(text[: match.start()].splitlines())}: {match[0]}"
        for path, text in read
        for pattern in patterns()
        for match in pattern.finditer(text)
    ]
    assert found == [], "docs/glossary.md says what to write instead"


def test_class_names_are_unique_in_the_package() -> None:
    places: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted((ROOT / "exporter").rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                places[node.name].append(str(path.relative_to(ROOT)))
    assert {name: files for name, files in places.items() if len(files) > 1} == {}
    assert len(places) > 100
