"""The last fetches of each factor, packed, for the pages; kept in memory only.

The last few fetches of each factor are kept, and the last few failures even if they are older: a failure outlives
the successes after it. An entry takes about 34 bytes, about 70 for a failure with its detail.
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

_HEAD = struct.Struct("<BdfHBBB")  # length, wall time, duration, code, attempts, result, length of the request id
_RESULTS: tuple[Status | Reason, ...] = (*Status, *Reason)
_NUMBERS = {result: number for number, result in enumerate(_RESULTS)}
_FIRST_FAILURE = len(Status)
_RESULT_AT = 16
_PLAIN_REQUEST_ID = re.compile("RQ[0-9a-f]{32}")
_PACKED_ID = 255  # stands for the length of a request id in its usual form
_LONGEST_ID_BYTES = 64
_LONGEST_ENTRY_BYTES = 255


@dataclass(frozen=True, slots=True)
class Fetch:
    """One fetch in the history; ``detail`` is empty for a definite answer.

    ``ended_seconds`` is wall time since the epoch, ``code`` is ``None`` if no HTTP status was received.
    """

    ended_seconds: float
    result: Status | Reason
    detail: str
    code: int | None
    duration_seconds: float
    attempts: int
    request_id: str

    @property
    def failed(self) -> bool:
        """Whether it ended without a definite answer."""
        return isinstance(self.result, Reason)


class Fetches(NamedTuple):
    """The history of a factor, newest first: its last fetches, and the failures before them."""

    recent: list[Fetch]
    older_failures: list[Fetch]


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
            self.add(record.watched.key, outcome, record.last_seconds)

    def forgotten(self, record: FactorRecord) -> None:
        """Drop the fetches of a factor that is no longer watched."""
        self.forget(record.watched.key)

    def add(self, key: FactorKey, outcome: Outcome, ended_seconds: float) -> None:
        """Add a fetch."""
        self._packed[key] = _cut(self._packed.get(key, b"") + _pack(outcome, ended_seconds), self.depth)

    def forget(self, key: FactorKey) -> None:
        """Drop the history of a factor."""
        self._packed.pop(key, None)

    def of(self, key: FactorKey) -> Fetches:
        """Return the history of a factor."""
        fetches = [_unpack(entry) for entry in _entries(self._packed.get(key, b""))][::-1]
        depth = self.depth
        recent = fetches[: depth.fetches]
        older = [fetch for fetch in fetches[depth.fetches :] if fetch.failed]
        return Fetches(recent, older[: max(0, depth.failures - sum(fetch.failed for fetch in recent))])

    def last_request_id(self, key: FactorKey) -> str:
        """Return the request ID of a factor's last fetch, empty if there is none."""
        fetches = self.of(key).recent
        return fetches[0].request_id if fetches else ""

    def last_failure(self, key: FactorKey) -> Fetch | None:
        """Return the latest failure in the history of a factor."""
        failures = [entry for entry in _entries(self._packed.get(key, b"")) if entry[_RESULT_AT] >= _FIRST_FAILURE]
        return _unpack(failures[-1]) if failures else None


def _pack(outcome: Outcome, ended_seconds: float) -> bytes:
    match outcome.result:
        case Failure(reason=reason, detail=text):
            result, detail = _NUMBERS[reason], text.encode("utf-8", "replace")
        case answer:
            result, detail = _NUMBERS[answer.status], b""
    if _PLAIN_REQUEST_ID.fullmatch(outcome.request_id):
        request_id, size = bytes.fromhex(outcome.request_id[2:]), _PACKED_ID
    else:
        request_id = _shortened(outcome.request_id.encode("utf-8", "replace"), _LONGEST_ID_BYTES)
        size = len(request_id)
    detail = _shortened(detail, _LONGEST_ENTRY_BYTES - _HEAD.size - len(request_id))
    head = _HEAD.pack(
        _HEAD.size + len(request_id) + len(detail),
        ended_seconds,
        outcome.duration_seconds,
        outcome.code or 0,
        min(outcome.attempts, 255),
        result,
        size,
    )
    return head + request_id + detail


def _unpack(entry: bytes) -> Fetch:
    _, ended, duration, code, attempts, result, size = _HEAD.unpack_from(entry)
    end = _HEAD.size + (16 if size == _PACKED_ID else size)
    request_id = entry[_HEAD.size : end]
    return Fetch(
        ended_seconds=ended,
        result=_RESULTS[result],
        detail=entry[end:].decode(),
        code=code or None,
        duration_seconds=round(duration, 6),  # a 32-bit float's noise
        attempts=attempts,
        request_id=f"RQ{request_id.hex()}" if size == _PACKED_ID else request_id.decode(),
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
    recent = entries[oldest:]
    older = [entry for entry in entries[:oldest] if entry[_RESULT_AT] >= _FIRST_FAILURE]
    remaining = max(0, depth.failures - sum(entry[_RESULT_AT] >= _FIRST_FAILURE for entry in recent))
    return b"".join([*older[max(0, len(older) - remaining) :], *recent])


def _shortened(text: bytes, limit: int) -> bytes:
    """Return the beginning of an encoded text: whole characters, and an ellipsis where it was cut."""
    if len(text) <= limit:
        return text
    mark = "…".encode()
    return text[: limit - len(mark)].decode("utf-8", "ignore").encode() + mark
