"""Parsers of single values; each returns the value, or raises ValueError with what is wrong.

No message quotes an identity, a name, a label's value or a credential.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NoReturn

from exporter.config.errors import HARMLESS_CHARACTERS, InvalidValueError
from exporter.watched import canonical_sid, is_sid

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
"""Label names that have a meaning in the exporter's metrics, in Prometheus or in Alertmanager."""

OVERWRITTEN_LABELS = frozenset({"namespace", "pod", "container", "endpoint", "service", "node", "cluster"})
"""Label names that a scrape configuration on Kubernetes usually sets itself."""

_UNIT_MILLISECONDS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_LONGEST_MILLISECONDS = 36_500 * 86_400_000
_DURATION = re.compile(
    r"(?:([0-9]{1,9})d)?(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m(?!s))?(?:([0-9]{1,9})s)?(?:([0-9]{1,9})ms)?"
)
_BARE_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_HEX_DIGITS = frozenset("0123456789abcdefABCDEF")
_CANONICAL_SIDS = {prefix: re.compile(f"{prefix}[0-9a-f]{{32}}") for prefix in SID_KINDS}
_CLIENT_ID = re.compile(r"[\x21-\x7e]{1,255}")
_IDENTITY = re.compile(r"[A-Za-z0-9-]{8,64}")
_ACCOUNT_NAME = re.compile(r"[a-z0-9]+(?:[_-][a-z0-9]+)*")
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_FAMILY_PATTERN = re.compile(r"[a-z0-9_*?!\[\]-]+")
_LONGEST_NAME = 128
LONGEST_LABEL_VALUE = 1000
"""Characters of a label's value; a longer one draws a warning."""
MOST_LABELS = 20
"""Labels of an entry; more draw a warning."""
_LARGEST_NUMBER = 1_000_000
_SMALLEST_RATE = 0.001


def kind_of(value: object) -> str:
    """Return the kind of a value in TOML or JSON, in words."""
    match value:
        case bool():
            return "a boolean"
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
        case None:
            return "null"
        case _:
            return "a date or a time"


def wrong_kind(value: object, wanted: str, hint: str = "") -> NoReturn:
    """Raise ValueError for a value of the wrong kind; never quotes it."""
    if wanted == "a string" and not hint and not isinstance(value, list | tuple | dict | None):
        hint = "put it in quotes"
    raise ValueError(f"is {kind_of(value)}, not {wanted}" + (f"; {hint}" if hint else ""))


def parse_text(value: object) -> str:
    """Return a string as it is."""
    return value if isinstance(value, str) else wrong_kind(value, "a string")


def parse_duration(value: object) -> float:
    """Return a duration such as ``"1h30m"`` in seconds."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        wrong_kind(value, "a duration", f'add a unit, for example "{_example(_number(value))}s"')
    if not isinstance(value, str):
        wrong_kind(value, 'a duration such as "5m"')
    parts = _DURATION.fullmatch(value) if value else None
    if parts is None:
        if _BARE_NUMBER.fullmatch(value):
            raise InvalidValueError(value, f'has no unit; add one, for example "{_example(value)}s"')
        raise InvalidValueError(
            value,
            'is not a duration such as "30s", "5m" or "1h30m" (whole numbers with ms, s, m, h or d, '
            "the largest unit first, each at most once)",
        )
    milliseconds = sum(
        int(count or 0) * unit for count, unit in zip(parts.groups(), _UNIT_MILLISECONDS.values(), strict=True)
    )
    if milliseconds > _LONGEST_MILLISECONDS:
        raise InvalidValueError(value, "is longer than 36500d")
    return milliseconds / 1000


def parse_interval(value: object) -> float:
    """Return a duration of at least one second, in seconds."""
    seconds = parse_duration(value)
    if seconds < 1:
        raise InvalidValueError(str(value), 'is shorter than the minimum, "1s"')
    return seconds


def parse_timeout(value: object) -> float:
    """Return a duration longer than zero, in seconds."""
    seconds = parse_duration(value)
    if seconds <= 0:
        raise InvalidValueError(str(value), "is not longer than zero")
    return seconds


def format_duration(seconds: float) -> str:
    """Return seconds as a duration that parses to the same value; days are used from 2d upwards."""
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
    if _CANONICAL_SIDS[prefixes[0]].fullmatch(value):  # almost always, a hundred thousand times
        return value
    if is_sid(value, prefixes):
        return canonical_sid(value)
    wanted = " or ".join(
        f"{_article(SID_KINDS[prefix])} ({prefix} followed by 32 hex digits)" for prefix in prefixes
    )
    if value != value.strip():
        raise ValueError(f"has white space around it; {wanted} has none")
    if is_sid(value, SID_KINDS):
        found = _article(SID_KINDS[value[:2].upper()])
        raise InvalidValueError(value, f"is {found}, not {wanted}", harmless=True)
    harmless = value[:2] in prefixes and set(value[2:]) <= _HEX_DIGITS
    raise InvalidValueError(value, f"is not {wanted}", harmless=harmless)


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
    """Return the SID that requests use as user name: an API key's or the account's."""
    return parse_sid(value, "SK", "AC")


def parse_client_id(value: object) -> str:
    """Return the client ID of an OAuth app; never quotes it, as it may be the secret by mistake."""
    text = parse_credential(value)
    if not _CLIENT_ID.fullmatch(text):
        raise ValueError("is not the client ID of an OAuth app (OQ…): only ASCII characters without white space")
    if is_sid(text, ("AC", "SK")):
        raise ValueError("is the SID of an account or API key, not the client ID of an OAuth app (OQ…)")
    return text


def parse_identity(value: object) -> str:
    """Return an entity's identity; never quotes it."""
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
    if "@" in value:
        raise ValueError('looks like an e-mail address; an identity has only letters, digits and "-"')
    raise ValueError('contains a character other than letters, digits and "-"; check the identity')


def parse_account_name(value: object) -> str:
    """Return the name of an account's table."""
    if not isinstance(value, str):
        wrong_kind(value, "a string")
    if _ACCOUNT_NAME.fullmatch(value):
        return value
    problem = 'is not a valid account name (lower-case letters and digits, joined by single "-" or "_")'
    raise InvalidValueError(value, problem)


def parse_name(value: object) -> str:
    """Return the name of a factor or an entity, 1 to 128 characters; never quotes it."""
    if not isinstance(value, str):
        wrong_kind(value, "a string")
    if not value:
        raise ValueError("is empty; a name has 1 to 128 characters")
    if len(value) > _LONGEST_NAME:
        raise ValueError(f"has {len(value)} characters; a name has at most {_LONGEST_NAME}")
    check_printable(value)
    if value in {".", ".."}:
        raise ValueError("consists of dots, which can't be part of a page's address; choose another name")
    return value


def check_printable(value: str) -> None:
    """Raise ValueError for control, line-separator and text-direction characters and lone surrogates."""
    if (found := _UNPRINTABLE.search(value)) is not None:
        raise ValueError(
            f"contains a control or text-direction character (U+{ord(found.group()):04X}, "
            f"character {found.start() + 1}); remove it"
        )


def parse_label_value(value: object) -> str:
    """Return the value of a label; never quotes it.

    The exposition format can escape a line break, but some of its readers fail on one and drop the whole scrape.
    """
    if not isinstance(value, str):
        wrong_kind(value, "a string")
    check_printable(value)
    return value


def parse_label_name(name: str) -> str:
    """Return the name of a label that the user adds."""
    if not _LABEL_NAME.fullmatch(name):
        raise ValueError("is not a valid label name (letters, digits and _, not starting with a digit)")
    if name in RESERVED_LABELS:
        raise ValueError("is a reserved label name; choose another")
    if name.startswith(("__", "exported_")):
        raise ValueError("starts with __ or exported_, which Prometheus reserves; choose another")
    return name


def parse_label_table(value: object) -> dict[str, object]:
    """Return a table; its names and values are parsed later."""
    return value if isinstance(value, dict) else wrong_kind(value, "a table of labels", 'write { name = "value" }')


def without_empty(labels: dict[str, str]) -> dict[str, str]:
    """Return the labels that have a value: to Prometheus, an empty label is a missing one."""
    return {name: text for name, text in labels.items() if text}


def parse_credential(value: object) -> str:
    """Return a secret; never quotes it."""
    if not isinstance(value, str):
        wrong_kind(value, "a string")
    if not value:
        raise ValueError("is empty; enter the secret")
    if value.startswith("\ufeff"):
        raise ValueError("begins with a byte-order mark (U+FEFF); save it without one")
    if value != value.strip():
        raise ValueError("has white space at its beginning or end; remove it")
    if _CONTROL.search(value):
        raise ValueError("contains a line break, tab or other control character; remove it")
    return value


def parse_user_name(value: object) -> str:
    """Return the user name of basic authentication, empty for none; never quotes it."""
    if not isinstance(value, str):
        wrong_kind(value, "a string")
    if value != value.strip() or _CONTROL.search(value):
        raise ValueError("has white space around it, or a control character in it; remove it")
    return value


def parse_path(value: object) -> str:
    """Return a path as text; an empty one means none."""
    if not isinstance(value, str):
        wrong_kind(value, "a path in quotes")
    if _CONTROL.search(value):
        raise ValueError("contains a control character; remove it")
    if value != value.strip():
        raise ValueError("has white space around it; remove it")
    return value


def parse_telemetry_path(value: object) -> str:
    """Return the path of the metrics; it must not hide another page of the exporter."""
    if not isinstance(value, str):
        wrong_kind(value, 'a path such as "/metrics"')
    if not re.fullmatch(r"/[A-Za-z0-9._~/-]*", value):
        problem = 'is not a path such as "/metrics" (a slash, then letters, digits and . _ ~ - /)'
        raise InvalidValueError(value, problem)
    first, *rest = value[1:].removesuffix("/").split("/")
    if not first or "" in rest or not {".", ".."}.isdisjoint((first, *rest)):
        raise InvalidValueError(value, 'is empty, or has a segment "", "." or ".."; choose one such as "/metrics"')
    if first in {"-", "api", "factors", "static"} or (first in {"probe", "config"} and not rest):
        raise InvalidValueError(value, 'is used by another page of the exporter; choose one such as "/metrics"')
    return value


def parse_shard(value: object) -> str:
    """Return a shard: its ordinal or ``auto``, and the number of shards."""
    if not isinstance(value, str):
        wrong_kind(value, 'a shard such as "0/1"')
    parts = re.fullmatch(r"(auto|[0-9]{1,4})/([0-9]{1,4})", value)
    if value == "auto":
        raise InvalidValueError(value, 'lacks the number of shards; write "auto/4" for four', harmless=True)
    if parts is None or int(parts[2]) == 0 or (parts[1] != "auto" and int(parts[1]) >= int(parts[2])):
        raise InvalidValueError(value, 'is not a shard such as "0/4" (ordinal/count, starting at 0) or "auto/4"')
    return value


def parse_list(example: str, value: object) -> list[object]:
    """Return a list; its items are parsed later."""
    return list(value) if isinstance(value, list | tuple) else wrong_kind(value, "a list", f"write {example}")


def parse_family_pattern(value: object) -> str:
    """Return the short name of a per-factor metric, or a pattern of such names."""
    if not isinstance(value, str):
        wrong_kind(value, "a metric's short name in quotes")
    if value.startswith("twilio_verify_"):
        raise InvalidValueError(value, 'is a full metric name; write the short one, such as "verified"')
    if not _FAMILY_PATTERN.fullmatch(value):
        raise InvalidValueError(value, 'is neither a short name such as "verified" nor a pattern')
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
    """Return the boolean that a CSV cell or an environment variable holds: true or false."""
    match text.lower():
        case "true":
            return True
        case "false":
            return False
        case _:
            raise InvalidValueError(text, "is neither true nor false")


def at_least(minimum: int, value: object) -> int:
    """Return a whole number from the minimum to a million."""
    if not isinstance(value, int) or isinstance(value, bool):
        wrong_kind(value, "a whole number", _unquoted(value))
    if not minimum <= value <= _LARGEST_NUMBER:
        raise ValueError(f"{_number(value)} is not between {minimum} and {_LARGEST_NUMBER}")
    return value


def parse_rate(value: object) -> float:
    """Return a number of at least 0.001; as a rate per second, that is about one in 17 minutes."""
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
        raise InvalidValueError(value, f"is not one of {', '.join(words)}")
    return value


def check_choices(chosen: tuple[str, ...]) -> tuple[str, ...]:
    """Return words of a closed list; raises ValueError where there is none, or one is there twice."""
    if not chosen:
        raise ValueError("is empty, so nothing would be watched; list at least one, or remove the key")
    for index, word in enumerate(chosen):
        if word in chosen[:index]:
            raise InvalidValueError(word, "is listed twice; remove one", harmless=True)
    return chosen


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
