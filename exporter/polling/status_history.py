"""When the status of each factor changed, for the pages and the state file. Pure: time is passed in.

Sparse: a factor that has had one status since it was first seen takes no memory, as its record has that status and
its beginning. Any other factor takes about 150 bytes, and 6 more per change. What was not observed is a period
without a status: before the first answer, after the last one became stale, while the factor was paused or not
watched, and while the exporter didn't run or the system was suspended.

Times are kept on a clock of their own, which equals the wall clock at the beginning and runs like the steady one
from then on: a step of the wall clock changes no order.
"""

from __future__ import annotations

from itertools import islice, pairwise
from typing import TYPE_CHECKING, NamedTuple

from exporter.verify.outcome import Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from exporter.polling.clock import Moment
    from exporter.polling.record import FactorRecord
    from exporter.polling.snapshot import FactorSnapshot
    from exporter.watched import FactorKey

KEPT_SECONDS = 7 * 86_400.0
MOST_CHANGES = 32
"""The changes that are kept per factor."""
MOST_CHANGES_OF_ALL = 500_000
MOST_INTERRUPTIONS = 100
CHANGE_BYTES = 6
_STEP_SECONDS = 2.0
_JITTER_SECONDS = 0.01  # two clocks are not read at once: without a drift, times stay the same to the millisecond
_REMAINING = 0.98  # of the changes, after too many: the oldest are dropped together
_TIDIED_AT_ONCE = 2000
_STATUSES = (None, Status.VERIFIED, Status.UNVERIFIED, Status.NOT_FOUND)  # their places are in state files
_NUMBERS = {status: number for number, status in enumerate(_STATUSES)}
_STATUS_BITS = 2
_LATEST = (1 << 8 * CHANGE_BYTES - _STATUS_BITS) - 1


class ShownStatus(NamedTuple):
    """The status that a factor was shown with, and since when in wall seconds; ``None`` where it had none."""

    status: Status | None = None
    since_seconds: float | None = None


NOTHING = ShownStatus()


class Period(NamedTuple):
    """A time in which a factor had one status, ``None`` where it was not observed; wall seconds."""

    start_seconds: float
    end_seconds: float
    status: Status | None


class SavedHistory(NamedTuple):
    """A history as the state file has it, packed; all times are on the clock of the history.

    ``drift_seconds`` is how far the wall clock was ahead of that one when it was saved.
    """

    since_seconds: float
    drift_seconds: float
    interruptions: Sequence[tuple[float, float]]
    changes: Mapping[FactorKey, bytes]


def shown_by(record: FactorRecord) -> ShownStatus:
    """Return what a record shows."""
    return ShownStatus(record.shown_status, record.status_since_seconds)


def shown_in(snapshot: FactorSnapshot) -> ShownStatus:
    """Return what was shown of a factor when its snapshot was taken; paused ones may differ."""
    since = snapshot.status_since_seconds
    if snapshot.withdrawn:
        return NOTHING
    return ShownStatus(snapshot.status, snapshot.answered_seconds if since is None else since)


def whole(packed: bytes) -> bool:
    """Return whether these bytes may be the packed changes of a factor."""
    return 0 < len(packed) <= MOST_CHANGES * CHANGE_BYTES and len(packed) % CHANGE_BYTES == 0


class StatusHistory:
    """The changes of every factor that had any, at most of the last seven days.

    Per factor, the last 32 are kept. Of more than 500,000 in all, those of the factors that changed last are kept:
    the history of all factors then begins later, as it does where too many interruptions are known.
    """

    def __init__(self, now: Moment) -> None:
        self._ahead = now.wall - now.steady  # of this clock over the steady one
        self._drift = 0.0  # of the wall clock over this one
        self._since = now.wall
        self._interruptions: list[tuple[float, float]] = []
        self._packed: dict[FactorKey, bytes] = {}  # in the order of the last changes
        self._count = 0

    @property
    def changes(self) -> int:
        """The number of changes that are kept."""
        return self._count

    @property
    def since_seconds(self) -> float:
        """Since when everything that was observed is known; wall seconds."""
        return self._since + self._drift

    def observe(self, now: Moment) -> float:
        """Take note of the wall clock; return the time on the clock of the history.

        After a step, it isn't known what the times in records mean: the history begins again.
        """
        time = now.steady + self._ahead
        drift = now.wall - time
        if abs(drift - self._drift) > _STEP_SECONDS:
            self._since = time
        if abs(drift - self._drift) > _JITTER_SECONDS:
            self._drift = drift
        return time

    # Changes

    def changed(self, record: FactorRecord, before: ShownStatus, steady: float, *, begins: bool = False) -> None:
        """Take a record that shows something else than ``before`` since ``steady``, or may do so.

        ``begins`` says that the record has ``steady`` as the beginning of its status.
        """
        after = record.shown_status
        hidden = after is None and record.status is not None
        self._change(record.watched.key, before, after, steady + self._ahead, begins=begins, hidden=hidden)

    def ended(self, key: FactorKey, before: ShownStatus, now: Moment) -> None:
        """Take a factor that is not watched from now on."""
        self._change(key, before, None, self.observe(now))

    def _change(
        self,
        key: FactorKey,
        before: ShownStatus,
        after: Status | None,
        time: float,
        *,
        begins: bool = False,
        hidden: bool = False,
    ) -> None:
        packed = self._packed.get(key)
        known = before.status is not None and before.since_seconds is not None
        started = min(time, before.since_seconds - self._drift) if before.since_seconds is not None else time
        if packed is None:
            if (before.status is after and not hidden) or (not known and begins and after is not None):
                return  # the record says it all
            packed = _pack(started, before.status) if known else b""
        else:
            last_time, last = _last(packed)
            if known and before.status is not last and started > last_time:
                packed += _pack(started, before.status)  # it was saved a little before the record
                last_time, last = started, before.status
                self._put(key, packed)
            if last is after:
                return
            time = max(time, last_time)
        self._put(key, packed + _pack(time, after))

    def _put(self, key: FactorKey, packed: bytes) -> None:
        self.forget(key)
        self._packed[key] = packed = packed[-MOST_CHANGES * CHANGE_BYTES :]
        self._count += len(packed) // CHANGE_BYTES
        if self._count > MOST_CHANGES_OF_ALL:
            self._drop(int(MOST_CHANGES_OF_ALL * _REMAINING))

    def _drop(self, remaining: int) -> None:
        """Drop the factors that changed longest ago, until so many changes remain."""
        surplus = self._count - remaining
        keys: list[FactorKey] = []
        for key, packed in self._packed.items():
            if surplus <= 0:
                break
            surplus -= len(packed) // CHANGE_BYTES
            keys.append(key)
        for key in keys:
            self._since = max(self._since, _last(self._packed[key])[0])
            self._shorten(key)

    def _shorten(self, key: FactorKey) -> None:
        """Drop the changes of a factor, but keep that its status is not shown, which its record may not tell."""
        last = self._packed[key][-CHANGE_BYTES:]
        self.forget(key)
        if _last(last)[1] is None:
            self._packed[key] = last
            self._count += 1

    def forget(self, key: FactorKey) -> None:
        """Drop the history of a factor."""
        self._count -= len(self._packed.pop(key, b"")) // CHANGE_BYTES

    def interrupted(self, seconds: float, now: Moment) -> None:
        """Take a time up to now in which nothing was observed, such as a suspend of the system."""
        end = self.observe(now)
        self._interrupt(end - seconds, end)

    def _interrupt(self, start: float, end: float) -> None:
        self._interruptions.append((start, end))
        if len(self._interruptions) > MOST_INTERRUPTIONS:
            self._since = max(self._since, self._interruptions.pop(0)[1])

    def tidy(self, now: Moment) -> None:
        """Drop what is too old; called regularly."""
        time = self.observe(now)
        self._since = max(self._since, time - KEPT_SECONDS)
        old: list[FactorKey] = []
        for key, packed in islice(self._packed.items(), _TIDIED_AT_ONCE):
            if _last(packed)[0] >= time - KEPT_SECONDS:
                break
            old.append(key)
        for key in old:
            self._shorten(key)
        if not self._packed:
            self._packed = {}  # an emptied dict keeps its memory
        self._interruptions = [times for times in self._interruptions if times[1] > self._since]

    # What is known

    def periods(self, record: FactorRecord, now: Moment, seconds: float = KEPT_SECONDS) -> list[Period]:
        """Return the periods of a watched factor in the last ``seconds``, oldest first; they cover all of it."""
        end = self.observe(now)
        start = end - seconds
        found: list[Period] = []
        at = start
        for begun, ended, status in self._observed(record, max(start, self._since), end):
            if begun > at:
                found.append(Period(at, begun, None))
            if found and found[-1].end_seconds == begun and found[-1].status is status:
                found[-1] = found[-1]._replace(end_seconds=ended)
            else:
                found.append(Period(begun, ended, status))
            at = ended
        if at < end:
            found.append(Period(at, end, None))
        return [Period(begun + self._drift, ended + self._drift, status) for begun, ended, status in found]

    def _observed(self, record: FactorRecord, start: float, end: float) -> Iterator[tuple[float, float, Status]]:
        """Yield what was observed of a factor, oldest first."""
        packed = self._packed.get(record.watched.key)
        if packed is not None:
            changes = list(_unpack(packed))
        elif record.shown_status is not None and record.status_since_seconds is not None:
            begun = record.status_since_seconds - self._drift
            if begun > end + _STEP_SECONDS:
                begun = self._since  # the wall clock was set back since
            changes = [(begun, record.shown_status)]
        else:
            changes = []
        for (begun, status), (ended, _) in pairwise([*changes, (end, None)]):
            if status is not None:
                for first, last in self._uninterrupted(max(begun, start), min(ended, end)):
                    yield first, last, status

    def _uninterrupted(self, start: float, end: float) -> Iterator[tuple[float, float]]:
        """Yield the parts of a time in which the exporter ran."""
        for begun, ended in self._interruptions:
            if start < begun < end:
                yield start, begun
            if begun < end:
                start = max(start, ended)
        if start < end:
            yield start, end

    # Over restarts

    def saved(self, now: Moment) -> SavedHistory:
        """Return what to save; it doesn't change when this object does."""
        self.observe(now)
        return SavedHistory(self._since, self._drift, tuple(self._interruptions), self._packed.copy())

    def restore(self, saved: SavedHistory, saved_seconds: float, now: Moment) -> None:
        """Go on with the history of another process, which was saved at ``saved_seconds`` (wall time)."""
        ended = saved_seconds - saved.drift_seconds
        time = max(now.wall - saved.drift_seconds, ended)  # the wall clock may have been set back a little
        self._ahead = time - now.steady
        self._drift = now.wall - time
        self._since = saved.since_seconds
        self._interruptions = list(saved.interruptions)
        self._interrupt(ended, time)
        self._packed = dict(sorted(saved.changes.items(), key=lambda change: _last(change[1])[0]))
        self._count = sum(map(len, self._packed.values())) // CHANGE_BYTES


def _pack(time: float, status: Status | None) -> bytes:
    milliseconds = min(max(0, round(time * 1000)), _LATEST)
    return (milliseconds << _STATUS_BITS | _NUMBERS[status]).to_bytes(CHANGE_BYTES, "little")


def _unpack(packed: bytes) -> Iterable[tuple[float, Status | None]]:
    for start in range(0, len(packed), CHANGE_BYTES):
        value = int.from_bytes(packed[start : start + CHANGE_BYTES], "little")
        yield (value >> _STATUS_BITS) / 1000, _STATUSES[value & (1 << _STATUS_BITS) - 1]


def _last(packed: bytes) -> tuple[float, Status | None]:
    [change] = _unpack(packed[-CHANGE_BYTES:])
    return change
