"""What is wrong with a configuration, and where: errors make it unusable, warnings don't."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SHOWN_CHARACTERS = 60
"""The longest value that messages quote in full."""

HARMLESS_CHARACTERS = 7
"""The longest value that can't be an identity, and may be quoted even in the place of one."""


@dataclass(frozen=True, slots=True)
class ErrorDetail:
    """One error that makes a configuration unusable: its place, the problem, and a hint what to do about it.

    ``name`` is the name of the factor, entity or service whose entry it is, empty where there is none. ``str`` and
    ``repr`` don't show it. With ``of_key``, the key is wrong and not its value. ``other`` is another place that the
    problem names.
    """

    place: str
    problem: str
    hint: str = ""
    name: str = field(default="", repr=False)
    of_key: bool = field(default=False, repr=False, compare=False)
    other: str = field(default="", repr=False, compare=False)

    def __str__(self) -> str:
        return f"{self.place}: {self.problem}; {self.hint}" if self.hint else f"{self.place}: {self.problem}"


@dataclass(frozen=True, slots=True)
class ConfigWarning:
    """Something unusual about a usable configuration, with a hint what to do about it; see :class:`ErrorDetail`."""

    place: str
    text: str
    hint: str = ""
    of_key: bool = field(default=False, repr=False, compare=False)
    other: str = field(default="", repr=False, compare=False)

    def __str__(self) -> str:
        return f"{self.place}: {self.text}; {self.hint}" if self.hint else f"{self.place}: {self.text}"


class UnmatchedPattern(ConfigWarning):
    """A pattern of watchlist files that matches no file."""


class ConfigError(Exception):
    """A configuration was refused, for the errors in ``errors``; the message has one line per error.

    ``warnings`` may explain the errors: variables with another prefix.
    """

    def __init__(self, errors: Iterable[ErrorDetail], warnings: Iterable[ConfigWarning] = ()) -> None:
        self.errors: tuple[ErrorDetail, ...] = tuple(errors)
        self.warnings: tuple[ConfigWarning, ...] = tuple(warnings)
        super().__init__("\n".join(map(str, self.errors)))


class InvalidValueError(ValueError):
    """A value that is not valid for its key; ``quoted`` quotes it, ``str()`` only if it can't be a secret.

    A value in the wrong place may be an identity or a credential, for example when two CSV columns are swapped.
    """

    def __init__(self, value: str, problem: str, *, harmless: bool = False) -> None:
        self.quoted = f"{quote(value)} {problem}"
        harmless = harmless or len(value) <= HARMLESS_CHARACTERS
        super().__init__(self.quoted if harmless else f"the value ({len(value)} characters) {problem}")


def quote(value: str) -> str:
    """Return a value in quotes, with control characters escaped; a long value is cut."""
    return f'"{escape(value, SHOWN_CHARACTERS)}"'


def escape(text: str, limit: int) -> str:
    """Return text on one line: unprintable characters are escaped, and what exceeds the limit is cut."""
    cut = text[:limit]
    escaped = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in cut
    )
    if len(escaped) > limit or len(text) > limit:
        return escaped[: limit - 1] + "…"
    return escaped


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name most similar to the given one, or None where none is similar."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the hint for a misspelt name: the most similar known name, or an empty string."""
    match = nearest(name, known)
    return f'did you mean "{match}"?' if match else ""


def listing(names: Iterable[str]) -> str:
    """Return names in quotes, separated by commas and cut after ten."""
    quoted = [f'"{name}"' for name in names]
    shown = quoted[:10]
    if len(quoted) > len(shown):
        shown.append(f"and {len(quoted) - len(shown)} more")
    return ", ".join(shown)
