"""docs/reliability.md: sections between markers, each written by the proof that it tells of."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "reliability.md"


def section(text: str, name: str) -> str:
    """Return what stands between the markers of a section."""
    found = _pattern(name).search(text)
    assert found is not None, f"docs/reliability.md has no section {name}"
    return found[2].strip("\n")


def with_section(text: str, name: str, content: str) -> str:
    """Return the text with another content between the markers of a section."""
    section(text, name)
    return _pattern(name).sub(lambda found: f"{found[1]}\n\n{content.strip()}\n\n{found[3]}", text)


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- {name}:begin -->)\n(.*?)\n(<!-- {name}:end -->)", re.DOTALL)


def write_section(name: str, content: str) -> None:
    """Write a section of the page anew."""
    PAGE.write_text(with_section(PAGE.read_text(encoding="utf-8"), name, content), encoding="utf-8")
