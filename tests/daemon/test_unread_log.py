"""Standard error that nobody reads, or that is closed: the exporter runs on, and ends as usual."""

from __future__ import annotations

import asyncio
import logging
import re
import signal
import sys
from typing import TYPE_CHECKING

import aiohttp
import pytest

from exporter.logs.output import Redactor, configure
from exporter.simulator import Fault
from tests.support.config_files import account_of, entry, write_config
from tests.support.processes import PATIENCE_SECONDS, spawned
from tests.support.running_exporter import Site, becomes, running, spawned_exporter
from tests.support.unread_pipe import PIPE_BYTES, unread_pipe

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.simulator import Simulator

DROPPED = "twilio_verify_exporter_log_lines_dropped_total"


def write(folder: Path, simulator: Simulator) -> Path:
    """Write a configuration whose debug log is long: every fetch fails."""
    simulator.faults.add(Fault(status=500))
    return write_config(
        folder / "config.toml",
        {"main": account_of(simulator)},
        [entry(f"factor-{number}", simulator.add_factor()) for number in range(20)],
        polling={"interval": "1s", "max_attempts": 1},
    )


async def scraped_while_unread(address: str) -> None:
    """Scrape until many more lines were logged than the pipe takes."""
    async with aiohttp.ClientSession() as session:
        site = Site(session, address)
        page = await site.shows(lambda page: page.total("twilio_verify_fetches_total") * 100 > 3 * PIPE_BYTES)
        assert await site.status("/-/healthy") == 200
    assert page.value(DROPPED) == 0, "they wait"


@pytest.mark.slow
@pytest.mark.parametrize("reads_at_the_end", [True, False])
async def test_a_full_pipe_stops_nothing_and_the_last_lines_come_out(
    simulator: Simulator, tmp_path: Path, reads_at_the_end: bool
) -> None:
    path = write(tmp_path, simulator)
    with unread_pipe() as pipe:
        async with (
            spawned_exporter(path, "--log.level", "debug", stderr=pipe.write_end) as started,
            asyncio.timeout(PATIENCE_SECONDS),
        ):
            line = await asyncio.to_thread(pipe.line_with, "msg=listening")
            found = re.search(r"address=(\S+)", line)
            assert found is not None
            await scraped_while_unread(found[1])
            started.send_signal(signal.SIGTERM)
            if reads_at_the_end:
                rest = await asyncio.to_thread(pipe.rest)
                assert rest[-1].endswith("msg=stopped")
                assert sum('msg="fetch failed' in line for line in rest) * 100 > 2 * PIPE_BYTES
            assert await started.wait() == 0


@pytest.mark.slow
async def test_closed_standard_error_changes_no_exit_status(simulator: Simulator, tmp_path: Path) -> None:
    """Closed before the start, and by a reader that goes away."""
    path = write(tmp_path, simulator)
    with unread_pipe() as pipe:
        async with (
            spawned_exporter(path, "--log.level", "debug", stderr=pipe.write_end) as started,
            asyncio.timeout(PATIENCE_SECONDS),
        ):
            await asyncio.to_thread(pipe.line_with, "msg=polling")
            pipe.read_end.close()
            await becomes(lambda: simulator.calls.total > 40)
            started.send_signal(signal.SIGTERM)
            assert await started.wait() == 0

    shell = (
        "sh",
        "-c",
        'exec "$@" 2>&-',
        "sh",
        sys.executable,
        "-m",
        "exporter",
        "run",
        "--config.file",
        str(path),
    )
    before = simulator.calls.total
    async with spawned(*shell) as started, asyncio.timeout(PATIENCE_SECONDS):
        await becomes(lambda: simulator.calls.total > before + 20)
        started.send_signal(signal.SIGTERM)
        assert await started.wait() == 0


async def test_dropped_lines_are_counted(simulator: Simulator, tmp_path: Path, log_restored: None) -> None:
    path = write_config(tmp_path / "config.toml", {"main": account_of(simulator)}, [])
    with unread_pipe() as pipe:
        output = configure(level="info", style="logfmt", redact=Redactor(), stream=pipe.write_end, background=True)
        async with running(path, log_output=output) as exporter:
            assert (await exporter.scrape()).value(DROPPED) == 0
            while output.lines_dropped < 3:
                logging.getLogger("exporter").info("x" * 2000)
            assert (await exporter.scrape()).value(DROPPED) == output.lines_dropped
        logging.getLogger().removeHandler(output.handler)
        pipe.read_end.close()
        output.close(PATIENCE_SECONDS)
