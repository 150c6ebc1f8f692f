"""What pages and API show of factors and accounts: values for people, with neither identity nor secret."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from exporter.polling.pause import PauseReason
from exporter.polling.record import UNKNOWN
from exporter.verify.outcome import HINTS, Reason, Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from exporter.polling.account import AccountPoller
    from exporter.polling.clock import Moment
    from exporter.polling.record import FactorRecord
    from exporter.watched import FactorKey
    from exporter.web.history import Fetch


TROUBLE, FAILING, PAUSED = "trouble", "failing", "paused"


def states(record: FactorRecord) -> tuple[str, ...]:
    """Return what a factor counts as: paused, or its status, and beside that failing while its fetches fail."""
    if record.watched.paused:
        return (PAUSED,)
    status = record.status or UNKNOWN
    return (status, FAILING) if record.up is False else (status,)


def troubled(record: FactorRecord) -> bool:
    """Return whether a factor wants a look: anything but verified, or verified while its fetches fail."""
    return not record.watched.paused and (record.status is not Status.VERIFIED or record.up is False)


class Words(NamedTuple):
    """How a state is shown: never by its colour alone."""

    mark: str
    text: str
    meaning: str


STATE_WORDS: Mapping[str, Words] = {
    Status.NOT_FOUND: Words("∅", "not found", "the API answers 404: the factor is gone, or the watchlist is wrong"),
    Status.UNVERIFIED: Words("✗", "unverified", "the API says that the factor is not verified"),
    "unknown": Words("?", "unknown", "never answered, or the last answer is too old to go by"),
    FAILING: Words("!", "failing", "the last fetch brought no answer"),
    Status.VERIFIED: Words("✓", "verified", "the API says that the factor is verified"),
    PAUSED: Words("‖", "paused", "listed, not looked at"),
}


def span(seconds: float) -> str:
    """Return a time span in the largest unit of which there are at least two."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def path_of(record: FactorRecord) -> str:
    """Return the path of a factor's page, relative to the status page."""
    key = record.watched.key
    parts = (key.account, key.service_sid, record.watched.name)
    return "/".join(("factors", *(quote(part, safe="", errors="replace") for part in parts)))


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why the last fetch, or an earlier one, brought no answer; and what to do about it.

    ``current`` is whether fetches fail still; ``since_seconds`` is when the first of them ended, ``None`` where
    that was before this process.
    """

    detail: str
    hint: str
    current: bool
    at_seconds: float
    since_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One factor; times are wall seconds, ``None`` where there is none."""

    record: FactorRecord
    path: str
    anchor: str
    state: str
    failing: bool
    since_seconds: float | None
    longer: bool
    last_seconds: float | None
    next_seconds: float | None
    held: str
    trouble: Trouble | None

    @property
    def name(self) -> str:
        """The factor's name."""
        return self.record.watched.name

    @property
    def key(self) -> FactorKey:
        """The factor's key."""
        return self.record.watched.key


def row_of(
    record: FactorRecord, next_seconds: float | None, failure: Fetch | None, accounts: Mapping[str, AccountView]
) -> Row:
    """Return a factor's row; ``failure`` is the last that is remembered, ``accounts`` are those of the factors."""
    key = record.watched.key
    record = copy(record)  # this moment: the page is written bit by bit
    state = states(record)[0]
    account = accounts.get(key.account)
    held = ""
    if record.watched.paused:
        held = "never: it is paused"
    elif account is not None and account.paused:
        held = "held: its account is paused"
    elif next_seconds is None:
        held = "under way"
    return Row(
        record=record,
        path=path_of(record),
        anchor=f"{key.account}.{key.service_sid}.{key.factor_sid}",
        state=state,
        failing=record.up is False and state != PAUSED,
        since_seconds=None if state == PAUSED else record.status_since_seconds,
        longer=not record.status_change_seen,
        last_seconds=record.last_seconds,
        next_seconds=next_seconds,
        held=held,
        trouble=_trouble(record, failure),
    )


def _trouble(record: FactorRecord, failure: Fetch | None) -> Trouble | None:
    if failure is None or not isinstance(failure.result, Reason):
        return None
    return Trouble(
        detail=failure.detail or failure.result.replace("_", " "),
        hint=HINTS[failure.result],
        current=record.up is False,
        at_seconds=failure.ended_seconds,
        since_seconds=record.failing_since_seconds,
    )


class AccountNotice(NamedTuple):
    """Something wrong beyond a single factor, and its hint."""

    account: str
    text: str
    hint: str
    at_seconds: float | None


def notices(accounts: Iterable[AccountView]) -> list[AccountNotice]:
    """Return what is wrong with accounts, the worst first."""
    found: list[tuple[int, AccountNotice]] = []
    for account in accounts:
        if account.paused_for is PauseReason.CREDENTIALS:
            text = "is paused: its credentials are refused. None of its factors is looked at."
            hint = (
                "Correct username, password or the key's rights; a changed password_file is tried at once. "
                "Otherwise they are tried again"
            )
            found.append((0, AccountNotice(account.account, text, hint, account.probe_at_seconds)))
        elif account.paused_for is PauseReason.RATE_LIMITED:
            text = "is paused: the API asked it to slow down (HTTP 429)."
            found.append(
                (1, AccountNotice(account.account, text, "It goes on by itself", account.paused_until_seconds))
            )
        if account.stretch > 1:
            text = (
                f"is over its budget: it is asked for {account.demand_requests_per_second:.2f} requests a second "
                f"and has {account.budget_requests_per_second:.2f}, so its intervals are stretched "
                f"{account.stretch:.2f} times."
            )
            hint = "Lengthen intervals, or raise requests_per_second or max_concurrency."
            found.append((2, AccountNotice(account.account, text, hint, None)))
    return [notice for _, notice in sorted(found, key=lambda item: item[0])]


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
    hint: str | None

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
        hint=HINTS[failure.reason] if failure else None,
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
    paused_for: PauseReason | None
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
    throttle, pause = account.throttle, account.pause
    return AccountView(
        account=account.name,
        credentials_valid=account.credentials_valid,
        paused=pause is not None,
        paused_for=None if pause is None else pause.reason,
        paused_until_seconds=None if pause is None else _wall_seconds(pause.until_steady, now),
        probe_at_seconds=None if pause is None else _wall_seconds(pause.probe_at_steady, now),
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


def _wall_seconds(steady: float | None, now: Moment) -> float | None:
    return None if steady is None else round(steady + now.wall - now.steady, 3)
