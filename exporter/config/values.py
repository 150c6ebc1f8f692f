"""Parsers of single values; each returns the value or raises ValueError with what is wrong with it.

Nothing here quotes an identity, a name, a label's value or a credential.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NoReturn

from exporter.config.errors import HARMLESS_CHARACTERS, UnfitError
from exporter.watched import canonical_sid

if TYPE_CHECKING:
    from collections.abc import Iterable

SID_KINDS = {
    "VA": "Verify Service SID",
    "YF": "Verify Factor SID",
    "AC": "Account SID",
    "SK": "API key SID",
}

RESERVED_LABELS = frozenset({
    "account", "service_sid", "factor", "factor_sid", "factor_type", "entity", "entity_sid", "identity", "status",
    "from", "to", "reason", "code", "operation", "task", "shard", "le", "quantile", "job", "instance",
    "alertname", "alertstate", "severity",
})  # fmt: skip
"""Names that our own series, Prometheus or Alertmanager give a meaning to."""

OVERWRITTEN_LABELS = frozenset({"namespace", "pod", "container", "endpoint", "service", "node", "cluster"})
"""Names that a scrape configuration on Kubernetes usually attaches itself."""

_UNIT_MILLISECONDS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_LONGEST_MILLISECONDS = 36_500 * 86_400_000
_DURATION = re.compile(
    r"(?:([0-9]{1,9})d)?(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m(?!s))?(?:([0-9]{1,9})s)?(?:([0-9]{1,9})ms)?"
)
_BARE_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_HEX_DIGITS = frozenset("0123456789abcdefABCDEF")
_SID_DIGITS = re.compile(r"[0-9A-Fa-f]{32}")
_IDENTITY = re.compile(r"[A-Za-z0-9-]{8,64}")
_ACCOUNT_NAME = re.compile(r"[a-z0-9]+(?:[_-][a-z0-9]+)*")
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_FAMILY_PATTERN = re.compile(r"[a-z0-9_*?!\[\]-]+")
_LONGEST_NAME = 128
_LARGEST_NUMBER = 1_000_000
_SMALLEST_RATE = 0.001


def kind_of(value: object) -> str:
    """Return in words what sort of TOML value this is."""
    match value:
        case bool():
            return "a truth value"
        case int():
            return "a whole number"
        case float():
            return "a number with a fraction"
        case str():
            return "a string"
        case list() | tuple():
            return "a list"
        case dict():
            return "a table"
        case _:
            return "a date or a time"


def wrong_kind(value: object, wanted: str, hint: str = "") -> NoReturn:
    """Raise the ValueError for a value of another sort than its key takes; never quotes it."""
    raise ValueError(f"is {kind_of(value)}, not {wanted}" + (f"; {hint}" if hint else ""))


def parse_text(value: object) -> str:
    """Return a string as it is."""
    return value if isinstance(value, str) else wrong_kind(value, "a string")


def parse_duration(value: object) -> float:
    """Return a duration such as ``"1h30m"`` in seconds."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        wrong_kind(value, "a duration", f'write it with a unit, such as "{_example(_number(value))}s"')
    if not isinstance(value, str):
        wrong_kind(value, 'a duration such as "5m"')
    parts = _DURATION.fullmatch(value) if value else None
    if parts is None:
        if _BARE_NUMBER.fullmatch(value):
            raise UnfitError(value, f'has no unit; write one after it, such as "{_example(value)}s"')
        raise UnfitError(
            value,
            'is not a duration such as "30s", "5m" or "1h30m" (whole numbers with ms, s, m, h or d, '
            "the largest unit first, each at most once)",
        )
    milliseconds = sum(
        int(count or 0) * unit for count, unit in zip(parts.groups(), _UNIT_MILLISECONDS.values(), strict=True)
    )
    if milliseconds > _LONGEST_MILLISECONDS:
        raise UnfitError(value, "is longer than 36500d")
    return milliseconds / 1000


def parse_interval(value: object) -> float:
    """Return a duration of at least one second, in seconds."""
    seconds = parse_duration(value)
    if seconds < 1:
        raise UnfitError(str(value), 'is shorter than "1s", the shortest interval')
    return seconds


def parse_timeout(value: object) -> float:
    """Return a duration longer than nothing, in seconds."""
    seconds = parse_duration(value)
    if seconds <= 0:
        raise UnfitError(str(value), "leaves no time at all")
    return seconds


def format_duration(seconds: float) -> str:
    """Return seconds as a duration that parses back to the same value; days are used from two up."""
    rest = round(seconds * 1000)
    parts = []
    for unit, milliseconds in _UNIT_MILLISECONDS.items():
        if unit == "d" and rest < 2 * milliseconds:
            continue
        count, rest = divmod(rest, milliseconds)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def parse_sid(value: object, *prefixes: str) -> str:
    """Return a SID in canonical case: one of the prefixes and 32 hex digits, compared without case."""
    if not isinstance(value, str):
        wrong_kind(value, "a string")
    prefix = value[:2].upper()
    if prefix in prefixes and len(value) == 34 and _SID_DIGITS.fullmatch(value, 2):
        return canonical_sid(value)
    wanted = " or ".join(
        f"{_article(SID_KINDS[prefix])} ({prefix} followed by 32 hex digits)" for prefix in prefixes
    )
    if value != value.strip():
        raise ValueError(f"has white space around it; {wanted} has none")
    if prefix in SID_KINDS and prefix not in prefixes and _SID_DIGITS.fullmatch(value, 2):
        raise UnfitError(value, f"is {_article(SID_KINDS[prefix])}, not {wanted}", harmless=True)
    harmless = value[:2] in prefixes and set(value[2:]) <= _HEX_DIGITS
    raise UnfitError(value, f"is not {wanted}", harmless=harmless)


def parse_service_sid(value: object) -> str:
    """Return a Verify Service SID in canonical case."""
    return parse_sid(value, "VA")


def parse_factor_sid(value: object) -> str:
    """Return a Verify Factor SID in canonical case."""
    return parse_sid(value, "YF")


def parse_account_sid(value: object) -> str:
    """Return an Account SID in canonical case."""
    return parse_sid(value, "AC")


def parse_username(value: object) -> str:
    """Return the SID that stands as user name in requests: an API key's or the account's."""
    return parse_sid(value, "SK", "AC")


def parse_identity(value: object) -> str:
    """Return an entity's identity; what is wrong with one is told without quoting it."""
    if not isinstance(value, str):
        wrong_kind(value, "a string")
    if _IDENTITY.fullmatch(value):
        return value
    if not value:
        raise ValueError("is empty; an identity has 8 to 64 characters")
    if value != value.strip():
        raise ValueError("has white space around it; an identity has none")
    if not 8 <= len(value) <= 64:
        raise ValueError(f"has {_count(len(value), 'character')}; an identity has 8 to 64")
    raise ValueError('has a character that is no letter, digit or "-"; an identity has only these')


def parse_account_name(value: object) -> str:
    """Return the name of an account's table."""
    if not isinstance(value, str):
        wrong_kind(value, "a string")
    if _ACCOUNT_NAME.fullmatch(value):
        return value
    raise UnfitError(value, 'is not an account name (lower-case letters and digits, joined by single "-" or "_")')


def parse_name(value: object) -> str:
    """Return the name of a factor or an entity, 1 to 128 characters; a bad one isn't quoted."""
    if not isinstance(value, str):
        wrong_kind(value, "a string")
    if not value:
        raise ValueError("is empty; a name has 1 to 128 characters")
    if len(value) > _LONGEST_NAME:
        raise ValueError(f"has {len(value)} characters; a name has at most {_LONGEST_NAME}")
    if (found := _UNPRINTABLE.search(value)) is not None:
        raise ValueError(
            f"has a control or text-direction character (U+{ord(found.group()):04X}, "
            f"character {found.start() + 1}); remove it"
        )
    if value in {".", ".."}:
        raise ValueError("is only dots, which cannot stand in a page's address; choose another name")
    return value


def parse_label_name(name: str) -> str:
    """Return the name of a label of the user's."""
    if not _LABEL_NAME.fullmatch(name):
        raise ValueError("is not a label name (letters, digits and _, not beginning with a digit)")
    if name in RESERVED_LABELS:
        raise ValueError("is a reserved label name; choose another")
    if name.startswith(("__", "exported_")):
        raise ValueError("begins with __ or exported_, which Prometheus uses itself; choose another")
    return name


def parse_label_table(value: object) -> dict[str, object]:
    """Return a table whose names and values are still to be parsed."""
    return value if isinstance(value, dict) else wrong_kind(value, "a table of labels", 'write { name = "value" }')


def without_empty(labels: dict[str, str]) -> dict[str, str]:
    """Return the labels that have a value: an empty one is no label to Prometheus."""
    return {name: text for name, text in labels.items() if text}


def parse_credential(value: object) -> str:
    """Return a secret; what is wrong with one is told without quoting it."""
    if not isinstance(value, str):
        wrong_kind(value, "a string")
    if not value:
        raise ValueError("is empty; put the secret there")
    if value != value.strip() or value.startswith("\ufeff"):
        raise ValueError("has stray white space at its beginning or end; remove it")
    if _CONTROL.search(value):
        raise ValueError("has a line break, a tab or another control character in it; remove it")
    return value


def parse_path(value: object) -> str:
    """Return a path as text; an empty one means none."""
    if not isinstance(value, str):
        wrong_kind(value, "a path in quotes")
    if _CONTROL.search(value):
        raise ValueError("has a control character in it; no path has one")
    if value != value.strip():
        raise ValueError("has white space around it; remove it")
    return value


def parse_telemetry_path(value: object) -> str:
    """Return the path of the metrics; it may not hide another page of ours."""
    if not isinstance(value, str):
        wrong_kind(value, 'a path such as "/metrics"')
    if not re.fullmatch(r"/[A-Za-z0-9._~/-]*", value):
        raise UnfitError(value, 'is not a path such as "/metrics" (a slash, then letters, digits and . _ ~ - /)')
    first, *rest = value[1:].removesuffix("/").split("/")
    if not first or "" in rest or not {".", ".."}.isdisjoint((first, *rest)):
        raise UnfitError(value, 'is not a path of its own; choose one such as "/metrics"')
    if first in {"-", "api", "factors", "static"} or (first in {"probe", "config"} and not rest):
        raise UnfitError(value, 'is the path of another page of the exporter; choose one such as "/metrics"')
    return value


def parse_shard(value: object) -> str:
    """Return a shard: its ordinal, or ``auto``, and how many there are."""
    if not isinstance(value, str):
        wrong_kind(value, 'a shard such as "0/1"')
    parts = re.fullmatch(r"(auto|[0-9]{1,4})/([0-9]{1,4})", value)
    if value == "auto":
        raise UnfitError(value, 'needs to know how many shards there are; write "auto/4" for four', harmless=True)
    if parts is None or int(parts[2]) == 0 or (parts[1] != "auto" and int(parts[1]) >= int(parts[2])):
        raise UnfitError(value, 'is not a shard such as "0/4" (ordinal/count, the first is 0) or "auto/4"')
    return value


def parse_list(example: str, value: object) -> list[object]:
    """Return a list whose items are still to be parsed."""
    return list(value) if isinstance(value, list | tuple) else wrong_kind(value, "a list", f"write {example}")


def parse_family_pattern(value: object) -> str:
    """Return the short name of a per-factor family, or a pattern of such names."""
    if not isinstance(value, str):
        wrong_kind(value, "the name of a family in quotes")
    if value.startswith("twilio_verify_"):
        raise UnfitError(value, 'is a long name; write the short one, such as "verified"')
    if not _FAMILY_PATTERN.fullmatch(value):
        raise UnfitError(value, 'is no short name of a family, such as "verified", nor a pattern')
    return value


def parse_file_pattern(value: object) -> str:
    """Return the path of a watchlist file, or a pattern of such paths."""
    path = parse_path(value)
    if not path:
        raise ValueError("is empty; remove it")
    return path


def parse_flag(value: object) -> bool:
    """Return true or false."""
    return value if isinstance(value, bool) else wrong_kind(value, "true or false", _unquoted(value))


def flag_from_text(text: str) -> bool:
    """Return the truth value that a cell or an environment variable spells: true or false."""
    match text.lower():
        case "true":
            return True
        case "false":
            return False
        case _:
            raise UnfitError(text, "is neither true nor false")


def at_least(minimum: int, value: object) -> int:
    """Return a whole number from the minimum to a million."""
    if not isinstance(value, int) or isinstance(value, bool):
        wrong_kind(value, "a whole number", _unquoted(value))
    if not minimum <= value <= _LARGEST_NUMBER:
        raise ValueError(f"{_number(value)} is not between {minimum} and {_LARGEST_NUMBER}")
    return value


def parse_rate(value: object) -> float:
    """Return a number of at least 0.001, which is one in a quarter of an hour."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        wrong_kind(value, "a number", _unquoted(value))
    if not _SMALLEST_RATE <= value <= _LARGEST_NUMBER:
        raise ValueError(f"{_number(value)} is not between {_SMALLEST_RATE} and {_LARGEST_NUMBER}")
    return float(value)


def one_of(choices: Iterable[str], value: object) -> str:
    """Return a word of a closed list."""
    if not isinstance(value, str):
        wrong_kind(value, "a string")
    words = list(choices)
    if value not in words:
        raise UnfitError(value, f"is not one of {', '.join(words)}")
    return value


def _unquoted(value: object) -> str:
    return "write it without quotes" if isinstance(value, str) else ""


def _number(value: float) -> str:
    return f"{value:.6g}" if -1e15 < value < 1e15 or value != value else "the number"


def _example(number: str) -> str:
    return number if len(number) <= HARMLESS_CHARACTERS and number.isdecimal() else "30"


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'AEIOU' else 'a'} {noun}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
