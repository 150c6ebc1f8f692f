"""Responses as values, and Twilio's error bodies."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus

JSON = "application/json"

# HTTP status → (Twilio code, message). Source: https://www.twilio.com/docs/api/errors
_ERRORS = {
    400: (60306, "Invalid Request"),
    401: (20003, "Authenticate"),
    403: (20403, "Forbidden"),
    404: (20404, "The requested resource was not found"),
    405: (20004, "Method not allowed"),
    429: (20429, "Too Many Requests"),
    500: (20500, "Internal Server Error"),
    503: (20503, "Service Unavailable"),
}


@dataclass(frozen=True, slots=True)
class SimulatedResponse:
    """A complete response before it is sent."""

    status: int
    body: bytes = b""
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


def encoded(document: object) -> bytes:
    """Return a value as compact ASCII JSON; escapes represent even what UTF-8 can't encode."""
    return json.dumps(document, separators=(",", ":")).encode()


def json_answer(document: object, status: int = 200) -> SimulatedResponse:
    """Return a value as a JSON response."""
    return SimulatedResponse(status, encoded(document))


def error(
    status: int,
    code: int | None = None,
    message: str | None = None,
    headers: tuple[tuple[str, str], ...] = (),
) -> SimulatedResponse:
    """Return Twilio's classic error body: code, message, more_info, status.

    Code and message default to those documented for the status.
    Source: https://www.twilio.com/docs/usage/twilios-response
    """
    usual_code, usual_message = _ERRORS.get(status, (20000 + status, _phrase(status)))
    code = usual_code if code is None else code
    document = {
        "code": code,
        "message": usual_message if message is None else message,
        "more_info": f"https://www.twilio.com/docs/errors/{code}",
        "status": status,
    }
    return SimulatedResponse(status, encoded(document), headers=headers)


def not_found(path: str) -> SimulatedResponse:
    """Return the 404 for a path; its message repeats the path without the version."""
    return error(404, message=f"The requested resource {path.removeprefix('/v2')} was not found")


def unauthorized() -> SimulatedResponse:
    """Return the 401 for missing, wrong or rotated credentials."""
    return error(401, headers=(("WWW-Authenticate", 'Basic realm="Twilio API"'),))


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
