"""A real Prometheus scrapes the daemon in both formats: every sample arrives, with its value and its labels."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import operator
import re
import signal
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web

from tests.support.factor_states import ODD_NAME, STATES, world
from tests.support.processes import PATIENCE_SECONDS, spawned
from tests.support.running_exporter import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.fixtures import Program
    from tests.support.served_exporter import ServedExporter

pytestmark = pytest.mark.external

TEXT_ONLY = "text/plain;version=0.0.4"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
TEXT = "text/plain; version=0.0.4; charset=utf-8"
CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: openmetrics
    static_configs: [{{targets: ["{proxy}"]}}]
    metrics_path: /as-it-is
  - job_name: text
    static_configs: [{{targets: ["{proxy}"]}}]
    metrics_path: /as-text
"""


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running Prometheus: its API, and the file of its log."""

    url: str
    log: Path
    session: aiohttp.ClientSession

    async def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the result of an instant query, and nothing while Prometheus can't be reached."""
        return await self.api("query", query=expression)

    async def api(self, path: str, **parameters: str) -> list[dict[str, Any]]:
        """Return the data of a response of the API, and nothing while Prometheus can't be reached."""
        try:
            async with self.session.get(f"{self.url}/api/v1/{path}", params=parameters) as answer:
                data = json.loads(await answer.text())["data"] if answer.status == 200 else []
        except aiohttp.ClientConnectionError:
            return []
        found: list[dict[str, Any]] = data["result"] if isinstance(data, dict) else data
        return found

    async def value(self, expression: str) -> float | None:
        """Return the one value that a query answers, if there is one."""
        found = await self.query(expression)
        return float(found[0]["value"][1]) if len(found) == 1 else None


@dataclass(slots=True)
class Proxy:
    """Stands between Prometheus and the daemon: can ask for text alone, and knows what was served how."""

    address: str
    served: dict[str, str]


@contextlib.asynccontextmanager
async def proxied(running: ServedExporter) -> AsyncIterator[Proxy]:
    proxy = Proxy("", {})

    async def pass_on(request: web.Request) -> web.Response:
        accept = TEXT_ONLY if request.path == "/as-text" else request.headers["Accept"]
        answer = await running.request(
            "/metrics", Accept=accept, Accept_Encoding=request.headers["Accept-Encoding"]
        )
        proxy.served[request.path] = answer.headers["Content-Type"]
        assert answer.headers["Content-Encoding"] == "gzip"
        headers = {name: answer.headers[name] for name in ("Content-Type", "Content-Encoding")}
        return web.Response(status=answer.status, body=answer.body, headers=headers)

    runner = web.ServerRunner(web.Server(pass_on, access_log=None))  # type: ignore[arg-type]  # the handler's request is a subclass
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    proxy.address = f"{host}:{port}"
    try:
        yield proxy
    finally:
        await runner.cleanup()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
    return port


@contextlib.asynccontextmanager
async def prometheus(binary: str, folder: Path, text: str, *flags: str) -> AsyncIterator[Prometheus]:
    """Run a Prometheus with this configuration and these additional flags."""
    config = folder / "prometheus.yml"
    config.write_text(text)
    address = f"127.0.0.1:{free_port()}"
    command = (
        binary,
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address={address}",
        "--enable-feature=exemplar-storage",
        *flags,
    )
    with (folder / "prometheus.log").open("wb") as log:
        async with (
            spawned(*command, stop=signal.SIGTERM, stdout=asyncio.subprocess.DEVNULL, stderr=log),
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(PATIENCE_SECONDS)) as session,
        ):
            yield Prometheus(f"http://{address}", folder / "prometheus.log", session)


def sample_lines(exposition: str) -> int:
    return sum(bool(line) and not line.startswith("#") for line in exposition.splitlines())


def binary_of(version: str, program: Program, newer_program: Program) -> str:
    if version == "3":
        return newer_program("PROMETHEUS3")
    return program("prometheus", install="apt-get install prometheus")


@pytest.mark.parametrize("version", ["the system's", "3"])
async def test_prometheus_takes_every_sample(
    program: Program, newer_program: Program, tmp_path: Path, version: str
) -> None:
    binary = binary_of(version, program, newer_program)
    async with (
        world(tmp_path, "all") as running,
        proxied(running) as proxy,
        prometheus(binary, tmp_path, CONFIG.format(proxy=proxy.address)) as server,
    ):
        served = sample_lines((await running.request("/metrics")).text)
        for job in ("openmetrics", "text"):
            await until(
                functools.partial(scrapes, server, job),
                functools.partial(operator.eq, [True, 1, served, served, served]),
            )
            await see_the_factors(server, job)
        await see_the_metadata(server)
        exemplars = await server.api(
            "query_exemplars",
            query="twilio_verify_api_request_duration_seconds_bucket",
            start="0",
            end="9999999999",
        )
        complaints = [
            line
            for line in server.log.read_text().splitlines()
            if re.search(r"level=(warn|error)", line, re.IGNORECASE)
        ]

    assert proxy.served == {"/as-it-is": OPENMETRICS, "/as-text": TEXT}
    assert exemplars
    assert {tuple(item["seriesLabels"]["job"] for item in exemplars)} == {("openmetrics",)}
    assert complaints == []


async def scrapes(server: Prometheus, job: str) -> list[float | None]:
    """Return whether there were several scrapes, whether the last one succeeded, and its samples at each step."""
    count = await server.value(f'count_over_time(up{{job="{job}"}}[1m])')
    return [
        count is not None and count >= 4,
        await server.value(f'up{{job="{job}"}}'),
        await server.value(f'scrape_samples_scraped{{job="{job}"}}'),
        await server.value(f'scrape_samples_post_metric_relabeling{{job="{job}"}}'),
        await server.value(f'count({{job="{job}", __name__!~"up|scrape_.*"}})'),
    ]


async def see_the_factors(server: Prometheus, job: str) -> None:
    """Check that the values are those of the simulator, under the configured labels."""
    chosen = f'job="{job}"'
    verified = {
        item["metric"]["factor"]: (float(item["value"][1]), item["metric"])
        for item in await server.query(f"twilio_verify_factor_verified{{{chosen}}}")
    }
    assert {name: value for name, (value, _) in verified.items()} == {
        "verified": 1,
        "unverified": 0,
        "kept": 1,
        ODD_NAME: 1,
    }
    assert set(verified[ODD_NAME][1]) == {
        "__name__",
        "account",
        "service_sid",
        "factor",
        "team",
        "job",
        "instance",
    }
    assert verified[ODD_NAME][1]["team"] == 'the "a" team'
    assert await server.query(f'{{{chosen}, exported_job!=""}} or {{{chosen}, exported_instance!=""}}') == []
    exists = await server.query(f"twilio_verify_factor_exists{{{chosen}}} == 0")
    assert [item["metric"]["factor"] for item in exists] == ["not-found"]
    up = await server.query(f"twilio_verify_factor_up{{{chosen}}} == 0")
    assert {item["metric"]["factor"] for item in up} == {"failing", "kept", "stale"}
    counts = await server.query(f"sum by (status) (twilio_verify_factors{{{chosen}}})")
    assert {item["metric"]["status"]: float(item["value"][1]) for item in counts} == {
        "verified": 3,
        "unverified": 1,
        "not_found": 1,
        "unknown": 3,
    }
    info = await server.value(f"count(twilio_verify_factor_info{{{chosen}}})")
    assert info == len(STATES["all"])
    assert await server.value(f'twilio_verify_factor_fetch_failures_total{{{chosen}, factor="kept"}}') == 1
    buckets = f"twilio_verify_api_request_duration_seconds_bucket{{{chosen}}}"
    quantile = await server.value(f"histogram_quantile(0.5, sum by (le) ({buckets}))")
    assert quantile is not None
    assert 0.2 < quantile <= 0.3


async def see_the_metadata(server: Prometheus) -> None:
    async with server.session.get(f"{server.url}/api/v1/metadata") as answer:
        metadata = json.loads(await answer.text())["data"]
    assert {item["type"] for item in metadata["twilio_verify_factor_verified"]} == {"gauge"}
    assert {item["type"] for item in metadata["twilio_verify_factor_fetch_failures_total"]} >= {"counter"}
    assert {item["type"] for item in metadata["twilio_verify_api_request_duration_seconds"]} == {"histogram"}
