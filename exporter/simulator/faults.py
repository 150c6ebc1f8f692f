"""Faults on request: which kinds there are, and which call meets which."""

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
    """What can go wrong on request."""

    # the answer comes, late
    LATENCY = "latency"
    # a whole answer with another status
    STATUS = "status"
    HTML = "html"
    REDIRECT = "redirect"
    EMPTY = "empty"
    # a whole answer whose body is not what it should be
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
    # no whole answer
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
    """A fault that makes no sense; ``field`` names the part at fault, the message says what it accepts."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault and the calls it is for: all, or those of a factor, a service, an operation, or a share.

    ``status`` is for status (503), html (200), redirect (307), empty (204) and body (200). ``body`` is what a
    body fault sends, a byte for each character up to U+00FF. ``retry_after`` is sent as
    it stands, or with ``retry_after_as_date`` as the HTTP-date that many seconds ahead. ``seconds`` is the
    extra latency (1), the pause between the bytes of a dribble (1), or how long a stall lasts before the
    connection closes (for ever). ``location`` is where a redirect leads, itself unless given. ``times``
    ends the fault after so many calls. Raises ``FaultError``.
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
                raise FaultError(name, f'"{value}" is none of {", ".join(enum)}')
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
            raise FaultError("share", f"{self.share} is not a share of the calls (above 0, at most 1)")
        if self.times is not None and self.times < 1:
            raise FaultError("times", f"{self.times} is not a number of calls (1 or more)")
        if self.seconds is not None and not 0 <= self.seconds < math.inf:
            raise FaultError("seconds", f"{self.seconds} is not a duration (0 or more)")
        if self.body is not None and any(character > "\xff" for character in self.body):
            raise FaultError("body", "a character stands for one byte: none beyond U+00FF")
        self._check_headers()

    def _check_headers(self) -> None:
        for name, text in (("retry_after", str(self.retry_after)), ("location", str(self.location))):
            if not (text.isascii() and text.isprintable()):
                raise FaultError(name, "it cannot stand in a header (printable ASCII only)")
        if self.retry_after_as_date and not (
            isinstance(self.retry_after, int | float) and abs(self.retry_after) <= _FARTHEST_DATE_SECONDS
        ):
            raise FaultError("retry_after", f"{self.retry_after!r} is not a number of seconds, for a date")

    @property
    def status_or_default(self) -> int:
        """The HTTP status it sends, where its kind sends one of its own."""
        return self.status if self.status is not None else _DEFAULT_STATUS.get(self.kind, 200)

    def concerns(self, target: Target) -> bool:
        """Say whether a call is among those it is for, its share and number of times left aside."""
        return (
            (self.factor_sid is None or self.factor_sid == target.factor_sid)
            and (self.service_sid is None or self.service_sid == target.service_sid)
            and (self.operation is None or self.operation is target.operation)
        )


class Met(NamedTuple):
    """What one call meets: extra latency in seconds, and at most one other fault."""

    latency_seconds: float
    fault: Fault | None


NOTHING = Met(0.0, None)


@dataclass(slots=True)
class _Armed:
    id: int
    fault: Fault
    left: int | None


class FaultSet:
    """The faults in force. The oldest that concerns a call strikes it; latencies add up besides.

    A fault without operation, service or factor strikes every call below /v2/, and no other.
    """

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._last_id = 0
        self._armed: dict[int, _Armed] = {}
        self._by_factor: dict[str | None, dict[int, _Armed]] = {}

    def __len__(self) -> int:
        return len(self._armed)

    def __iter__(self) -> Iterator[tuple[int, Fault]]:
        return iter([(armed.id, armed.fault) for armed in self._armed.values()])

    def left(self, id_: int) -> int | None:
        """Return how many calls a fault is still for; None: no end. Raises ``LookupError``."""
        return self._found(id_).left

    def add(self, fault: Fault) -> int:
        """Put a fault in force and return its id."""
        self._last_id += 1
        armed = _Armed(self._last_id, fault, fault.times)
        self._armed[armed.id] = armed
        self._by_factor.setdefault(fault.factor_sid, {})[armed.id] = armed
        return armed.id

    def remove(self, id_: int) -> None:
        """Lift a fault. Raises ``LookupError`` if it isn't in force, or no more."""
        armed = self._found(id_)
        del self._armed[id_]
        peers = self._by_factor[armed.fault.factor_sid]
        del peers[id_]
        if not peers:
            del self._by_factor[armed.fault.factor_sid]

    def clear(self) -> None:
        """Lift all faults."""
        self._armed.clear()
        self._by_factor.clear()

    def strike(self, target: Target) -> Met:
        """Decide what a call meets, and count it against the faults that it meets."""
        if not self._armed:
            return NOTHING
        latency_seconds = 0.0
        struck: Fault | None = None
        for armed in self._candidates(target.factor_sid):
            fault = armed.fault
            if struck is not None and fault.kind is not FaultKind.LATENCY:
                continue
            if not fault.concerns(target) or (fault.share < 1 and self._rng.random() >= fault.share):
                continue
            if armed.left is not None:
                armed.left -= 1
                if armed.left == 0:
                    self.remove(armed.id)
            if fault.kind is FaultKind.LATENCY:
                latency_seconds += 1.0 if fault.seconds is None else fault.seconds
            else:
                struck = fault
        return Met(latency_seconds, struck)

    def _candidates(self, factor_sid: str) -> list[_Armed]:
        general = self._by_factor.get(None, {})
        own = self._by_factor.get(factor_sid, {})
        return [self._armed[id_] for id_ in sorted((*general, *own))]

    def _found(self, id_: int) -> _Armed:
        if id_ not in self._armed:
            raise LookupError(f"no fault in force has the id {id_}")
        return self._armed[id_]
