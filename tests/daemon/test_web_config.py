"""A running exporter behind a web config file: it starts, reloads, and fetches while it is scraped."""

from __future__ import annotations

import asyncio
import re
import signal
from typing import TYPE_CHECKING

import pytest

from exporter.config import load
from tests.support.certificates import Certificates
from tests.support.config_files import BCRYPT_HASH, account_of, entry, write_config
from tests.support.https_exporter import MUTUAL, PAIR, client_context, get, handshake
from tests.support.running_exporter import Process, running, until
from tests.support.scrape import Scrape

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.simulator import Simulator

pytestmark = pytest.mark.slow

HEALTH_LINE = re.compile(r'msg="listening for health checks" address=(\S+)')
FACTORS, SCRAPERS, ROUNDS = 40, 20, 3


async def test_a_process_shows_a_new_certificate_after_a_signal(simulator: Simulator, tmp_path: Path) -> None:
    certificates = Certificates.make(tmp_path)
    (tmp_path / "web.yml").write_text(PAIR)
    path = write_config(
        tmp_path / "config.toml", {"main": account_of(simulator)}, web={"health_listen_address": "127.0.0.1:0"}
    )
    async with Process.run(path, "--web.config.file", str(tmp_path / "web.yml")) as exporter:
        assert re.fullmatch(r"https://127\.0\.0\.1:[0-9]+", exporter.url)

        async def log() -> str:
            return exporter.log

        output = await until(log, HEALTH_LINE.search)
        health = HEALTH_LINE.search(output)
        assert health is not None
        assert (await get(f"{health[1]}/-/healthy"))[0] == 200
        context = client_context(tmp_path)

        async def certificate() -> bytes | None:
            return (await handshake(exporter.url, context)).getpeercert(binary_form=True)

        first = await certificate()
        certificates.issue("server", "127.0.0.1")
        exporter.signal(signal.SIGHUP)
        second = await until(certificate, lambda shown: shown != first)

        (tmp_path / "web.yml").write_text("x: 1\n")
        exporter.signal(signal.SIGHUP)
        await until(log, lambda text: "web.yml:1:1: x: unknown field" in text)
        assert await certificate() == second
        certificates.issue("server", "127.0.0.1")
        (tmp_path / "web.yml").write_text(f"{PAIR}# again\n")  # and nobody signals: it is seen
        await until(certificate, lambda shown: shown not in (first, second))
        exporter.signal(signal.SIGTERM)
        assert await exporter.ended() == 0
        assert "Traceback" not in exporter.log


@pytest.mark.parametrize(
    ("web_config", "tls", "authentication"),
    [
        (None, 0, 0),
        (PAIR, 1, 0),
        (f"basic_auth_users:\n  one: {BCRYPT_HASH}\n", 0, 1),
        (MUTUAL, 1, 1),
        (MUTUAL.replace("RequireAndVerifyClientCert", "VerifyClientCertIfGiven"), 1, 0),
    ],
)
async def test_metrics_say_whether_tls_and_authentication_are_on(
    simulator: Simulator, tmp_path: Path, web_config: str | None, tls: int, authentication: int
) -> None:
    Certificates.make(tmp_path)
    web = {}
    if web_config is not None:
        (tmp_path / "web.yml").write_text(web_config)
        web["config_file"] = "web.yml"
    path = write_config(tmp_path / "config.toml", {"main": account_of(simulator)}, web=web)
    async with running(path) as exporter:
        page = Scrape(bytes(exporter.daemon.view.exposition(openmetrics=False)).decode())
        assert page.value("twilio_verify_exporter_web_tls_enabled") == tls
        assert page.value("twilio_verify_exporter_web_auth_enabled") == authentication


def test_the_web_config_file_is_part_of_the_hash(simulator: Simulator, tmp_path: Path) -> None:
    Certificates.make(tmp_path)
    path = write_config(tmp_path / "config.toml", {"main": account_of(simulator)}, web={"config_file": "web.yml"})
    hashes = set()
    for text in (PAIR, MUTUAL, f"{PAIR}# again\n"):
        (tmp_path / "web.yml").write_text(text)
        hashes.add(load(path, environ={}, flags={}).sha256)
    assert len(hashes) == 3


@pytest.mark.usefixtures("brisk")
async def test_scrapes_without_end_keep_no_fetch_away(simulator: Simulator, tmp_path: Path) -> None:
    """As long as twenty clients scrape one page after the other, every factor is fetched round after round."""
    entries = [entry(f"factor-{number}", simulator.add_factor()) for number in range(FACTORS)]
    account = account_of(simulator, requests_per_second=1000, max_concurrency=8)
    scrapes = 0
    async with running(write_config(tmp_path / "config.toml", {"main": account}, entries)) as site:

        async def scrape_on() -> None:
            nonlocal scrapes
            while True:
                assert await site.status("/metrics") == 200
                scrapes += 1

        scrapers = [asyncio.create_task(scrape_on()) for _ in range(SCRAPERS)]

        async def fewest() -> int:
            return min(simulator.calls.by_factor[of["factor_sid"]] for of in entries)  # type: ignore[index]  # an entry is a table

        start = await fewest()
        before = scrapes
        await until(fewest, lambda number: number >= start + ROUNDS)
        assert scrapes > before + SCRAPERS
        for task in scrapers:
            task.cancel()
        ended = await asyncio.gather(*scrapers, return_exceptions=True)
        assert {type(end) for end in ended} == {asyncio.CancelledError}
