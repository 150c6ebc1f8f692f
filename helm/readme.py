"""The chart's README: README.template.md with a table for each section of values.yaml."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tools.release.repository import repository

if TYPE_CHECKING:
    from helm.values import Section, Value

MARK = "<!-- values -->"
_TO_THE_ROOT = "](../../"


def render(template: str, sections: list[Section]) -> str:
    """Return the README, with the tables in place of the template's marker line, and with absolute links.

    Registries of charts show it by itself, where a relative link leads nowhere.
    """
    before, _, after = template.partition(MARK)
    tables = "\n".join(f"### {section.title}\n\n{_table(section)}" for section in sections)
    return f"{before}{tables}\n{after.lstrip()}".replace(_TO_THE_ROOT, f"]({repository()}/blob/main/")


def _table(section: Section) -> str:
    lines = ["| key | default | meaning |", "|---|---|---|"]
    for top in section.values:
        lines += [_line(value, "" if value is top else top.description) for value in top.leaves()]
    return "\n".join(lines) + "\n"


def _line(value: Value, of_parent: str) -> str:
    choices = value.schema.get("enum")
    meaning = value.description or of_parent
    if choices and not value.description:
        meaning = ", ".join(f"`{choice}`" for choice in choices if choice)
    default = json.dumps(value.default, ensure_ascii=False)
    cells = (f"`{'.'.join(value.path)}`", f"`{default}`", meaning)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
