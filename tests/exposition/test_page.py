"""The whole exposition of one moment."""

from __future__ import annotations

import logging

import pytest
from prometheus_client import CollectorRegistry, Counter, Metric, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.registry import Collector

from exporter.exposition.catalogue import CATALOGUE
from exporter.exposition.factors import FactorExposition, FactorSamples
from exporter.exposition.page import exposition
from exporter.exposition.pieces import Snapshot
from exporter.exposition.telemetry import Telemetry
from tests.support.factor_cases import record_of
from tests.support.gauge_source import FixedGauges, account_gauges


class Broken(Collector):
    """A collector that fails once it is registered."""

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> list[Metric]:
        raise LookupError


@pytest.fixture
def factors() -> FactorExposition:
    factors = FactorExposition(FactorSamples())
    factors.update(record_of(up=True))
    return factors


@pytest.fixture
def telemetry() -> Telemetry:
    telemetry = Telemetry(FixedGauges(gauges={"main": account_gauges()}), version="1", revision="")
    telemetry.know_account("main")
    return telemetry


def test_the_factors_come_first_then_the_exporters_own(factors: FactorExposition) -> None:
    own = CollectorRegistry()
    Counter("own", "x", registry=own).inc()
    pieces = [*exposition(factors, own, openmetrics=False)]
    assert pieces == [*Snapshot(factors.columns(openmetrics=False)), generate_latest(own)]


def test_the_page_holds_every_family_of_the_catalogue_once(factors: FactorExposition, telemetry: Telemetry) -> None:
    page = bytes(exposition(factors, telemetry.registry, openmetrics=False)).decode()
    types = [line.split()[2:] for line in page.splitlines() if line.startswith("# TYPE twilio_verify_")]
    assert sorted(types) == sorted([family.name, str(family.kind)] for family in CATALOGUE)


def test_both_formats_are_read_back(factors: FactorExposition, telemetry: Telemetry) -> None:
    text = bytes(exposition(factors, telemetry.registry, openmetrics=False)).decode()
    openmetrics = bytes(exposition(factors, telemetry.registry, openmetrics=True)).decode()
    assert openmetrics.endswith("\n# EOF\n")
    assert openmetrics.count("# EOF") == 1
    read = [family.name for family in parse_openmetrics(openmetrics)]  # type: ignore[no-untyped-call]  # the library is untyped
    assert len(read) == len(set(read))
    assert set(read) == {family.name for family in parse_text(text)}


@pytest.mark.parametrize("openmetrics", [False, True])
def test_factors_are_served_even_if_the_exporters_own_metrics_fail(
    factors: FactorExposition, caplog: pytest.LogCaptureFixture, openmetrics: bool
) -> None:
    own = CollectorRegistry()
    own.register(Broken())
    with caplog.at_level(logging.ERROR):
        pieces = [*exposition(factors, own, openmetrics=openmetrics)]
    end = [b"# EOF\n"] if openmetrics else []
    assert pieces == [*Snapshot(factors.columns(openmetrics=openmetrics)), *end]
    assert caplog.messages == ["the exporter's own metrics are missing from a scrape: please report this"]
