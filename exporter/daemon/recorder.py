"""Where polling meets what is shown: each event is counted, rendered and written to the log once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.logs.output import flush_repeats
from exporter.verify.outcome import Failure

if TYPE_CHECKING:
    from exporter.exposition.factors import FactorExposition
    from exporter.exposition.telemetry import Telemetry
    from exporter.logs.events import EventLog
    from exporter.polling.clients import RotationReason
    from exporter.polling.record import FactorRecord, StatusChange
    from exporter.verify.outcome import Attempt, Operation, Outcome
    from exporter.watched import WatchedEntity
    from exporter.web.history import History


class Recorder:
    """The daemon's observer of its polling."""

    def __init__(self, telemetry: Telemetry, factors: FactorExposition, events: EventLog, history: History) -> None:
        self._telemetry = telemetry
        self._factors = factors
        self._events = events
        self._history = history

    def watched(self, record: FactorRecord) -> None:
        """Show a factor from the moment it is watched."""
        key = record.watched.key
        self._telemetry.know_account(key.account)
        self._telemetry.know_service(key.account, key.service_sid)
        self._factors.update(record)

    def revised(self, record: FactorRecord) -> None:
        """Show a factor under its new name, labels or interval."""
        self._factors.update(record)
        if record.watched.paused:
            self._events.forgotten(record.watched.key)

    def forgotten(self, record: FactorRecord) -> None:
        """Show a factor no longer."""
        self._factors.remove(record.watched.key)
        self._history.forget(record.watched.key)
        self._events.forgotten(record.watched.key)

    def show_in(self, factors: FactorExposition) -> None:
        """Show factors in another exposition from now on."""
        self._factors = factors

    def attempted(self, account: str, operation: Operation, attempt: Attempt) -> None:
        """Count a request."""
        self._telemetry.attempted(account, operation, attempt)

    def retried(self, account: str) -> None:
        """Count a retry."""
        self._telemetry.retried(account)

    def started(self, lag_seconds: float) -> None:
        """Observe how late a fetch started."""
        self._telemetry.started(lag_seconds)

    def fetched(self, record: FactorRecord, outcome: Outcome, change: StatusChange | None) -> None:
        """Count, show, snapshot_of and log a fetch."""
        reason = outcome.result.reason if isinstance(outcome.result, Failure) else None
        self._telemetry.fetched(record.watched.key, outcome, reason, change)
        self._factors.update(record)
        if record.last_seconds is not None:
            self._history.add(record.watched.key, outcome, record.last_seconds)
        self._events.fetched(record, outcome, change)

    def client_rotated(self, account: str, why: RotationReason) -> None:
        """Count and log that a jammed client was replaced."""
        self._telemetry.client_rotated(account)
        self._events.client_rotated(account, why)

    def flush(self, *, at_the_end: bool = False) -> None:
        """Log what was folded for long enough, or all of it."""
        self._events.flush(at_the_end=at_the_end)
        flush_repeats(at_the_end=at_the_end)

    def withdrawn(self, record: FactorRecord) -> None:
        """Stop showing a status that is stale."""
        self._factors.update(record)
        self._events.withdrawn(record)

    def interval_changed(self, record: FactorRecord) -> None:
        """Show a factor's new interval."""
        self._factors.update(record)

    def listed(self, entity: WatchedEntity, found: int) -> None:
        """Log what a walk found, where the one before had failed."""
        self._events.listed(entity, found)

    def listing_failed(self, entity: WatchedEntity, failure: Failure) -> None:
        """Count and log a failed walk."""
        self._telemetry.listing_failed(entity.key.account, entity.key.service_sid)
        self._events.listing_failed(entity, failure)

    def entity_forgotten(self, entity: WatchedEntity) -> None:
        """Remember nothing more of an entity."""
        self._events.entity_forgotten(entity)

    def credentials_refused(self, account: str, failure: Failure) -> None:
        """Log a pause for credentials."""
        self._events.credentials_refused(account, failure)

    def credentials_accepted(self, account: str) -> None:
        """Log the end of a pause for credentials."""
        self._events.credentials_accepted(account)

    def rate_limited(self, account: str, pause_seconds: float, concurrency_limit: int) -> None:
        """Log a pause for a 429."""
        self._events.rate_limited(account, pause_seconds, concurrency_limit)

    def over_budget(self, account: str, stretch: float, demand: float, budget: float) -> None:
        """Log that intervals are stretched, or no longer."""
        self._events.over_budget(account, stretch, demand, budget)
