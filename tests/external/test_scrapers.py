"""Every scraper and parser gets what was served, sample for sample, with ugly names and labels.

``make scrapers`` runs this file with more scrapers than a system has, and writes the numbers into
docs/compatibility.md.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from exporter.exposition.catalogue import CATALOGUE, MetricType
from tests.external.test_prometheus import Prometheus, binary_of, prometheus
from tests.support.processes import output_of, spawned
from tests.support.running_exporter import until
from tests.support.scrapers.collector import CONFIG as COLLECTOR_CONFIG
from tests.support.scrapers.collector import received
from tests.support.scrapers.page import block
from tests.support.scrapers.parsers import of_client, of_datadog, of_npm
from tests.support.scrapers.samples import Samples, differences, labels_of, read
from tests.support.scrapers.source import Proxy, configured, source
from tests.support.scrapers.victoriametrics import victoriametrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.fixtures import Program

    Report = Callable[[str, str, str, Samples, Samples], None]

pytestmark = pytest.mark.external

ROOT = Path(__file__).parents[2]
SCRAPERS = ROOT / "tools" / "scrapers"

PROTOCOLS = (
    "PrometheusProto",
    "OpenMetricsText1.0.0",
    "OpenMetricsText0.0.1",
    "PrometheusText1.0.0",
    "PrometheusText0.0.4",
)
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
TEXT = "text/plain; version=0.0.4"
BUILT = "make scrapers builds one"
FORMATS = {OPENMETRICS: "OpenMetrics 1.0.0", TEXT: "text 0.0.4"}
# What a scraper that can be told which protocol to ask for is served.
SERVED_AS = {
    "PrometheusProto": TEXT,
    "OpenMetricsText1.0.0": OPENMETRICS,
    "OpenMetricsText0.0.1": OPENMETRICS,
    "PrometheusText1.0.0": TEXT,
    "PrometheusText0.0.4": TEXT,
}


def by(origin: str) -> dict[str, str]:
    """Return how to get a program of this origin, where that is not .ci/run."""
    return {"by": BUILT} if origin == "BUILT" else {}


@pytest.fixture
def report() -> Report:
    """Check that samples are the same, and note the numbers for the page if ``SCRAPERS_REPORT`` names a file."""

    def note(scraper: str, version: str, form: str, served: Samples, got: Samples) -> None:
        different = differences(served, got, relative=1e-12)
        if path := os.environ.get("SCRAPERS_REPORT"):
            row = [scraper, version, FORMATS[form], len(served), len(served) - len(different)]
            with Path(path).open("a") as out:
                out.write(json.dumps(row) + "\n")
        assert different == []
        assert len(served) > 200

    return note


async def prometheus_samples(server: Prometheus, job: str) -> Samples:
    """Return the samples of a job without those about the scrape, native histograms as classic ones."""
    samples: Samples = {}
    for item in await server.query(f'{{job="{job}", __name__!~"up|scrape_.*"}}'):
        name = item["metric"].pop("__name__")
        labels = labels_of(item["metric"], "job", "instance")
        if "value" in item:
            samples[name, labels] = float(item["value"][1])
            continue
        histogram = item["histogram"][1]
        samples[f"{name}_sum", labels] = float(histogram["sum"])
        samples[f"{name}_count", labels] = float(histogram["count"])
        for _, _, upper, count in histogram.get("buckets", ()):
            samples[f"{name}_bucket", labels | {("le", upper)}] = float(count)
    return samples


def as_native(served: Samples) -> Samples:
    """Return served samples with buckets as a native histogram has them: each alone, and none that is empty."""
    histograms: dict[object, list[tuple[float, str, float]]] = {}
    native = dict(served)
    for (name, labels), count in served.items():
        if name.endswith("_bucket"):
            bound = dict(labels)["le"]
            histograms.setdefault((name, labels - {("le", bound)}), []).append((float(bound), bound, count))
            del native[name, labels]
    for (name, labels), buckets in histograms.items():  # type: ignore[misc]  # the keys are pairs
        below = 0.0
        for number, bound, count in sorted(buckets):
            if count != below:
                native[name, labels | {("le", bound if bound == "+Inf" else f"{number:g}")}] = count - below
            below = count
    return native


async def scraped(server: Prometheus, job: str) -> bool:
    """Return whether a job was scraped."""
    return await server.value(f'up{{job="{job}"}}') == 1


async def prometheus_version(server: Prometheus) -> str:
    async with server.session.get(f"{server.url}/api/v1/status/buildinfo") as answer:
        version: str = json.loads(await answer.text())["data"]["version"]
    return version.partition("+")[0]


@pytest.mark.parametrize("version", ["the system's", "3"])
async def test_prometheus(
    program: Program, newer_program: Program, tmp_path: Path, report: Report, version: str
) -> None:
    binary = binary_of(version, program, newer_program)
    jobs: dict[str, tuple[str, dict[str, object]]] = {
        "default": ("/default", {}),
        "text": ("/text/prometheus", {}),
    }
    if version == "3":
        jobs |= {name: (f"/{name}", {"scrape_protocols": [name]}) for name in PROTOCOLS}
        jobs["nhcb"] = ("/nhcb", {"convert_classic_histograms_to_nhcb": True})
    flags = ("--enable-feature=native-histograms",) if version == "3" else ()
    async with source(tmp_path) as proxy:
        targets = [{"targets": [proxy.address]}]
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "scrape_configs": [
                {"job_name": job, "metrics_path": path, "static_configs": targets, **keys}
                for job, (path, keys) in jobs.items()
            ],
        }
        async with prometheus(binary, tmp_path, yaml.safe_dump(config), *flags) as server:
            for job in jobs:
                await until(functools.partial(scraped, server, job), bool)
            release = await prometheus_version(server)
            for job, (path, _) in jobs.items():
                served = proxy.served(path)
                assert configured(served)
                form = proxy.format_of(path)
                assert form == SERVED_AS.get(job, TEXT if job == "text" else OPENMETRICS)
                expected = as_native(served) if job == "nhcb" else served
                how = {"default": "", "text": " (text only)", "nhcb": " (convert_classic_histograms_to_nhcb)"}
                name = f"Prometheus{how.get(job, f' (`scrape_protocols: [{job}]`)')}"
                report(name, release, form, expected, await prometheus_samples(server, job))


@pytest.mark.parametrize("origin", ["DEBIAN", "BUILT"])
async def test_victoriametrics(newer_program: Program, tmp_path: Path, report: Report, origin: str) -> None:
    binary, vmagent = (newer_program(f"{name}_{origin}", **by(origin)) for name in ("VICTORIAMETRICS", "VMAGENT"))
    async with source(tmp_path) as proxy, victoriametrics(binary, vmagent, tmp_path, proxy.address) as server:
        for job, name in (("victoria-metrics", "VictoriaMetrics"), ("vmagent", "VictoriaMetrics vmagent")):
            got, _ = await until(functools.partial(server.samples, job), lambda found: found[1] == 1)
            served = proxy.served(f"/{job}")
            assert configured(served)
            version = os.environ.get(f"VICTORIAMETRICS_{origin}_VERSION", "")
            report(name, version, proxy.format_of(f"/{job}"), served, got)


async def test_the_collectors_receiver(newer_program: Program, tmp_path: Path, report: Report) -> None:
    binary = newer_program("OTELCOL", by=BUILT)
    output = tmp_path / "received.json"
    async with source(tmp_path) as proxy:
        config = tmp_path / "otelcol.yaml"
        config.write_text(COLLECTOR_CONFIG.format(target=proxy.address, output=output))
        with (tmp_path / "otelcol.log").open("wb") as log:
            async with spawned(binary, f"--config={config}", stdout=log, stderr=log) as running:

                async def jobs() -> dict[str, Samples]:
                    assert running.returncode is None, (tmp_path / "otelcol.log").read_text()
                    return received(output)

                found = await until(jobs, lambda found: found.keys() == {"default", "text"})
        for job, path in (("default", "/default"), ("text", "/text/otel")):
            served = proxy.served(path)
            assert configured(served)
            name = "OpenTelemetry Collector, prometheusreceiver" + (" (text only)" if job == "text" else "")
            report(name, os.environ.get("OTELCOL_VERSION", ""), proxy.format_of(path), served, found[job])


def installed(path: Path) -> Path:
    """Return the path of something that make installs; where it is missing, skip, and fail on CI."""
    if not path.exists():
        reason = f"{os.path.relpath(path, ROOT)} is not installed (make scraper-packages)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return path


async def test_datadogs_check(tmp_path: Path, report: Report) -> None:
    python = str(installed(Path(f"{sys.prefix}-datadog") / "bin" / "python"))  # as the Makefile names it
    instance = yaml.safe_load(block("openmetrics.d/conf.yaml"))["instances"][0]
    config = tmp_path / "conf.yaml"
    config.write_text(block("openmetrics.d/conf.yaml"))
    async with source(tmp_path) as proxy:
        script = str(SCRAPERS / "datadog" / "scrape.py")
        status, out, err = await output_of(python, script, str(config), f"http://{proxy.address}/datadog")
        assert status == 0, err.decode()
        served = proxy.served("/datadog")
        form = proxy.format_of("/datadog")
    assert configured(served)
    tags = {new: old for old, new in instance["rename_labels"].items()} | {"upper_bound": "le", "endpoint": ""}
    got = of_datadog(json.loads(out), instance["namespace"], tags)
    version = (SCRAPERS / "datadog" / "requirements.lock").read_text()
    (release,) = re.findall(r"^datadog-checks-base(?:\[deps\])?==(\S+)", version, re.MULTILINE)
    report("Datadog, OpenMetrics check (V2)", release, form, as_datadog(served), got)


def as_datadog(served: Samples) -> Samples:
    """Return served samples as Datadog's check counts them: no bucket without a bound, `_total` as `_count`."""
    return {
        (re.sub(r"_total$", "_count", name), labels): value
        for (name, labels), value in served.items()
        if ("le", "+Inf") not in labels
    }


async def test_the_parsers_of_prometheus_client(tmp_path: Path, report: Report) -> None:
    version = importlib.metadata.version("prometheus-client")
    async with source(tmp_path) as proxy:
        text, openmetrics = [
            await body(proxy, path, accept) for path, accept in (("/t", TEXT), ("/o", OPENMETRICS))
        ]
    assert configured(read(text))
    report("prometheus_client, parser", version, TEXT, read(text), of_client(read_text(text)))
    report(
        "prometheus_client, openmetrics.parser",
        version,
        OPENMETRICS,
        read(openmetrics),
        of_client(read_openmetrics(openmetrics)),  # type: ignore[no-untyped-call]  # the parser's
    )


async def test_the_parser_of_npm(program: Program, tmp_path: Path, report: Report) -> None:
    node = program("node", install="apt-get install nodejs npm")
    script = SCRAPERS / "npm" / "parse.mjs"
    installed(SCRAPERS / "npm" / "node_modules" / "parse-prometheus-text-format")
    async with source(tmp_path) as proxy:
        text = await body(proxy, "/npm", TEXT)
    status, out, err = await output_of(node, str(script), input_bytes=text.encode())
    assert status == 0, err.decode()
    (version,) = json.loads((SCRAPERS / "npm" / "package.json").read_text())["dependencies"].values()
    got = of_npm(out)
    name = "npm, parse-prometheus-text-format (without histograms)"
    report(name, version, TEXT, without_histograms(read(text)), without_histograms(got))
    assert differences(read(text), got), "it keeps the labels of histograms now: compare all samples"


def without_histograms(samples: Samples) -> Samples:
    """Return the samples that are not of a histogram: npm's parser drops the labels of those."""
    names = tuple(f"{family.name}_" for family in CATALOGUE if family.kind is MetricType.HISTOGRAM)
    return {key: value for key, value in samples.items() if not key[0].startswith(names)}


async def body(proxy: Proxy, path: str, accept: str) -> str:
    """Return what a path serves to a client that accepts this."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{proxy.address}{path}", headers={"Accept": accept}) as answer,
    ):
        text = await answer.text()
    assert proxy.format_of(path) == accept
    return text
