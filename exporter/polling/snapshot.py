"""What is saved of a factor across restarts: what was observed, and when; no identity, name or label."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from exporter.verify.outcome import NOTIFICATION_PLATFORMS, OTHER, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.polling.clock import Moment
    from exporter.polling.record import FactorRecord

EARLIEST_SECONDS = 946_684_800.0  # 2000-01-01: before that, the clock was not set
FUTURE_SECONDS = 5.0
_LONGEST_TEXT = 64


class SteadyTimes(NamedTuple):
    """When the last answer came, and since when it says unverified or not found, on the steady clock."""

    answered: float
    not_verified_since: float | None


@dataclass(frozen=True, slots=True)
class FactorSnapshot:
    """What was known of one factor. Times are wall time in seconds since the epoch, ``None`` where there is none.

    A status that was ``withdrawn`` is kept as the last one, and not shown again without an answer. ``entity`` is
    the name of the watched entity that the factor was found in, empty for one that was only listed;
    ``gone_since_seconds`` is when it was first missing there. ``removed_seconds`` is when it was removed from the
    watchlist; the times of the status are as in the record.
    """

    status: Status | None = None
    answered_seconds: float | None = None
    answered_interval_seconds: float = 0.0
    last_verified_seconds: float | None = None
    unverified_since_seconds: float | None = None
    not_found_since_seconds: float | None = None
    up: bool | None = None
    failures: int = 0
    duration_seconds: float | None = None
    created_seconds: float | None = None
    updated_seconds: float | None = None
    approved_seconds: float | None = None
    factor_type: str = ""
    entity_sid: str = ""
    notification_platform: str = ""
    slowed: bool = False
    withdrawn: bool = False
    entity: str = ""
    gone_since_seconds: float | None = None
    status_since_seconds: float | None = None
    status_change_seen: bool = False
    failing_since_seconds: float | None = None
    removed_seconds: float | None = None

    @property
    def not_verified_since_seconds(self) -> float | None:
        """Since when the last answers said unverified, or not found; ``None`` where that is not known."""
        unverified = self.status is Status.UNVERIFIED
        return self.unverified_since_seconds if unverified else self.not_found_since_seconds

    def steady_times(self, now: Moment) -> SteadyTimes:
        """Return the times that count on the steady clock, for a snapshot of another process."""
        steady = now.steady - now.wall  # from wall to steady time
        if self.answered_seconds is None:
            return SteadyTimes(0.0, None)
        answered = self.answered_seconds + steady
        if self.status is Status.VERIFIED:
            return SteadyTimes(answered, None)
        since = self.not_verified_since_seconds
        return SteadyTimes(answered, answered if since is None else since + steady)

    def as_fields(self) -> dict[str, Any]:
        """Return plain values without those that are not known."""
        return {name: value for name in _READ if (value := getattr(self, name)) != _DEFAULTS[name]}

    @classmethod
    def from_fields(cls, fields: object) -> FactorSnapshot | None:
        """Return what :meth:`as_fields` wrote, ``None`` where a value has another type or is impossible."""
        if not isinstance(fields, dict) or not fields.keys() <= _READ.keys():
            return None
        try:
            values = {name: _READ[name](value) for name, value in fields.items()}
        except _UnreadableError:
            return None
        snapshot = cls(**values)
        return snapshot if (snapshot.status is None) == (snapshot.answered_seconds is None) else None

    def believable(self, now_wall: float) -> bool:
        """Return whether all times are in the past, and after the year 2000."""
        times = (
            self.answered_seconds,
            self.last_verified_seconds,
            self.unverified_since_seconds,
            self.not_found_since_seconds,
            self.gone_since_seconds,
            self.status_since_seconds,
            self.failing_since_seconds,
            self.removed_seconds,
        )
        latest = now_wall + FUTURE_SECONDS
        return all(EARLIEST_SECONDS <= seconds <= latest for seconds in times if seconds is not None)


class _UnreadableError(ValueError):
    """A value of another type, or an impossible one."""


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise _UnreadableError
    return float(value)


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
        raise _UnreadableError
    return value


def _switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise _UnreadableError
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
        raise _UnreadableError
    return value


def _name(value: object) -> str:
    if not isinstance(value, str):
        raise _UnreadableError
    return value


def _status(value: object) -> Status:
    if value not in list(Status):
        raise _UnreadableError
    return Status(str(value))


def _platform(value: object) -> str:
    if value not in (*NOTIFICATION_PLATFORMS, OTHER):
        raise _UnreadableError
    return str(value)


_READ: dict[str, Callable[[object], Any]] = {
    "status": _status,
    "answered_seconds": _number,
    "answered_interval_seconds": _number,
    "last_verified_seconds": _number,
    "unverified_since_seconds": _number,
    "not_found_since_seconds": _number,
    "up": _switch,
    "failures": _count,
    "duration_seconds": _number,
    "created_seconds": _number,
    "updated_seconds": _number,
    "approved_seconds": _number,
    "factor_type": _text,
    "entity_sid": _text,
    "notification_platform": _platform,
    "slowed": _switch,
    "withdrawn": _switch,
    "entity": _name,
    "gone_since_seconds": _number,
    "status_since_seconds": _number,
    "status_change_seen": _switch,
    "failing_since_seconds": _number,
    "removed_seconds": _number,
}
_DEFAULTS = {field.name: field.default for field in dataclasses.fields(FactorSnapshot)}


def _past(seconds: float | None, now: Moment) -> float | None:
    """Return a beginning in wall time, ``None`` where it is unknown because the wall clock was set back since."""
    return None if seconds is None or seconds > now.wall + FUTURE_SECONDS else seconds


def snapshot_of(
    record: FactorRecord, now: Moment, *, gone_since_seconds: float | None = None
) -> FactorSnapshot | None:
    """Return what is known of a factor in the form that is saved, ``None`` where nothing is known yet."""
    if record.last_seconds is None and record.answered_seconds is None and record.up is None:
        return None
    since = record.not_verified_since
    since_wall = None if since is None else round(now.wall - (now.steady - since), 3)
    status_since = _past(record.status_since_seconds, now)
    return FactorSnapshot(
        status=record.last_status,
        answered_seconds=record.answered_seconds,
        answered_interval_seconds=record.answered_interval_seconds,
        last_verified_seconds=record.last_verified_seconds,
        unverified_since_seconds=since_wall if record.last_status is Status.UNVERIFIED else None,
        not_found_since_seconds=since_wall if record.last_status is Status.NOT_FOUND else None,
        up=record.up,
        failures=record.failures,
        duration_seconds=record.duration_seconds,
        created_seconds=record.created_seconds,
        updated_seconds=record.updated_seconds,
        approved_seconds=record.approved_seconds,
        factor_type=record.factor_type,
        entity_sid=record.entity_sid,
        notification_platform=record.notification_platform,
        slowed=record.slowed,
        withdrawn=record.status is None and record.last_status is not None,
        entity=record.entity,
        gone_since_seconds=gone_since_seconds,
        status_since_seconds=status_since,
        status_change_seen=record.status_change_seen and status_since is not None,
        failing_since_seconds=_past(record.failing_since_seconds, now),
    )
