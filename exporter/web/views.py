"""What pages and API show of factors and accounts: values for people, with neither identity nor secret."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from exporter.polling.ledger import UNKNOWN
from exporter.verify.mends import MENDS
from exporter.verify.outcome import Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.polling.account import AccountPoller
    from exporter.polling.ledger import FactorRecord, Moment

_ORDER = {Status.NOT_FOUND: 0, Status.UNVERIFIED: 1, UNKNOWN: 3, Status.VERIFIED: 5}


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
        return {field.name: getattr(self, field.name) for field in fields(self)}  # no deep copies


def view(record: FactorRecord, request_id: str = "") -> FactorView:
    """Return what is shown of a factor; ``request_id`` is that of its last fetch."""
    watched, failure = record.watched, record.failure
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
        last_success_seconds=record.answered_seconds,
        last_verified_seconds=record.last_verified_seconds,
        last_fetch_seconds=record.last_seconds,
        last_fetch_duration_seconds=record.duration_seconds,
        last_fetch_attempts=record.attempts,
        last_fetch_request_id=request_id or None,
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
        order = 6
    elif record.up is False and order > 1:
        order -= 1  # before those whose fetches are answered, or are still to come
    return order, key.account, record.watched.name, key.service_sid


@dataclass(frozen=True, slots=True)
class AccountView:
    """One account as shown: what it may spend, what it spends, and what holds it; its SIDs are left out.

    Times are seconds since the epoch. ``paused_until_seconds`` is known of a 429's pause alone: one for refused
    credentials ends with a probe that is answered. ``latency_seconds`` is ``None`` until it is measured.
    """

    account: str
    credentials_valid: bool | None
    paused: bool
    paused_for: str | None
    paused_until_seconds: float | None
    probe_at_seconds: float | None
    factors: int
    queue_length: int
    in_flight: int
    concurrency_limit: int
    max_concurrency: int
    requests_per_second: float
    demand_requests_per_second: float
    budget_requests_per_second: float
    stretch: float
    latency_seconds: float | None
    client_rotations: int

    def as_json(self) -> dict[str, Any]:
        """Return what the API shows."""
        return {field.name: getattr(self, field.name) for field in fields(self)}  # no deep copies


def account_views(
    accounts: Mapping[str, AccountPoller], counts: Mapping[tuple[str, str], Mapping[str, int]], now: Moment
) -> list[AccountView]:
    """Return what is shown of each account; ``counts`` are its factors by (account, service SID) and status."""
    factors = dict.fromkeys(accounts, 0)
    for (name, _), of in counts.items():
        factors[name] = factors.get(name, 0) + sum(of.values())
    return [_account_view(account, factors[name], now) for name, account in accounts.items()]


def _account_view(account: AccountPoller, factors: int, now: Moment) -> AccountView:
    throttle, probe_at = account.throttle, account.probe_at
    refused, limited = probe_at is not None, throttle.paused(now.steady)
    wall = now.wall - now.steady
    return AccountView(
        account=account.name,
        credentials_valid=account.credentials_valid,
        paused=refused or limited,
        paused_for="credentials" if refused else "rate_limited" if limited else None,
        paused_until_seconds=round(throttle.paused_until + wall, 3) if limited and not refused else None,
        probe_at_seconds=None if probe_at is None else round(probe_at + wall, 3),
        factors=factors,
        queue_length=account.queue_length,
        in_flight=throttle.in_flight,
        concurrency_limit=throttle.limit,
        max_concurrency=throttle.max_concurrency,
        requests_per_second=throttle.requests_per_second,
        demand_requests_per_second=account.demand_requests_per_second,
        budget_requests_per_second=throttle.budget_requests_per_second,
        stretch=account.stretch,
        latency_seconds=throttle.latency_seconds,
        client_rotations=account.rotations,
    )
