"""With few file descriptors, the exporter fetches and answers whoever scrapes, however many others connect."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.support.config_files import account_of, entry, write_config
from tests.support.processes import PATIENCE_SECONDS
from tests.support.running_exporter import Process
from tests.support.scrape import Scrape

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.simulator import Simulator

pytestmark = pytest.mark.slow

OTHERS = 300
BEGINNINGS = (b"", b"GET / HTTP/1.1\r\nHost: x\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")


async def scrape(url: str, address: str) -> Scrape:
    """Scrape on a new connection from this address."""
    connector = aiohttp.TCPConnector(local_addr=(address, 0))
    async with (
        aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(PATIENCE_SECONDS)) as session,
        session.get(f"{url}/metrics") as answer,
    ):
        assert answer.status == 200
        return Scrape(await answer.text())


@pytest.mark.parametrize("limit", [40, 64, 128])
async def test_who_scraped_before_is_always_answered(simulator: Simulator, tmp_path: Path, limit: int) -> None:
    entries = [entry(f"factor-{number}", simulator.add_factor()) for number in range(3)]
    path = write_config(tmp_path / "config.toml", {"main": account_of(simulator)}, entries)
    under = ("sh", "-c", f'ulimit -n {limit}; exec "$@"', "sh")
    async with Process.run(path, under=under) as exporter:
        before = await scrape(exporter.url, "127.0.0.1")
        host, _, port = exporter.url.partition("://")[2].rpartition(":")
        others: list[asyncio.StreamWriter] = []
        try:
            for number in range(OTHERS):
                _, writer = await asyncio.open_connection(host, int(port), local_addr=("127.0.0.2", 0))
                writer.write(BEGINNINGS[number % len(BEGINNINGS)])
                others.append(writer)
                if number % 20 == 19:
                    await scrape(exporter.url, "127.0.0.1")
            fetched = before.value("twilio_verify_api_requests_total", account="main", code="200") or 0
            while True:
                after = await scrape(exporter.url, "127.0.0.1")
                if (after.value("twilio_verify_api_requests_total", account="main", code="200") or 0) > fetched + 6:
                    break
            await scrape(exporter.url, "127.0.0.2")
        finally:
            for writer in others:
                writer.transport.abort()
        assert after.value("twilio_verify_factors_failing", account="main") in (0, None)
        assert [sample.value for sample in after.samples("twilio_verify_factor_up")] == [1, 1, 1]
        assert "file descriptor limit reached" not in exporter.log
