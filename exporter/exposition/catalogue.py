"""Every metric family, declared once: the renderer, the documentation and the tests read this list."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from exporter.verify.outcome import Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.polling.record import FactorRecord


FACTOR_PREFIX = "twilio_verify_factor_"


class MetricType(StrEnum):
    """The metric types that are used."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Family:
    """One metric family: its name as scraped, type, help text, labels, and the buckets of a histogram."""

    name: str
    kind: MetricType
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def base_name(self) -> str:
        """The name without the suffix of a counter, as OpenMetrics and prometheus_client write families."""
        return self.name.removesuffix("_total") if self.kind is MetricType.COUNTER else self.name


@dataclass(frozen=True, slots=True)
class FactorFamily(Family):
    """A family with one sample a factor, beside the user's own labels; no sample where ``value`` is ``None``."""

    value: Callable[[FactorRecord], float | None] = lambda _record: None
    of_paused: bool = False

    @property
    def short_name(self) -> str:
        """The name as ``metrics.factor_families`` knows it."""
        return self.name.removeprefix(FACTOR_PREFIX)


FACTOR_LABELS = ("account", "service_sid", "factor")
INFO_LABELS = ("factor_sid", "factor_type", "entity_sid", "identity")
ACCOUNT_LABELS = ("account",)
SERVICE_LABELS = ("account", "service_sid")
OPERATION_LABELS = ("account", "operation")

_FLAGS = (0.0, 1.0)
_SMALL = tuple(map(float, range(16)))  # most values are one of these: they are not made anew
_POLLED = "Polled at the factor's interval, not live."


def _verified(record: FactorRecord) -> float | None:
    match record.status:
        case Status.VERIFIED:
            return 1.0
        case Status.UNVERIFIED:
            return 0.0
    return None


def _exists(record: FactorRecord) -> float | None:
    return None if record.status is None else _FLAGS[record.status is not Status.NOT_FOUND]


def _up(record: FactorRecord) -> float | None:
    return None if record.up is None else _FLAGS[record.up]


def _last_success(record: FactorRecord) -> float | None:
    return record.answered_seconds


FACTOR_VERIFIED = FactorFamily(
    "twilio_verify_factor_verified",
    MetricType.GAUGE,
    f"1 if the API last said verified, 0 if unverified; absent while neither is known. {_POLLED}",
    FACTOR_LABELS,
    value=_verified,
)
FACTOR_EXISTS = FactorFamily(
    "twilio_verify_factor_exists",
    MetricType.GAUGE,
    f"1 if the API last knew the factor, 0 if it answered 404; absent while neither is known. {_POLLED}",
    FACTOR_LABELS,
    value=_exists,
)
FACTOR_UP = FactorFamily(
    "twilio_verify_factor_up",
    MetricType.GAUGE,
    f"1 if the last fetch got a definite answer (a known status, or 404), else 0. {_POLLED}",
    FACTOR_LABELS,
    value=_up,
)
FACTOR_LAST_SUCCESS = FactorFamily(
    "twilio_verify_factor_last_success_timestamp_seconds",
    MetricType.GAUGE,
    f"Time of the last definite answer, in seconds since the epoch. {_POLLED}",
    FACTOR_LABELS,
    value=_last_success,
)
FACTOR_LAST_VERIFIED = FactorFamily(
    "twilio_verify_factor_last_verified_timestamp_seconds",
    MetricType.GAUGE,
    f"Time of the last answer that said verified, in seconds since the epoch. {_POLLED}",
    FACTOR_LABELS,
    value=lambda record: record.last_verified_seconds,
)
FACTOR_FETCH_DURATION = FactorFamily(
    "twilio_verify_factor_fetch_duration_seconds",
    MetricType.GAUGE,
    f"Duration of the last fetch, retries and the pauses between them included. {_POLLED}",
    FACTOR_LABELS,
    value=lambda record: record.duration_seconds,
)
FACTOR_FETCH_FAILURES = FactorFamily(
    "twilio_verify_factor_fetch_failures_total",
    MetricType.COUNTER,
    f"Fetches of the factor that ended without a definite answer. {_POLLED}",
    FACTOR_LABELS,
    value=lambda record: _SMALL[record.failures] if record.failures < len(_SMALL) else float(record.failures),
)
FACTOR_CREATED = FactorFamily(
    "twilio_verify_factor_created_timestamp_seconds",
    MetricType.GAUGE,
    f"The API's date_created, in seconds since the epoch. {_POLLED}",
    FACTOR_LABELS,
    value=lambda record: record.created_seconds,
)
FACTOR_UPDATED = FactorFamily(
    "twilio_verify_factor_updated_timestamp_seconds",
    MetricType.GAUGE,
    f"The API's date_updated, in seconds since the epoch. {_POLLED}",
    FACTOR_LABELS,
    value=lambda record: record.updated_seconds,
)
FACTOR_INTERVAL = FactorFamily(
    "twilio_verify_factor_interval_seconds",
    MetricType.GAUGE,
    f"The interval in force between two fetches of the factor. {_POLLED}",
    FACTOR_LABELS,
    value=lambda record: record.interval_seconds,
)
FACTOR_INFO = FactorFamily(
    "twilio_verify_factor_info",
    MetricType.GAUGE,
    f"Always 1; what does not change often about a watched factor is in the labels. {_POLLED}",
    FACTOR_LABELS + INFO_LABELS,
    value=lambda _record: 1.0,
    of_paused=True,
)

FACTOR_FAMILIES: tuple[FactorFamily, ...] = (
    FACTOR_VERIFIED,
    FACTOR_EXISTS,
    FACTOR_UP,
    FACTOR_LAST_SUCCESS,
    FACTOR_LAST_VERIFIED,
    FACTOR_FETCH_DURATION,
    FACTOR_FETCH_FAILURES,
    FACTOR_CREATED,
    FACTOR_UPDATED,
    FACTOR_INTERVAL,
    FACTOR_INFO,
)

FACTORS = Family(
    "twilio_verify_factors",
    MetricType.GAUGE,
    "Watched factors by status; unknown: never answered, or the status is stale.",
    (*SERVICE_LABELS, "status"),
)
ENTITY_FACTORS = Family(
    "twilio_verify_entity_factors",
    MetricType.GAUGE,
    "Factors found in a watched entity, by status; unknown: never answered, the status is stale, or paused.",
    (*SERVICE_LABELS, "entity", "status"),
)
ENTITY_FAILURES = Family(
    "twilio_verify_entity_failures_total",
    MetricType.COUNTER,
    "Lists of an entity's factors that failed, or that were not whole; they change no factor.",
    SERVICE_LABELS,
)
STATUS_CHANGES = Family(
    "twilio_verify_factor_status_changes_total",
    MetricType.COUNTER,
    "Changes of a factor's status, compared with its last known one.",
    (*SERVICE_LABELS, "from", "to"),
)
FETCHES = Family(
    "twilio_verify_fetches_total", MetricType.COUNTER, "Fetches that ended, failed ones included.", SERVICE_LABELS
)
FETCH_FAILURES = Family(
    "twilio_verify_fetch_failures_total",
    MetricType.COUNTER,
    "Fetches that ended without a definite answer, by reason; a 404 is an answer.",
    (*SERVICE_LABELS, "reason"),
)
API_REQUESTS = Family(
    "twilio_verify_api_requests_total",
    MetricType.COUNTER,
    "Requests to the Verify API, by operation and HTTP status (none: no complete answer arrived).",
    (*OPERATION_LABELS, "code"),
)
API_REQUEST_DURATION = Family(
    "twilio_verify_api_request_duration_seconds",
    MetricType.HISTOGRAM,
    "Duration of one request to the Verify API, from its start to the last byte.",
    OPERATION_LABELS,
    (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0),
)
API_SERVER_DURATION = Family(
    "twilio_verify_api_server_duration_seconds",
    MetricType.HISTOGRAM,
    "Duration of a request as Twilio measured it (Twilio-Request-Duration).",
    OPERATION_LABELS,
    API_REQUEST_DURATION.buckets,
)
API_RETRIES = Family(
    "twilio_verify_api_retries_total",
    MetricType.COUNTER,
    "Requests beyond the first one of their fetch.",
    ACCOUNT_LABELS,
)
API_ROTATIONS = Family(
    "twilio_verify_api_client_rotations_total",
    MetricType.COUNTER,
    "Replacements of the account's HTTP client by a fresh one, as it was jammed.",
    ACCOUNT_LABELS,
)
API_IN_FLIGHT = Family("twilio_verify_api_in_flight", MetricType.GAUGE, "Requests under way.", ACCOUNT_LABELS)
API_CONCURRENCY_LIMIT = Family(
    "twilio_verify_api_concurrency_limit",
    MetricType.GAUGE,
    "Requests that may be under way at once; halved by a 429, grows back.",
    ACCOUNT_LABELS,
)
API_PAUSED = Family(
    "twilio_verify_api_paused",
    MetricType.GAUGE,
    "1 while the account is paused, for refused credentials or a 429, else 0.",
    ACCOUNT_LABELS,
)
API_DEMAND = Family(
    "twilio_verify_api_demand_requests_per_second",
    MetricType.GAUGE,
    "Requests a second that the unstretched intervals ask.",
    ACCOUNT_LABELS,
)
API_BUDGET = Family(
    "twilio_verify_api_budget_requests_per_second",
    MetricType.GAUGE,
    "Requests a second that the account may make: its rate, or what its concurrency carries.",
    ACCOUNT_LABELS,
)
CREDENTIALS_VALID = Family(
    "twilio_verify_credentials_valid",
    MetricType.GAUGE,
    "1 after an answer other than 401 and 403, 0 while paused for them, absent before the first.",
    ACCOUNT_LABELS,
)
BUILD_INFO = Family(
    "twilio_verify_exporter_build_info",
    MetricType.GAUGE,
    "Always 1; what this exporter was built from and runs on.",
    ("version", "revision", "python_version"),
)
CONFIG_RELOAD_SUCCESSFUL = Family(
    "twilio_verify_exporter_config_last_reload_successful",
    MetricType.GAUGE,
    "1 if the last attempt to load the configuration succeeded, else 0.",
)
CONFIG_RELOAD_TIMESTAMP = Family(
    "twilio_verify_exporter_config_last_reload_success_timestamp_seconds",
    MetricType.GAUGE,
    "Time of the last successful load of the configuration, in seconds since the epoch.",
)
CONFIG_HASH = Family(
    "twilio_verify_exporter_config_hash_info",
    MetricType.GAUGE,
    "Always 1; the SHA-256 of the configuration and watchlist files in force.",
    ("sha256",),
)
SCHEDULE_LAG = Family(
    "twilio_verify_exporter_schedule_lag_seconds",
    MetricType.HISTOGRAM,
    "How late a due fetch started; time in a pause does not count.",
    (),
    (0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 300.0),
)
LOOP_LAG = Family(
    "twilio_verify_exporter_event_loop_lag_seconds",
    MetricType.HISTOGRAM,
    "How late the event loop runs a callback, measured each second.",
    (),
    (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
)
LAST_TICK = Family(
    "twilio_verify_exporter_last_tick_timestamp_seconds",
    MetricType.GAUGE,
    "Time of the scheduler's last dispatch tick, in seconds since the epoch.",
)
QUEUE_LENGTH = Family(
    "twilio_verify_exporter_queue_length",
    MetricType.GAUGE,
    "Factors that are due and wait for a slot of their account.",
)
ENTITIES = Family(
    "twilio_verify_exporter_entities", MetricType.GAUGE, "Entities whose factors this process watches."
)
WATCHLIST_FACTORS = Family(
    "twilio_verify_exporter_watchlist_factors",
    MetricType.GAUGE,
    "Factors that this process watches, paused ones apart.",
)
RUNS_LOST = Family(
    "twilio_verify_exporter_scheduler_runs_lost_total",
    MetricType.COUNTER,
    "Runs of the scheduler's tasks that were missed, refused because the one before still ran, or failed.",
    ("task", "reason"),
)
SHARDS = Family("twilio_verify_exporter_shards", MetricType.GAUGE, "Shards that the watchlist is divided into.")
SHARD_INFO = Family(
    "twilio_verify_exporter_shard_info",
    MetricType.GAUGE,
    "Always 1; the shard that this process watches.",
    ("shard",),
)

OWN_FAMILIES: tuple[Family, ...] = (
    FACTORS,
    ENTITY_FACTORS,
    ENTITY_FAILURES,
    STATUS_CHANGES,
    FETCHES,
    FETCH_FAILURES,
    API_REQUESTS,
    API_REQUEST_DURATION,
    API_SERVER_DURATION,
    API_RETRIES,
    API_ROTATIONS,
    API_IN_FLIGHT,
    API_CONCURRENCY_LIMIT,
    API_PAUSED,
    API_DEMAND,
    API_BUDGET,
    CREDENTIALS_VALID,
    BUILD_INFO,
    CONFIG_RELOAD_SUCCESSFUL,
    CONFIG_RELOAD_TIMESTAMP,
    CONFIG_HASH,
    SCHEDULE_LAG,
    LOOP_LAG,
    LAST_TICK,
    QUEUE_LENGTH,
    ENTITIES,
    WATCHLIST_FACTORS,
    RUNS_LOST,
    SHARDS,
    SHARD_INFO,
)

CATALOGUE: tuple[Family, ...] = (*FACTOR_FAMILIES, *OWN_FAMILIES)

STATUS_PAIRS = tuple((before, after) for before in Status for after in Status if before is not after)
