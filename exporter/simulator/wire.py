"""What each kind of fault does: change the response, or act on the connection."""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import dataclass, replace
from email.utils import formatdate
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING

from exporter.simulator.answers import SimulatedResponse, encoded, error
from exporter.simulator.faults import Fault, FaultKind
from exporter.simulator.sids import canonical

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HUGE_BYTES = 2 * 1024 * 1024
_CACHED_SECONDS = 3600.0
BOMB_BYTES = 64 * 1024 * 1024
_HTML = b"<!DOCTYPE html>\n<html><head><title>%d %s</title></head><body><h1>%s</h1></body></html>\n"
_GARBAGE = b"SSH-2.0-OpenSSH_9.6\r\n\x00\x01\x02 this is not HTTP\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Send:
    """Write bytes."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Stall:
    """Wait this many seconds, or with ``None`` until the client or the simulator closes the connection."""

    seconds: float | None


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection in order (FIN), after the bytes written."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Break the connection (RST)."""


Act = Send | Stall | Close | Reset

BREAKING = frozenset(
    {
        FaultKind.CLOSE_BEFORE_HEADERS,
        FaultKind.RESET_BEFORE_HEADERS,
        FaultKind.RESET_IN_HEADERS,
        FaultKind.CLOSE_IN_BODY,
        FaultKind.RESET_IN_BODY,
        FaultKind.STALL_BEFORE_HEADERS,
        FaultKind.STALL_IN_HEADERS,
        FaultKind.STALL_IN_BODY,
        FaultKind.DRIBBLE,
        FaultKind.GARBAGE,
        FaultKind.EXTRA_BODY,
    }
)


# Those of BREAKING that send a complete response nevertheless.
WHOLE_IN_THE_END = frozenset({FaultKind.DRIBBLE, FaultKind.EXTRA_BODY})


def altered(fault: Fault, answer: SimulatedResponse, *, url: str, now: float) -> SimulatedResponse:
    """Return the normal response as changed by a fault; ``url`` is the absolute URL of the request.

    Faults that concern only the body leave error responses (401, 404, …) as they are; kinds in ``BREAKING`` leave
    every response as it is.
    """
    match fault.kind:
        case FaultKind.AGE | FaultKind.OLD_DATE:
            return _cached(fault, answer, now)
        case FaultKind.STATUS:
            return _other_status(fault, answer, now)
        case FaultKind.HTML:
            status = fault.status_or_default
            phrase = _phrase(status).encode()
            return SimulatedResponse(status, _HTML % (status, phrase, phrase), "text/html; charset=utf-8")
        case FaultKind.REDIRECT:
            location = url if fault.location is None else fault.location
            return error(fault.status_or_default, headers=(("Location", location),))
        case FaultKind.EMPTY:
            return SimulatedResponse(fault.status_or_default)
        case FaultKind.BODY:
            return SimulatedResponse(fault.status_or_default, (fault.body or "").encode("latin-1"))
        case _ if answer.status != 200:
            return answer
        case _:
            return _other_body(fault, answer)


def _cached(fault: Fault, answer: SimulatedResponse, now: float) -> SimulatedResponse:
    seconds = _CACHED_SECONDS if fault.seconds is None else fault.seconds
    header = ("Age", f"{seconds:.0f}")
    if fault.kind is FaultKind.OLD_DATE:
        header = ("Date", formatdate(now - seconds, usegmt=True))
    return replace(answer, headers=(*answer.headers, header))


def _other_status(fault: Fault, answer: SimulatedResponse, now: float) -> SimulatedResponse:
    status = fault.status_or_default
    headers: tuple[tuple[str, str], ...] = ()
    if isinstance(fault.retry_after, int | float) and fault.retry_after_as_date:
        headers = (("Retry-After", formatdate(now + fault.retry_after, usegmt=True)),)
    elif fault.retry_after is not None:
        headers = (("Retry-After", str(fault.retry_after)),)
    if status in (204, 205, 304):
        return SimulatedResponse(status, headers=headers)
    if status < 300:
        return answer if answer.status != 200 else replace(answer, status=status, headers=headers)
    return error(status, headers=headers)


def _other_body(fault: Fault, answer: SimulatedResponse) -> SimulatedResponse:
    match fault.kind:
        case FaultKind.BAD_JSON:
            return replace(answer, body=answer.body[:-1] + b",}")
        case FaultKind.JSON_LIST:
            return replace(answer, body=b"[%b]" % answer.body)
        case FaultKind.JSON_STRING:
            return replace(answer, body=encoded("verified"))
        case FaultKind.GZIP:
            return _gzipped(answer, gzip.compress(answer.body, mtime=0))
        case FaultKind.GZIP_BOMB:
            return _gzipped(answer, _bomb(answer.body))
        case FaultKind.BAD_GZIP:
            whole = gzip.compress(answer.body, mtime=0)  # a valid header, then a block of an invalid type
            return _gzipped(answer, whole[:10] + b"\xff" + whole[11:])
        case kind if kind in _CHANGES:
            return _changed_factors(answer, _CHANGES[kind])
        case _:
            return answer


def acts(fault: Fault, head: bytes, body: bytes) -> Iterator[Act]:
    """Return what a fault of a kind in ``BREAKING`` does to the connection instead of sending the response."""
    middle = len(body) // 2
    match fault.kind:
        case FaultKind.CLOSE_BEFORE_HEADERS:
            return iter((Close(),))
        case FaultKind.RESET_BEFORE_HEADERS:
            return iter((Reset(),))
        case FaultKind.RESET_IN_HEADERS:
            return iter((Send(head[: len(head) // 2]), Reset()))
        case FaultKind.CLOSE_IN_BODY:
            return iter((Send(head + body[:middle]), Close()))
        case FaultKind.RESET_IN_BODY:
            return iter((Send(head + body[:middle]), Reset()))
        case FaultKind.STALL_BEFORE_HEADERS:
            return iter((Stall(fault.seconds), Close()))
        case FaultKind.STALL_IN_HEADERS:
            return iter((Send(head[: len(head) // 2]), Stall(fault.seconds), Close()))
        case FaultKind.STALL_IN_BODY:
            return iter((Send(head + body[:middle]), Stall(fault.seconds), Close()))
        case FaultKind.DRIBBLE:
            return _dribble(head, body, 1.0 if fault.seconds is None else fault.seconds)
        case FaultKind.EXTRA_BODY:
            return iter((Send(head + body + b" and more than was announced"), Close()))
        case FaultKind.GARBAGE:
            return iter((Send(_GARBAGE), Close()))
        case _:
            raise ValueError(f"a fault of kind {fault.kind} does not act on the connection")


def head_of(answer: SimulatedResponse, headers: dict[str, str]) -> bytes:
    """Return the status line and headers of a response as bytes."""
    lines = [f"HTTP/1.1 {answer.status} {_phrase(answer.status)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += [f"Content-Length: {len(answer.body)}", "", ""]
    return "\r\n".join(lines).encode("latin-1")


def _dribble(head: bytes, body: bytes, seconds: float) -> Iterator[Act]:
    yield Send(head)
    for place in range(len(body)):
        yield Stall(seconds)
        yield Send(body[place : place + 1])
    yield Close()


def _changed_factors(
    answer: SimulatedResponse, change: Callable[[dict[str, object]], dict[str, object]]
) -> SimulatedResponse:
    """Change the factor in a response, or every factor or entity of a list."""
    document = json.loads(answer.body)
    array = next((name for name in ("factors", "entities") if name in document), None)
    if array is None:
        document = change(document)
    else:
        document[array] = [change(listed) for listed in document[array]]
    return replace(answer, body=encoded(document))


def _with_another_sid(factor: dict[str, object]) -> dict[str, object]:
    """Return the factor with another valid SID."""
    sid = canonical(str(factor["sid"]))
    other = sid[:-1] + ("1" if sid.endswith("0") else "0")
    return factor | {"sid": other, "url": str(factor["url"]).replace(sid, other)}


def _without_status(factor: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in factor.items() if name != "status"}


_CHANGES: dict[FaultKind, Callable[[dict[str, object]], dict[str, object]]] = {
    FaultKind.STATUS_NUMBER: lambda factor: factor | {"status": 1},
    FaultKind.STATUS_NULL: lambda factor: factor | {"status": None},
    FaultKind.STATUS_MISSING: _without_status,
    FaultKind.STATUS_UNKNOWN: lambda factor: factor | {"status": "suspended"},
    FaultKind.OTHER_FACTOR: _with_another_sid,
    FaultKind.HUGE_BODY: lambda factor: factor | {"friendly_name": "x" * HUGE_BYTES},
}


def _gzipped(answer: SimulatedResponse, body: bytes) -> SimulatedResponse:
    return replace(answer, body=body, headers=(*answer.headers, ("Content-Encoding", "gzip")))


def _bomb(body: bytes) -> bytes:
    """Return a small gzip body that decompresses to ``BOMB_BYTES`` of spaces and the normal body."""
    start, compressor = _compressed_spaces()
    compressor = compressor.copy()
    return start + compressor.compress(body) + compressor.flush()


@cache
def _compressed_spaces() -> tuple[bytes, zlib._Compress]:
    """Return the compressed spaces and the compressor after them, for copying: compressing takes 0.2 s."""
    compressor = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    return compressor.compress(b" " * BOMB_BYTES), compressor


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
