"""The list of metrics: what users may rely on, typed here a second time on purpose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.exposition.catalogue import (
    CATALOGUE,
    FACTOR_FAMILIES,
    FACTOR_INFO,
    OWN_FAMILIES,
    STATUS_PAIRS,
    FactorFamily,
    Family,
    MetricType,
)
from exporter.verify.outcome import Status
from tests.support.factor_cases import record_of

if TYPE_CHECKING:
    from collections.abc import Callable

FACTOR = ("account", "service_sid", "factor")
SERVICE = ("account", "service_sid")
ACCOUNT = ("account",)
OPERATION = ("account", "operation")
REQUEST_BUCKETS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2.5, 5, 10, 30)

PROMISED: dict[str, tuple[str, tuple[str, ...]]] = {
    "twilio_verify_factor_verified": ("gauge", FACTOR),
    "twilio_verify_factor_exists": ("gauge", FACTOR),
    "twilio_verify_factor_up": ("gauge", FACTOR),
    "twilio_verify_factor_last_success_timestamp_seconds": ("gauge", FACTOR),
    "twilio_verify_factor_last_verified_timestamp_seconds": ("gauge", FACTOR),
    "twilio_verify_factor_fetch_duration_seconds": ("gauge", FACTOR),
    "twilio_verify_factor_fetch_failures_total": ("counter", FACTOR),
    "twilio_verify_factor_created_timestamp_seconds": ("gauge", FACTOR),
    "twilio_verify_factor_updated_timestamp_seconds": ("gauge", FACTOR),
    "twilio_verify_factor_status_since_timestamp_seconds": ("gauge", FACTOR),
    "twilio_verify_factor_last_approved_timestamp_seconds": ("gauge", FACTOR),
    "twilio_verify_factor_interval_seconds": ("gauge", FACTOR),
    "twilio_verify_factor_info": ("gauge", (*FACTOR, "factor_sid", "factor_type", "entity_sid", "identity")),
    "twilio_verify_factors": ("gauge", (*SERVICE, "status")),
    "twilio_verify_factors_by_type": ("gauge", (*SERVICE, "factor_type", "status")),
    "twilio_verify_push_factors": ("gauge", (*SERVICE, "notification_platform")),
    "twilio_verify_enrolment_duration_seconds": ("histogram", (*SERVICE, "factor_type")),
    "twilio_verify_service_exists": ("gauge", SERVICE),
    "twilio_verify_entity_factors": ("gauge", ("account", "service_sid", "entity", "status")),
    "twilio_verify_entity_failures_total": ("counter", ("account", "service_sid")),
    "twilio_verify_entity_last_listed_timestamp_seconds": ("gauge", ("account", "service_sid", "entity")),
    "twilio_verify_factor_status_changes_total": ("counter", (*SERVICE, "from", "to")),
    "twilio_verify_fetches_total": ("counter", SERVICE),
    "twilio_verify_fetch_failures_total": ("counter", (*SERVICE, "reason")),
    "twilio_verify_api_requests_total": ("counter", (*OPERATION, "code")),
    "twilio_verify_api_request_duration_seconds": ("histogram", OPERATION),
    "twilio_verify_api_server_duration_seconds": ("histogram", OPERATION),
    "twilio_verify_api_retries_total": ("counter", ACCOUNT),
    "twilio_verify_api_client_rotations_total": ("counter", ACCOUNT),
    "twilio_verify_api_in_flight": ("gauge", ACCOUNT),
    "twilio_verify_api_concurrency_limit": ("gauge", ACCOUNT),
    "twilio_verify_api_paused": ("gauge", ACCOUNT),
    "twilio_verify_api_demand_requests_per_second": ("gauge", ACCOUNT),
    "twilio_verify_api_budget_requests_per_second": ("gauge", ACCOUNT),
    "twilio_verify_credentials_valid": ("gauge", ACCOUNT),
    "twilio_verify_exporter_build_info": ("gauge", ("version", "revision", "python_version")),
    "twilio_verify_exporter_config_last_reload_successful": ("gauge", ()),
    "twilio_verify_exporter_config_last_reload_success_timestamp_seconds": ("gauge", ()),
    "twilio_verify_exporter_config_hash_info": ("gauge", ("sha256",)),
    "twilio_verify_exporter_web_tls_enabled": ("gauge", ()),
    "twilio_verify_exporter_web_auth_enabled": ("gauge", ()),
    "twilio_verify_exporter_schedule_lag_seconds": ("histogram", ()),
    "twilio_verify_exporter_late_fetches_total": ("counter", ()),
    "twilio_verify_exporter_event_loop_lag_seconds": ("histogram", ()),
    "twilio_verify_exporter_last_tick_timestamp_seconds": ("gauge", ()),
    "twilio_verify_exporter_queue_length": ("gauge", ()),
    "twilio_verify_exporter_log_lines_dropped_total": ("counter", ()),
    "twilio_verify_exporter_state_last_save_timestamp_seconds": ("gauge", ()),
    "twilio_verify_exporter_state_save_failures_total": ("counter", ()),
    "twilio_verify_service_entities": ("gauge", ("account", "service_sid", "entity")),
    "twilio_verify_service_entities_truncated": ("gauge", ("account", "service_sid", "entity")),
    "twilio_verify_exporter_entities": ("gauge", ()),
    "twilio_verify_exporter_discovery_interval_seconds": ("gauge", ()),
    "twilio_verify_exporter_watchlist_factors": ("gauge", ()),
    "twilio_verify_exporter_watchlist_listed_factors": ("gauge", ()),
    "twilio_verify_exporter_watchlist_total_factors": ("gauge", ()),
    "twilio_verify_exporter_watchlist_fallback": ("gauge", ()),
    "twilio_verify_exporter_watchlist_source_up": ("gauge", ("source",)),
    "twilio_verify_exporter_watchlist_source_last_success_timestamp_seconds": ("gauge", ("source",)),
    "twilio_verify_exporter_scheduler_runs_lost_total": ("counter", ("task", "reason")),
    "twilio_verify_exporter_shards": ("gauge", ()),
    "twilio_verify_exporter_shard_info": ("gauge", ("shard",)),
}
BUCKETS = {
    "twilio_verify_api_request_duration_seconds": REQUEST_BUCKETS,
    "twilio_verify_api_server_duration_seconds": REQUEST_BUCKETS,
    "twilio_verify_enrolment_duration_seconds": (10, 30, 60, 120, 300, 600, 1800, 3600, 14400, 86400),
    "twilio_verify_exporter_schedule_lag_seconds": (0.01, 0.05, 0.1, 0.5, 1, 2, 5, 15, 60, 300),
}
OVERWRITTEN_BY_PROMETHEUS = {"job", "instance", "__name__", "le", "quantile"}


def test_the_catalogue_declares_what_users_rely_on() -> None:
    assert {family.name: (family.kind, family.labels) for family in CATALOGUE} == PROMISED


def test_buckets() -> None:
    assert {family.name: family.buckets for family in CATALOGUE if family.name in BUCKETS} == BUCKETS


def test_names_are_unique() -> None:
    assert len({family.name for family in CATALOGUE}) == len(CATALOGUE)
    assert len({family.base_name for family in CATALOGUE}) == len(CATALOGUE)
    assert CATALOGUE == FACTOR_FAMILIES + OWN_FAMILIES


def names_where(rule: Callable[[Family], bool]) -> list[str]:
    """Return the names of the families that a rule holds for; a failing test lists them."""
    return [family.name for family in CATALOGUE if rule(family)]


def test_names_follow_the_conventions_of_prometheus() -> None:
    units = ("milliseconds", "_ms", "minutes", "percent", "kilo")
    assert not names_where(lambda family: not family.name.startswith("twilio_verify_"))
    assert not names_where(lambda family: family.name != family.name.lower())
    assert names_where(lambda family: family.name.endswith("_total")) == names_where(
        lambda family: family.kind is MetricType.COUNTER
    )
    assert not names_where(lambda family: family.name.endswith(("_count", "_sum", "_bucket", "_created")))
    assert not names_where(lambda family: any(unit in family.name for unit in units))


def test_times_are_in_seconds_and_moments_are_timestamps() -> None:
    words = ("duration", "interval", "lag", "timestamp")
    assert names_where(lambda family: family.name.endswith("_seconds")) == names_where(
        lambda family: any(word in family.name for word in words)
    )
    assert names_where(lambda family: "Unix time" in family.help) == names_where(
        lambda family: family.name.endswith("_timestamp_seconds")
    )


def test_prometheus_overwrites_no_label() -> None:
    assert not names_where(lambda family: len(set(family.labels)) != len(family.labels))
    assert not names_where(lambda family: bool(OVERWRITTEN_BY_PROMETHEUS & set(family.labels)))
    labels = {label for family in CATALOGUE for label in family.labels}
    assert not {label for label in labels if label.startswith(("__", "exported_"))}
    assert {label for label in labels if label.isidentifier() and label == label.lower()} == labels


def test_help_is_whole_sentences_that_need_no_escape() -> None:
    assert not names_where(lambda family: not family.help.endswith("."))
    assert not names_where(lambda family: family.help != family.help.strip())
    assert not names_where(lambda family: not family.help[0].isupper())
    assert not names_where(lambda family: bool(set(family.help) & set('"\\\n\r\t')))
    assert not names_where(lambda family: not family.help.isascii())


def test_only_histograms_have_buckets_and_they_rise() -> None:
    assert names_where(lambda family: bool(family.buckets)) == names_where(
        lambda family: family.kind is MetricType.HISTOGRAM
    )
    assert not names_where(lambda family: list(family.buckets) != sorted(set(family.buckets)))


def test_the_help_of_every_factor_family_says_that_it_is_polled() -> None:
    assert all("Polled at the factor's interval, not live." in family.help for family in FACTOR_FAMILIES)
    assert all(family.labels[:3] == FACTOR for family in FACTOR_FAMILIES)


def test_a_paused_factor_shows_only_its_info() -> None:
    assert [family for family in FACTOR_FAMILIES if family.of_paused] == [FACTOR_INFO]


def test_a_factor_family_has_no_sample_by_default() -> None:
    assert FactorFamily("x", MetricType.GAUGE, "X.").value(record_of(status=Status.VERIFIED, up=True)) is None


def test_there_are_six_pairs_of_statuses() -> None:
    assert len(set(STATUS_PAIRS)) == len(STATUS_PAIRS) == 6
    assert all(before is not after for before, after in STATUS_PAIRS)
    assert {status for pair in STATUS_PAIRS for status in pair} == set(Status)
