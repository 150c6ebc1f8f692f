"""What a scrape shows before anything is polled: the server listens first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import generate_latest

from exporter.config import load
from exporter.daemon.daemon import Daemon
from tests.support.config_files import account_of, entry, write_config
from tests.support.scrape import Scrape

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.simulator import Simulator


async def test_counters_are_at_0_before_polling_starts(simulator: Simulator, tmp_path: Path) -> None:
    factor = simulator.add_factor()
    accounts = {"main": account_of(simulator), "spare": account_of(simulator)}
    path = write_config(tmp_path / "config.toml", accounts, [entry("factor", factor, account="main")])
    daemon = Daemon(load(path, environ={}, flags={}))
    try:
        page = Scrape(generate_latest(daemon.telemetry.registry).decode())
    finally:
        await daemon.stop()

    service = {"account": "main", "service_sid": factor.service_sid}
    assert [page.value("twilio_verify_api_retries_total", account=name) for name in accounts] == [0, 0]
    assert page.value("twilio_verify_fetches_total", **service) == 0
    assert page.value("twilio_verify_fetch_failures_total", reason="timeout", **service) == 0
