"""What makes a value look right and be wrong: variables that nothing replaces, invisible characters, curly quotes.

Also which secrets can't be one. No text that is returned quotes the value.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, NamedTuple

from exporter.watched import is_sid

if TYPE_CHECKING:
    from collections.abc import Iterator

_INVISIBLE = "\u00a0\u00ad\u034f\u1680\u180e\u2000-\u200b\u202f\u205f\u2060-\u2064\u3000\ufeff\ufff9-\ufffb"
INVISIBLE = re.compile(f"[{_INVISIBLE}]")
"""A character that looks like a space or like nothing. No joiners, which some scripts and emoji need."""

CURLY_QUOTES = "\u201c\u201d\u201e\u201f\u2018\u2019\u201a\u201b\u00ab\u00bb"

_VARIABLE = re.compile(
    r"\$\{[^{}]*\}|\$\([A-Za-z_][A-Za-z0-9_]*\)|\{\{.*?\}\}|\A\$[A-Z_][A-Z0-9_]{2,}\Z", re.DOTALL
)
_QUOTES = (*((quote, quote) for quote in "\"'`"), *(CURLY_QUOTES[at : at + 2] for at in (0, 4, 8)))

_PLACEHOLDER = re.compile(
    r"change[ _-]?(me|this|it)?|replace[ _-]?(me|this|it)?|fill[ _-]?(me|this)?([ _-]?in)?|to[ _-]?do|tbd"
    r"|place[ _-]?holder|dummy|example|sample|redacted|none|null|undefined|n/?a|test(ing)?|foo|bar|foobar"
    r"|(the[ _-]|my[ _-]?|your[ _-]?|enter[ _-]?|insert[ _-]?|put[ _-]?|add[ _-]?|some[ _-]?|new[ _-]?)*"
    r"(twilio[ _-]?)?((account|auth|api|client|bearer|access)[ _-]?)*"
    r"(key[ _-]?)?(secret|token|password|passwd|passphrase|key|credentials?|value)"
    r"([ _-]?(here|goes[ _-]?here|itself))?"
    r"|<[^<>]*>|\[[^\[\]]*\]|\.{3,}|\u2026+",
    re.IGNORECASE,
)
_REPEATED = re.compile(r"(.)\1{2,}", re.DOTALL)


class Oddity(NamedTuple):
    """What is odd about a value, to be read after its place, and what to do about it."""

    problem: str
    hint: str
    of_variable: bool = False


def oddity(value: str) -> Oddity | None:
    """Return what is odd about a value, if anything; cheap for values that are not."""
    if value.isascii() and "$" not in value and "{{" not in value:
        return None
    if _VARIABLE.search(value):
        return Oddity("contains a variable that nothing replaces", "write the value itself", of_variable=True)
    if (found := INVISIBLE.search(value)) is not None:
        problem = f"contains an invisible character ({name_of(found.group())}, character {found.start() + 1})"
        return Oddity(problem, "remove it")
    if any(value.startswith(first) and value.endswith(last) and len(value) > 1 for first, last in _QUOTES[3:]):
        return Oddity(f"begins with a curly quote ({name_of(value[0])})", "remove the curly quotes")
    return None


def doubts(secret: str) -> Iterator[Oddity]:
    """Yield why a secret can't be one, if so."""
    if (odd := oddity(secret)) is not None:
        yield odd
    elif any(len(secret) > 1 and secret.startswith(first) and secret.endswith(last) for first, last in _QUOTES[:3]):
        yield Oddity("has quotes around it", "remove them, unless they belong to the secret")
    elif _PLACEHOLDER.fullmatch(secret):
        yield Oddity("is a placeholder", "enter the secret itself")
    elif _REPEATED.fullmatch(secret):
        yield Oddity("is one repeated character", "enter the secret itself")
    elif is_sid(secret, ("AC", "SK", "VA", "YF")):
        hint = "enter the auth token, or the API key's secret, which was shown when it was created"
        yield Oddity("is a SID", hint)


def name_of(character: str) -> str:
    """Return the code point of a character, and its name if it has one: ``U+00A0 no-break space``."""
    name = "byte-order mark" if character == "\ufeff" else unicodedata.name(character, "").lower()
    return f"U+{ord(character):04X} {name}".rstrip()
