"""What is known of one factor: a record, changed by the ledger alone."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from exporter.verify.outcome import OTHER, Failure, Status
from exporter.watched import FACTOR_TYPES

if TYPE_CHECKING:
    from exporter.watched import WatchedFactor

UNKNOWN = "unknown"
STATUSES = (*Status, UNKNOWN)
COUNTED_TYPES = (*FACTOR_TYPES, OTHER, UNKNOWN)
_COUNTED_AS = MappingProxyType({"": UNKNOWN, **dict(zip(FACTOR_TYPES, FACTOR_TYPES, strict=True))})


def counted_type(factor_type: str) -> str:
    """Return the value of the label ``factor_type`` in aggregates: one of ``COUNTED_TYPES``."""
    return _COUNTED_AS.get(factor_type, OTHER)


@dataclass(slots=True, eq=False)
class FactorRecord:
    """What is known of one factor; ``None`` means not known, and is never shown as a value.

    ``status`` is what may be shown now: it is withdrawn when it becomes stale. ``last_status`` keeps the last
    answer beyond that, for counting changes and for the interval. ``entity`` is the name of the watched entity
    that the factor was found in, empty for one that is only listed. ``status_since_seconds`` is when ``status``
    was first seen; without ``status_change_seen`` the status may be older than that. ``not_verified_since`` is when
    (steady seconds) ``last_status`` was first seen, if that is unverified or not found. ``answered…`` is when the
    last definite answer came, ``last…`` when the last fetch ended; ``attempts`` and ``failure`` are those of
    that fetch. Only numbers and texts change with a fetch, and equal failures are one object; the reason is in
    :mod:`exporter.polling.calendar`.
    """

    watched: WatchedFactor
    entity: str = ""
    status: Status | None = None
    last_status: Status | None = None
    status_since_seconds: float | None = None
    status_change_seen: bool = False
    failing_since_seconds: float | None = None
    up: bool | None = None
    answered_seconds: float | None = None
    answered_steady: float = 0.0
    answered_interval_seconds: float = 0.0
    last_verified_seconds: float | None = None
    not_verified_since: float | None = None
    duration_seconds: float | None = None
    failures: int = 0
    created_seconds: float | None = None
    updated_seconds: float | None = None
    approved_seconds: float | None = None
    factor_type: str = ""
    entity_sid: str = ""
    notification_platform: str = ""
    slowed: bool = False
    stale_at: float | None = None
    stale_queued: float | None = None
    interval_seconds: float = 0.0
    attempts: int | None = None
    failure: Failure | None = None
    last_seconds: float | None = None
    last_steady: float = 0.0

    @property
    def shown_status(self) -> Status | None:
        """The status that may be shown now: none while the factor is paused."""
        return None if self.watched.paused else self.status


class StatusChange(NamedTuple):
    """A status that differs from the last known one.

    ``enrolment_seconds`` is how long ago the factor was created, if this change completed its enrolment.
    """

    before: Status
    after: Status
    enrolment_seconds: float | None = None
