"""Parses faults from the command line and from JSON objects."""

from __future__ import annotations

import dataclasses
from difflib import get_close_matches
from typing import TYPE_CHECKING

from exporter.simulator.faults import Fault, FaultError, FaultKind

if TYPE_CHECKING:
    from collections.abc import Mapping

_INTEGERS = ("status", "times")
_NUMBERS = ("share", "seconds")
_FIELDS = tuple(field.name for field in dataclasses.fields(Fault))
_TEXTS = tuple(
    name for name in _FIELDS if name not in (*_INTEGERS, *_NUMBERS, "retry_after", "retry_after_as_date")
)


def fault_from_mapping(values: Mapping[str, object]) -> Fault:
    """Return the fault that a JSON object describes; null fields are ignored.

    Raises ``FaultError``, which names the field and what it accepts.
    """
    for name in values:
        if name not in _FIELDS:
            raise FaultError(name, f"unknown field{_nearest(name, _FIELDS)}; accepted fields: {', '.join(_FIELDS)}")
    given = {name: value for name, value in values.items() if value is not None}
    if "kind" not in given:
        raise FaultError("kind", f"missing; must be one of {', '.join(FaultKind)}")
    for name, value in given.items():
        if name in _INTEGERS and not (isinstance(value, int) and not isinstance(value, bool)):
            raise FaultError(name, f"{value!r} is not a whole number")
        if name in _NUMBERS and not _is_number(value):
            raise FaultError(name, f"{value!r} is not a number")
        if name in _TEXTS and not isinstance(value, str):
            raise FaultError(name, f"{value!r} is not a string")
        if name == "retry_after" and not (isinstance(value, str) or _is_number(value)):
            raise FaultError(name, f"{value!r} is neither a number nor a string")
        if name == "retry_after_as_date" and not isinstance(value, bool):
            raise FaultError(name, f"{value!r} is neither true nor false")
    return Fault(**given)  # type: ignore[arg-type]  # checked above, field by field


def fault_from_text(text: str) -> Fault:
    """Return the fault written as ``KIND[:key=value,…]``, as in ``status:status=429,retry_after=5``.

    Raises ``FaultError``, which names the field and what it accepts.
    """
    kind, _, rest = text.partition(":")
    if kind not in list(FaultKind):
        raise FaultError(
            "kind",
            f'unknown fault kind "{kind}"{_nearest(kind, tuple(FaultKind))}; known kinds: {", ".join(FaultKind)}',
        )
    values: dict[str, object] = {"kind": kind}
    for part in filter(None, rest.split(",")):
        name, separator, value = part.partition("=")
        if not separator:
            raise FaultError(name, "missing value; write key=value,key=value")
        values[name] = _typed(name, value)
    return fault_from_mapping(values)


def as_document(fault: Fault) -> dict[str, object]:
    """Return a fault as a JSON object without its unset fields."""
    return {name: value for name, value in dataclasses.asdict(fault).items() if value is not None}


def _typed(name: str, text: str) -> object:
    """Convert a field's text to its type; text that can't be converted stays text, and is refused later."""
    try:
        if name in _INTEGERS:
            return int(text)
        if name in _NUMBERS:
            return float(text)
        if name == "retry_after":
            return float(text) if "." in text else int(text)
    except ValueError:
        return text
    if name == "retry_after_as_date":
        return {"true": True, "false": False}.get(text.lower(), text)
    return text


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _nearest(name: str, known: tuple[str, ...]) -> str:
    near = get_close_matches(name, known, n=1)
    return f' (did you mean "{near[0]}"?)' if near else ""
