"""The fault matrix as data: what goes wrong, and what must become of it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from exporter.simulator import Endpoint, Fault, FaultKind
from exporter.verify.outcome import TOKEN_ENDPOINT, Operation, Reason, Status

if TYPE_CHECKING:
    from collections.abc import Iterator

ATTEMPTS = 2  # polling.max_attempts of the run

CLOSED = "the connection failed: closed before the response was complete"
RESET = "the connection failed: connection reset by peer"
CUT_SHORT = "the connection failed: the body is incomplete"
NOT_HTTP = "the connection failed: the response is not HTTP"
LATE = "no complete answer in time"


class Outage(StrEnum):
    """An outage of a whole server."""

    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    SILENT = "silent"
    NO_NAME = "no_name"
    PLAIN = "plain"
    EXPIRED = "expired"
    SELF_SIGNED = "self_signed"
    WRONG_HOST = "wrong_host"
    ROTATED = "rotated"


@dataclass(frozen=True, slots=True)
class Row:
    """One way to fail: its cause, and what metrics and log must report.

    ``result`` is the reason of the failure, or the status of a definite answer; ``code`` the label of
    the request counter; ``detail`` the words of the log line, several apart by ``|`` where the socket decides.
    ``paused`` says that the account pauses, and ``pause_seconds`` for how long, where a 429 states it.
    ``alone`` says that others of the account are answered, ``others`` how many of them: a ``Date`` is judged only
    after some responses. ``service_exists`` is what Fetch Service answers after a 404, ``None`` if its answer says
    nothing about the service. With ``token`` it happens to the requests for access tokens of the account's OAuth
    app, which ``code`` and ``attempts`` are about then; nothing is sent to the API.
    """

    name: str
    made_by: Fault | Outage
    result: Reason | Status
    code: str
    detail: str = ""
    attempts: int = 1
    paused: bool = False
    pause_seconds: float | None = None
    alone: bool = False
    others: int = 0
    service_exists: bool | None = None
    token: bool = False

    @property
    def operation(self) -> Operation:
        """The operation of the requests that fail."""
        return Operation.TOKEN if self.token else Operation.FETCH

    @property
    def service_code(self) -> str:
        """The HTTP status of Fetch Service after a 404."""
        return "200" if self.service_exists else "404"

    @property
    def names_of_others(self) -> list[str]:
        """The names of the account's other factors."""
        return [f"{self.account}-other{number or ''}" for number in range(self.others or int(self.alone))]

    @property
    def account(self) -> str:
        """The name of the account in which it happens: one a row, so that nothing is mixed."""
        return "".join(c if c.isalnum() else "-" for c in self.name.lower()).strip("-").replace("--", "-")


def _at_the_connection() -> Iterator[Row]:
    yield Row(
        "connection refused",
        Outage.REFUSED,
        Reason.CONNECT,
        "none",
        "the connection failed: connection refused",
        ATTEMPTS,
    )
    yield Row("host unreachable (connecting hangs)", Outage.UNREACHABLE, Reason.TIMEOUT, "none", LATE, ATTEMPTS)
    yield Row(
        "name not resolved",
        Outage.NO_NAME,
        Reason.DNS,
        "none",
        "the host name could not be resolved: name or service not known",
        ATTEMPTS,
    )
    yield Row("TLS handshake stalls", Outage.SILENT, Reason.TIMEOUT, "none", LATE, ATTEMPTS)
    yield Row(
        "no TLS where TLS is expected",
        Outage.PLAIN,
        Reason.TLS,
        "none",
        "the TLS handshake failed: record layer failure|the TLS handshake failed: wrong version number",
        ATTEMPTS,
    )
    yield Row(
        "certificate expired",
        Outage.EXPIRED,
        Reason.TLS,
        "none",
        "the TLS handshake failed: certificate has expired",
        ATTEMPTS,
    )
    yield Row(
        "certificate self-signed",
        Outage.SELF_SIGNED,
        Reason.TLS,
        "none",
        "the TLS handshake failed: self-signed certificate",
        ATTEMPTS,
    )
    yield Row(
        "certificate for another host",
        Outage.WRONG_HOST,
        Reason.TLS,
        "none",
        "the TLS handshake failed: Hostname mismatch, certificate is not valid for 'localhost'.",
        ATTEMPTS,
    )
    for name, kind, reason, detail in (
        ("closed before the headers", FaultKind.CLOSE_BEFORE_HEADERS, Reason.CONNECT, CLOSED),
        ("reset before the headers", FaultKind.RESET_BEFORE_HEADERS, Reason.CONNECT, f"{RESET}|{CLOSED}"),
        ("reset inside the headers", FaultKind.RESET_IN_HEADERS, Reason.CONNECT, f"{RESET}|{CLOSED}"),
        ("closed inside the body", FaultKind.CLOSE_IN_BODY, Reason.CONNECT, CUT_SHORT),
        ("reset inside the body", FaultKind.RESET_IN_BODY, Reason.CONNECT, f"{RESET}|{CUT_SHORT}"),
        ("stalls before the headers", FaultKind.STALL_BEFORE_HEADERS, Reason.TIMEOUT, LATE),
        ("stalls inside the headers", FaultKind.STALL_IN_HEADERS, Reason.TIMEOUT, LATE),
        ("stalls inside the body", FaultKind.STALL_IN_BODY, Reason.TIMEOUT, LATE),
        ("more bytes than announced", FaultKind.EXTRA_BODY, Reason.CONNECT, NOT_HTTP),
        ("protocol garbage", FaultKind.GARBAGE, Reason.CONNECT, NOT_HTTP),
    ):
        yield Row(name, Fault(kind), reason, "none", detail, ATTEMPTS)
    yield Row("a byte at a time", Fault(FaultKind.DRIBBLE, seconds=0.05), Reason.TIMEOUT, "none", LATE, ATTEMPTS)


def _bodies() -> Iterator[Row]:
    not_json = "HTTP 200, but the body is not JSON"
    no_object = "HTTP 200, but the body is not a JSON object"
    no_status = "HTTP 200, but no status that this version knows"

    def body(name: str, text: str, detail: str, reason: Reason = Reason.DECODE) -> Row:
        attempts = ATTEMPTS if reason is Reason.DECODE else 1
        return Row(name, Fault(FaultKind.BODY, body=text), reason, "200", detail, attempts)

    yield Row("a page of HTML", Fault(FaultKind.HTML), Reason.DECODE, "200", not_json, ATTEMPTS)
    yield Row("bad JSON", Fault(FaultKind.BAD_JSON), Reason.DECODE, "200", not_json, ATTEMPTS)
    yield body("no body", "", not_json)
    yield body("NUL bytes", "\x00" * 40, not_json)
    yield body("invalid UTF-8", '{"status": "\xff\xfe"}', not_json)
    yield body("JSON nested 100,000 deep", "[" * 100_000, not_json)
    yield body(
        "a key twice",
        '{"status": "verified", "status": "unverified"}',
        "HTTP 200, but a key occurs twice in the body",
    )
    yield body("a JSON list", "[]", no_object)
    yield body("a JSON string", '"verified"', no_object)
    yield Row(
        "more than 1 MiB",
        Fault(FaultKind.HUGE_BODY),
        Reason.DECODE,
        "200",
        "HTTP 200, but the body is larger than 1048576 bytes",
        ATTEMPTS,
    )
    yield Row(
        "a gzip bomb",
        Fault(FaultKind.GZIP_BOMB),
        Reason.DECODE,
        "200",
        "HTTP 200, but the body is larger than 1048576 bytes",
        ATTEMPTS,
    )
    yield Row(
        "bad gzip",
        Fault(FaultKind.BAD_GZIP),
        Reason.DECODE,
        "200",
        "HTTP 200, but the body can't be decompressed",
        ATTEMPTS,
    )
    yield Row(
        "another factor's body",
        Fault(FaultKind.OTHER_FACTOR),
        Reason.DECODE,
        "200",
        "HTTP 200, but the body is another factor's",
        ATTEMPTS,
    )
    yield body("everything missing", "{}", no_status, Reason.UNKNOWN_STATUS)
    everything = ("sid", "status", "date_created", "date_updated", "factor_type", "entity_sid", "metadata")
    yield body("everything null", json.dumps(dict.fromkeys(everything)), no_status, Reason.UNKNOWN_STATUS)
    numbers = json.dumps(dict.fromkeys(everything, 7))
    yield body("numbers for strings", numbers, no_status, Reason.UNKNOWN_STATUS)
    yield Row("an unknown status", Fault(FaultKind.STATUS_UNKNOWN), Reason.UNKNOWN_STATUS, "200", no_status)
    yield Row("a missing status", Fault(FaultKind.STATUS_MISSING), Reason.UNKNOWN_STATUS, "200", no_status)


def _http() -> Iterator[Row]:
    age = Fault(FaultKind.AGE, seconds=720_000)  # twice the interval of these factors
    yield Row("200 from a cache (Age)", age, Reason.DECODE, "200", "HTTP 200, but from a cache (Age)", ATTEMPTS)
    date = Fault(FaultKind.OLD_DATE, seconds=720_000)  # twice the interval of these factors
    yield Row(
        "200 from a cache (old Date)",
        date,
        Reason.DECODE,
        "200",
        "HTTP 200, but from a cache (Date)",
        ATTEMPTS,
        others=5,
    )
    yield Row("204", Fault(FaultKind.EMPTY), Reason.DECODE, "204", "HTTP 204", ATTEMPTS)
    yield Row("201 with a good body", Fault(status=201), Reason.DECODE, "201", "HTTP 201", ATTEMPTS)
    yield Row(
        "307 to another path",
        Fault(FaultKind.REDIRECT, location="/elsewhere"),
        Reason.BAD_REQUEST,
        "307",
        "HTTP 307, Twilio error 20307, a redirect to localhost",
    )
    yield Row(
        "302 elsewhere",
        Fault(FaultKind.REDIRECT, status=302, location="https://elsewhere.invalid/"),
        Reason.BAD_REQUEST,
        "302",
        "HTTP 302, Twilio error 20302, a redirect to elsewhere.invalid",
    )
    yield Row(
        "401, the password was rotated",
        Outage.ROTATED,
        Reason.AUTH,
        "401",
        "HTTP 401, Twilio error 20003",
        paused=True,
    )
    yield Row(
        "401 for one factor alone",
        Fault(status=401),
        Reason.AUTH,
        "401",
        "HTTP 401, Twilio error 20003",
        alone=True,
    )
    yield Row(
        "403 for one factor alone",
        Fault(status=403),
        Reason.FORBIDDEN,
        "403",
        "HTTP 403, Twilio error 20403",
        alone=True,
    )
    yield Row(
        "403 for the account",
        Fault(status=403),
        Reason.FORBIDDEN,
        "403",
        "HTTP 403, Twilio error 20403",
        paused=True,
    )
    yield Row(
        "404 for the factor and its service: the service was deleted",
        Fault(status=404),
        Status.NOT_FOUND,
        "404",
        service_exists=False,
    )
    yield Row(
        "404 for the factor alone: the factor was deleted",
        Fault(status=404, operation=Endpoint.FETCH),
        Status.NOT_FOUND,
        "404",
        service_exists=True,
    )


def _in_each_shape(status: int, code: int) -> Iterator[tuple[str, Fault]]:
    """Yield an error of Twilio's in its three shapes: its name, and the fault that answers so."""
    shapes = {
        "classic": {"code": code, "message": "m", "more_info": "https://…", "status": status},
        "RFC 9457": {"type": "t", "title": "t", "status": status, "code": code, "detail": "d"},
        "API standards": {"code": code, "message": "m", "httpStatusCode": status, "userError": True},
    }
    for shape, document in shapes.items():
        yield (
            f"{status} with code {code}, {shape}",
            Fault(FaultKind.BODY, status=status, body=json.dumps(document)),
        )


def _shapes() -> Iterator[Row]:
    """Each error that Twilio documents for such a call, in its three shapes and in none."""
    documented = (
        (400, 60306, Reason.BAD_REQUEST, 1), (400, 60363, Reason.BAD_REQUEST, 1), (401, 20003, Reason.AUTH, 1),
        (403, 20006, Reason.FORBIDDEN, 1), (403, 20403, Reason.FORBIDDEN, 1), (404, 20404, Status.NOT_FOUND, 1),
        (404, 60390, Status.NOT_FOUND, 1), (405, 20004, Reason.BAD_REQUEST, 1),
        (500, 20500, Reason.SERVER_ERROR, ATTEMPTS), (502, 20502, Reason.SERVER_ERROR, ATTEMPTS),
        (503, 20503, Reason.SERVER_ERROR, ATTEMPTS),
    )  # fmt: skip
    for status, code, result, attempts in documented:
        detail = "" if isinstance(result, Status) else f"HTTP {status}, Twilio error {code}"
        alone = isinstance(result, Reason) and result.refused
        for name, fault in _in_each_shape(status, code):
            gone = False if code == 20404 else None
            yield Row(name, fault, result, str(status), detail, attempts, alone=alone, service_exists=gone)
    pages = (
        (418, Reason.BAD_REQUEST, 1), (500, Reason.SERVER_ERROR, ATTEMPTS), (503, Reason.SERVER_ERROR, ATTEMPTS),
        (599, Reason.SERVER_ERROR, ATTEMPTS),
    )  # fmt: skip
    for status, reason, attempts in pages:
        html = Fault(FaultKind.HTML, status=status)
        yield Row(f"{status} with a page of HTML", html, reason, str(status), f"HTTP {status}", attempts)
    yield from _by_intermediaries()
    yield Row(
        "500 with a code that is no number",
        Fault(FaultKind.BODY, status=500, body='{"code": "20500"}'),
        Reason.SERVER_ERROR,
        "500",
        "HTTP 500",
        ATTEMPTS,
    )
    yield Row(
        "500 with a body of 2 MiB",
        Fault(FaultKind.BODY, status=500, body="x" * (2 << 20)),
        Reason.SERVER_ERROR,
        "500",
        "HTTP 500",
        ATTEMPTS,
    )


def _by_intermediaries() -> Iterator[Row]:
    """Each status that counts only as a Twilio error, with the bodies of proxies and gateways."""
    for status in (401, 403, 404):
        detail = f"HTTP {status}, but the body is not a Twilio error"
        for body, fault in (
            ("a page of HTML", Fault(FaultKind.HTML, status=status)),
            ("no body", Fault(FaultKind.EMPTY, status=status)),
            ("XML", Fault(FaultKind.BODY, status=status, body="<Error><Code>NoSuchKey</Code></Error>")),
            ("other JSON", Fault(FaultKind.BODY, status=status, body=json.dumps({"code": status, "message": "m"}))),
            ("a list in JSON", Fault(FaultKind.BODY, status=status, body="[]")),
        ):
            yield Row(f"{status} with {body}", fault, Reason.DECODE, str(status), detail, ATTEMPTS)
    for name, fault in _in_each_shape(404, 60306):
        yield Row(name, fault, Reason.BAD_REQUEST, "404", "HTTP 404, Twilio error 60306")


def _retry_after() -> Iterator[Row]:
    def row(name: str, value: str | float | None, pause: float | None, *, date: bool = False) -> Row:
        fault = Fault(status=429, retry_after=value, retry_after_as_date=date)
        detail = "HTTP 429, Twilio error 20429"
        return Row(f"429, Retry-After {name}", fault, Reason.RATE_LIMITED, "429", detail, 1, True, pause)

    yield row("7", 7, 7)
    yield row("0", 0, 1)
    yield row("negative", -30, 1)
    yield row("a fraction", "2.5", 2.5)
    yield row("of ten years", 315_360_000, 300)
    yield row("a date 20 s ahead", 20, 20, date=True)
    yield row("a date in the past", -3600, 1, date=True)
    yield row("a date ten years ahead", 315_360_000, 300, date=True)
    yield row("in words", "soon", 1)
    yield row("empty", "", 1)
    yield row("missing", None, 1)
    for code in (20429, 25109):
        for name, fault in _in_each_shape(429, code):
            detail = f"HTTP 429, Twilio error {code}"
            yield Row(name, fault, Reason.RATE_LIMITED, "429", detail, 1, True, 1)


def _token_row(
    name: str,
    made_by: Fault | Outage,
    reason: Reason,
    code: str,
    detail: str,
    attempts: int = ATTEMPTS,
    *,
    paused: bool = False,
) -> Row:
    detail = "|".join(f"{TOKEN_ENDPOINT}{words}" for words in detail.split("|"))
    if isinstance(made_by, Fault):
        made_by = dataclasses.replace(made_by, operation=Endpoint.TOKEN)
    return Row(f"{TOKEN_ENDPOINT}{name}", made_by, reason, code, detail, attempts, paused, token=True)


def _token_endpoint() -> Iterator[Row]:
    """Each kind of fault of the token endpoint of an OAuth app."""
    for row in _at_the_connection():
        assert isinstance(row.result, Reason)
        yield _token_row(row.name, row.made_by, row.result, row.code, row.detail)
    yield from _without_token()
    yield _token_row("204", Fault(FaultKind.EMPTY), Reason.DECODE, "204", "HTTP 204")
    yield _token_row(
        "302 elsewhere",
        Fault(FaultKind.REDIRECT, status=302, location="https://elsewhere.invalid/"),
        Reason.BAD_REQUEST,
        "302",
        "HTTP 302, Twilio error 20302, a redirect to elsewhere.invalid",
        1,
    )
    yield _token_row(
        "401, the client secret was rotated",
        Outage.ROTATED,
        Reason.AUTH,
        "401",
        "HTTP 401, Twilio error 322402",
        1,
        paused=True,
    )
    for status, error, reason in (
        (400, "invalid_client", Reason.AUTH),
        (401, "invalid_client", Reason.AUTH),
        (403, "access_denied", Reason.AUTH),
        (400, "invalid_request", Reason.BAD_REQUEST),
    ):
        body = Fault(FaultKind.BODY, status=status, body=json.dumps({"error": error}))
        detail = f"HTTP {status}, OAuth error {error}"
        yield _token_row(f"{status} with {error}", body, reason, str(status), detail, 1, paused=reason.refused)
    for status in (401, 403):
        html = Fault(FaultKind.HTML, status=status)
        detail = f"HTTP {status}, but the body is neither an OAuth nor a Twilio error"
        yield _token_row(f"{status} with a page of HTML", html, Reason.DECODE, str(status), detail)
    for status, reason, attempts in (
        (404, Reason.BAD_REQUEST, 1),
        (429, Reason.RATE_LIMITED, ATTEMPTS),
        (500, Reason.SERVER_ERROR, ATTEMPTS),
        (503, Reason.SERVER_ERROR, ATTEMPTS),
    ):
        html = Fault(FaultKind.HTML, status=status)
        yield _token_row(f"{status} with a page of HTML", html, reason, str(status), f"HTTP {status}", attempts)


def _without_token() -> Iterator[Row]:
    """Responses with the status 200 that have no access token."""
    no_token = "HTTP 200, but the body has no valid access token"
    for name, kind, detail in (
        ("a page of HTML", FaultKind.HTML, no_token),
        ("bad JSON", FaultKind.BAD_JSON, no_token),
        ("a JSON list", FaultKind.JSON_LIST, no_token),
        ("more than 1 MiB", FaultKind.HUGE_BODY, "HTTP 200, but the body is larger than 1048576 bytes"),
        ("a gzip bomb", FaultKind.GZIP_BOMB, "HTTP 200, but the body is larger than 1048576 bytes"),
        ("bad gzip", FaultKind.BAD_GZIP, "HTTP 200, but the body can't be decompressed"),
    ):
        yield _token_row(name, Fault(kind), Reason.DECODE, "200", detail)
    for name, document, detail in (
        ("no access token", {"token_type": "Bearer", "expires_in": 3600}, no_token),
        ("an access token with a line break", {"access_token": "a\r\nb: c", "token_type": "Bearer"}, no_token),
        (
            "an access token of another type",
            {"access_token": "a", "token_type": "mac"},
            "HTTP 200, but the access token is not a bearer token",
        ),
    ):
        yield _token_row(name, Fault(FaultKind.BODY, body=json.dumps(document)), Reason.DECODE, "200", detail)


ROWS = (*_at_the_connection(), *_bodies(), *_http(), *_shapes(), *_token_endpoint())
RATE_LIMITS = tuple(_retry_after())
