"""Factors and accounts in words: what a row of the status page and the head of a factor's page say."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from exporter.verify.mends import MENDS
from exporter.verify.outcome import Reason, Status
from exporter.web.selection import FAILING, PAUSED, states

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from exporter.polling.history import Fetch
    from exporter.polling.ledger import FactorRecord
    from exporter.watched import FactorKey
    from exporter.web.views import AccountView


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
    mend: str
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
        longer=not record.turn_seen,
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
        mend=MENDS[failure.result],
        current=record.up is False,
        at_seconds=failure.ended_seconds,
        since_seconds=record.failing_since_seconds,
    )


class Notice(NamedTuple):
    """Something wrong beyond a single factor, and its mend."""

    account: str
    text: str
    mend: str
    at_seconds: float | None


def notices(accounts: Iterable[AccountView]) -> list[Notice]:
    """Return what is wrong with accounts, the worst first."""
    found: list[tuple[int, Notice]] = []
    for account in accounts:
        if account.paused_for == "credentials":
            text = "is paused: its credentials are refused. None of its factors is looked at."
            mend = (
                "Correct username, password or the key's rights; a changed password_file is tried at once. "
                "Otherwise they are tried again"
            )
            found.append((0, Notice(account.account, text, mend, account.probe_at_seconds)))
        elif account.paused_for == "rate_limited":
            text = "is paused: the API asked it to slow down (HTTP 429)."
            found.append((1, Notice(account.account, text, "It goes on by itself", account.paused_until_seconds)))
        if account.stretch > 1:
            text = (
                f"is over its budget: it is asked for {account.demand_requests_per_second:.2f} requests a second "
                f"and has {account.budget_requests_per_second:.2f}, so its intervals are stretched "
                f"{account.stretch:.2f} times."
            )
            mend = "Lengthen intervals, or raise requests_per_second or max_concurrency."
            found.append((2, Notice(account.account, text, mend, None)))
    return [notice for _, notice in sorted(found, key=lambda item: item[0])]
