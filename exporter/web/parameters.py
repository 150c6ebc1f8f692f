"""The parameters of requests: read and refused here, and described from the same objects."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from aiohttp import web

from exporter.watched import canonical_sid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


FOREIGN = "refused: a page of another site asks for this\n"


def is_foreign(request: web.Request) -> bool:
    """Return whether a page of another site sent this through a person's browser.

    ``Sec-Fetch-Site`` says so, which browsers send to https and loopback alone; elsewhere ``Origin``, or
    ``Referer``, names another host than was asked. Programs that are no browsers send none of them.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site not in ("none", "same-origin")
    told = request.headers.get("Origin") or request.headers.get("Referer")
    if told is None:
        return False
    try:
        return urlsplit(told).netloc.rpartition("@")[2].lower() != request.host.lower()
    except ValueError:
        return True


ACCOUNT_PATTERN = "^[a-z0-9]+([_-][a-z0-9]+)*$"
SERVICE_SID_PATTERN = "^[Vv][Aa][0-9a-fA-F]{32}$"
_NUMBER = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12})?|[0-9](\.[0-9]{1,17})?[eE][+-]?[0-9]{1,3}")
_MOST_DIGITS = 9
_MOST_SECONDS = 1_000_000
_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter: what it means, the JSON Schema of its values, and how its text is read.

    ``read`` raises ValueError with what is wrong and the hint.
    """

    name: str
    meaning: str
    schema: Mapping[str, Any]
    read: Callable[[str], Any] = str
    default: Any = None
    required: bool = False
    place: str = "query"
    example: str = field(default="")


def read_query(request: web.Request, parameters: Iterable[Parameter]) -> dict[str, Any]:
    """Return the value of each parameter in a request's query; raises HTTPBadRequest for what it can't be.

    A parameter that is unknown or given twice is refused too: passed over, it would mislead.
    """
    known = {parameter.name: parameter for parameter in parameters if parameter.place == "query"}
    for name in request.query:
        if name not in known:
            raise refused(_shown(name), f"is not a parameter of {_shown(request.path)}; it has {_listing(known)}")
        if len(request.query.getall(name)) > 1:
            raise refused(name, "is given more than once; give it once")
    return {name: _value(parameter, request.query.get(name)) for name, parameter in known.items()}


def read_header(request: web.Request, parameter: Parameter) -> Any:
    """Return the value of a header; raises HTTPBadRequest for what it can't be."""
    return _value(parameter, request.headers.get(parameter.name))


def refused(name: str, fault: str) -> web.HTTPBadRequest:
    """Return the answer to a parameter that can't be used; it names the parameter and the hint."""
    return web.HTTPBadRequest(text=f"{name}: {fault}\n")


def _value(parameter: Parameter, text: str | None) -> Any:
    if text is None:
        if parameter.required:
            raise refused(parameter.name, f"is missing; give it, as in ?{parameter.name}={parameter.example}")
        return parameter.default
    try:
        return parameter.read(text)
    except ValueError as error:
        raise refused(parameter.name, str(error)) from error


def whole_number(name: str, meaning: str, *, default: int, least: int) -> Parameter:
    """Return a parameter that takes a whole number of at most nine digits."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS) or int(text) < least:
            raise ValueError(f"not a whole number of at least {least}")
        return int(text)

    schema = {"type": "integer", "minimum": least, "maximum": 10**_MOST_DIGITS - 1, "default": default}
    return Parameter(name, meaning, schema, read, default)


def choice(name: str, meaning: str, values: Iterable[str]) -> Parameter:
    """Return a parameter that takes one of a few words."""
    words = [str(value) for value in values]

    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"not one of {', '.join(words)}")
        return text

    return Parameter(name, meaning, {"type": "string", "enum": words}, read)


def text(name: str, meaning: str, *, longest: int, required: bool = False, example: str = "") -> Parameter:
    """Return a parameter that takes a text of 1 to ``longest`` characters."""

    def read(given: str) -> str:
        if not 1 <= len(given) <= longest:
            raise ValueError(f"not a text of 1 to {longest} characters")
        return given

    schema = {"type": "string", "minLength": 1, "maxLength": longest}
    return Parameter(name, meaning, schema, read, required=required, example=example)


def account_name(meaning: str) -> Parameter:
    """Return the parameter that takes the name of an account."""

    def read(given: str) -> str:
        if not re.fullmatch(ACCOUNT_PATTERN, given):
            raise ValueError("not the name of an account: lower-case letters and digits, joined by single - or _")
        return given

    return Parameter("account", meaning, {"type": "string", "pattern": ACCOUNT_PATTERN}, read)


def service_sid(meaning: str) -> Parameter:
    """Return the parameter that takes the SID of a service, upper and lower case alike."""

    def read(given: str) -> str:
        if not re.fullmatch(SERVICE_SID_PATTERN, given):
            raise ValueError("not a Verify Service SID: VA followed by 32 hex digits")
        return canonical_sid(given)

    return Parameter("service_sid", meaning, {"type": "string", "pattern": SERVICE_SID_PATTERN}, read)


def seconds_header(name: str, meaning: str) -> Parameter:
    """Return a header that takes a number of seconds above 0."""

    def read(given: str) -> float:
        seconds = float(given) if _NUMBER.fullmatch(given) else math.nan
        if not 0 < seconds <= _MOST_SECONDS:
            raise ValueError(f"not a number of seconds above 0, and at most {_MOST_SECONDS}")
        return seconds

    schema = {"type": "number", "exclusiveMinimum": 0, "maximum": _MOST_SECONDS}
    return Parameter(name, meaning, schema, read, place="header")


def _shown(name: str) -> str:
    """Return a name from outside, fit for a line."""
    cut = name if len(name) <= _SHOWN else name[:_SHOWN] + "…"
    return "".join(character if character.isprintable() else "�" for character in cut)


def _listing(known: Mapping[str, Parameter]) -> str:
    return ", ".join(known) or "none"
