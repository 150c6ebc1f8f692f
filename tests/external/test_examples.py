"""promtool takes the example of a Prometheus configuration, with the rules that it loads, in both majors."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .conftest import Program

pytestmark = pytest.mark.external

EXAMPLE = Path(__file__).parents[2] / "grafana" / "prometheus" / "prometheus.yaml"


async def said_by(promtool: str, config: Path) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *(promtool, "check", "config", str(config)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        said, _ = await process.communicate()
    return process.returncode, said.decode()


@pytest.mark.parametrize("version", ["the system's", "3"])
async def test_promtool_takes_the_example(
    program: Program, newer_program: Program, tmp_path: Path, version: str
) -> None:
    promtool = (
        newer_program("PROMTOOL3") if version == "3" else program("promtool", install="apt-get install prometheus")
    )
    status, said = await said_by(promtool, EXAMPLE)
    assert status == 0, said
    assert "1 rule files found" in said
    assert "FAILED" not in said

    broken = tmp_path / "prometheus.yaml"
    broken.write_text(EXAMPLE.read_text().replace("body_size_limit: 4MB", "body_size_limit: plenty"))
    status, said = await said_by(promtool, broken)
    assert status != 0
    assert "plenty" in said
