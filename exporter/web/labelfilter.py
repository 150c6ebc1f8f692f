"""The text that filters by labels: ``team=payments, tier="1, 2"``, read and written.

It is apart from selection.py because it is a small language of its own.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

_TERM = re.compile(
    r'\s*([^=,]*)(?:=\s*(?:"((?:[^"\\]|\\.)*)"\s*(?=,|\Z)|([^,]*)))?(?:,|\Z)',
    re.DOTALL,
)


class LabelTerm(NamedTuple):
    """A label's name and its value; ``None`` stands for any value, an empty one for a factor without the label."""

    name: str
    value: str | None


def read_labels(text: str) -> list[LabelTerm]:
    """Return the terms of a text; a factor must match all of them.

    A value that contains a comma is in double quotes, in which a backslash escapes a double quote and itself.
    """
    terms: list[LabelTerm] = []
    for found in _TERM.finditer(text):
        name, quoted, plain = found.groups()
        value = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL)
        if value is not None:
            terms.append(LabelTerm(name.strip(), value.strip()))
        elif name.strip():
            terms.append(LabelTerm(name.strip(), None))
    return terms


def write_labels(terms: Iterable[LabelTerm]) -> str:
    """Return the text of terms, which reads back as them."""
    return ", ".join(name if value is None else f"{name}={_quoted(value)}" for name, value in terms)


def _quoted(value: str) -> str:
    if "," not in value and not value.startswith('"'):
        return value
    escaped = re.sub(r'(["\\])', r"\\\1", value)
    return f'"{escaped}"'
