"""The configurations of docs/integrations.md are valid, and do what the page says."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.external.test_prometheus import Prometheus, binary_of, prometheus
from tests.external.test_scrapers import BUILT, by, prometheus_samples
from tests.support.processes import output_of, spawned
from tests.support.running_exporter import until
from tests.support.scrapers.page import block
from tests.support.scrapers.samples import Samples, differences
from tests.support.scrapers.source import source

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.fixtures import Program

pytestmark = pytest.mark.external

JOB = "verify-factor-exporter"


async def said_by(*command: str) -> tuple[int | None, str]:
    status, said, _ = await output_of(*command, stderr=asyncio.subprocess.STDOUT)
    return status, said.decode()


@pytest.mark.parametrize("version", ["the system's", "3"])
async def test_promtool_takes_the_job(
    program: Program, newer_program: Program, tmp_path: Path, version: str
) -> None:
    newer = version == "3"
    promtool = newer_program("PROMTOOL3") if newer else program("promtool", install="apt-get install prometheus")
    config = tmp_path / "prometheus.yml"
    config.write_text(block("prometheus.yml"))
    status, said = await said_by(promtool, "check", "config", str(config))

    assert status == 0, said


@pytest.mark.parametrize("origin", ["DEBIAN", "BUILT"])
async def test_vmagent_takes_the_job(newer_program: Program, tmp_path: Path, origin: str) -> None:
    vmagent = newer_program(f"VMAGENT_{origin}", **by(origin))
    config = tmp_path / "promscrape.yaml"
    flags = (f"-promscrape.config={config}", "-promscrape.config.strictParse", "-dryRun")
    config.write_text(block("promscrape.yaml"))
    status, said = await said_by(vmagent, *flags)
    assert status == 0, said

    config.write_text(block("promscrape.yaml").replace("max_scrape_size", "max_scrap_size"))
    status, said = await said_by(vmagent, *flags)
    assert status != 0
    assert "max_scrap_size" in said


async def test_the_collector_takes_the_configuration(newer_program: Program, tmp_path: Path) -> None:
    binary = newer_program("OTELCOL", by=BUILT)
    config = tmp_path / "otelcol.yaml"
    config.write_text(block("otelcol.yaml"))
    status, said = await said_by(binary, "validate", f"--config={config}")
    assert status == 0, said

    config.write_text(block("otelcol.yaml").replace("scrape_interval", "scrap_interval"))
    status, said = await said_by(binary, "validate", f"--config={config}")
    assert status != 0
    assert "scrap_interval" in said


async def test_the_collector_writes_to_prometheus(program: Program, newer_program: Program, tmp_path: Path) -> None:
    binary = newer_program("OTELCOL", by=BUILT)
    async with (
        source(tmp_path) as proxy,
        prometheus(
            binary_of("3", program, newer_program), tmp_path, "{}", "--web.enable-remote-write-receiver"
        ) as server,
    ):
        config: dict[str, Any] = yaml.safe_load(block("otelcol.yaml"))
        (job,) = config["receivers"]["prometheus"]["config"]["scrape_configs"]
        job |= {"scrape_interval": "1s", "static_configs": [{"targets": [proxy.address]}]}
        config["exporters"]["prometheusremotewrite"]["endpoint"] = f"{server.url}/api/v1/write"
        config["service"]["telemetry"] = {"metrics": {"level": "none"}}  # no port of its own
        path = tmp_path / "otelcol.yaml"
        path.write_text(yaml.safe_dump(config))
        with (tmp_path / "otelcol.log").open("wb") as log:
            async with spawned(binary, f"--config={path}", stdout=log, stderr=log) as running:

                async def samples() -> Samples:
                    assert running.returncode is None, (tmp_path / "otelcol.log").read_text()
                    return await arrived(server)

                got = await until(samples, len)
        served = proxy.served("/metrics")

    assert differences(with_short_bounds(served), got, relative=1e-12) == []
    assert got.keys() != served.keys()


async def arrived(server: Prometheus) -> Samples:
    """Return the samples of the job, with what describes the target left out, once it was scraped."""
    if await server.value(f'up{{job="{JOB}"}}') != 1:
        return {}
    found = await prometheus_samples(server, JOB)
    assert all("otel_scope_name" in dict(labels) for name, labels in found if name != "target_info")
    return {
        (name, frozenset((label, text) for label, text in labels if not label.startswith("otel_scope_"))): value
        for (name, labels), value in found.items()
        if name != "target_info"
    }


def with_short_bounds(samples: Samples) -> Samples:
    """Return samples with the bounds of buckets as the collector spells them: 60 instead of 60.0."""
    return {
        (
            name,
            frozenset((label, re.sub(r"\.0$", "", value) if label == "le" else value) for label, value in labels),
        ): number
        for (name, labels), number in samples.items()
    }
