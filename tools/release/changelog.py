"""Print the release notes, a section of CHANGELOG.md: ``python -m tools.release.changelog [VERSION]``.

The format is that of https://keepachangelog.com/en/1.1.0/: a section has a version and a date, or is "Unreleased".
"""

from __future__ import annotations

import re
import sys

from tools.release.files import PROJECT

UNRELEASED = "Unreleased"
_HEADING = re.compile(r"^## \[([^]]+)\](?: - (\d{4}-\d\d-\d\d))?$", re.MULTILINE)
_REFERENCES = re.compile(r"^\[[^]]+\]: \S+$\n?", re.MULTILINE)


def sections(text: str) -> dict[str, str]:
    """Return the text of each section by its version, without the references at the end of the file.

    Raises ValueError for a version without a date.
    """
    found: dict[str, str] = {}
    headings = list(_HEADING.finditer(text))
    for heading, following in zip(headings, [*headings[1:], None], strict=True):
        version, date = heading[1], heading[2]
        if version != UNRELEASED and not date:
            raise ValueError(f"CHANGELOG.md: [{version}] has no date: ## [{version}] - YYYY-MM-DD")
        below = text[heading.end() : following.start() if following else None]
        found[version] = _REFERENCES.sub("", below).strip() + "\n"
    return found


def notes(version: str) -> str:
    """Return the release notes of a version, or of what is not released yet if the changelog lacks it."""
    changes = sections((PROJECT / "CHANGELOG.md").read_text(encoding="utf-8"))
    return changes.get(version) or changes[UNRELEASED]


if __name__ == "__main__":
    sys.stdout.write(notes(sys.argv[1] if sys.argv[1:] else UNRELEASED))
