"""Rules and dashboards through pipelines that rename the bounds of buckets, or convert to native histograms."""

from __future__ import annotations

import functools
import operator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

from exporter.exposition.catalogue import CATALOGUE, FETCHES, LATE_FETCHES, MetricType
from exporter.exposition.counted import Counted, Counter, Histogram
from grafana.rules.render import RULES
from tests.external.test_prometheus import Prometheus, binary_of, prometheus
from tests.support.dashboards.files import filled, targets
from tests.support.running_exporter import until
from tools.stack.shortened import shortened_rules

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.fixtures import Program

pytestmark = pytest.mark.external

RULES_FILE = Path(__file__).parents[2] / "grafana" / "rules" / RULES

HISTOGRAMS = tuple(family for family in CATALOGUE if family.kind is MetricType.HISTOGRAM)
PLAIN, RENAMED, NATIVE = "plain", "renamed", "native"
CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: [rules.yml]
scrape_configs:
  - job_name: plain
    static_configs: [{{targets: ["{address}"]}}]
  - job_name: renamed
    static_configs: [{{targets: ["{address}"]}}]
    metric_relabel_configs: [{{source_labels: [le], regex: '(\\d+)\\.0', replacement: '$1', target_label: le}}]
"""
CONVERTED = """
  - job_name: native
    convert_classic_histograms_to_nhcb: true
    static_configs: [{{targets: ["{address}"]}}]
"""
LAG = "twilio_verify_exporter_schedule_lag_seconds"
TIMES = 300  # the alert waits for 3 s instead of 15 minutes


class Lagging:
    """A target whose every second fetch is late; its histograms grow with every scrape."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._late, self._fetches = Counted(LATE_FETCHES, Counter), Counted(FETCHES, Counter)
        self._histograms = [(family, Counted(family, Histogram)) for family in HISTOGRAMS]
        self.registry.register(self._late)
        self.registry.register(self._fetches)
        for _, histogram in self._histograms:
            self.registry.register(histogram)
        self.scrape()

    def scrape(self) -> bytes:
        """Return the exposition, and let time pass."""
        self._late.labels().inc(10)
        self._fetches.labels("main", "VA1").inc(20)
        for family, histogram in self._histograms:
            child = histogram.labels(*("main" for _ in family.labels))
            for value in (0.001, 0.07, 0.4, 0.4, 1.0, 7.0, 60.0, 250.0, 1e6):
                child.observe(value)
        return generate_latest(self.registry)


@pytest.fixture
async def lagging() -> AsyncIterator[str]:
    """Serve a lagging target on loopback; the value is its address."""
    target = Lagging()

    async def scrape(_request: web.BaseRequest) -> web.Response:
        return web.Response(body=target.scrape(), headers={"Content-Type": "text/plain; version=0.0.4"})

    runner = web.ServerRunner(web.Server(scrape, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"{host}:{port}"
    finally:
        await runner.cleanup()


async def lagging_jobs(server: Prometheus) -> set[str]:
    """Return the jobs for which the alert fires."""
    found = await server.query('ALERTS{alertname="TwilioVerifyScheduleLagging", alertstate="firing"}')
    return {item["metric"]["job"] for item in found}


async def quantiles(server: Prometheus, job: str) -> dict[str, list[float]]:
    """Return what the dashboards' quantiles of a pipeline are."""
    values: dict[str, list[float]] = {}
    for target in targets():
        if "histogram_quantile" in target.expression:
            found = await server.query(filled(target.expression, {"job": job}))
            values[str(target)] = sorted(float(item["value"][1]) for item in found)
    return values


async def heatmap(server: Prometheus, job: str) -> set[str]:
    """Return whether the heatmap of a pipeline has classic or native buckets."""
    (target,) = (target for target in targets() if target.panel["type"] == "heatmap")
    found = await server.query(filled(target.expression, {"job": job}))
    return {"native" if "histogram" in item else "classic" for item in found}


async def buckets(server: Prometheus, job: str) -> set[str]:
    """Return the bounds of the buckets of the schedule lag, as the pipeline spells them."""
    found = await server.query(f'count by (le) ({LAG}_bucket{{job="{job}"}})')
    return {item["metric"]["le"] for item in found}


@pytest.mark.parametrize("version", ["the system's", "3"])
async def test_renamed_and_native_buckets_change_no_alert_and_no_quantile(
    program: Program, newer_program: Program, tmp_path: Path, lagging: str, version: str
) -> None:
    binary = binary_of(version, program, newer_program)
    jobs = {PLAIN, RENAMED} | ({NATIVE} if version == "3" else set())
    (tmp_path / "rules.yml").write_text(shortened_rules(RULES_FILE.read_text(), TIMES))
    text = (CONFIG + (CONVERTED if NATIVE in jobs else "")).format(address=lagging)
    flags = ("--enable-feature=native-histograms",) if NATIVE in jobs else ()
    async with prometheus(binary, tmp_path, text, *flags) as server:
        await until(functools.partial(lagging_jobs, server), functools.partial(operator.eq, jobs))

        bounds = {job: await buckets(server, job) for job in jobs}
        assert {"60.0"} <= bounds[PLAIN]
        assert "60" in bounds[RENAMED]
        assert "60.0" not in bounds[RENAMED]
        plain = await quantiles(server, PLAIN)
        assert len(plain) > 10
        assert all(plain.values()), plain
        for job in jobs:
            assert await quantiles(server, job) == {
                place: pytest.approx(values, rel=0.05) for place, values in plain.items()
            }, job
            assert await heatmap(server, job) == ({"native"} if job == NATIVE else {"classic"})
        if NATIVE in jobs:
            assert bounds[NATIVE] == set()
            assert await server.query(f'{{job="{NATIVE}", __name__=~"{LAG}_(bucket|sum|count)"}}') == []
