"""Counters and histograms of plain numbers: the same bytes as prometheus_client's, after any events."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from exporter.exposition.catalogue import API_REQUEST_DURATION, CATALOGUE, FETCHES, Family, MetricType
from exporter.exposition.counted import Counted, Counter, Histogram
from exporter.verify.outcome import Operation

if TYPE_CHECKING:
    from prometheus_client import Metric

COUNTERS = tuple(family for family in CATALOGUE if family.kind is MetricType.COUNTER)
HISTOGRAMS = tuple(family for family in CATALOGUE if family.kind is MetricType.HISTOGRAM)
VALUES = st.one_of(
    st.floats(0, 1e9), st.sampled_from(sorted({bound for family in HISTOGRAMS for bound in family.buckets}))
)
EVENTS = st.tuples(st.integers(0, 2), st.one_of(st.none(), VALUES), st.sampled_from(["", "RQ1", "RQ2"]))
LABELS = ("main", 'a "quoted"\nname', "back\\slash")


class _WithoutCreated(CollectorRegistry):
    def collect(self) -> list[Metric]:
        metrics = list(super().collect())
        for metric in metrics:
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
        return metrics


def rendered(registry: CollectorRegistry) -> tuple[bytes, bytes]:
    openmetrics: bytes = generate_openmetrics(registry)  # type: ignore[no-untyped-call]  # the library is untyped
    return generate_latest(registry), openmetrics


def values_of(family: Family, number: int) -> tuple[str, ...]:
    return tuple(LABELS[(number + place) % len(LABELS)] for place in range(len(family.labels)))


@pytest.mark.parametrize("family", [*COUNTERS, *HISTOGRAMS], ids=lambda family: family.name)
@given(st.lists(EVENTS))
def test_the_same_bytes_as_the_library_s(family: Family, events: list[tuple[int, float | None, str]]) -> None:
    theirs, ours = _WithoutCreated(), CollectorRegistry()
    moment = 1_700_000_000.25
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: moment)
        if family.kind is MetricType.COUNTER:
            their_counter = prometheus_client.Counter(family.base_name, family.help, family.labels, registry=theirs)
            our_counter = Counted(family, Counter)
            ours.register(our_counter)
            for number, value, _ in events:
                values = values_of(family, number)
                child = their_counter.labels(*values) if values else their_counter
                series = our_counter.labels(*values)
                if value is not None:
                    child.inc()
                    series.inc()
        else:
            their_histogram = prometheus_client.Histogram(
                family.name, family.help, family.labels, buckets=family.buckets, registry=theirs
            )
            our_histogram = Counted(family, Histogram)
            ours.register(our_histogram)
            for number, value, request_id in events:
                values = values_of(family, number)
                timer = their_histogram.labels(*values) if values else their_histogram
                durations = our_histogram.labels(*values)
                if value is not None:
                    timer.observe(value, {"request_id": request_id} if request_id else None)
                    durations.observe(value, request_id)
                moment += 0.5
    assert rendered(ours) == rendered(theirs)


def test_a_member_of_an_enum_is_its_text() -> None:
    durations = Counted(API_REQUEST_DURATION, Histogram)
    assert durations.labels("main", Operation.FETCH) is durations.labels("main", "fetch")


def test_the_wrong_number_of_labels_is_refused() -> None:
    with pytest.raises(ValueError, match="twilio_verify_fetches_total has 2 labels"):
        Counted(FETCHES, Counter).labels("main")


def test_removing_series_by_some_labels() -> None:
    ours, theirs = Counted(FETCHES, Counter), prometheus_client.Counter("x", "", FETCHES.labels, registry=None)
    for account in ("main", "other"):
        for service in ("VA1", "VA2"):
            ours.labels(account, service)
            theirs.labels(account, service)
    for gone in ({"account": "main", "service_sid": "VA1"}, {"service_sid": "VA2"}, {"account": "none"}):
        ours.remove_by_labels(gone)
        theirs.remove_by_labels(gone)
        [ours_left], [theirs_left] = ours.collect(), theirs.collect()
        labels = [sample.labels for sample in theirs_left.samples if sample.name.endswith("_total")]
        assert [sample.labels for sample in ours_left.samples] == labels
    assert labels == [{"account": "other", "service_sid": "VA1"}]
