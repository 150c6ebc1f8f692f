"""The measurement of what the dashboards cost runs, with few factors."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.dashboards.files import boards

if TYPE_CHECKING:
    from tests.support.fixtures import Program

pytestmark = pytest.mark.external

ROOT = Path(__file__).parents[2]
INSTALL = "apt-get install prometheus"


@pytest.mark.parametrize("flags", [(), ("--without-rules",)], ids=["with rules", "without rules"])
async def test_every_dashboard_is_measured(program: Program, flags: tuple[str, ...]) -> None:
    command = (
        *(sys.executable, "-m", "benchmarks.boards", "--factors", "20", "--hours", "0.5", "--rounds", "1", *flags),
        *("--prometheus", program("prometheus", install=INSTALL)),
        *("--promtool", program("promtool", install=INSTALL)),
    )
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    said, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    found = re.findall(
        r"^  (twilio-verify-\w+) +(\d+) queries +[\d.]+ s +[\d.]+ s of CPU", said.decode(), re.MULTILINE
    )
    assert {uid for uid, _ in found} == {board["uid"] for board in boards()}
    assert all(int(queries) > 20 for _, queries in found)
