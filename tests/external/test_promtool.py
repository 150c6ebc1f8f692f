"""``promtool check metrics`` has nothing to say of what is served, whatever state the factors are in."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import pytest

from exporter.cli.simulate import write_config
from exporter.simulator import Simulator, demo_world
from tests.support.factor_states import STATES, world
from tests.support.processes import output_of
from tests.support.running_exporter import running

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.fixtures import Program

pytestmark = pytest.mark.external


async def complaints(promtool: str, exposition: bytes) -> tuple[int | None, str]:
    status, said, _ = await output_of(
        promtool, "check", "metrics", input_bytes=exposition, stderr=asyncio.subprocess.STDOUT
    )
    return status, said.decode()


@pytest.mark.parametrize("state", STATES)
async def test_promtool_finds_nothing(program: Program, tmp_path: Path, state: str) -> None:
    promtool = program("promtool", install="apt-get install prometheus")
    async with world(tmp_path, state) as served:
        exposition = (await served.request("/metrics")).body

    assert await complaints(promtool, exposition) == (0, "")


async def test_promtool_finds_nothing_in_a_textfile(program: Program, tmp_path: Path) -> None:
    promtool = program("promtool", install="apt-get install prometheus")
    async with Simulator() as simulator:
        write_config(tmp_path / "config.toml", simulator, demo_world(simulator))
        command = (sys.executable, "-m", "exporter", "fetch", "--config.file", str(tmp_path / "config.toml"))
        status, exposition, _ = await output_of(*command, "--output", "prometheus")

    assert status == 2  # the demo has factors whose fetches fail
    assert exposition.count(b"twilio_verify_factor_up{") == 9
    assert await complaints(promtool, exposition) == (0, "")


async def test_a_newer_promtool_finds_nothing(newer_program: Program, tmp_path: Path) -> None:
    promtool = newer_program("PROMTOOL3")
    async with world(tmp_path, "all") as served:
        exposition = (await served.request("/metrics")).body

    assert await complaints(promtool, exposition) == (0, "")


async def test_promtool_finds_nothing_on_the_demo(program: Program, tmp_path: Path) -> None:
    promtool = program("promtool", install="apt-get install prometheus")
    async with Simulator() as simulator:
        write_config(tmp_path / "config.toml", simulator, demo_world(simulator))
        text = (tmp_path / "config.toml").read_text()
        (tmp_path / "config.toml").write_text(f'[web]\nlisten_address = "127.0.0.1:0"\n{text}')
        async with running(tmp_path / "config.toml") as exporter:
            scrape = await exporter.shows(lambda scrape: scrape.counts()["verified"])

    assert await complaints(promtool, scrape.text.encode()) == (0, "")


async def test_promtool_is_heard_when_it_does_complain(program: Program) -> None:
    promtool = program("promtool", install="apt-get install prometheus")
    code, said = await complaints(promtool, b"# TYPE made_up counter\nmade_up 1\n")

    assert code != 0
    assert "made_up" in said
