"""What was known of factors that are no longer watched, for a while: removing one by mistake loses nothing.

Pure, as the ledger: time is passed in. A removed factor is a packed snapshot instead of a record.
"""

from __future__ import annotations

import dataclasses
import marshal
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from exporter.polling.clock import Moment
from exporter.polling.snapshot import FactorSnapshot, SteadyTimes, snapshot_of
from exporter.polling.status_history import StatusHistory, shown_in
from exporter.verify.outcome import Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from exporter.polling.record import FactorRecord
    from exporter.watched import FactorKey

MOST_FACTORS = 200_000  # a list of 100,000 factors that another one replaces by mistake comes back as a whole

_NAMES = tuple(field.name for field in dataclasses.fields(FactorSnapshot) if field.name != "status")


class Known(NamedTuple):
    """What was known of a factor when it was removed; ``times`` are exact whatever the wall clock did since."""

    snapshot: FactorSnapshot
    times: SteadyTimes


class RemovedFactors:
    """The snapshots of removed factors, in the order of their removal.

    A snapshot is forgotten ``forget_after_seconds`` after the removal; where there are more than ``MOST_FACTORS``,
    those that were removed first are forgotten earlier. What is forgotten here is also forgotten in ``history``.
    """

    def __init__(self, forget_after_seconds: float = 86400.0, history: StatusHistory | None = None) -> None:
        self.forget_after_seconds = forget_after_seconds
        self._history = history or StatusHistory(Moment(0.0, 0.0))
        self._packed: dict[FactorKey, bytes] = {}

    def __len__(self) -> int:
        return len(self._packed)

    def keep(self, record: FactorRecord, now: Moment) -> None:
        """Keep what is known of a factor that is removed now."""
        snapshot = snapshot_of(record, now)
        if snapshot is not None:
            times = SteadyTimes(record.answered_steady, record.not_verified_since)
            self._packed[record.watched.key] = _pack(now.steady, times, snapshot)

    def restore(self, snapshots: Mapping[FactorKey, FactorSnapshot], now: Moment) -> None:
        """Keep what a state file holds of factors that are not watched.

        One without a time of removal was removed between the two processes: it counts as removed now.
        """
        steady = now.steady - now.wall  # from wall to steady time

        def removed(entry: tuple[FactorKey, FactorSnapshot]) -> float:
            seconds = entry[1].removed_seconds
            return now.steady if seconds is None else min(now.steady, seconds + steady)

        for key, snapshot in sorted(snapshots.items(), key=removed):
            if snapshot.removed_seconds is None:
                self._history.ended(key, shown_in(snapshot), now)
            kept = dataclasses.replace(snapshot, removed_seconds=None)
            self._packed[key] = _pack(removed((key, snapshot)), snapshot.steady_times(now), kept)
        self.forget_old(now.steady)

    def take(self, key: FactorKey, steady: float) -> Known | None:
        """Return what was known of a factor that is watched again; ``None`` where nothing is, or no longer."""
        packed = self._packed.pop(key, None)
        if packed is None:
            return None
        removed, known = _unpack(packed)
        return known if steady - removed < self.forget_after_seconds else None

    def forget_old(self, steady: float) -> None:
        """Forget what was removed long ago, and what is too much; called regularly."""
        old = list(islice(self._packed, max(0, len(self._packed) - MOST_FACTORS)))
        for key, packed in islice(self._packed.items(), len(old), None):
            if steady - _unpack(packed)[0] < self.forget_after_seconds:
                break
            old.append(key)
        for key in old:
            del self._packed[key]
            self._history.forget(key)
        if not self._packed:
            self._packed = {}  # an emptied dict keeps its memory

    def saved(self) -> RemovedSnapshots:
        """Return what to save; it doesn't change when this object does."""
        return RemovedSnapshots(list(self._packed.items()))


class RemovedSnapshots:
    """The removed factors of one moment, to be saved; may be read in another thread."""

    def __init__(self, packed: list[tuple[FactorKey, bytes]]) -> None:
        self._packed = packed

    def __len__(self) -> int:
        return len(self._packed)

    def snapshots(self, now: Moment) -> Iterable[tuple[FactorKey, FactorSnapshot]]:
        """Yield the snapshots, with the wall time of the removal."""
        for key, packed in self._packed:
            removed, known = _unpack(packed)
            removed_seconds = round(now.wall - (now.steady - removed), 3)
            yield key, dataclasses.replace(known.snapshot, removed_seconds=removed_seconds)


def _pack(removed: float, times: SteadyTimes, snapshot: FactorSnapshot) -> bytes:
    status = None if snapshot.status is None else snapshot.status.value  # an enum can't be packed
    return marshal.dumps((removed, *times, status, [getattr(snapshot, name) for name in _NAMES]))


def _unpack(packed: bytes) -> tuple[float, Known]:
    removed, answered, since, status, values = marshal.loads(packed)  # noqa: S302 - it never left this process
    fields = dict(zip(_NAMES, values, strict=True))
    snapshot = FactorSnapshot(None if status is None else Status(status), **fields)
    return removed, Known(snapshot, SteadyTimes(answered, since))
