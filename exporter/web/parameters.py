"""The parameters of requests: one object per parameter says how it is read, validated and described."""

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


CROSS_SITE = "refused: cross-site request\n"


def is_cross_site(request: web.Request) -> bool:
    """Return whether a page of another site made a browser send this request.

    Browsers report it in ``Sec-Fetch-Site``, but only to https and loopback addresses; elsewhere ``Origin`` or
    ``Referer`` names a host other than the one in ``Host``. Clients that aren't browsers send none of these.
    """
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site not in ("none", "same-origin")
    source = request.headers.get("Origin") or request.headers.get("Referer")
    if source is None:
        return False
    try:
        return urlsplit(source).netloc.rpartition("@")[2].lower() != request.host.lower()
    except ValueError:
        return True


ACCOUNT_PATTERN = "^[a-z0-9]+([_-][a-z0-9]+)*$"
SERVICE_SID_PATTERN = "^[Vv][Aa][0-9a-fA-F]{32}$"
_NUMBER = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12})?|[0-9](\.[0-9]{1,17})?[eE][+-]?[0-9]{1,3}")
_MOST_DIGITS = 9
_MOST_SECONDS = 1_000_000
_SHOWN = 60


class ParameterError(ValueError):
    """A value that a parameter can't have; the message names the parameter and what it must be."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter: its meaning, the JSON Schema of its values, and the function that reads its text.

    ``read`` raises ValueError with what the value must be.
    """

    name: str
    meaning: str
    schema: Mapping[str, Any]
    read: Callable[[str], Any] = str
    default: Any = None
    required: bool = False
    place: str = "query"
    example: str = field(default="")


def read_values(parameters: Iterable[Parameter], given: Mapping[str, str]) -> dict[str, Any]:
    """Return the value of each parameter by name, its default where it isn't given; raises ParameterError."""
    return {parameter.name: _value(parameter, given.get(parameter.name)) for parameter in parameters}


def read_query(request: web.Request, parameters: Iterable[Parameter]) -> dict[str, Any]:
    """Return the value of each parameter in a request's query; raises HTTPBadRequest for an invalid one.

    Unknown and repeated parameters are refused too: ignoring them would give a misleading answer.
    """
    known = {parameter.name: parameter for parameter in parameters if parameter.place == "query"}
    for name in request.query:
        if name not in known:
            accepted = ", ".join(known) or "none"
            raise _refused(f"{shown(name)}: unknown parameter; {shown(request.path)} accepts {accepted}")
        if len(request.query.getall(name)) > 1:
            raise _refused(f"{name}: given more than once")
    try:
        return read_values(known.values(), request.query)
    except ParameterError as error:
        raise _refused(str(error)) from error


def read_header(request: web.Request, parameter: Parameter) -> Any:
    """Return the value of a header; raises HTTPBadRequest for an invalid one."""
    try:
        return _value(parameter, request.headers.get(parameter.name))
    except ParameterError as error:
        raise _refused(str(error)) from error


def _refused(message: str) -> web.HTTPBadRequest:
    return web.HTTPBadRequest(text=f"{message}\n")


def _value(parameter: Parameter, text: str | None) -> Any:
    if text is None:
        if parameter.required:
            raise ParameterError(f"{parameter.name}: required, for example ?{parameter.name}={parameter.example}")
        return parameter.default
    try:
        return parameter.read(text)
    except ValueError as error:
        raise ParameterError(f"{parameter.name}: {error}") from error


def whole_number(name: str, meaning: str, *, default: int, least: int) -> Parameter:
    """Return a parameter that takes a whole number of at most nine digits."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS) or int(text) < least:
            raise ValueError(f"must be a whole number of at least {least}")
        return int(text)

    schema = {"type": "integer", "minimum": least, "maximum": 10**_MOST_DIGITS - 1, "default": default}
    return Parameter(name, meaning, schema, read, default)


def choice(name: str, meaning: str, values: Iterable[str]) -> Parameter:
    """Return a parameter that takes one of a closed list of words."""
    words = [str(value) for value in values]

    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return text

    return Parameter(name, meaning, {"type": "string", "enum": words}, read)


def text(name: str, meaning: str, *, longest: int, required: bool = False, example: str = "") -> Parameter:
    """Return a parameter that takes 1 to ``longest`` characters."""

    def read(given: str) -> str:
        if not 1 <= len(given) <= longest:
            raise ValueError(f"must have 1 to {longest} characters")
        return given

    schema = {"type": "string", "minLength": 1, "maxLength": longest}
    return Parameter(name, meaning, schema, read, required=required, example=example)


def account_name(meaning: str) -> Parameter:
    """Return a parameter that takes the name of an account."""

    def read(given: str) -> str:
        if not re.fullmatch(ACCOUNT_PATTERN, given):
            raise ValueError("must be an account name: lower-case letters and digits, joined by single - or _")
        return given

    return Parameter("account", meaning, {"type": "string", "pattern": ACCOUNT_PATTERN}, read)


def service_sid(meaning: str) -> Parameter:
    """Return a parameter that takes the SID of a service, in upper or lower case."""

    def read(given: str) -> str:
        if not re.fullmatch(SERVICE_SID_PATTERN, given):
            raise ValueError("must be a Verify Service SID: VA followed by 32 hex digits")
        return canonical_sid(given)

    return Parameter("service_sid", meaning, {"type": "string", "pattern": SERVICE_SID_PATTERN}, read)


def seconds_header(name: str, meaning: str) -> Parameter:
    """Return a header that takes a number of seconds above 0."""

    def read(given: str) -> float:
        seconds = float(given) if _NUMBER.fullmatch(given) else math.nan
        if not 0 < seconds <= _MOST_SECONDS:
            raise ValueError(f"must be a number of seconds greater than 0 and at most {_MOST_SECONDS}")
        return seconds

    schema = {"type": "number", "exclusiveMinimum": 0, "maximum": _MOST_SECONDS}
    return Parameter(name, meaning, schema, read, place="header")


def shown(name: str) -> str:
    """Return a name from a request, shortened and printable, for an error message of one line."""
    cut = name if len(name) <= _SHOWN else name[:_SHOWN] + "…"
    return "".join(character if character.isprintable() else "�" for character in cut)
