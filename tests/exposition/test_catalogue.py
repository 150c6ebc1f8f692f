"""The one list of metrics: what is promised to those who query it, typed here a second time on purpose."""

from __future__ import annotations

import pytest

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
    "twilio_verify_factor_interval_seconds": ("gauge", FACTOR),
    "twilio_verify_factor_info": ("gauge", (*FACTOR, "factor_sid", "factor_type", "entity_sid", "identity")),
    "twilio_verify_factors": ("gauge", (*SERVICE, "status")),
    "twilio_verify_entity_factors": ("gauge", ("account", "service_sid", "entity", "status")),
    "twilio_verify_entity_failures_total": ("counter", ("account", "service_sid")),
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
    "twilio_verify_exporter_schedule_lag_seconds": ("histogram", ()),
    "twilio_verify_exporter_event_loop_lag_seconds": ("histogram", ()),
    "twilio_verify_exporter_last_tick_timestamp_seconds": ("gauge", ()),
    "twilio_verify_exporter_queue_length": ("gauge", ()),
    "twilio_verify_exporter_entities": ("gauge", ()),
    "twilio_verify_exporter_watchlist_factors": ("gauge", ()),
    "twilio_verify_exporter_scheduler_runs_lost_total": ("counter", ("task", "reason")),
    "twilio_verify_exporter_shards": ("gauge", ()),
    "twilio_verify_exporter_shard_info": ("gauge", ("shard",)),
}
BUCKETS = {
    "twilio_verify_api_request_duration_seconds": REQUEST_BUCKETS,
    "twilio_verify_api_server_duration_seconds": REQUEST_BUCKETS,
    "twilio_verify_exporter_schedule_lag_seconds": (0.01, 0.05, 0.1, 0.5, 1, 2, 5, 15, 60, 300),
}
OVERWRITTEN_BY_PROMETHEUS = {"job", "instance", "__name__", "le", "quantile"}

each_family = pytest.mark.parametrize("family", CATALOGUE, ids=[family.name for family in CATALOGUE])


def test_what_is_promised_is_what_is_declared() -> None:
    assert {family.name: (family.kind, family.labels) for family in CATALOGUE} == PROMISED


@pytest.mark.parametrize("name", BUCKETS)
def test_buckets(name: str) -> None:
    (family,) = (family for family in CATALOGUE if family.name == name)
    assert family.buckets == BUCKETS[name]


def test_names_are_unique() -> None:
    assert len({family.name for family in CATALOGUE}) == len(CATALOGUE)
    assert len({family.base_name for family in CATALOGUE}) == len(CATALOGUE)
    assert CATALOGUE == FACTOR_FAMILIES + OWN_FAMILIES


@each_family
def test_names_follow_prometheus(family: Family) -> None:
    assert family.name.startswith("twilio_verify_")
    assert family.name == family.name.lower()
    assert family.name.endswith("_total") == (family.kind is MetricType.COUNTER)
    assert not family.name.endswith(("_count", "_sum", "_bucket", "_created"))
    for unit in ("milliseconds", "_ms", "minutes", "percent", "kilo"):
        assert unit not in family.name


@each_family
def test_times_are_in_seconds_and_moments_are_timestamps(family: Family) -> None:
    measured = any(word in family.name for word in ("duration", "interval", "lag", "timestamp"))
    assert family.name.endswith("_seconds") == measured
    if "since the epoch" in family.help:
        assert family.name.endswith("_timestamp_seconds")
    if "timestamp" in family.name:
        assert "since the epoch" in family.help


@each_family
def test_labels_are_kept_by_prometheus(family: Family) -> None:
    assert len(set(family.labels)) == len(family.labels)
    assert not OVERWRITTEN_BY_PROMETHEUS & set(family.labels)
    assert not any(label.startswith(("__", "exported_")) for label in family.labels)
    assert all(label.isidentifier() and label == label.lower() for label in family.labels)


@each_family
def test_help_is_one_sentence_or_more_that_needs_no_escape(family: Family) -> None:
    assert family.help.endswith(".")
    assert family.help == family.help.strip()
    assert family.help[0].isupper() or family.help[0].isdigit()
    assert not set(family.help) & set('"\\\n\r\t')
    assert family.help.isascii()


@each_family
def test_buckets_belong_to_histograms_and_rise(family: Family) -> None:
    assert bool(family.buckets) == (family.kind is MetricType.HISTOGRAM)
    assert list(family.buckets) == sorted(set(family.buckets))


@pytest.mark.parametrize("family", FACTOR_FAMILIES, ids=[family.name for family in FACTOR_FAMILIES])
def test_every_family_of_a_factor_says_that_it_is_polled(family: Family) -> None:
    assert "Polled" in family.help
    assert "not live" in family.help
    assert family.labels[:3] == FACTOR


def test_of_a_paused_factor_only_the_info_is_shown() -> None:
    assert [family for family in FACTOR_FAMILIES if family.of_paused] == [FACTOR_INFO]


def test_a_family_of_a_factor_has_no_samples_until_it_is_told_of_what() -> None:
    assert FactorFamily("x", MetricType.GAUGE, "X.").value(record_of(status=Status.VERIFIED, up=True)) is None


def test_the_six_pairs() -> None:
    assert len(set(STATUS_PAIRS)) == len(STATUS_PAIRS) == 6
    assert all(before is not after for before, after in STATUS_PAIRS)
    assert {status for pair in STATUS_PAIRS for status in pair} == set(Status)
