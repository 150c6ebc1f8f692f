"""A probe: an on-demand fetch to wait for, at once, within the account's budget, one per factor at a time."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exporter.polling.account import AccountPoller
    from exporter.polling.clock import Clock
    from exporter.polling.ledger import Ledger
    from exporter.watched import FactorKey

FRESH_SECONDS = 10.0


class ProbeResult(StrEnum):
    """How a probe ended."""

    KNOWN = "known"
    """The ledger is up to date: a fetch ended, with whatever outcome, or an answer is younger than 10 s."""

    PAUSED = "paused"
    """The account is paused."""

    TIMED_OUT = "timed_out"
    """No fetch ended in time; one in flight continues."""

    NOT_POLLED = "not_polled"
    """The factor is no longer watched, paused in the watchlist, or its identity is not known yet."""

    STOPPED = "stopped"
    """The exporter is stopping, or the account was removed."""


async def probe(
    key: FactorKey, *, account: AccountPoller, ledger: Ledger, clock: Clock, within_seconds: float
) -> ProbeResult:
    """Fetch a factor now, or wait for its fetch in flight.

    A fetch that could not start in time is not made; one that started continues even if its client has gone.
    """
    began = clock.steady()
    deadline = began + within_seconds
    while True:
        record, now = ledger.get(key), clock.steady()
        if record is None or not record.watched.polled:
            return ProbeResult.NOT_POLLED
        if record.last_seconds is not None and record.last_steady > began:
            return ProbeResult.KNOWN
        if account.stopping:
            return ProbeResult.STOPPED
        if account.pause is not None:
            return ProbeResult.PAUSED
        if (
            record.up is True
            and record.answered_seconds is not None
            and now - record.answered_steady < FRESH_SECONDS
        ):
            return ProbeResult.KNOWN
        if now >= deadline:
            return ProbeResult.TIMED_OUT
        account.fetch_soon(record, deadline)
        await account.in_flight_keys.end(key, deadline - now)
