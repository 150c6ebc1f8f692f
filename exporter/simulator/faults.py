"""Faults: their kinds, and which fault applies to which request.

What a kind does to a response or a connection is in :mod:`exporter.simulator.wire`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from exporter.simulator import sids
from exporter.simulator.target import Endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from exporter.simulator.target import Target


class FaultKind(StrEnum):
    """The kinds of faults that can be injected; docs/simulator.md describes each."""

    # the normal response, delayed
    LATENCY = "latency"
    # a complete response with another status
    STATUS = "status"
    HTML = "html"
    REDIRECT = "redirect"
    EMPTY = "empty"
    # the normal response, with the headers of a cache
    AGE = "age"
    OLD_DATE = "old_date"
    # a complete response with an unexpected body; those from BAD_JSON to BAD_GZIP leave error responses as they are
    BODY = "body"
    EXTRA_BODY = "extra_body"
    BAD_JSON = "bad_json"
    JSON_LIST = "json_list"
    JSON_STRING = "json_string"
    STATUS_NUMBER = "status_number"
    STATUS_NULL = "status_null"
    STATUS_MISSING = "status_missing"
    STATUS_UNKNOWN = "status_unknown"
    OTHER_FACTOR = "other_factor"
    HUGE_BODY = "huge_body"
    GZIP = "gzip"
    GZIP_BOMB = "gzip_bomb"
    BAD_GZIP = "bad_gzip"
    # no complete response
    CLOSE_BEFORE_HEADERS = "close_before_headers"
    RESET_BEFORE_HEADERS = "reset_before_headers"
    RESET_IN_HEADERS = "reset_in_headers"
    CLOSE_IN_BODY = "close_in_body"
    RESET_IN_BODY = "reset_in_body"
    STALL_BEFORE_HEADERS = "stall_before_headers"
    STALL_IN_HEADERS = "stall_in_headers"
    STALL_IN_BODY = "stall_in_body"
    DRIBBLE = "dribble"
    GARBAGE = "garbage"


_DEFAULT_STATUS = {
    FaultKind.STATUS: 503,
    FaultKind.HTML: 200,
    FaultKind.REDIRECT: 307,
    FaultKind.EMPTY: 204,
    FaultKind.BODY: 200,
}
_FARTHEST_DATE_SECONDS = 1e9


class FaultError(ValueError):
    """An invalid fault; ``field`` is the invalid field, and the message says what it accepts."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault and the requests it affects: all, or those of a factor, service or operation, or a share of them.

    ``status`` applies to status (default 503), html (200), redirect (307), empty (204) and body (200). ``body`` is
    sent by a body fault, one byte per character up to U+00FF. ``retry_after`` is sent unchanged, or with
    ``retry_after_as_date`` as the HTTP date that many seconds from now. ``seconds`` is the added latency
    (1), the age of a cached response (3600), the time between two bytes of a dribble (1), or the time until a
    stalled connection closes (never). ``location`` is the target of a redirect (the same address). ``times``
    removes the fault after that many requests. Raises ``FaultError``.
    """

    kind: FaultKind = FaultKind.STATUS
    status: int | None = None
    factor_sid: str | None = None
    service_sid: str | None = None
    operation: Endpoint | None = None
    share: float = 1.0
    times: int | None = None
    retry_after: str | float | None = None
    retry_after_as_date: bool = False
    seconds: float | None = None
    location: str | None = None
    body: str | None = None

    def __post_init__(self) -> None:
        for name, enum in (("kind", FaultKind), ("operation", Endpoint)):
            value = getattr(self, name)
            if value is not None and value not in list(enum):
                raise FaultError(name, f'"{value}" must be one of {", ".join(enum)}')
            object.__setattr__(self, name, None if value is None else enum(value))
        for name, prefix in (("factor_sid", sids.FACTOR), ("service_sid", sids.SERVICE)):
            sid = getattr(self, name)
            if sid is not None:
                if not sids.is_sid(sid, prefix):
                    raise FaultError(name, f'"{sid}" is not a SID ({prefix} followed by 32 hex digits)')
                object.__setattr__(self, name, sids.canonical(sid))
        if self.status is not None and not 200 <= self.status <= 999:
            raise FaultError("status", f"{self.status} is not a final HTTP status (200 to 999)")
        if not 0 < self.share <= 1:
            raise FaultError("share", f"{self.share} is not a share of the requests (above 0, at most 1)")
        if self.times is not None and self.times < 1:
            raise FaultError("times", f"{self.times} is not a number of requests (1 or more)")
        if self.seconds is not None and not 0 <= self.seconds < math.inf:
            raise FaultError("seconds", f"{self.seconds} is not a duration (0 or more)")
        if self.body is not None and any(character > "\xff" for character in self.body):
            raise FaultError("body", "every character is sent as one byte and must be U+00FF or below")
        self._check_headers()

    def _check_headers(self) -> None:
        for name, text in (("retry_after", str(self.retry_after)), ("location", str(self.location))):
            if not (text.isascii() and text.isprintable()):
                raise FaultError(name, "not valid in a header (printable ASCII only)")
        if self.retry_after_as_date and not (
            isinstance(self.retry_after, int | float) and abs(self.retry_after) <= _FARTHEST_DATE_SECONDS
        ):
            raise FaultError(
                "retry_after", f"{self.retry_after!r} is not a number of seconds, as retry_after_as_date needs"
            )

    @property
    def status_or_default(self) -> int:
        """The HTTP status that the fault sends, if its kind sends one."""
        return self.status if self.status is not None else _DEFAULT_STATUS.get(self.kind, 200)

    def matches(self, target: Target) -> bool:
        """Return whether the fault is for this request, apart from ``share`` and ``times``."""
        return (
            (self.factor_sid is None or self.factor_sid == target.factor_sid)
            and (self.service_sid is None or self.service_sid == target.service_sid)
            and (self.operation is None or self.operation is target.operation)
        )


class AppliedFaults(NamedTuple):
    """The faults of one request: added latency in seconds, and at most one other fault."""

    latency_seconds: float
    fault: Fault | None


NOTHING = AppliedFaults(0.0, None)


@dataclass(slots=True)
class _ActiveFault:
    id: int
    fault: Fault
    left: int | None


class FaultSet:
    """The active faults. The oldest matching one applies to a request; latencies are added in any case.

    Faults affect only requests below /v2/.
    """

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._last_id = 0
        self._active: dict[int, _ActiveFault] = {}
        self._by_factor: dict[str | None, dict[int, _ActiveFault]] = {}

    def __len__(self) -> int:
        return len(self._active)

    def __iter__(self) -> Iterator[tuple[int, Fault]]:
        return iter([(active.id, active.fault) for active in self._active.values()])

    def left(self, id_: int) -> int | None:
        """Return how many more requests a fault affects, ``None`` without a limit. Raises ``LookupError``."""
        return self._found(id_).left

    def add(self, fault: Fault) -> int:
        """Activate a fault and return its id."""
        self._last_id += 1
        active = _ActiveFault(self._last_id, fault, fault.times)
        self._active[active.id] = active
        self._by_factor.setdefault(fault.factor_sid, {})[active.id] = active
        return active.id

    def remove(self, id_: int) -> None:
        """Remove a fault. Raises ``LookupError`` if it isn't active."""
        active = self._found(id_)
        del self._active[id_]
        peers = self._by_factor[active.fault.factor_sid]
        del peers[id_]
        if not peers:
            del self._by_factor[active.fault.factor_sid]

    def clear(self) -> None:
        """Remove all faults."""
        self._active.clear()
        self._by_factor.clear()

    def apply(self, target: Target) -> AppliedFaults:
        """Return the faults that apply to a request, and count the request against their ``times``."""
        if not self._active:
            return NOTHING
        latency_seconds = 0.0
        applied: Fault | None = None
        for active in self._candidates(target.factor_sid):
            fault = active.fault
            if applied is not None and fault.kind is not FaultKind.LATENCY:
                continue
            if not fault.matches(target) or (fault.share < 1 and self._rng.random() >= fault.share):
                continue
            if active.left is not None:
                active.left -= 1
                if active.left == 0:
                    self.remove(active.id)
            if fault.kind is FaultKind.LATENCY:
                latency_seconds += 1.0 if fault.seconds is None else fault.seconds
            else:
                applied = fault
        return AppliedFaults(latency_seconds, applied)

    def _candidates(self, factor_sid: str) -> list[_ActiveFault]:
        general = self._by_factor.get(None, {})
        own = self._by_factor.get(factor_sid, {})
        return [self._active[id_] for id_ in sorted((*general, *own))]

    def _found(self, id_: int) -> _ActiveFault:
        if id_ not in self._active:
            raise LookupError(f"no active fault has the id {id_}")
        return self._active[id_]
