"""promtool takes the example of a Prometheus configuration, with the rules that it loads, in both majors."""

from __future__ import annotations

import asyncio
import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.support.processes import output_of

if TYPE_CHECKING:
    from tests.support.fixtures import Program

pytestmark = pytest.mark.external

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "grafana" / "prometheus" / "prometheus.yaml"
PAGE = ROOT / "docs" / "prometheus.md"


def promtool_of(version: str, program: Program, newer_program: Program) -> str:
    if version == "3":
        return newer_program("PROMTOOL3")
    return program("promtool", install="apt-get install prometheus")


async def said_by(promtool: str, config: Path) -> tuple[int | None, str]:
    status, said, _ = await output_of(promtool, "check", "config", str(config), stderr=asyncio.subprocess.STDOUT)
    return status, said.decode()


@pytest.mark.parametrize("version", ["the system's", "3"])
async def test_promtool_takes_the_example(
    program: Program, newer_program: Program, tmp_path: Path, version: str
) -> None:
    promtool = promtool_of(version, program, newer_program)
    status, said = await said_by(promtool, EXAMPLE)
    assert status == 0, said
    assert "1 rule files found" in said
    assert "FAILED" not in said

    broken = tmp_path / "prometheus.yaml"
    broken.write_text(EXAMPLE.read_text().replace("body_size_limit: 4MB", "body_size_limit: plenty"))
    status, said = await said_by(promtool, broken)
    assert status != 0
    assert "plenty" in said


@pytest.mark.parametrize("version", ["the system's", "3"])
async def test_promtool_takes_the_page_s_job_with_tls_and_a_password(
    program: Program, newer_program: Program, tmp_path: Path, version: str
) -> None:
    job, secured = re.findall(r"```yaml\n(scrape_configs:.*?|    scheme:.*?)```", PAGE.read_text(), re.DOTALL)
    config = yaml.safe_load(job)
    config["scrape_configs"][0] |= yaml.safe_load(textwrap.dedent(secured))
    names = re.findall(r"/etc/prometheus/([\w.-]+)", secured)
    for name in names:
        (tmp_path / name).touch()
    path = tmp_path / "prometheus.yaml"
    path.write_text(yaml.safe_dump(config).replace("/etc/prometheus", str(tmp_path)))
    status, said = await said_by(promtool_of(version, program, newer_program), path)

    assert names == ["exporter-ca.pem", "exporter-password"]
    assert status == 0, said
