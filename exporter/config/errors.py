"""What is wrong with a configuration, and where: errors that stop a start, warnings that don't."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SHOWN_CHARACTERS = 60
"""Longest value quoted in a message; a longer one is cut."""

HARMLESS_CHARACTERS = 7
"""Longest value that cannot be an identity, and so may be quoted even where an identity may stand."""


@dataclass(frozen=True, slots=True)
class ErrorDetail:
    """One thing that makes a configuration unusable: its place, the problem, and what to do about it."""

    place: str
    problem: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.place}: {self.problem}; {self.hint}" if self.hint else f"{self.place}: {self.problem}"


@dataclass(frozen=True, slots=True)
class ConfigWarning:
    """One thing worth telling about a configuration that is usable."""

    place: str
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"


class ConfigError(Exception):
    """A configuration that was refused, with every detail found in it; the message has a line a detail."""

    def __init__(self, errors: Iterable[ErrorDetail]) -> None:
        self.errors: tuple[ErrorDetail, ...] = tuple(errors)
        super().__init__("\n".join(str(detail) for detail in self.errors))


class UnfitError(ValueError):
    """A value that its key cannot take; ``quoted`` quotes it, ``str()`` only if it can be no secret.

    A value in the wrong place may be an identity or a credential, as when two CSV columns are swapped.
    """

    def __init__(self, value: str, complaint: str, *, harmless: bool = False) -> None:
        self.quoted = f"{quote(value)} {complaint}"
        harmless = harmless or len(value) <= HARMLESS_CHARACTERS
        super().__init__(self.quoted if harmless else f"the value ({len(value)} characters) {complaint}")


def quote(value: str) -> str:
    """Return a value in quotes, with control characters escaped and a long one cut."""
    return f'"{escape(value, SHOWN_CHARACTERS)}"'


def escape(text: str, limit: int) -> str:
    """Return text on one line: whatever doesn't print is escaped, and what exceeds the limit is cut."""
    cut = text[:limit]
    escaped = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in cut
    )
    if len(escaped) > limit or len(text) > limit:
        return escaped[: limit - 1] + "…"
    return escaped


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name most like the given one, or None when none is like it."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the hint for a misspelt name: the nearest known one, or nothing."""
    match = nearest(name, known)
    return f'did you mean "{match}"?' if match else ""


def listing(names: Iterable[str]) -> str:
    """Return names as an enumeration in quotes, cut after ten."""
    quoted = [f'"{name}"' for name in names]
    shown = quoted[:10]
    if len(quoted) > len(shown):
        shown.append(f"and {len(quoted) - len(shown)} more")
    return ", ".join(shown)
