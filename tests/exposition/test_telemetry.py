"""The exporter's own metrics: each event counted once, every known series there from the start."""

from __future__ import annotations

import gc
import itertools
import platform
from typing import TYPE_CHECKING

import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.exposition.catalogue import OWN_FAMILIES, LostRun, MetricType, SchedulerTask
from exporter.exposition.telemetry import StateGauges, Telemetry
from exporter.polling.clients import RotationReason
from exporter.polling.record import FactorRecord, StatusChange
from exporter.verify.outcome import Answer, Attempt, Failure, Operation, Outcome, Reason, Status
from exporter.watched import WatchedFactor
from tests.support.factor_cases import SERVICE_SID, key_of
from tests.support.gauge_source import FixedGauges, account_gauges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client import Metric

P = "twilio_verify_"
RECORD = FactorRecord(WatchedFactor(key_of(0), "factor-0", "identity", 300.0))
Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def source() -> FixedGauges:
    return FixedGauges(
        counts={("main", SERVICE_SID): {"verified": 3, "not_found": 1}, ("other", SERVICE_SID): {"unknown": 2}},
        types={("main", SERVICE_SID): {("push", "verified"): 2, ("other", "verified"): 1}},
        push={("main", SERVICE_SID): {"fcm": 2}},
        gauges={"main": account_gauges(credentials_valid=True), "other": account_gauges()},
    )


@pytest.fixture
def telemetry(source: FixedGauges) -> Telemetry:
    telemetry = Telemetry(source, version="1.2.3", revision="abc", shard=(1, 4))
    telemetry.know_account("main")
    telemetry.know_service("main", SERVICE_SID)
    return telemetry


def text(telemetry: Telemetry) -> str:
    return generate_latest(telemetry.registry).decode()


def openmetrics(telemetry: Telemetry) -> str:
    rendered: bytes = generate_openmetrics(telemetry.registry)  # type: ignore[no-untyped-call]  # the library is untyped
    return rendered.decode()


def read_openmetrics(telemetry: Telemetry) -> list[Metric]:
    return list(parse_openmetrics(openmetrics(telemetry)))  # type: ignore[no-untyped-call]  # the library is untyped


def series(families: Iterable[Metric]) -> Series:
    read: Series = {}
    for family in families:
        for sample in family.samples:
            if sample.name.startswith(P):
                place = (sample.name, frozenset(sample.labels.items()))
                assert place not in read
                read[place] = sample.value
    return read


def shown(telemetry: Telemetry) -> Series:
    return series(parse_text(text(telemetry)))


def at(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return P + name, frozenset(labels.items())


def values(series: Series, name: str, *labels: str) -> dict[tuple[str, ...], float]:
    """Return the values of one family by those of its labels, in this order."""
    return {
        tuple(dict(given)[label] for label in labels): value
        for (found, given), value in series.items()
        if found == P + name
    }


# The start


def test_counters_of_known_label_sets_start_at_zero(telemetry: Telemetry) -> None:
    of_service = {"account": "main", "service_sid": SERVICE_SID}
    start = shown(telemetry)
    assert start[at("fetches_total", **of_service)] == 0
    assert values(start, "fetch_failures_total", "reason") == {(reason,): 0 for reason in Reason}
    assert values(start, "factor_status_changes_total", "from", "to") == {
        ("verified", "unverified"): 0,
        ("verified", "not_found"): 0,
        ("unverified", "verified"): 0,
        ("unverified", "not_found"): 0,
        ("not_found", "verified"): 0,
        ("not_found", "unverified"): 0,
    }
    assert values(start, "exporter_scheduler_runs_lost_total", "task", "reason") == {
        (task, reason): 0
        for task in ("dispatch", "discovery", "watch", "housekeeping")
        for reason in ("missed", "refused", "failed")
    }
    assert start[at("api_retries_total", account="main")] == 0
    assert start[at("api_client_rotations_total", account="main")] == 0
    for name in ("api_request_duration_seconds_count", "api_server_duration_seconds_count"):
        assert start[at(name, account="main", operation="fetch")] == 0
    for name in ("exporter_schedule_lag_seconds_count", "exporter_event_loop_lag_seconds_count"):
        assert start[at(name)] == 0


def test_unknown_services_and_accounts_have_no_series(source: FixedGauges) -> None:
    start = shown(Telemetry(source, version="1", revision=""))
    for name in (
        "fetches_total",
        "fetch_failures_total",
        "factor_status_changes_total",
        "api_retries_total",
        "api_client_rotations_total",
    ):
        assert values(start, name) == {}


def test_adding_an_account_or_service_twice_changes_nothing(telemetry: Telemetry) -> None:
    telemetry.fetched(RECORD, Outcome(Answer(Status.VERIFIED), 0.1), None)
    telemetry.retried("main")
    before = shown(telemetry)
    telemetry.know_account("main")
    telemetry.know_service("main", SERVICE_SID)
    assert shown(telemetry) == before


# Events


def moved(telemetry: Telemetry, event: Callable[[], None]) -> Series:
    """Return by how much each series moved with an event; gauges of the process left out."""
    before = shown(telemetry)
    event()
    after = shown(telemetry)
    assert before.keys() <= after.keys()
    return {place: value - before.get(place, 0.0) for place, value in after.items() if value != before.get(place)}


OF_SERVICE = {"account": "main", "service_sid": SERVICE_SID}
OF_FETCH = {"account": "main", "operation": "fetch"}


def test_a_successful_fetch(telemetry: Telemetry) -> None:
    outcome = Outcome(Answer(Status.VERIFIED), 0.1)
    assert moved(telemetry, lambda: telemetry.fetched(RECORD, outcome, None)) == {
        at("fetches_total", **OF_SERVICE): 1
    }


@pytest.mark.parametrize("reason", Reason)
def test_a_failed_fetch(telemetry: Telemetry, reason: Reason) -> None:
    outcome = Outcome(Failure(reason), 0.1)
    assert moved(telemetry, lambda: telemetry.fetched(RECORD, outcome, None)) == {
        at("fetches_total", **OF_SERVICE): 1,
        at("fetch_failures_total", **OF_SERVICE, reason=reason.value): 1,
    }


@pytest.mark.parametrize(("before", "after"), list(itertools.permutations(Status, 2)))
def test_a_change_of_status(telemetry: Telemetry, before: Status, after: Status) -> None:
    outcome, change = Outcome(Answer(after), 0.1), StatusChange(before, after)
    labels = {**OF_SERVICE, "from": before.value, "to": after.value}
    assert moved(telemetry, lambda: telemetry.fetched(RECORD, outcome, change)) == {
        at("fetches_total", **OF_SERVICE): 1,
        at("factor_status_changes_total", **labels): 1,
    }


def unverified(factor_type: str = "push") -> FactorRecord:
    return FactorRecord(RECORD.watched, status=Status.UNVERIFIED, factor_type=factor_type)


ENROLMENT = "enrolment_duration_seconds"
ENROLMENT_BUCKETS = (10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 14400.0, 86400.0)


def test_a_completed_enrolment(telemetry: Telemetry) -> None:
    outcome = Outcome(Answer(Status.VERIFIED), 0.1)
    change = StatusChange(Status.UNVERIFIED, Status.VERIFIED, 1000.0)
    telemetry.watched(unverified())
    verified = FactorRecord(RECORD.watched, status=Status.VERIFIED, factor_type="push")
    labels = {**OF_SERVICE, "factor_type": "push"}
    assert moved(telemetry, lambda: telemetry.fetched(verified, outcome, change)) == {
        at("fetches_total", **OF_SERVICE): 1,
        at("factor_status_changes_total", **OF_SERVICE, **{"from": "unverified", "to": "verified"}): 1,
        **buckets(ENROLMENT, 1000, ENROLMENT_BUCKETS, labels),
        at(f"{ENROLMENT}_count", **labels): 1,
        at(f"{ENROLMENT}_sum", **labels): 1000,
    }


@pytest.mark.parametrize(
    ("factor_type", "label"), [("push", "push"), ("totp", "totp"), ("sms", "other"), ("", "unknown")]
)
def test_enrolments_are_counted_from_zero_once_there_is_an_unverified_factor(
    telemetry: Telemetry, factor_type: str, label: str
) -> None:
    assert values(shown(telemetry), f"{ENROLMENT}_count", "factor_type") == {}
    telemetry.fetched(unverified(factor_type), Outcome(Answer(Status.UNVERIFIED), 0.1), None)
    assert values(shown(telemetry), f"{ENROLMENT}_count", "factor_type") == {(label,): 0}
    telemetry.retain({"main"}, set())
    assert values(shown(telemetry), f"{ENROLMENT}_count", "factor_type") == {}


def test_an_account_that_comes_back_is_counted_from_zero(telemetry: Telemetry) -> None:
    attempt = Attempt(Answer(Status.VERIFIED), duration_seconds=0.25, code=200)
    for _ in range(2):
        telemetry.know_account("main")
        telemetry.attempted("main", Operation.FETCH, attempt)
        requests = values(shown(telemetry), "api_requests_total", "account", "code")
        durations = values(shown(telemetry), "api_request_duration_seconds_count", "account", "operation")
        assert (requests, durations) == ({("main", "200"): 1}, {("main", "fetch"): 1})
        telemetry.retain(set(), set())
        assert values(shown(telemetry), "api_requests_total", "account") == {}


def test_an_unverified_factor_from_the_state_file_starts_them_too(telemetry: Telemetry) -> None:
    telemetry.watched(unverified("passkeys"))
    assert values(shown(telemetry), f"{ENROLMENT}_count", "factor_type") == {("passkeys",): 0}


def buckets(name: str, least: float, all_bounds: Iterable[float], labels: dict[str, str]) -> Series:
    bounds = [str(bound) for bound in all_bounds if bound >= least] + ["+Inf"]
    return {at(f"{name}_bucket", **labels, le=bound): 1.0 for bound in bounds}


DURATIONS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0)


@pytest.mark.parametrize(("code", "label"), [(200, "200"), (404, "404"), (429, "429"), (None, "none")])
def test_a_request(telemetry: Telemetry, code: int | None, label: str) -> None:
    attempt = Attempt(Answer(Status.VERIFIED), duration_seconds=0.25, code=code)
    assert moved(telemetry, lambda: telemetry.attempted("main", Operation.FETCH, attempt)) == {
        at("api_requests_total", **OF_FETCH, code=label): 1,
        **buckets("api_request_duration_seconds", 0.3, DURATIONS, OF_FETCH),
        at("api_request_duration_seconds_count", **OF_FETCH): 1,
        at("api_request_duration_seconds_sum", **OF_FETCH): 0.25,
    }


def test_a_request_with_a_server_duration(telemetry: Telemetry) -> None:
    attempt = Attempt(Answer(Status.VERIFIED), duration_seconds=31.0, code=200, server_duration_seconds=0.0625)
    assert moved(telemetry, lambda: telemetry.attempted("main", Operation.FETCH, attempt)) == {
        at("api_requests_total", **OF_FETCH, code="200"): 1,
        **buckets("api_request_duration_seconds", 31.0, DURATIONS, OF_FETCH),
        at("api_request_duration_seconds_count", **OF_FETCH): 1,
        at("api_request_duration_seconds_sum", **OF_FETCH): 31.0,
        **buckets("api_server_duration_seconds", 0.1, DURATIONS, OF_FETCH),
        at("api_server_duration_seconds_count", **OF_FETCH): 1,
        at("api_server_duration_seconds_sum", **OF_FETCH): 0.0625,
    }


def test_a_retry(telemetry: Telemetry) -> None:
    assert moved(telemetry, lambda: telemetry.retried("main")) == {at("api_retries_total", account="main"): 1}


def test_a_client_rotation(telemetry: Telemetry) -> None:
    change = moved(telemetry, lambda: telemetry.client_rotated("main", RotationReason.STUCK))
    assert change == {at("api_client_rotations_total", account="main"): 1}


def test_a_late_start(telemetry: Telemetry) -> None:
    bounds = (0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0, 300.0)
    assert moved(telemetry, lambda: telemetry.started(4.0)) == {
        **buckets("exporter_schedule_lag_seconds", 5.0, bounds, {}),
        at("exporter_schedule_lag_seconds_count"): 1,
        at("exporter_schedule_lag_seconds_sum"): 4.0,
    }


def test_fetches_are_late_after_a_minute(telemetry: Telemetry) -> None:
    name = at("exporter_late_fetches_total")
    assert shown(telemetry)[name] == 0
    assert name not in moved(telemetry, lambda: telemetry.started(60.0))
    assert moved(telemetry, lambda: telemetry.started(60.001))[name] == 1


def test_event_loop_lag(telemetry: Telemetry) -> None:
    change = moved(telemetry, lambda: telemetry.loop_lagged(0.25))
    assert change[at("exporter_event_loop_lag_seconds_count")] == 1
    assert change[at("exporter_event_loop_lag_seconds_sum")] == 0.25
    assert at("exporter_event_loop_lag_seconds_bucket", le="0.25") in change
    assert at("exporter_event_loop_lag_seconds_bucket", le="0.1") not in change


@pytest.mark.parametrize("task", SchedulerTask)
@pytest.mark.parametrize("reason", LostRun)
def test_a_lost_run(telemetry: Telemetry, task: SchedulerTask, reason: LostRun) -> None:
    assert moved(telemetry, lambda: telemetry.run_lost(task, reason)) == {
        at("exporter_scheduler_runs_lost_total", task=task, reason=reason): 1
    }


# Gauges


def test_gauges(telemetry: Telemetry) -> None:
    found = shown(telemetry)
    assert values(found, "factors", "account", "status") == {
        ("main", "verified"): 3,
        ("main", "unverified"): 0,
        ("main", "not_found"): 1,
        ("main", "unknown"): 0,
        ("other", "verified"): 0,
        ("other", "unverified"): 0,
        ("other", "not_found"): 0,
        ("other", "unknown"): 2,
    }
    of_main = {name: value for (name, labels), value in found.items() if labels == frozenset({("account", "main")})}
    assert of_main == {
        P + "api_in_flight": 2,
        P + "api_concurrency_limit": 3,
        P + "api_paused": 1,
        P + "api_demand_requests_per_second": 0.5,
        P + "api_budget_requests_per_second": 10,
        P + "api_retries_total": 0,
        P + "api_client_rotations_total": 0,
        P + "credentials_valid": 1,
    }
    python_version = platform.python_version()
    for place, value in {
        at("exporter_build_info", version="1.2.3", revision="abc", python_version=python_version): 1,
        at("exporter_config_last_reload_successful"): 1,
        at("exporter_config_last_reload_success_timestamp_seconds"): 1_800_000_000.5,
        at("exporter_config_hash_info", sha256="ab" * 32): 1,
        at("exporter_web_tls_enabled"): 1,
        at("exporter_web_auth_enabled"): 0,
        at("exporter_last_tick_timestamp_seconds"): 1_800_000_123.0,
        at("exporter_queue_length"): 7,
        at("exporter_log_lines_dropped_total"): 5,
        at("exporter_state_last_save_timestamp_seconds"): 1_800_000_100.0,
        at("exporter_state_save_failures_total"): 2,
        at("exporter_entities"): 0,
        at("exporter_discovery_interval_seconds"): 900,
        at("exporter_watchlist_factors"): 6,
        at("exporter_watchlist_listed_factors"): 7,
        at("exporter_watchlist_total_factors"): 9,
        at("exporter_watchlist_fallback"): 0,
        at("exporter_shards"): 4,
        at("exporter_shard_info", shard="1"): 1,
    }.items():
        assert found[place] == value


@pytest.mark.parametrize(
    ("state", "expected"), [(None, {}), (StateGauges(None, 3), {"exporter_state_save_failures_total": 3})]
)
def test_what_is_not_known_of_the_state_file_is_absent(
    source: FixedGauges, telemetry: Telemetry, state: StateGauges | None, expected: dict[str, float]
) -> None:
    source.state = state
    found = {name.removeprefix(P): value for (name, _), value in shown(telemetry).items() if "_state_" in name}
    assert found == expected


@pytest.mark.parametrize(("valid", "expected"), [(None, {}), (True, {("main",): 1}), (False, {("main",): 0})])
def test_credentials_valid_is_absent_before_the_first_answer(
    source: FixedGauges, telemetry: Telemetry, valid: bool | None, expected: dict[tuple[str], float]
) -> None:
    source.gauges = {"main": account_gauges(credentials_valid=valid)}
    assert values(shown(telemetry), "credentials_valid", "account") == expected


def test_gauges_are_read_on_every_scrape_and_not_before(source: FixedGauges, telemetry: Telemetry) -> None:
    assert source.reads == 0
    text(telemetry)
    source.counts["main", SERVICE_SID]["verified"] = 4
    assert values(shown(telemetry), "factors", "account", "status")["main", "verified"] == 4
    assert source.reads == 2


# The two formats


REQUEST_ID = "RQ" + "5" * 32


def test_the_request_id_is_an_exemplar_in_openmetrics_only(telemetry: Telemetry) -> None:
    attempt = Attempt(Answer(Status.VERIFIED), duration_seconds=0.25, code=200, request_id=REQUEST_ID)
    telemetry.attempted("main", Operation.FETCH, attempt)
    assert REQUEST_ID not in text(telemetry)
    exemplars = [
        (sample.name, sample.labels["le"], sample.exemplar.labels, sample.exemplar.value)
        for family in read_openmetrics(telemetry)
        for sample in family.samples
        if sample.exemplar is not None
    ]
    assert exemplars == [(P + "api_request_duration_seconds_bucket", "0.3", {"request_id": REQUEST_ID}, 0.25)]


def test_the_longest_request_id_fits_an_exemplar(telemetry: Telemetry) -> None:
    attempt = Attempt(Answer(Status.VERIFIED), duration_seconds=0.25, code=200, request_id="r" * 64)
    telemetry.attempted("main", Operation.FETCH, attempt)
    assert "r" * 64 in openmetrics(telemetry)


def test_no_request_id_no_exemplar(telemetry: Telemetry) -> None:
    telemetry.attempted("main", Operation.FETCH, Attempt(Failure(Reason.TIMEOUT), duration_seconds=0.25))
    assert " # {" not in openmetrics(telemetry)


@pytest.mark.parametrize("render", [text, openmetrics])
def test_there_are_no_created_series(telemetry: Telemetry, render: Callable[[Telemetry], str]) -> None:
    gc.collect()
    telemetry.attempted("main", Operation.LIST, Attempt(Failure(Reason.TIMEOUT), duration_seconds=0.25))
    assert "_created" not in render(telemetry)


def test_both_formats_hold_the_same_series(telemetry: Telemetry) -> None:
    telemetry.attempted("main", Operation.FETCH, Attempt(Answer(Status.VERIFIED), 0.2, 200, REQUEST_ID, 0.1))
    assert series(read_openmetrics(telemetry)) == shown(telemetry)


def test_a_service_exists_or_not_where_that_is_known(source: FixedGauges, telemetry: Telemetry) -> None:
    assert values(shown(telemetry), "service_exists", "account", "service_sid") == {}
    source.services = {("main", SERVICE_SID): True, ("main", "VA2"): False}
    assert values(shown(telemetry), "service_exists", "account", "service_sid") == {
        ("main", SERVICE_SID): 1.0,
        ("main", "VA2"): 0.0,
    }


# The catalogue


def test_a_scrape_has_exactly_the_families_of_the_catalogue(source: FixedGauges, telemetry: Telemetry) -> None:
    telemetry.attempted("main", Operation.FETCH, Attempt(Answer(Status.VERIFIED), 0.2, 200, REQUEST_ID, 0.1))
    telemetry.fetched(RECORD, Outcome(Failure(Reason.DNS), 0.1), None)
    telemetry.know_entities("main", SERVICE_SID)
    source.entity_factors = {("main", SERVICE_SID, "team"): {"verified": 1}}
    source.listed = {("main", SERVICE_SID, "team"): 1_800_000_000.0}
    telemetry.watched(unverified())
    source.walked = {("main", SERVICE_SID, "team"): (3, True)}
    source.services = {("main", SERVICE_SID): True}
    families = {family.name: family for family in read_openmetrics(telemetry) if family.name.startswith(P)}
    assert sorted(families) == sorted(family.base_name for family in OWN_FAMILIES)
    for family in OWN_FAMILIES:
        found = families[family.base_name]
        assert (found.type, found.documentation) == (family.kind, family.help)
        assert found.samples, family.name
        for sample in found.samples:
            names = sample.labels.keys() - ({"le"} if family.kind is MetricType.HISTOGRAM else set())
            assert names == set(family.labels), sample
        if family.kind is MetricType.HISTOGRAM:
            bounds = {sample.labels["le"] for sample in found.samples if sample.name.endswith("_bucket")}
            assert bounds == {*(str(bound) for bound in family.buckets), "+Inf"}
        else:
            assert {sample.name for sample in found.samples} == {family.name}


def test_all_types_and_platforms_are_there(telemetry: Telemetry) -> None:
    of_type = values(shown(telemetry), "factors_by_type", "account", "factor_type", "status")
    assert {key: value for key, value in of_type.items() if value} == {
        ("main", "push", "verified"): 2,
        ("main", "other", "verified"): 1,
    }
    types, statuses = ("push", "totp", "passkeys", "other", "unknown"), (*Status, "unknown")
    assert of_type.keys() == {("main", *of) for of in itertools.product(types, statuses)}
    assert values(shown(telemetry), "push_factors", "notification_platform") == {
        ("apn",): 0,
        ("fcm",): 2,
        ("none",): 0,
        ("other",): 0,
    }


def test_process_and_python_metrics_are_included(telemetry: Telemetry) -> None:
    others = {family.name for family in read_openmetrics(telemetry) if not family.name.startswith(P)}
    assert {name.partition("_")[0] for name in others} <= {"process", "python"}
    assert {"python_info", "python_gc_collections"} <= others


def test_two_registries_are_independent(source: FixedGauges, telemetry: Telemetry) -> None:
    other = Telemetry(source, version="1.2.3", revision="abc", shard=(1, 4))
    other.know_account("main")
    other.know_service("main", SERVICE_SID)
    assert moved(other, lambda: telemetry.retried("main")) == {}
