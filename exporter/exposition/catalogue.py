"""The list of metrics: every family with its HELP text, labels and buckets.

The renderer, the generator of docs/metrics.md, dashboards, rules and tests all read it. To add a factor metric,
add a :class:`FactorFamily` here; any other family also needs a value in :mod:`exporter.exposition.telemetry`.
"""

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
    """The metric types in use."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


class SchedulerTask(StrEnum):
    """What the scheduler runs: the values of the label ``task``."""

    DISPATCH = "dispatch"
    DISCOVERY = "discovery"
    WATCH = "watch"
    HOUSEKEEPING = "housekeeping"


class LostRun(StrEnum):
    """Why a scheduler run was lost: the values of the label ``reason`` beside ``task``."""

    MISSED = "missed"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Family:
    """One metric family: name in the text format, type, HELP text, label names, and histogram buckets."""

    name: str
    kind: MetricType
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def base_name(self) -> str:
        """The name without ``_total``, as OpenMetrics and prometheus_client name counter families."""
        return self.name.removesuffix("_total") if self.kind is MetricType.COUNTER else self.name


@dataclass(frozen=True, slots=True)
class FactorFamily(Family):
    """A family with one sample per factor, which also has the watchlist's labels.

    ``value`` returns the sample for a record, or ``None``; with ``of_paused``, paused factors have a sample, too.
    """

    value: Callable[[FactorRecord], float | None] = lambda _record: None
    of_paused: bool = False

    @property
    def short_name(self) -> str:
        """The name that ``metrics.factor_families`` accepts, without the common prefix."""
        return self.name.removeprefix(FACTOR_PREFIX)


FACTOR_LABELS = ("account", "service_sid", "factor")
INFO_LABELS = ("factor_sid", "factor_type", "entity_sid", "identity")
ACCOUNT_LABELS = ("account",)
SERVICE_LABELS = ("account", "service_sid")
OPERATION_LABELS = ("account", "operation")

_FLAGS = (0.0, 1.0)
_SMALL = tuple(map(float, range(16)))  # shared: most failure counts are this small
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


def _status_since(record: FactorRecord) -> float | None:
    seen = record.status is not None and record.status_change_seen
    return record.status_since_seconds if seen else None


def _last_success(record: FactorRecord) -> float | None:
    return record.answered_seconds


FACTOR_VERIFIED = FactorFamily(
    "twilio_verify_factor_verified",
    MetricType.GAUGE,
    f"Whether the factor was verified (1) or unverified (0) at the last definite answer; absent if not found or "
    f"unknown. {_POLLED}",
    FACTOR_LABELS,
    value=_verified,
)
FACTOR_EXISTS = FactorFamily(
    "twilio_verify_factor_exists",
    MetricType.GAUGE,
    f"Whether the API found the factor (1) or returned 404 (0) at the last definite answer; absent if unknown. "
    f"{_POLLED}",
    FACTOR_LABELS,
    value=_exists,
)
FACTOR_UP = FactorFamily(
    "twilio_verify_factor_up",
    MetricType.GAUGE,
    f"Whether the last fetch got a definite answer: a known status or a 404. {_POLLED}",
    FACTOR_LABELS,
    value=_up,
)
FACTOR_LAST_SUCCESS = FactorFamily(
    "twilio_verify_factor_last_success_timestamp_seconds",
    MetricType.GAUGE,
    f"Unix time of the last definite answer. {_POLLED}",
    FACTOR_LABELS,
    value=_last_success,
)
FACTOR_LAST_VERIFIED = FactorFamily(
    "twilio_verify_factor_last_verified_timestamp_seconds",
    MetricType.GAUGE,
    f"Unix time of the last answer with status verified. {_POLLED}",
    FACTOR_LABELS,
    value=lambda record: record.last_verified_seconds,
)
FACTOR_FETCH_DURATION = FactorFamily(
    "twilio_verify_factor_fetch_duration_seconds",
    MetricType.GAUGE,
    f"Duration of the last fetch, including retries and backoff. {_POLLED}",
    FACTOR_LABELS,
    value=lambda record: record.duration_seconds,
)
FACTOR_FETCH_FAILURES = FactorFamily(
    "twilio_verify_factor_fetch_failures_total",
    MetricType.COUNTER,
    f"Total number of fetches of this factor that ended without a definite answer. {_POLLED}",
    FACTOR_LABELS,
    value=lambda record: _SMALL[record.failures] if record.failures < len(_SMALL) else float(record.failures),
)
FACTOR_CREATED = FactorFamily(
    "twilio_verify_factor_created_timestamp_seconds",
    MetricType.GAUGE,
    f"Unix time of the factor's creation (date_created in the API). {_POLLED}",
    FACTOR_LABELS,
    value=lambda record: record.created_seconds,
)
FACTOR_UPDATED = FactorFamily(
    "twilio_verify_factor_updated_timestamp_seconds",
    MetricType.GAUGE,
    f"Unix time of the factor's last update (date_updated in the API). {_POLLED}",
    FACTOR_LABELS,
    value=lambda record: record.updated_seconds,
)
FACTOR_STATUS_SINCE = FactorFamily(
    "twilio_verify_factor_status_since_timestamp_seconds",
    MetricType.GAUGE,
    f"Unix time of the first answer with the current status; absent if the beginning of the status was not seen, "
    f"and while the status is unknown. {_POLLED}",
    FACTOR_LABELS,
    value=_status_since,
)
FACTOR_LAST_APPROVED = FactorFamily(
    "twilio_verify_factor_last_approved_timestamp_seconds",
    MetricType.GAUGE,
    f"Unix time at which a passkeys factor last approved a challenge (metadata.date_last_approved in the API); "
    f"absent if the API does not return it. {_POLLED}",
    FACTOR_LABELS,
    value=lambda record: record.approved_seconds,
)
FACTOR_INTERVAL = FactorFamily(
    "twilio_verify_factor_interval_seconds",
    MetricType.GAUGE,
    f"Polling interval in effect for this factor. {_POLLED}",
    FACTOR_LABELS,
    value=lambda record: record.interval_seconds,
)
FACTOR_INFO = FactorFamily(
    "twilio_verify_factor_info",
    MetricType.GAUGE,
    f"Information about a watched factor, in labels; the value is always 1. {_POLLED}",
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
    FACTOR_STATUS_SINCE,
    FACTOR_LAST_APPROVED,
    FACTOR_INTERVAL,
    FACTOR_INFO,
)

FACTORS = Family(
    "twilio_verify_factors",
    MetricType.GAUGE,
    "Number of watched factors by status; unknown means no definite answer yet, or a stale one.",
    (*SERVICE_LABELS, "status"),
)
FACTORS_BY_TYPE = Family(
    "twilio_verify_factors_by_type",
    MetricType.GAUGE,
    "Number of watched factors by type and status; the type is unknown until an answer contains it, and other "
    "means a type that this version does not know.",
    (*SERVICE_LABELS, "factor_type", "status"),
)
PUSH_FACTORS = Family(
    "twilio_verify_push_factors",
    MetricType.GAUGE,
    "Number of push factors by notification platform, of those that are verified or unverified; none means that no "
    "push notification can reach the device, and other means another platform or none given.",
    (*SERVICE_LABELS, "notification_platform"),
)
ENROLMENT_DURATION = Family(
    "twilio_verify_enrolment_duration_seconds",
    MetricType.HISTOGRAM,
    "Time from a factor's creation to the first answer with status verified, of factors whose answer before was "
    "unverified; at most one interval longer than the enrolment took.",
    (*SERVICE_LABELS, "factor_type"),
    (10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 14400.0, 86400.0),
)
ENTITY_FACTORS = Family(
    "twilio_verify_entity_factors",
    MetricType.GAUGE,
    "Number of factors found for a watched entity, by status; unknown means no definite answer yet, a stale one, "
    "or paused.",
    (*SERVICE_LABELS, "entity", "status"),
)
ENTITY_FAILURES = Family(
    "twilio_verify_entity_failures_total",
    MetricType.COUNTER,
    "Total number of listings of an entity's factors that failed or were incomplete; such listings "
    "change no factor.",
    SERVICE_LABELS,
)
ENTITY_LAST_LISTED = Family(
    "twilio_verify_entity_last_listed_timestamp_seconds",
    MetricType.GAUGE,
    "Unix time of the last complete listing of an entity's factors, or of the factors of every entity of a watched "
    "service; absent before the first one.",
    (*SERVICE_LABELS, "entity"),
)
SERVICE_ENTITIES = Family(
    "twilio_verify_service_entities",
    MetricType.GAUGE,
    "Number of entities that the last listing of a watched service found and that this process watches; absent "
    "before the first one.",
    (*SERVICE_LABELS, "entity"),
)
SERVICE_ENTITIES_TRUNCATED = Family(
    "twilio_verify_service_entities_truncated",
    MetricType.GAUGE,
    "Whether the last listing of a watched service stopped at max_entities, because there are more entities.",
    (*SERVICE_LABELS, "entity"),
)
SERVICE_EXISTS = Family(
    "twilio_verify_service_exists",
    MetricType.GAUGE,
    "Whether a service of which factors are missing exists: 0 if Fetch Service last answered 404 and none of its "
    "factors was found since, 1 if it was found; absent while that is not known.",
    SERVICE_LABELS,
)
STATUS_CHANGES = Family(
    "twilio_verify_factor_status_changes_total",
    MetricType.COUNTER,
    "Total number of changes from one known factor status to another.",
    (*SERVICE_LABELS, "from", "to"),
)
FETCHES = Family(
    "twilio_verify_fetches_total",
    MetricType.COUNTER,
    "Total number of completed fetches, including failed ones.",
    SERVICE_LABELS,
)
FETCH_FAILURES = Family(
    "twilio_verify_fetch_failures_total",
    MetricType.COUNTER,
    "Total number of fetches that ended without a definite answer, by reason; a 404 is a definite answer.",
    (*SERVICE_LABELS, "reason"),
)
API_REQUESTS = Family(
    "twilio_verify_api_requests_total",
    MetricType.COUNTER,
    "Total number of Verify API requests, by operation and HTTP status code; none means no complete response.",
    (*OPERATION_LABELS, "code"),
)
API_REQUEST_DURATION = Family(
    "twilio_verify_api_request_duration_seconds",
    MetricType.HISTOGRAM,
    "Duration of Verify API requests, from connecting to the last byte of the response.",
    OPERATION_LABELS,
    (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0),
)
API_SERVER_DURATION = Family(
    "twilio_verify_api_server_duration_seconds",
    MetricType.HISTOGRAM,
    "Duration of Verify API requests as reported by Twilio (Twilio-Request-Duration header).",
    OPERATION_LABELS,
    API_REQUEST_DURATION.buckets,
)
API_RETRIES = Family(
    "twilio_verify_api_retries_total",
    MetricType.COUNTER,
    "Total number of Verify API requests that were retries of a fetch.",
    ACCOUNT_LABELS,
)
API_ROTATIONS = Family(
    "twilio_verify_api_client_rotations_total",
    MetricType.COUNTER,
    "Total number of times the account's HTTP client was replaced because it was stuck or got no answers.",
    ACCOUNT_LABELS,
)
API_IN_FLIGHT = Family(
    "twilio_verify_api_in_flight", MetricType.GAUGE, "Number of Verify API requests in flight.", ACCOUNT_LABELS
)
API_CONCURRENCY_LIMIT = Family(
    "twilio_verify_api_concurrency_limit",
    MetricType.GAUGE,
    "Current maximum number of requests in flight; halved by a 429 response, then raised again step by step.",
    ACCOUNT_LABELS,
)
API_PAUSED = Family(
    "twilio_verify_api_paused",
    MetricType.GAUGE,
    "Whether polling of the account is paused because of refused credentials or a 429 response.",
    ACCOUNT_LABELS,
)
API_DEMAND = Family(
    "twilio_verify_api_demand_requests_per_second",
    MetricType.GAUGE,
    "Request rate that the configured polling intervals need, before any stretching.",
    ACCOUNT_LABELS,
)
API_BUDGET = Family(
    "twilio_verify_api_budget_requests_per_second",
    MetricType.GAUGE,
    "Request rate available to the account: the smaller of its rate limit and what its concurrency limit allows.",
    ACCOUNT_LABELS,
)
CREDENTIALS_VALID = Family(
    "twilio_verify_credentials_valid",
    MetricType.GAUGE,
    "Whether the API accepts the account's credentials: 0 while their refusal pauses the account; absent before "
    "the first answer.",
    ACCOUNT_LABELS,
)
BUILD_INFO = Family(
    "twilio_verify_exporter_build_info",
    MetricType.GAUGE,
    "Version, revision and Python version of the exporter, in labels; the value is always 1.",
    ("version", "revision", "python_version"),
)
CONFIG_RELOAD_SUCCESSFUL = Family(
    "twilio_verify_exporter_config_last_reload_successful",
    MetricType.GAUGE,
    "Whether the last attempt to load the configuration succeeded.",
)
CONFIG_RELOAD_TIMESTAMP = Family(
    "twilio_verify_exporter_config_last_reload_success_timestamp_seconds",
    MetricType.GAUGE,
    "Unix time of the last successful load of the configuration.",
)
CONFIG_HASH = Family(
    "twilio_verify_exporter_config_hash_info",
    MetricType.GAUGE,
    "SHA-256 of the configuration, web config and watchlist files in effect, in a label; the value is always 1.",
    ("sha256",),
)
WEB_TLS = Family(
    "twilio_verify_exporter_web_tls_enabled",
    MetricType.GAUGE,
    "Whether the main address of the exporter serves HTTPS.",
)
WEB_AUTH = Family(
    "twilio_verify_exporter_web_auth_enabled",
    MetricType.GAUGE,
    "Whether every client of the main address must authenticate, by password or client certificate.",
)
SCHEDULE_LAG = Family(
    "twilio_verify_exporter_schedule_lag_seconds",
    MetricType.HISTOGRAM,
    "Delay between the time a fetch was due and its start; time in an account's pause is not counted.",
    (),
    (0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 300.0),
)
LATE_SECONDS = 60.0
LATE_FETCHES = Family(
    "twilio_verify_exporter_late_fetches_total",
    MetricType.COUNTER,
    "Total number of fetches that started more than a minute after they were due; time in an account's pause is "
    "not counted.",
)
LOOP_LAG = Family(
    "twilio_verify_exporter_event_loop_lag_seconds",
    MetricType.HISTOGRAM,
    "Delay of a scheduled event loop callback, measured every second.",
    (),
    (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
)
LAST_TICK = Family(
    "twilio_verify_exporter_last_tick_timestamp_seconds",
    MetricType.GAUGE,
    "Unix time of the last dispatch; the scheduler dispatches due fetches every second.",
)
QUEUE_LENGTH = Family(
    "twilio_verify_exporter_queue_length",
    MetricType.GAUGE,
    "Number of due factors that wait for a slot of their account.",
)
ENTITIES = Family(
    "twilio_verify_exporter_entities", MetricType.GAUGE, "Number of entities whose factors this process watches."
)
DISCOVERY_INTERVAL = Family(
    "twilio_verify_exporter_discovery_interval_seconds",
    MetricType.GAUGE,
    "Configured interval between two listings of an entity; listings take longer if the budget requires it.",
)
WATCHLIST_FACTORS = Family(
    "twilio_verify_exporter_watchlist_factors",
    MetricType.GAUGE,
    "Number of factors that this process watches, not counting paused ones.",
)
LOG_LINES_DROPPED = Family(
    "twilio_verify_exporter_log_lines_dropped_total",
    MetricType.COUNTER,
    "Total number of log lines dropped because nobody read standard error.",
)
STATE_LAST_SAVE = Family(
    "twilio_verify_exporter_state_last_save_timestamp_seconds",
    MetricType.GAUGE,
    "Unix time of the last successful save of the state file, by this process or the one before; absent without a "
    "state file, and before the first save.",
)
STATE_SAVE_FAILURES = Family(
    "twilio_verify_exporter_state_save_failures_total",
    MetricType.COUNTER,
    "Total number of failed saves of the state file; absent without a state file.",
)
WATCHLIST_LISTED = Family(
    "twilio_verify_exporter_watchlist_listed_factors",
    MetricType.GAUGE,
    "Number of factors that the watchlist lists for the shard of this process, including paused ones and not "
    "including discovered ones.",
)
WATCHLIST_TOTAL = Family(
    "twilio_verify_exporter_watchlist_total_factors",
    MetricType.GAUGE,
    "Number of factors that the watchlist lists for all shards: the sum of the listed factors of every shard.",
)
WATCHLIST_FALLBACK = Family(
    "twilio_verify_exporter_watchlist_fallback",
    MetricType.GAUGE,
    "Whether the last good watchlist stands in for watchlist files or URLs that were unusable or empty at the "
    "start.",
)
SOURCE_UP = Family(
    "twilio_verify_exporter_watchlist_source_up",
    MetricType.GAUGE,
    "Whether the last load of a watchlist URL succeeded; if not, its last good answer stays in effect. Absent "
    "before the first load has ended.",
    ("source",),
)
SOURCE_LAST_SUCCESS = Family(
    "twilio_verify_exporter_watchlist_source_last_success_timestamp_seconds",
    MetricType.GAUGE,
    "Unix time of the last successful load of a watchlist URL by this process.",
    ("source",),
)
RUNS_LOST = Family(
    "twilio_verify_exporter_scheduler_runs_lost_total",
    MetricType.COUNTER,
    "Total number of scheduled task runs that were missed, refused because the previous run had not "
    "finished, or failed.",
    ("task", "reason"),
)
SHARDS = Family(
    "twilio_verify_exporter_shards", MetricType.GAUGE, "Number of shards that the watchlist is divided into."
)
SHARD_INFO = Family(
    "twilio_verify_exporter_shard_info",
    MetricType.GAUGE,
    "Shard that this process watches, in a label; the value is always 1.",
    ("shard",),
)

OWN_FAMILIES: tuple[Family, ...] = (
    FACTORS,
    FACTORS_BY_TYPE,
    PUSH_FACTORS,
    ENROLMENT_DURATION,
    SERVICE_EXISTS,
    ENTITY_FACTORS,
    ENTITY_FAILURES,
    ENTITY_LAST_LISTED,
    SERVICE_ENTITIES,
    SERVICE_ENTITIES_TRUNCATED,
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
    WEB_TLS,
    WEB_AUTH,
    SCHEDULE_LAG,
    LATE_FETCHES,
    LOOP_LAG,
    LAST_TICK,
    QUEUE_LENGTH,
    ENTITIES,
    DISCOVERY_INTERVAL,
    WATCHLIST_FACTORS,
    WATCHLIST_LISTED,
    WATCHLIST_TOTAL,
    WATCHLIST_FALLBACK,
    SOURCE_UP,
    SOURCE_LAST_SUCCESS,
    LOG_LINES_DROPPED,
    STATE_LAST_SAVE,
    STATE_SAVE_FAILURES,
    RUNS_LOST,
    SHARDS,
    SHARD_INFO,
)

CATALOGUE: tuple[Family, ...] = (*FACTOR_FAMILIES, *OWN_FAMILIES)

STATUS_PAIRS = tuple((before, after) for before in Status for after in Status if before is not after)
