"""A fuzzer driven by the OpenAPI description finds no response that violates it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from typing import TYPE_CHECKING

import pytest

from exporter.simulator import Simulator
from exporter.web.probe import FACTOR
from tests.support.config_files import account_of, entry, write_config
from tests.support.processes import output_of
from tests.support.running_exporter import becomes, running

if TYPE_CHECKING:
    from pathlib import Path

SEED = 20260101
EXAMPLES = 30
OPEN = {"enable_lifecycle": True, "enable_probe": True}


async def fuzz(url: str, folder: Path) -> tuple[int, str]:
    """Run the fuzzer against an exporter with the description in a folder; return its exit status and report."""
    # In a separate process, so that its plugins and warnings do not affect these tests.
    status, report, _ = await output_of(
        sys.executable,
        "-m",
        "schemathesis.cli",
        "run",
        "openapi.json",
        f"--url={url}",
        "--checks=all",
        "--phases=examples,coverage,fuzzing",
        f"--max-examples={EXAMPLES}",
        f"--seed={SEED}",
        "--generation-deterministic",
        "--continue-on-failure",
        "--request-timeout=300",
        "--suppress-health-check=too_slow",
        "--no-color",
        stderr=asyncio.subprocess.STDOUT,
        cwd=folder,
        env={**os.environ, "PYTHONWARNINGS": "ignore", "COLUMNS": "160"},
    )
    return status, report.decode("utf-8", "replace")


@pytest.mark.slow
async def test_a_fuzzer_finds_no_violation(
    tmp_path: Path, log_level: None, caplog: pytest.LogCaptureFixture
) -> None:
    async with Simulator(seed=7) as simulator:
        names = [FACTOR.example, "ops on call", "a/b", "ünï", "paused"]
        path = write_config(
            tmp_path / "config.toml",
            {"main": account_of(simulator, requests_per_second=1000, max_concurrency=50)},
            [entry(name, simulator.add_factor(), paused=name == "paused") for name in names],
            web=OPEN,
        )
        async with running(path) as exporter:
            await becomes(exporter.daemon.readiness.ready)
            _, description = await exporter.get("/api/v1/openapi.json")
            (tmp_path / "openapi.json").write_text(description, encoding="utf-8")
            status, report = await fuzz(exporter.url, tmp_path)
            assert status == 0, report
            count = sum(len(methods) for methods in json.loads(description)["paths"].values())
            assert f"Tested: {count}" in report, report
            [generated] = re.findall(r"(\d+) generated", report)
            assert int(generated) > 10 * count, report
            assert exporter.daemon.readiness.healthy()
            assert exporter.daemon.engine.poller.accounts["main"].throttle.in_flight <= len(names)
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []
