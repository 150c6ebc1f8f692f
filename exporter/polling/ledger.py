"""What is known of each factor, and since when. Pure: changed only by outcomes and by time, both passed in."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter.polling.calendar import Calendar
from exporter.polling.clock import Moment
from exporter.polling.record import UNKNOWN, FactorRecord, StatusChange, counted_type
from exporter.polling.status_history import NOTHING, ShownStatus, StatusHistory, shown_by, shown_in
from exporter.verify.outcome import Answer, Failure, Outcome, Status, one_of_alike

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping

    from exporter.polling.snapshot import FactorSnapshot, SteadyTimes
    from exporter.watched import FactorKey, WatchedFactor


NEWLY_MISSING_SECONDS = 900.0
MASS_MISSING_SECONDS = 3600.0
MASS_FACTORS = 10  # in a smaller service, a few factors are no mass
_NONE: Counter[str] = Counter()
_FOUND = frozenset((Status.VERIFIED, Status.UNVERIFIED))


@dataclass(frozen=True, slots=True)
class LedgerPolicy:
    """The settings of the ledger: intervals by status, and staleness; seconds."""

    unverified_interval_seconds: float = 60.0
    unverified_window_seconds: float = 3600.0
    not_found_interval_seconds: float = 900.0
    stale_after: int = 3


class Ledger:
    """The records of every watched factor, and their counts by service, by entity and by status.

    ``history`` gets every change of what is shown.
    """

    def __init__(self, policy: LedgerPolicy, history: StatusHistory | None = None) -> None:
        self.history = history or StatusHistory(Moment(0.0, 0.0))
        self._policy = policy
        self._records: dict[FactorKey, FactorRecord] = {}
        self._counts: dict[tuple[str, str], Counter[str]] = {}
        self._type_counts: dict[tuple[str, str], Counter[tuple[str, str]]] = {}
        self._push_counts: dict[tuple[str, str], Counter[str]] = {}
        self._entity_counts: dict[tuple[str, str, str], Counter[str]] = {}
        self._stale: Calendar[FactorKey] = Calendar(self._stale_queued)
        self._stretch: dict[str, float] = {}
        self._doubted: set[tuple[str, str]] = set()
        self._demand: dict[str, Counter[float]] = {}  # by account: its polled factors by interval in effect
        self.revision = 0  # changes whenever a factor is added, removed or renamed

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[FactorRecord]:
        return iter(self._records.values())

    def keys(self) -> list[FactorKey]:
        """Return the keys of all watched factors."""
        return [*self._records]

    def get(self, key: FactorKey) -> FactorRecord | None:
        """Return a factor's record, ``None`` if it isn't watched."""
        return self._records.get(key)

    def __getitem__(self, key: FactorKey) -> FactorRecord:
        return self._records[key]

    def watch(self, watched: WatchedFactor) -> FactorRecord:
        """Add a factor: never fetched, never answered."""
        if watched.key in self._records:
            raise ValueError("the factor is watched already")
        record = FactorRecord(watched)
        record.interval_seconds = watched.interval_seconds * self._stretch.get(watched.key.account, 1.0)
        self._records[watched.key] = record
        self._count(record, 1)
        self._count_demand(record, 1)
        self.revision += 1
        return record

    def forget(self, key: FactorKey, now: Moment | None = None) -> FactorRecord:
        """Drop all that is known of a factor, but with ``now`` not its history; return what was known."""
        record = self._records.pop(key)
        if now is None:
            self.history.forget(key)
        else:
            self.history.ended(key, shown_by(record), now)
        self._count(record, -1)
        self._count_demand(record, -1)
        self.revision += 1
        return record

    def revise(self, watched: WatchedFactor, now: Moment) -> FactorRecord:
        """Change a watched factor's name, labels, interval or pause; what is known of it stays."""
        record = self._records[watched.key]
        self._count(record, -1)
        self._count_demand(record, -1)
        shown = shown_by(record)
        record.watched = watched
        if record.shown_status is not shown.status:
            self._changed(record, shown, now)
        self.revision += 1
        self._count_demand(record, 1)
        self._count(record, 1)
        self._adapt(record, now)
        return record

    def join(self, key: FactorKey, entity: str) -> None:
        """Count a factor as one of this entity's, or with an empty name as nobody's."""
        record = self._records[key]
        self._count(record, -1)
        record.entity = entity
        self._count(record, 1)

    def apply_policy(self, policy: LedgerPolicy, now: Moment) -> list[FactorKey]:
        """Apply new settings to all factors; return those whose interval in effect changed."""
        return self.adapt(self.keys(), now) if self.use_policy(policy) else []

    def use_policy(self, policy: LedgerPolicy) -> bool:
        """Take new settings; return whether they differ, so that :meth:`adapt` is needed for every factor."""
        before, self._policy = self._policy, policy
        return policy != before

    def adapt(self, keys: Iterable[FactorKey], now: Moment) -> list[FactorKey]:
        """Apply the settings to these factors; return those whose interval in effect changed."""
        records = ((key, self._records.get(key)) for key in keys)
        return [key for key, record in records if record is not None and self._adapt(record, now)]

    def _adapt(self, record: FactorRecord, now: Moment) -> bool:
        """Apply the settings to a record again; return whether its interval in effect changed."""
        changed = self._set_interval(record, self._interval(record, now))
        if record.stale_at is not None:
            self._renew(record)
        return changed

    def _set_interval(self, record: FactorRecord, seconds: float) -> bool:
        """Set the interval in effect; return whether it changed."""
        if seconds == record.interval_seconds:
            return False
        self._count_demand(record, -1)
        record.interval_seconds = seconds
        self._count_demand(record, 1)
        return True

    def _count_demand(self, record: FactorRecord, by: int) -> None:
        """Count a factor by its interval in effect, or with -1 take it out."""
        if record.watched.polled:
            counts = self._demand.setdefault(record.watched.key.account, Counter())
            counts[record.interval_seconds] += by
            if not counts[record.interval_seconds]:
                del counts[record.interval_seconds]

    def restore(
        self, key: FactorKey, snapshot: FactorSnapshot, now: Moment, times: SteadyTimes | None = None
    ) -> None:
        """Restore what was known of a factor before a restart or its removal, with its real age.

        A status that is stale by now is not shown. ``times`` are given for a snapshot of this process, whose wall
        clock may have been set since.
        """
        record = self._records[key]
        hidden = times is not None or record.watched.paused  # it was removed, or may have been paused before
        shown, changed_at = NOTHING if hidden else shown_in(snapshot), now.steady
        times = times or snapshot.steady_times(now)
        record.up, record.failures, record.slowed = snapshot.up, snapshot.failures, snapshot.slowed
        record.duration_seconds = snapshot.duration_seconds
        record.last_verified_seconds = snapshot.last_verified_seconds
        record.failing_since_seconds = snapshot.failing_since_seconds
        self._count(record, -1)
        record.factor_type, record.entity_sid = sys.intern(snapshot.factor_type), snapshot.entity_sid
        record.notification_platform = sys.intern(snapshot.notification_platform)
        self._count(record, 1)
        if snapshot.status is not None and snapshot.answered_seconds is not None:
            record.last_status = snapshot.status
            record.answered_seconds = snapshot.answered_seconds
            record.answered_steady, record.not_verified_since = times
            record.answered_interval_seconds = snapshot.answered_interval_seconds
            stale_at = self._stale_at(record)
            if not snapshot.withdrawn and stale_at <= now.steady:
                self._withdrawn(record, stale_at)
                changed_at = stale_at
            else:
                record.status_since_seconds = snapshot.status_since_seconds
                record.status_change_seen = snapshot.status_change_seen
            if not snapshot.withdrawn and stale_at > now.steady:
                self._set_status(record, snapshot.status)
                if record.status_since_seconds is None:  # saved by an earlier version
                    record.status_since_seconds, record.status_change_seen = snapshot.answered_seconds, False
                record.created_seconds, record.updated_seconds = snapshot.created_seconds, snapshot.updated_seconds
                record.approved_seconds = snapshot.approved_seconds
                self._renew(record)
        self.history.observe(now)
        self.history.changed(record, shown, changed_at)
        self._set_interval(record, self._interval(record, now))

    def _changed(self, record: FactorRecord, before: ShownStatus, now: Moment, *, begins: bool = False) -> None:
        """Add a change to the history; ``begins`` as there."""
        self.history.observe(now)
        self.history.changed(record, before, now.steady, begins=begins)

    @staticmethod
    def _withdrawn(record: FactorRecord, stale_at: float) -> None:
        """Note since when a status is stale."""
        if record.answered_seconds is not None:
            record.status_since_seconds = record.answered_seconds + stale_at - record.answered_steady
            record.status_change_seen = True

    def know_service(self, account: str, service_sid: str) -> None:
        """Count a service's factors even while it has none."""
        service = account, service_sid
        if service not in self._counts:
            self._counts[service], self._push_counts[service] = Counter(), Counter()
            self._type_counts[service] = Counter()

    def know_entity(self, account: str, service_sid: str, entity: str) -> None:
        """Count an entity's factors even while it has none."""
        self.know_service(account, service_sid)
        self._entity_counts.setdefault((account, service_sid, entity), Counter())

    def retain(self, services: Container[tuple[str, str]], entities: Container[tuple[str, str, str]]) -> None:
        """Count these services and entities only."""
        for service in [service for service in self._counts if service not in services]:
            del self._counts[service], self._type_counts[service], self._push_counts[service]
        self._entity_counts = {
            entity: counts for entity, counts in self._entity_counts.items() if entity in entities
        }

    def _count(self, record: FactorRecord, by: int) -> None:
        """Add a record to the counts, or with -1 take it out; a paused factor counts in its entity alone."""
        service, paused, status = _service(record.watched.key), record.watched.paused, record.status or UNKNOWN
        self.know_service(*service)
        if not paused:
            self._counts[service][status] += by
            self._type_counts[service][counted_type(record.factor_type), status] += by
            if record.notification_platform and status in _FOUND:
                self._push_counts[service][record.notification_platform] += by
        if record.entity:
            entity = self._entity_counts.setdefault((*service, record.entity), Counter())
            entity[UNKNOWN if paused else status] += by

    def apply(self, key: FactorKey, outcome: Outcome, now: Moment) -> StatusChange | None:
        """Apply the outcome of a fetch; return the change of status if there was one.

        The outcome of a factor that is no longer watched is dropped.
        """
        record = self._records.get(key)
        if record is None:
            return None
        # Not the outcome itself: with 100,000 factors that alone would be 20 MB.
        record.attempts = outcome.attempts
        record.last_seconds, record.last_steady = now
        record.failure = one_of_alike(outcome.result) if isinstance(outcome.result, Failure) else None
        record.duration_seconds = outcome.duration_seconds
        match outcome.result:
            case Answer() as answer:
                change = self._answered(record, answer, now)
            case Failure(reason=reason):
                change = None
                record.up = False
                record.failures += 1
                if record.failing_since_seconds is None:
                    record.failing_since_seconds = now.wall
                # Until an answer. Without an access token nothing was sent that could be too much.
                record.slowed |= (reason.needs_a_change and not outcome.lacks_token) or outcome.alone
        self._set_interval(record, self._interval(record, now))
        if isinstance(outcome.result, Answer):
            record.answered_interval_seconds = record.interval_seconds
            self._renew(record)
        return change

    def _answered(self, record: FactorRecord, answer: Answer, now: Moment) -> StatusChange | None:
        record.up = True
        record.slowed = False
        record.answered_seconds, record.answered_steady = now
        record.failing_since_seconds = None
        enrolment_seconds = _enrolment_seconds(record, answer, now)
        if answer.status is Status.VERIFIED:
            record.last_verified_seconds = now.wall
        if answer.status is Status.VERIFIED:
            record.not_verified_since = None
        elif record.last_status is not answer.status:
            record.not_verified_since = now.steady
        record.created_seconds = answer.created_seconds
        record.updated_seconds = answer.updated_seconds
        record.approved_seconds = answer.approved_seconds
        record.entity_sid = answer.entity_sid or record.entity_sid
        before, record.last_status = record.last_status, answer.status
        begins = record.status is not answer.status
        shown = shown_by(record) if begins else NOTHING
        if begins:
            record.status_since_seconds = now.wall
            record.status_change_seen = before not in (None, answer.status)
        factor_type, platform = record.factor_type, record.notification_platform
        if answer.factor_type:
            factor_type, platform = sys.intern(answer.factor_type), answer.notification_platform
        if begins or factor_type is not record.factor_type or platform != record.notification_platform:
            self._count(record, -1)
            record.status, record.factor_type, record.notification_platform = answer.status, factor_type, platform
            self._count(record, 1)
        if begins:
            self._changed(record, shown, now, begins=True)
        if before is None or before is answer.status:
            return None
        return StatusChange(before, answer.status, enrolment_seconds)

    def _stale_at(self, record: FactorRecord) -> float:
        longest = max(record.watched.interval_seconds, record.answered_interval_seconds)
        return record.answered_steady + self._policy.stale_after * longest

    def _renew(self, record: FactorRecord) -> None:
        """Set when the last answer becomes stale."""
        record.stale_at = self._stale_at(record)
        # One place per factor: a later time is found when the earlier one comes up.
        if record.stale_queued is None or record.stale_at < record.stale_queued:
            self._queue_stale(record, record.stale_at)

    def _queue_stale(self, record: FactorRecord, stale_at: float) -> None:
        record.stale_queued = stale_at
        self._stale.put(record.watched.key, stale_at)
        if self._stale.places > 2 * len(self._records):  # abandoned places
            self._stale.rebuild(self._records)

    def _stale_queued(self, key: FactorKey) -> float | None:
        record = self._records.get(key)
        return None if record is None else record.stale_queued

    @property
    def stale_places(self) -> int:
        """How many calendar places the times of staleness take, abandoned ones included."""
        return self._stale.places

    def _set_status(self, record: FactorRecord, status: Status | None) -> None:
        self._count(record, -1)
        record.status = status
        self._count(record, 1)

    def expire(self, steady: float) -> list[FactorKey]:
        """Withdraw every status that is stale at ``steady``; return the factors whose shown status that was."""
        withdrawn: list[FactorKey] = []
        for key, _ in self._stale.take(steady):
            record = self._records[key]
            record.stale_queued = None
            if record.stale_at is None:
                continue
            if record.stale_at > steady:
                self._queue_stale(record, record.stale_at)
                continue
            shown = shown_by(record)
            self._set_status(record, None)
            self.history.changed(record, shown, record.stale_at)
            self._withdrawn(record, record.stale_at)
            record.created_seconds = record.updated_seconds = record.approved_seconds = record.stale_at = None
            if not record.watched.paused:  # else nothing was shown
                withdrawn.append(key)
        return withdrawn

    def _interval(self, record: FactorRecord, now: Moment) -> float:
        """Return the interval in effect: by status, by failure, and stretched where the account is over budget."""
        policy, base = self._policy, record.watched.interval_seconds
        if not record.slowed and self._soon(record, now):
            seconds = min(base, policy.unverified_interval_seconds)
        elif record.slowed or record.last_status is Status.NOT_FOUND:
            seconds = max(base, policy.not_found_interval_seconds)
        else:
            seconds = base
        return seconds * self._stretch.get(record.watched.key.account, 1.0)

    def _soon(self, record: FactorRecord, now: Moment) -> bool:
        """Return whether a factor is newly unverified or newly missing, and therefore fetched more often."""
        if record.not_verified_since is None:
            return False
        age = now.steady - record.not_verified_since
        if record.last_status is Status.UNVERIFIED:
            return age < self._policy.unverified_window_seconds
        if age < NEWLY_MISSING_SECONDS:
            return True
        service = _service(record.watched.key)
        return age < MASS_MISSING_SECONDS and service in self._doubted and self.mass_missing(service)

    def missing(self, service: tuple[str, str]) -> int:
        """Return how many of a service's factors are missing."""
        return self._counts.get(service, _NONE)[Status.NOT_FOUND]

    def found(self, service: tuple[str, str]) -> int:
        """Return how many of a service's factors are known to exist: verified or unverified."""
        counts = self._counts.get(service, _NONE)
        return counts[Status.VERIFIED] + counts[Status.UNVERIFIED]

    def mostly_missing(self, service: tuple[str, str]) -> bool:
        """Return whether more than half of a service's factors are missing."""
        return 2 * self.missing(service) > sum(self._counts.get(service, _NONE).values())

    def mass_missing(self, service: tuple[str, str]) -> bool:
        """Return whether more than half of a service's factors, and of at least ten, are missing."""
        return self.mostly_missing(service) and sum(self._counts[service].values()) >= MASS_FACTORS

    def doubt(self, service: tuple[str, str], *, doubted: bool) -> None:
        """Take note whether a service is in doubt: a factor is missing, and Fetch Service hasn't answered since."""
        if doubted:
            self._doubted.add(service)
        else:
            self._doubted.discard(service)

    def stretch(
        self, account: str, factor: float, now: Moment, among: Iterable[FactorKey] | None = None
    ) -> list[FactorKey]:
        """Multiply the intervals of an account; return the factors whose interval in effect changed.

        It applies to every later outcome, and at once to those ``among`` that are polled, by default all.
        """
        self._stretch[account] = factor
        changed: list[FactorKey] = []
        for key in self.keys() if among is None else among:
            record = self._records.get(key)
            if record is None or key.account != account or not record.watched.polled:
                continue
            if self._set_interval(record, self._interval(record, now)):
                changed.append(key)
        return changed

    def drop_account(self, account: str) -> None:
        """Forget the stretch and the demand of an account that has no factors left."""
        self._stretch.pop(account, None)
        self._demand.pop(account, None)

    def demand(self, account: str) -> float:
        """Return the requests per second that the unstretched intervals of an account need."""
        total = sum(factors / seconds for seconds, factors in self._demand.get(account, {}).items())
        return total * self._stretch.get(account, 1.0)

    @property
    def counts(self) -> Mapping[tuple[str, str], Mapping[str, int]]:
        """The number of factors by (account, service SID) and by status, ``unknown`` included."""
        return self._counts

    @property
    def type_counts(self) -> Mapping[tuple[str, str], Mapping[tuple[str, str], int]]:
        """The number of factors by (account, service SID), and by counted type and status."""
        return self._type_counts

    @property
    def push_counts(self) -> Mapping[tuple[str, str], Mapping[str, int]]:
        """The number of push factors that exist by (account, service SID) and by notification platform."""
        return self._push_counts

    @property
    def entity_counts(self) -> Mapping[tuple[str, str, str], Mapping[str, int]]:
        """The number of factors by (account, service SID, entity) and by status, ``unknown`` included."""
        return self._entity_counts


def _service(key: FactorKey) -> tuple[str, str]:
    return key.account, key.service_sid


def _enrolment_seconds(record: FactorRecord, answer: Answer, now: Moment) -> float | None:
    """Return how long ago a factor was created, if this answer is the first one that says verified.

    ``None`` if the answer before didn't say unverified, or is stale: the enrolment may have ended long ago.
    """
    created = answer.created_seconds
    if answer.status is not Status.VERIFIED or record.status is not Status.UNVERIFIED or created is None:
        return None
    verified_before = record.last_verified_seconds is not None and record.last_verified_seconds >= created
    return None if verified_before or now.wall < created else now.wall - created
