"""The exporter's own counters, histograms and gauges, in one prometheus_client registry per daemon."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from prometheus_client import CollectorRegistry, GCCollector, Metric, PlatformCollector, ProcessCollector
from prometheus_client.registry import Collector

from exporter.exposition import catalogue
from exporter.exposition.catalogue import STATUS_PAIRS, Family, LostRun, SchedulerTask
from exporter.exposition.counted import Counted, Counter, Histogram
from exporter.polling.observer import Observer
from exporter.polling.record import COUNTED_TYPES, STATUSES, counted_type
from exporter.verify.outcome import NOTIFICATION_PLATFORMS, OTHER, Failure, Operation, Reason, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Iterable, Mapping

    from exporter.polling.clients import RotationReason
    from exporter.polling.record import FactorRecord, StatusChange
    from exporter.verify.outcome import Attempt, Outcome
    from exporter.watched import WatchedEntity, WatchedService


@dataclass(frozen=True, slots=True)
class AccountGauges:
    """Current values of an account's gauges; ``credentials_valid`` is ``None`` before the first answer."""

    in_flight: int
    concurrency_limit: int
    paused: bool
    demand_requests_per_second: float
    budget_requests_per_second: float
    credentials_valid: bool | None


@dataclass(frozen=True, slots=True)
class ConfigGauges:
    """State of the configuration; ``successful`` is about the last load, ``loaded_seconds`` is Unix time.

    ``tls`` and ``authentication`` tell whether the web server uses TLS, and whether every client must authenticate.
    ``listed_factors`` are those of the watchlist in this shard, ``total_factors`` in all shards; with ``fallback``,
    the watchlist is the last good one.
    """

    successful: bool
    loaded_seconds: float
    sha256: str
    tls: bool
    authentication: bool
    listed_factors: int
    total_factors: int
    fallback: bool


@dataclass(frozen=True, slots=True)
class StateGauges:
    """When the state was last saved (Unix time; ``None`` where that isn't known), and how many saves failed."""

    last_save_seconds: float | None
    save_failures: int


@dataclass(frozen=True, slots=True)
class SourceGauges:
    """State of a watchlist URL: whether its last load succeeded, and when one last did (Unix time), if known."""

    up: bool | None
    last_success_seconds: float | None


class GaugeSource(Protocol):
    """Where the gauges are read from on every scrape."""

    def status_counts(self) -> Mapping[tuple[str, str], Mapping[str, int]]:
        """Return the number of factors by (account, service SID) and status."""

    def type_counts(self) -> Mapping[tuple[str, str], Mapping[tuple[str, str], int]]:
        """Return the number of factors by (account, service SID), and by counted type and status."""

    def push_counts(self) -> Mapping[tuple[str, str], Mapping[str, int]]:
        """Return the number of push factors by (account, service SID) and notification platform."""

    def entity_counts(self) -> Mapping[tuple[str, str, str], Mapping[str, int]]:
        """Return the number of factors by (account, service SID, entity) and status."""

    def last_listed(self) -> Mapping[tuple[str, str, str], float]:
        """Return when the last complete listings ended (Unix time), by (account, service SID, entity)."""

    def service_entities(self) -> Mapping[tuple[str, str, str], tuple[int | None, bool]]:
        """Return the number of entities, and whether there are more, by (account, service SID, service's name).

        The number is ``None`` where it isn't known yet.
        """

    def discovery_interval_seconds(self) -> float:
        """Return the configured interval between two listings of an entity."""

    def service_existence(self) -> Mapping[tuple[str, str], bool]:
        """Return whether services exist, by (account, service SID), where that is known."""

    def entities(self) -> int:
        """Return the number of watched entities."""

    def accounts(self) -> Mapping[str, AccountGauges]:
        """Return the gauges of each account."""

    def config_gauges(self) -> ConfigGauges:
        """Return the state of the configuration."""

    def sources(self) -> Mapping[str, SourceGauges]:
        """Return the state of each watchlist URL, by name."""

    def last_tick_seconds(self) -> float:
        """Return the wall time of the last dispatch tick."""

    def queue_length(self) -> int:
        """Return the number of factors that wait for a slot."""

    def log_lines_dropped(self) -> int:
        """Return the number of log lines that were lost."""

    def state_gauges(self) -> StateGauges | None:
        """Return how saving the state goes, ``None`` without a state file."""


class Telemetry(Observer):
    """Counts events; ``registry`` has the counters, the gauges read from ``source`` and those of the process."""

    def __init__(
        self, source: GaugeSource, *, version: str, revision: str, shard: tuple[int, int] = (0, 1)
    ) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self._status_changes = self._counter(catalogue.STATUS_CHANGES)
        self._fetches = self._counter(catalogue.FETCHES)
        self._fetch_failures = self._counter(catalogue.FETCH_FAILURES)
        self._enrolments = self._histogram(catalogue.ENROLMENT_DURATION)
        self._entity_failures = self._counter(catalogue.ENTITY_FAILURES)
        self._requests = self._counter(catalogue.API_REQUESTS)
        self._request_duration = self._histogram(catalogue.API_REQUEST_DURATION)
        self._server_duration = self._histogram(catalogue.API_SERVER_DURATION)
        self._retries = self._counter(catalogue.API_RETRIES)
        self._rotations = self._counter(catalogue.API_ROTATIONS)
        self._schedule_lag = self._histogram(catalogue.SCHEDULE_LAG).labels()
        self._late_fetches = self._counter(catalogue.LATE_FETCHES).labels()
        self._loop_lag = self._histogram(catalogue.LOOP_LAG).labels()
        self._runs_lost = self._counter(catalogue.RUNS_LOST)
        self._known: set[tuple[str, str] | str] = set()
        self._of_attempts: dict[tuple[str, Operation, int | None], tuple[Counter, Histogram]] = {}
        for task in SchedulerTask:
            for reason in LostRun:
                self._runs_lost.labels(task, reason)
        self.registry.register(_Gauges(source, version=version, revision=revision, shard=shard))
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def _counter(self, family: Family) -> Counted[Counter]:
        counted = Counted(family, Counter)
        self.registry.register(counted)
        return counted

    def _histogram(self, family: Family) -> Counted[Histogram]:
        counted = Counted(family, Histogram)
        self.registry.register(counted)
        return counted

    def config_applied(
        self,
        accounts: Collection[str],
        services: Collection[tuple[str, str]],
        entities: Collection[tuple[str, str, str]],
        walked: Collection[tuple[str, str]] = (),
    ) -> None:
        """Start the counters of what is watched now at 0, and remove those of what no longer is."""
        self.retain(accounts, services)
        for account in accounts:
            self.know_account(account)
        for account, service_sid in sorted(services):
            self.know_service(account, service_sid)
        for account, service_sid, _ in sorted(entities):
            self.know_entities(account, service_sid)
        for account, _ in sorted(walked):
            self._request_duration.labels(account, Operation.LIST_ENTITIES)
            self._server_duration.labels(account, Operation.LIST_ENTITIES)

    def watched(self, record: FactorRecord) -> None:
        """Start the counters of a factor's account and service at 0."""
        key = record.watched.key
        self.know_account(key.account)
        self.know_service(key.account, key.service_sid)
        self._expect_enrolment(record)

    def _expect_enrolment(self, record: FactorRecord) -> None:
        """Start the histogram of enrolments at 0 for the type of an unverified factor."""
        if record.status is Status.UNVERIFIED:
            key = record.watched.key
            self._enrolments.labels(key.account, key.service_sid, counted_type(record.factor_type))

    def know_account(self, account: str) -> None:
        """Start the counters of an account at 0."""
        if account not in self._known:
            self._known.add(account)
            self._retries.labels(account)
            self._rotations.labels(account)
            self._request_duration.labels(account, Operation.FETCH)
            self._server_duration.labels(account, Operation.FETCH)

    def know_service(self, account: str, service_sid: str) -> None:
        """Start the counters of a service at 0."""
        if (account, service_sid) not in self._known:
            self._known.add((account, service_sid))
            self._fetches.labels(account, service_sid)
            for reason in Reason:
                self._fetch_failures.labels(account, service_sid, reason)
            for before, after in STATUS_PAIRS:
                self._status_changes.labels(account, service_sid, before, after)

    def retain(self, accounts: Container[str], services: Container[tuple[str, str]]) -> None:
        """Remove the series of all other accounts and services, after a reload."""
        self._of_attempts.clear()
        for known in list(self._known):
            match known:
                case str() if known not in accounts:
                    gone = {"account": known}
                    of: tuple[Counted[Counter] | Counted[Histogram], ...] = (
                        self._requests,
                        self._request_duration,
                        self._server_duration,
                        self._retries,
                        self._rotations,
                    )
                case (account, service_sid) if known not in services:
                    gone = {"account": account, "service_sid": service_sid}
                    of = (
                        self._fetches,
                        self._fetch_failures,
                        self._status_changes,
                        self._enrolments,
                        self._entity_failures,
                    )
                case _:
                    continue
            self._known.discard(known)
            for metric in of:
                metric.remove_by_labels(gone)

    def know_entities(self, account: str, service_sid: str) -> None:
        """Start the counters of a service with watched entities at 0."""
        self.know_account(account)
        self.know_service(account, service_sid)
        self._entity_failures.labels(account, service_sid)
        self._request_duration.labels(account, Operation.LIST)
        self._server_duration.labels(account, Operation.LIST)

    def listing_failed(self, entity: WatchedEntity, failure: Failure) -> None:
        """Count a failed listing."""
        self._entity_failures.labels(entity.key.account, entity.key.service_sid).inc()

    def service_listing_failed(self, service: WatchedService, entity: str, failure: Failure) -> None:
        """Count a failed listing."""
        self._entity_failures.labels(*service.key).inc()

    def attempted(self, account: str, operation: Operation, attempt: Attempt) -> None:
        """Count a request; its request ID becomes the exemplar of its duration."""
        alike = account, operation, attempt.code
        counted = self._of_attempts.get(alike)
        if counted is None:
            code = "none" if attempt.code is None else str(attempt.code)
            counted = (
                self._requests.labels(account, operation, code),
                self._request_duration.labels(account, operation),
            )
            self._of_attempts[alike] = counted
        requests, durations = counted
        requests.inc()
        durations.observe(attempt.duration_seconds, attempt.request_id)
        if attempt.server_duration_seconds is not None:
            self._server_duration.labels(account, operation).observe(attempt.server_duration_seconds)

    def retried(self, account: str) -> None:
        """Count a retry."""
        self._retries.labels(account).inc()

    def client_rotated(self, account: str, why: RotationReason) -> None:
        """Count a rotation: the replacement of an account's HTTP client."""
        self._rotations.labels(account).inc()

    def fetched(self, record: FactorRecord, outcome: Outcome, change: StatusChange | None) -> None:
        """Count a fetch and, if there is one, its failure, its change of status, and the enrolment it completed."""
        key = record.watched.key
        self._fetches.labels(key.account, key.service_sid).inc()
        if isinstance(outcome.result, Failure):
            self._fetch_failures.labels(key.account, key.service_sid, outcome.result.reason).inc()
        if change is not None:
            self._status_changes.labels(key.account, key.service_sid, change.before, change.after).inc()
            if change.enrolment_seconds is not None:
                labels = key.account, key.service_sid, counted_type(record.factor_type)
                self._enrolments.labels(*labels).observe(change.enrolment_seconds)
        self._expect_enrolment(record)

    def started(self, lag_seconds: float) -> None:
        """Observe the delay of a due fetch, and count it if it is late."""
        self._schedule_lag.observe(lag_seconds)
        if lag_seconds > catalogue.LATE_SECONDS:
            self._late_fetches.inc()

    def loop_lagged(self, seconds: float) -> None:
        """Observe the delay of an event loop callback."""
        self._loop_lag.observe(seconds)

    def run_lost(self, task: SchedulerTask, reason: LostRun) -> None:
        """Count a scheduled task run that was missed, refused or failed."""
        self._runs_lost.labels(task, reason).inc()


class _Gauges(Collector):
    """Gauges, and a counter kept elsewhere, that are read on every scrape."""

    def __init__(self, source: GaugeSource, *, version: str, revision: str, shard: tuple[int, int]) -> None:
        self._source = source
        self._shard = shard
        self._build = (version, revision, platform.python_version())

    def describe(self) -> Iterable[Metric]:
        """Return nothing, so that registering does not read any gauge."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Yield all gauges."""
        source = self._source
        counts = source.status_counts()
        yield _metric(
            catalogue.FACTORS,
            [((*service, status), of.get(status, 0)) for service, of in counts.items() for status in STATUSES],
        )
        yield _metric(
            catalogue.FACTORS_BY_TYPE,
            [
                ((*service, counted, status), of.get((counted, status), 0))
                for service, of in source.type_counts().items()
                for counted in COUNTED_TYPES
                for status in STATUSES
            ],
        )
        yield _metric(
            catalogue.PUSH_FACTORS,
            [
                ((*service, platform), of.get(platform, 0))
                for service, of in source.push_counts().items()
                for platform in (*NOTIFICATION_PLATFORMS, OTHER)
            ],
        )
        yield _metric(
            catalogue.ENTITY_FACTORS,
            [
                ((*entity, status), of.get(status, 0))
                for entity, of in source.entity_counts().items()
                for status in STATUSES
            ],
        )
        yield _metric(catalogue.ENTITY_LAST_LISTED, source.last_listed().items())
        found = source.service_entities()
        yield _metric(catalogue.SERVICE_ENTITIES, [(name, of) for name, (of, _) in found.items() if of is not None])
        yield _metric(catalogue.SERVICE_ENTITIES_TRUNCATED, [(name, more) for name, (_, more) in found.items()])
        yield _metric(catalogue.SERVICE_EXISTS, source.service_existence().items())
        yield from _account_metrics(source.accounts())
        config = source.config_gauges()
        index, shards = self._shard
        watched = sum(sum(of.values()) for of in counts.values())
        yield _metric(catalogue.BUILD_INFO, [(self._build, 1)])
        yield _metric(catalogue.CONFIG_RELOAD_SUCCESSFUL, [((), config.successful)])
        yield _metric(catalogue.CONFIG_RELOAD_TIMESTAMP, [((), config.loaded_seconds)])
        yield _metric(catalogue.CONFIG_HASH, [((config.sha256,), 1)])
        yield _metric(catalogue.WEB_TLS, [((), config.tls)])
        yield _metric(catalogue.WEB_AUTH, [((), config.authentication)])
        yield _metric(catalogue.LAST_TICK, [((), source.last_tick_seconds())])
        yield _metric(catalogue.QUEUE_LENGTH, [((), source.queue_length())])
        yield _metric(catalogue.ENTITIES, [((), source.entities())])
        yield _metric(catalogue.DISCOVERY_INTERVAL, [((), source.discovery_interval_seconds())])
        yield _metric(catalogue.WATCHLIST_FACTORS, [((), watched)])
        yield _metric(catalogue.LOG_LINES_DROPPED, [((), source.log_lines_dropped())])
        yield from _state_metrics(source.state_gauges())
        yield _metric(catalogue.WATCHLIST_LISTED, [((), config.listed_factors)])
        yield _metric(catalogue.WATCHLIST_TOTAL, [((), config.total_factors)])
        yield _metric(catalogue.WATCHLIST_FALLBACK, [((), config.fallback)])
        yield from _source_metrics(source.sources())
        yield _metric(catalogue.SHARDS, [((), shards)])
        yield _metric(catalogue.SHARD_INFO, [((str(index),), 1)])


def _source_metrics(sources: Mapping[str, SourceGauges]) -> Iterable[Metric]:
    up = [((name,), of.up) for name, of in sources.items() if of.up is not None]
    loaded = [((name,), at) for name, of in sources.items() if (at := of.last_success_seconds) is not None]
    yield _metric(catalogue.SOURCE_UP, up)
    yield _metric(catalogue.SOURCE_LAST_SUCCESS, loaded)


def _state_metrics(state: StateGauges | None) -> Iterable[Metric]:
    saved = None if state is None else state.last_save_seconds
    yield _metric(catalogue.STATE_LAST_SAVE, [] if saved is None else [((), saved)])
    yield _metric(catalogue.STATE_SAVE_FAILURES, [] if state is None else [((), state.save_failures)])


_ACCOUNT_GAUGES: tuple[tuple[Family, Callable[[AccountGauges], float | None]], ...] = (
    (catalogue.API_IN_FLIGHT, lambda of: of.in_flight),
    (catalogue.API_CONCURRENCY_LIMIT, lambda of: of.concurrency_limit),
    (catalogue.API_PAUSED, lambda of: of.paused),
    (catalogue.API_DEMAND, lambda of: of.demand_requests_per_second),
    (catalogue.API_BUDGET, lambda of: of.budget_requests_per_second),
    (catalogue.CREDENTIALS_VALID, lambda of: of.credentials_valid),
)


def _account_metrics(accounts: Mapping[str, AccountGauges]) -> Iterable[Metric]:
    for family, value_of in _ACCOUNT_GAUGES:
        values = [((name,), value_of(gauges)) for name, gauges in accounts.items()]
        yield _metric(family, [(labels, value) for labels, value in values if value is not None])


def _metric(family: Family, samples: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    metric = Metric(family.base_name, family.help, family.kind)
    for values, value in samples:
        metric.add_sample(family.name, dict(zip(family.labels, values, strict=True)), float(value))
    return metric
