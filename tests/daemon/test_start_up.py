"""Starts that are refused: one readable line and exit status 1."""

from __future__ import annotations

import asyncio
import logging
import re
import signal
import socket
from typing import TYPE_CHECKING

import pytest

from tests.support.config_files import account_of, entry, write_config
from tests.support.processes import PATIENCE_SECONDS
from tests.support.running_exporter import Process, running, spawned_exporter

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.simulator import Simulator

pytestmark = pytest.mark.slow


async def refusal(path: Path, *flags: str) -> str:
    """Return the one message that a start ends with, without the excerpt below it."""
    async with spawned_exporter(path, *flags) as process, asyncio.timeout(PATIENCE_SECONDS):
        out, errors = await process.communicate()
    text = errors.decode()
    assert process.returncode == 1, text
    assert out == b""
    assert "Traceback" not in text
    message, *excerpt = text.splitlines()
    assert all(re.match(r" *\d* \|", line) for line in excerpt), text
    return message


async def test_each_refused_start_says_why_in_one_message(simulator: Simulator, tmp_path: Path) -> None:
    accounts = {"main": account_of(simulator)}
    factor = simulator.add_factor()

    def config(name: str, **changes: object) -> Path:
        keys = entry("watched", factor) | changes
        return write_config(tmp_path / name, accounts, [keys])

    bad_toml = tmp_path / "bad.toml"
    bad_toml.write_text("[accounts.main\n")
    password = tmp_path / "password"
    password.mkdir()  # a directory is unreadable to root too
    unreadable = write_config(
        tmp_path / "unreadable.toml", {"main": account_of(simulator, password=None, password_file="password")}
    )
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        expected = {
            "port in use": (
                refusal(config("good.toml"), "--web.listen-address", address),
                rf"web\.listen_address: {re.escape(address)}: the port is in use; .*--web\.listen-address",
            ),
            "missing file": (refusal(tmp_path / "nowhere.toml"), r".*nowhere\.toml.* exist.*"),
            "bad TOML": (refusal(bad_toml), r".*bad\.toml:1:15: .*"),
            "wrong SID": (
                refusal(config("sid.toml", service_sid="VX12")),
                r'.*sid\.toml:\d+:\d+: factors\[0\] "watched": service_sid: "VX12" is not a Verify Service SID .*',
            ),
            "unreadable password file": (
                refusal(unreadable),
                r".*unreadable\.toml:\d+:\d+: accounts\.main\.password_file: .*password.*",
            ),
            "bad flag": (refusal(config("flag.toml"), "--log.level", "loud"), r".*--log\.level: .*loud.*"),
        }
        async with asyncio.TaskGroup() as tasks:
            refusals = [tasks.create_task(line) for line, _ in expected.values()]
        lines = [task.result() for task in refusals]
    for (name, (_, pattern)), line in zip(expected.items(), lines, strict=True):
        assert re.fullmatch(pattern, line), f"{name}: {line}"
        assert simulator.password not in line
        assert factor.identity not in line


async def test_the_log_says_what_is_listened_on(
    simulator: Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    web = {"listen_address": [":0", "127.0.0.1:0"], "health_listen_address": ":0"}
    async with running(
        write_config(tmp_path / "config.toml", {"main": account_of(simulator)}, web=web)
    ) as exporter:
        assert await exporter.status("/-/healthy") == 200
    addresses = [
        (line.getMessage(), re.sub(r":[0-9]+$", "", line.__dict__["fields"]["address"]))
        for line in caplog.records
        if line.getMessage().startswith("listening")
    ]
    every = "http://[::]" if socket.has_dualstack_ipv6() else "http://0.0.0.0"
    assert addresses == [
        ("listening", every),
        ("listening", "http://127.0.0.1"),
        ("listening for health checks", every),
    ]


async def test_an_empty_watchlist_runs_and_warns(simulator: Simulator, tmp_path: Path) -> None:
    path = write_config(tmp_path / "config.toml", {"main": account_of(simulator)})
    async with Process.run(path, "--log.format", "logfmt") as exporter:
        assert "level=warning" in exporter.log
        assert "the watchlist is empty" in exporter.log
        page = await exporter.scrape()
        assert page.value("twilio_verify_exporter_watchlist_factors") == 0
        assert page.value("twilio_verify_exporter_entities") == 0
        assert page.value("twilio_verify_exporter_queue_length") == 0
        assert page.value("twilio_verify_api_demand_requests_per_second", account="main") == 0
        assert page.value("twilio_verify_api_in_flight", account="main") == 0
        assert page.counts() == {}
        assert await exporter.status("/-/ready") == 200
        assert await exporter.status("/-/healthy") == 200
        assert await exporter.status("/") == 200
        exporter.signal(signal.SIGTERM)
        assert await exporter.ended() == 0
    assert simulator.calls.total == 0
