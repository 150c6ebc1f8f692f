"""The last fetches of each factor, packed, for the pages; kept in memory only.

The last few fetches of each factor are kept, and even if they are older, the last few failures and the last fetch
that changed the status. An entry takes about 34 bytes, about 70 for a failure with its detail.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from exporter.polling.observer import Observer
from exporter.verify.outcome import Failure, Reason, Status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.polling.record import FactorRecord, StatusChange
    from exporter.verify.outcome import Outcome
    from exporter.watched import FactorKey


class Depth(NamedTuple):
    """How many fetches of a factor are kept, and how many of its failures."""

    fetches: int
    failures: int


FULL = Depth(fetches=12, failures=10)
SHORT = Depth(fetches=3, failures=2)
FULL_FACTORS = 10_000  # with more of them, each factor's history is short

_HEAD = struct.Struct("<BdfHBBB")  # length, wall time, duration, code, attempts, kind, length of the request id
# Of the kind: the result, the status before a change (0: no change), and whether Twilio's code follows the head.
_RESULT_BITS, _BEFORE_SHIFT, _HAS_TWILIO_CODE = 0b11111, 5, 0b10000000
_BEFORE_BITS = 0b11
_TWILIO_CODE_BYTES = 3
_STATUSES = tuple(Status)
_RESULTS: tuple[Status | Reason, ...] = (*_STATUSES, *Reason)
_NUMBERS = {result: number for number, result in enumerate(_RESULTS)}
_FIRST_FAILURE = len(Status)
_KIND_AT = 16
_PLAIN_REQUEST_ID = re.compile("RQ[0-9a-f]{32}")
_PACKED_ID = 255  # stands for the length of a request id in its usual form
_LONGEST_ID_BYTES = 64
_LONGEST_ENTRY_BYTES = 255


@dataclass(frozen=True, slots=True)
class Fetch:
    """One fetch in the history; ``detail`` is empty for a definite answer.

    ``ended_seconds`` is wall time since the epoch, ``code`` is ``None`` if no HTTP status was received,
    ``twilio_code`` if the response was no Twilio error. ``before`` is the status that the fetch changed, ``None``
    if it changed none.
    """

    ended_seconds: float
    result: Status | Reason
    detail: str
    code: int | None
    duration_seconds: float
    attempts: int
    request_id: str
    twilio_code: int | None = None
    before: Status | None = None

    @property
    def failed(self) -> bool:
        """Whether it ended without a definite answer."""
        return isinstance(self.result, Reason)


class Fetches(NamedTuple):
    """The history of a factor, newest first: its last fetches, and the failures before them.

    ``change`` is the last fetch that changed the status.
    """

    recent: list[Fetch]
    older_failures: list[Fetch]
    change: Fetch | None


class Latest(NamedTuple):
    """A factor's last fetch, and the last one that changed its status; ``None`` where there is none."""

    fetch: Fetch | None = None
    change: Fetch | None = None


class History(Observer):
    """Keeps the last fetches of every factor, since ``since_seconds`` (wall time)."""

    def __init__(self, since_seconds: float) -> None:
        self.since_seconds = since_seconds
        self._packed: dict[FactorKey, bytes] = {}

    @property
    def depth(self) -> Depth:
        """How much is kept per factor now; a longer history is cut at the factor's next fetch."""
        return FULL if len(self._packed) <= FULL_FACTORS else SHORT

    def fetched(self, record: FactorRecord, outcome: Outcome, change: StatusChange | None) -> None:
        """Keep a fetch that has ended."""
        if record.last_seconds is not None:
            self.add(record.watched.key, outcome, record.last_seconds, None if change is None else change.before)

    def forgotten(self, record: FactorRecord) -> None:
        """Drop the fetches of a factor that is no longer watched."""
        self.forget(record.watched.key)

    def add(self, key: FactorKey, outcome: Outcome, ended_seconds: float, before: Status | None = None) -> None:
        """Add a fetch; ``before`` is the status that it changed."""
        self._packed[key] = _cut(self._packed.get(key, b"") + _pack(outcome, ended_seconds, before), self.depth)

    def forget(self, key: FactorKey) -> None:
        """Drop the history of a factor."""
        self._packed.pop(key, None)

    def of(self, key: FactorKey) -> Fetches:
        """Return the history of a factor."""
        fetches = [_unpack(entry) for entry in _entries(self._packed.get(key, b""))][::-1]
        depth = self.depth
        recent = fetches[: depth.fetches]
        older = [fetch for fetch in fetches[depth.fetches :] if fetch.failed]
        return Fetches(
            recent,
            older[: max(0, depth.failures - sum(fetch.failed for fetch in recent))],
            next((fetch for fetch in fetches if fetch.before is not None), None),
        )

    def latest(self, key: FactorKey) -> Latest:
        """Return a factor's last fetch, and the last one that changed its status."""
        fetch = change = None
        for entry in _entries(self._packed.get(key, b"")):
            fetch = entry
            if _changed(entry):
                change = entry
        return Latest(None if fetch is None else _unpack(fetch), None if change is None else _unpack(change))

    def last_failure(self, key: FactorKey) -> Fetch | None:
        """Return the latest failure in the history of a factor."""
        failures = [entry for entry in _entries(self._packed.get(key, b"")) if _failed(entry)]
        return _unpack(failures[-1]) if failures else None


def _failed(entry: bytes) -> bool:
    return entry[_KIND_AT] & _RESULT_BITS >= _FIRST_FAILURE


def _changed(entry: bytes) -> bool:
    return entry[_KIND_AT] >> _BEFORE_SHIFT & _BEFORE_BITS != 0


def _pack(outcome: Outcome, ended_seconds: float, before: Status | None) -> bytes:
    match outcome.result:
        case Failure(reason=reason, detail=text):
            kind, detail = _NUMBERS[reason], text.encode("utf-8", "replace")
        case answer:
            kind, detail = _NUMBERS[answer.status], b""
    if before is not None:
        kind |= _NUMBERS[before] + 1 << _BEFORE_SHIFT
    twilio_code = b""
    if outcome.twilio_code is not None:
        kind |= _HAS_TWILIO_CODE
        twilio_code = outcome.twilio_code.to_bytes(_TWILIO_CODE_BYTES, "little")
    if _PLAIN_REQUEST_ID.fullmatch(outcome.request_id):
        request_id, size = bytes.fromhex(outcome.request_id[2:]), _PACKED_ID
    else:
        request_id = _shortened(outcome.request_id.encode("utf-8", "replace"), _LONGEST_ID_BYTES)
        size = len(request_id)
    detail = _shortened(detail, _LONGEST_ENTRY_BYTES - _HEAD.size - len(twilio_code) - len(request_id))
    head = _HEAD.pack(
        _HEAD.size + len(twilio_code) + len(request_id) + len(detail),
        ended_seconds,
        outcome.duration_seconds,
        outcome.code or 0,
        min(outcome.attempts, 255),
        kind,
        size,
    )
    return head + twilio_code + request_id + detail


def _unpack(entry: bytes) -> Fetch:
    _, ended, duration, code, attempts, kind, size = _HEAD.unpack_from(entry)
    start = _HEAD.size + (_TWILIO_CODE_BYTES if kind & _HAS_TWILIO_CODE else 0)
    end = start + (16 if size == _PACKED_ID else size)
    twilio_code, request_id = entry[_HEAD.size : start], entry[start:end]
    before = kind >> _BEFORE_SHIFT & _BEFORE_BITS
    return Fetch(
        ended_seconds=ended,
        result=_RESULTS[kind & _RESULT_BITS],
        detail=entry[end:].decode(),
        code=code or None,
        duration_seconds=round(duration, 6),  # a 32-bit float's noise
        attempts=attempts,
        request_id=f"RQ{request_id.hex()}" if size == _PACKED_ID else request_id.decode(),
        twilio_code=int.from_bytes(twilio_code, "little") if twilio_code else None,
        before=_STATUSES[before - 1] if before else None,
    )


def _entries(packed: bytes) -> Iterator[bytes]:
    """Yield the packed entries, oldest first."""
    start = 0
    while start < len(packed):
        end = start + packed[start]
        yield packed[start:end]
        start = end


def _cut(packed: bytes, depth: Depth) -> bytes:
    """Return a history without the entries beyond its depth."""
    entries = list(_entries(packed))
    oldest = len(entries) - depth.fetches
    if oldest <= 0:
        return packed
    recent, older = entries[oldest:], entries[:oldest]
    failures = [number for number, entry in enumerate(older) if _failed(entry)]
    remaining = max(0, depth.failures - sum(map(_failed, recent)))
    kept = set(failures[max(0, len(failures) - remaining) :])
    if not any(map(_changed, recent)):  # a failure is never a change
        kept.update([number for number, entry in enumerate(older) if _changed(entry)][-1:])
    return b"".join([*(older[number] for number in sorted(kept)), *recent])


def _shortened(text: bytes, limit: int) -> bytes:
    """Return the beginning of an encoded text: whole characters, and an ellipsis where it was cut."""
    if len(text) <= limit:
        return text
    mark = "…".encode()
    return text[: limit - len(mark)].decode("utf-8", "ignore").encode() + mark
