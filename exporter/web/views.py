"""Factors and accounts as the pages and the API show them: without identities and secrets.

A status word and its meaning are in :data:`STATE_LABELS`; the fields of the API are :class:`FactorView` and
:class:`AccountView`.
"""

from __future__ import annotations

import math
from copy import copy
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from exporter.polling.pause import PauseReason
from exporter.polling.record import UNKNOWN
from exporter.verify.outcome import Reason, Status, hint_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from exporter.polling.account import AccountPoller
    from exporter.polling.clock import Moment
    from exporter.polling.record import FactorRecord
    from exporter.watched import FactorKey
    from exporter.web.history import Fetch, Latest
    from exporter.web.status_bar import Bar


ATTENTION, FAILING, PAUSED = "attention", "failing", "paused"


def states(record: FactorRecord) -> tuple[str, ...]:
    """Return the states of a factor: paused alone, or its status, and failing beside it while its fetches fail."""
    if record.watched.paused:
        return (PAUSED,)
    status = record.status or UNKNOWN
    return (status, FAILING) if record.up is False else (status,)


def needs_attention(record: FactorRecord) -> bool:
    """Return whether a factor is polled and is not verified, or its last fetch failed."""
    return not record.watched.paused and (record.status is not Status.VERIFIED or record.up is False)


class StateLabel(NamedTuple):
    """How a state is shown: never by colour alone."""

    mark: str
    text: str
    meaning: str


STATE_LABELS: Mapping[str, StateLabel] = {
    Status.NOT_FOUND: StateLabel(
        "∅", "not found", "the API returns 404: the factor was deleted, or the watchlist entry is wrong"
    ),
    Status.UNVERIFIED: StateLabel("✗", "unverified", "the API reports the factor as unverified"),
    UNKNOWN: StateLabel("?", "unknown", "no answer yet, or the last answer is too old to rely on"),
    FAILING: StateLabel("!", "failing", "the last fetch failed"),
    Status.VERIFIED: StateLabel("✓", "verified", "the API reports the factor as verified"),
    PAUSED: StateLabel("‖", "paused", "in the watchlist, but not polled"),
}


def path_of(record: FactorRecord) -> str:
    """Return the path of a factor's page, relative to the status page."""
    key = record.watched.key
    parts = (key.account, key.service_sid, record.watched.name)
    return "/".join(("factors", *(quote(part, safe="", errors="replace") for part in parts)))


@dataclass(frozen=True, slots=True)
class LastFailure:
    """Why a factor's latest failed fetch failed, and what to do about it.

    ``current`` says that the last fetch is that one; ``since_seconds`` is when the first of the current run of
    failures ended, ``None`` where that was before this process started.
    """

    detail: str
    hint: str
    current: bool
    at_seconds: float
    since_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One factor in a table; times are wall seconds, ``None`` where there is none.

    ``since_at_least`` says that the factor may have been in its state before ``since_seconds``; ``no_next`` is why
    there is no next check, empty where there is one. ``bar`` shows the last day.
    """

    record: FactorRecord
    path: str
    anchor: str
    state: str
    failing: bool
    since_seconds: float | None
    since_at_least: bool
    last_seconds: float | None
    next_seconds: float | None
    no_next: str
    failure: LastFailure | None
    bar: Bar

    @property
    def name(self) -> str:
        """The factor's name."""
        return self.record.watched.name

    @property
    def key(self) -> FactorKey:
        """The factor's key."""
        return self.record.watched.key


def row_of(
    record: FactorRecord,
    next_seconds: float | None,
    failure: Fetch | None,
    accounts: Mapping[str, AccountView],
    bar: Bar,
) -> Row:
    """Return a factor's row; ``failure`` is its latest failure in the history, ``accounts`` are by name."""
    key = record.watched.key
    record = copy(record)  # a page is rendered in steps, and must show one moment
    state = states(record)[0]
    account = accounts.get(key.account)
    no_next = ""
    if record.watched.paused:
        no_next = "not polled"
    elif not record.watched.polled:
        no_next = "after the next listing"
    elif account is not None and account.paused:
        no_next = "account paused"
    elif next_seconds is None:
        no_next = "queued or in flight"
    return Row(
        record=record,
        path=path_of(record),
        anchor=f"{key.account}.{key.service_sid}.{key.factor_sid}",
        state=state,
        failing=record.up is False and state != PAUSED,
        since_seconds=None if state == PAUSED else record.status_since_seconds,
        since_at_least=not record.status_change_seen,
        last_seconds=record.last_seconds,
        next_seconds=next_seconds,
        no_next=no_next,
        failure=_last_failure(record, failure),
        bar=bar,
    )


def _last_failure(record: FactorRecord, failure: Fetch | None) -> LastFailure | None:
    if failure is None or not isinstance(failure.result, Reason):
        return None
    return LastFailure(
        detail=failure.detail or failure.result.replace("_", " "),
        hint=hint_of(failure.result, failure.detail),
        current=record.up is False,
        at_seconds=failure.ended_seconds,
        since_seconds=record.failing_since_seconds,
    )


SERVICE_GONE_HINT = (
    "Check whether the service was deleted, which can't be undone. If it was not, check service_sid, account_sid "
    "and base_url."
)


def meaning_of(state: str, service_exists: bool | None) -> str:
    """Return what a factor's state means, given whether its service exists; ``None`` if that isn't known."""
    if state == Status.NOT_FOUND and service_exists is False:
        return f"the API returns 404 for the factor and for its service. {SERVICE_GONE_HINT}"
    return STATE_LABELS[state].meaning


class AccountNotice(NamedTuple):
    """A problem of a whole account, and its hint; ``at_seconds`` is when it is retried or ends."""

    account: str
    text: str
    hint: str
    at_seconds: float | None


def notices(accounts: Iterable[AccountView]) -> list[AccountNotice]:
    """Return the problems of accounts, the most severe first."""
    found: list[tuple[int, AccountNotice]] = []
    for account in accounts:
        if account.paused_for is PauseReason.CREDENTIALS:
            text = "is paused: its credentials were refused. None of its factors are polled."
            hint = (
                "Correct the credentials or their permissions; a changed password_file or client_secret_file is "
                "tried at once. The credentials are tried again"
            )
            found.append((0, AccountNotice(account.account, text, hint, account.probe_at_seconds)))
        elif account.paused_for is PauseReason.RATE_LIMITED:
            text = "is paused: the API limits its request rate (HTTP 429)."
            found.append((1, AccountNotice(account.account, text, "Polling resumes", account.paused_until_seconds)))
        if account.stretch > 1:
            text = (
                f"is over budget: its intervals need {account.demand_requests_per_second:.2f} requests per second, "
                f"{account.budget_requests_per_second:.2f} are allowed. All intervals are multiplied by "
                f"{account.stretch:.2f}."
            )
            hint = "Use longer intervals, or raise requests_per_second or max_concurrency."
            found.append((3, AccountNotice(account.account, text, hint, None)))
        for service_sid, exists in account.service_exists.items():
            if not exists:
                text = f"has no service {service_sid}: the API answers 404 for it. Its factors can't be found."
                found.append((2, AccountNotice(account.account, text, SERVICE_GONE_HINT, None)))
    return [notice for _, notice in sorted(found, key=lambda item: item[0])]


_ORDER = {Status.NOT_FOUND: 0, Status.UNVERIFIED: 1, UNKNOWN: 3, Status.VERIFIED: 5}
_PAUSED_ORDER = 6


@dataclass(frozen=True, slots=True)
class FactorView:
    """One factor in the API; times are seconds since the epoch, ``None`` where there is none."""

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
    last_fetch_http_status: int | None
    last_fetch_twilio_code: int | None
    last_fetch_request_id: str | None
    last_change_seconds: float | None
    last_change_from: str | None
    last_change_to: str | None
    last_change_http_status: int | None
    last_change_twilio_code: int | None
    last_change_request_id: str | None
    failures: int
    last_failure: str | None
    last_failure_reason: str | None
    hint: str | None

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object of the API."""
        return {field.name: getattr(self, field.name) for field in fields(self)}  # no deep copies


def view(record: FactorRecord, latest: Latest) -> FactorView:
    """Return a factor as the API shows it; ``latest`` is from its history."""
    watched, failure = record.watched, record.failure
    change = latest.change
    http_status, twilio_code, request_id = _evidence(latest.fetch)
    change_http_status, change_twilio_code, change_request_id = _evidence(change)
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
        last_fetch_http_status=http_status,
        last_fetch_twilio_code=twilio_code,
        last_fetch_request_id=request_id,
        last_change_seconds=None if change is None else change.ended_seconds,
        last_change_from=None if change is None else change.before,
        last_change_to=None if change is None else change.result,
        last_change_http_status=change_http_status,
        last_change_twilio_code=change_twilio_code,
        last_change_request_id=change_request_id,
        failures=record.failures,
        last_failure=failure.detail or failure.reason.value if failure else None,
        last_failure_reason=failure.reason if failure else None,
        hint=failure.hint if failure else None,
    )


def _evidence(fetch: Fetch | None) -> tuple[int | None, int | None, str | None]:
    """Return a fetch's HTTP status, Twilio code and request ID, ``None`` for those that it doesn't have."""
    return (None, None, None) if fetch is None else (fetch.code, fetch.twilio_code, fetch.request_id or None)


def urgency(record: FactorRecord) -> tuple[int, float, str, str, str]:
    """Return the sort key of a factor in a list with problems first, and the newest of a kind first.

    Those whose state was not seen to begin come last among their kind.
    """
    key = record.watched.key
    order = _ORDER[record.status or UNKNOWN]
    since = record.status_since_seconds if record.status_change_seen else None
    if record.watched.paused:
        order, since = _PAUSED_ORDER, None
    elif record.up is False and order > _ORDER[Status.UNVERIFIED]:
        order -= 1  # before those whose last fetch succeeded, or that have had none
        if record.status is Status.VERIFIED:
            since = record.failing_since_seconds  # that is the problem
    return order, math.inf if since is None else -since, key.account, record.watched.name, key.service_sid


@dataclass(frozen=True, slots=True)
class SourceView:
    """A watchlist URL on the status page; ``entries`` is what it lists, ``None`` if nothing of it is known.

    ``problems`` is why its last load failed. ``last_success_seconds`` is Unix time.
    """

    name: str
    up: bool | None
    problems: tuple[str, ...]
    last_success_seconds: float | None
    entries: int | None


@dataclass(frozen=True, slots=True)
class AccountView:
    """One account in the API: its budget, its use, and its pause; its SIDs are left out.

    Times are seconds since the epoch. Only a pause for a 429 has ``paused_until_seconds``: one for refused
    credentials ends with a probe that succeeds. ``latency_seconds`` is ``None`` until it is measured.
    ``service_exists`` has the services, by SID, of which it is known whether they exist.
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
    service_exists: dict[str, bool]

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object of the API."""
        return {field.name: getattr(self, field.name) for field in fields(self)}  # no deep copies


def account_views(
    accounts: Mapping[str, AccountPoller],
    counts: Mapping[tuple[str, str], Mapping[str, int]],
    now: Moment,
    existence: Mapping[tuple[str, str], bool],
) -> list[AccountView]:
    """Return each account as it is shown.

    ``counts`` has factors by (account, service SID) and status; ``existence`` says whether services exist.
    """
    factors = dict.fromkeys(accounts, 0)
    for (name, _), of in counts.items():
        factors[name] = factors.get(name, 0) + sum(of.values())
    services: dict[str, dict[str, bool]] = {}
    for (name, service_sid), exists in sorted(existence.items()):
        services.setdefault(name, {})[service_sid] = exists
    return [
        _account_view(account, factors[name], services.get(name, {}), now) for name, account in accounts.items()
    ]


def _account_view(
    account: AccountPoller, factors: int, service_exists: dict[str, bool], now: Moment
) -> AccountView:
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
        service_exists=service_exists,
    )


def _wall_seconds(steady: float | None, now: Moment) -> float | None:
    return None if steady is None else round(steady + now.wall - now.steady, 3)
