"""What pages and API show of a factor: values for people, with no identity among them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from exporter.polling.ledger import UNKNOWN
from exporter.verify.mends import MENDS
from exporter.verify.outcome import Failure, Status

if TYPE_CHECKING:
    from exporter.polling.ledger import FactorRecord

_ORDER = {Status.NOT_FOUND: 0, Status.UNVERIFIED: 1, UNKNOWN: 2, Status.VERIFIED: 4}


@dataclass(frozen=True, slots=True)
class FactorView:
    """One factor as shown; times are seconds since the epoch, ``None`` where there is none."""

    account: str
    service_sid: str
    factor: str
    factor_sid: str
    factor_type: str
    labels: dict[str, str]
    status: str
    paused: bool
    up: bool | None
    interval_seconds: float
    last_success_seconds: float | None
    last_verified_seconds: float | None
    last_fetch_seconds: float | None
    last_fetch_duration_seconds: float | None
    last_fetch_attempts: int | None
    last_fetch_request_id: str | None
    failures: int
    last_failure: str | None
    last_failure_reason: str | None
    mend: str | None

    def as_json(self) -> dict[str, Any]:
        """Return what the API shows."""
        return asdict(self)


def view(record: FactorRecord) -> FactorView:
    """Return what is shown of a factor."""
    watched, last = record.watched, record.last
    failure = last.result if last is not None and isinstance(last.result, Failure) else None
    return FactorView(
        account=watched.key.account,
        service_sid=watched.key.service_sid,
        factor=watched.name,
        factor_sid=watched.key.factor_sid,
        factor_type=record.factor_type,
        labels=dict(watched.labels),
        status=record.status or UNKNOWN,
        paused=watched.paused,
        up=record.up,
        interval_seconds=record.interval_seconds,
        last_success_seconds=record.answered.wall if record.answered else None,
        last_verified_seconds=record.last_verified_seconds,
        last_fetch_seconds=record.last_at.wall if record.last_at else None,
        last_fetch_duration_seconds=record.duration_seconds,
        last_fetch_attempts=last.attempts if last else None,
        last_fetch_request_id=(last.request_id or None) if last else None,
        failures=record.failures,
        last_failure=failure.detail or failure.reason.value if failure else None,
        last_failure_reason=failure.reason if failure else None,
        mend=MENDS[failure.reason] if failure else None,
    )


def urgency(record: FactorRecord) -> tuple[int, str, str, str]:
    """Return the place of a factor in a list with what is wrong first."""
    key = record.watched.key
    order = _ORDER[record.status or UNKNOWN]
    if record.watched.paused:
        order = 5
    elif record.up is False:
        order = min(order, 3)
    return order, key.account, record.watched.name, key.service_sid
