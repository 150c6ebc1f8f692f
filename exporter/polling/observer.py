"""What the poller tells those who count, render and log; instrumentation stays out of its logic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from exporter.polling.clients import RotationReason
    from exporter.polling.record import FactorRecord, StatusChange
    from exporter.verify.outcome import Attempt, Failure, Operation, Outcome
    from exporter.watched import WatchedEntity


class Observer(Protocol):
    """Told of everything that happens while polling, in the order it happens."""

    def watched(self, record: FactorRecord) -> None:
        """Called when a factor begins to be watched."""

    def revised(self, record: FactorRecord) -> None:
        """Called when a watched factor's name, labels, interval, pause or entity changed."""

    def forgotten(self, record: FactorRecord) -> None:
        """Called when a factor is no longer watched."""

    def attempted(self, account: str, operation: Operation, attempt: Attempt) -> None:
        """Called after each request."""

    def retried(self, account: str) -> None:
        """Called when a fetch begins another attempt."""

    def started(self, lag_seconds: float) -> None:
        """Called when a due fetch starts, with how late it is."""

    def fetched(self, record: FactorRecord, outcome: Outcome, change: StatusChange | None) -> None:
        """Called after each fetch, once the ledger knows of it."""

    def withdrawn(self, record: FactorRecord) -> None:
        """Called when a status became stale."""

    def interval_changed(self, record: FactorRecord) -> None:
        """Called when the interval in force changed without a fetch."""

    def listed(self, entity: WatchedEntity, found: int) -> None:
        """Called after an entity's factors were listed whole."""

    def listing_failed(self, entity: WatchedEntity, failure: Failure) -> None:
        """Called after a list of an entity's factors failed."""

    def entity_forgotten(self, entity: WatchedEntity) -> None:
        """Called when an entity is no longer watched, after its factors are forgotten."""

    def credentials_refused(self, account: str, failure: Failure) -> None:
        """Called when a refusal is confirmed and the account pauses."""

    def credentials_accepted(self, account: str) -> None:
        """Called when a pause for credentials ends."""

    def rate_limited(self, account: str, pause_seconds: float, concurrency_limit: int) -> None:
        """Called when a 429 pauses the account."""

    def over_budget(self, account: str, stretch: float, demand: float, budget: float) -> None:
        """Called when an account's intervals are stretched anew; 1 means no longer."""

    def client_rotated(self, account: str, why: RotationReason) -> None:
        """Called when an account's client was jammed and a fresh one took its place."""
