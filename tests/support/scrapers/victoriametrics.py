"""VictoriaMetrics with its own scraper, and vmagent that writes to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
from typing import TYPE_CHECKING

import aiohttp

from tests.support.processes import PATIENCE_SECONDS, spawned
from tests.support.scrapers.samples import Samples, labels_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

_CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: {job}
    metrics_path: /{job}
    static_configs: [{{targets: ["{target}"]}}]
"""


class VictoriaMetrics:
    """A running VictoriaMetrics."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._session = session

    async def samples(self, job: str) -> tuple[Samples, float | None]:
        """Return the newest samples of a job without those about the scrape, and the newest value of ``up``."""
        try:
            await self._get("/internal/force_flush")
            text = await self._get("/api/v1/export", **{"match[]": f'{{job="{job}"}}'})
        except aiohttp.ClientConnectionError:
            return {}, None
        samples: Samples = {}
        up = None
        for line in text.splitlines():
            series = json.loads(line)
            name = series["metric"].pop("__name__")
            if name == "up":
                up = float(series["values"][-1])
            elif not name.startswith("scrape_"):
                samples[name, labels_of(series["metric"], "job", "instance")] = float(series["values"][-1])
        return samples, up

    async def _get(self, path: str, **parameters: str) -> str:
        async with self._session.get(self._url + path, params=parameters) as answer:
            assert answer.status in (200, 204), await answer.text()
            return await answer.text()


@contextlib.asynccontextmanager
async def victoriametrics(binary: str, vmagent: str, folder: Path, target: str) -> AsyncIterator[VictoriaMetrics]:
    """Run both: each scrapes the target at a path of its own name, which is its job, too."""
    address, agent = (f"127.0.0.1:{_free_port()}" for _ in range(2))
    for job in ("victoria-metrics", "vmagent"):
        (folder / f"{job}.yaml").write_text(_CONFIG.format(job=job, target=target))
    server = (
        binary,
        f"-promscrape.config={folder / 'victoria-metrics.yaml'}",
        f"-storageDataPath={folder / 'victoria-metrics'}",
        f"-httpListenAddr={address}",
    )
    agents = (
        vmagent,
        f"-promscrape.config={folder / 'vmagent.yaml'}",
        f"-remoteWrite.url=http://{address}/api/v1/write",
        f"-remoteWrite.tmpDataPath={folder / 'vmagent'}",
        "-remoteWrite.flushInterval=200ms",
        f"-httpListenAddr={agent}",
    )
    with (folder / "victoria-metrics.log").open("wb") as log:
        output = {"stdout": asyncio.subprocess.DEVNULL, "stderr": log}
        async with (
            spawned(*server, stop=signal.SIGINT, **output),
            spawned(*agents, stop=signal.SIGINT, **output),
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(PATIENCE_SECONDS)) as session,
        ):
            yield VictoriaMetrics(f"http://{address}", session)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
    return port
