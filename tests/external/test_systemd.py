"""The unit for systemd: well formed, strict, and nothing in it that the exporter can't live with."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from exporter.cli.simulate import write_config
from exporter.simulator import Simulator, demo_world
from tests.support.programs.buildah import PROJECT
from tests.support.running_exporter import Process

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.fixtures import Program

UNIT = PROJECT / "docs/systemd/verify-factor-exporter.service"
GUIDE = PROJECT / "docs/systemd/README.md"
INSTALL = "apt-get install systemd"
WORST = 15  # tenths; a unit without sandboxing has 96

# Read by Python as it starts, before the exporter is.
SITECUSTOMIZE = """\
import ctypes, os
SET_MDWE, REFUSE_EXEC_GAIN = 65, 1
if ctypes.CDLL(None).prctl(SET_MDWE, REFUSE_EXEC_GAIN, 0, 0, 0) != 0:
    os._exit(3)
"""


def analyze(program: Program, *arguments: str) -> str:
    done = subprocess.run(
        [program("systemd-analyze", install=INSTALL), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def settings(name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.MULTILINE)


@pytest.mark.external
def test_systemd_finds_nothing_wrong(program: Program, tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(
        UNIT.read_text().replace("/opt/verify-factor-exporter/bin/verify-factor-exporter", sys.executable)
    )

    assert analyze(program, "verify", "--man=no", str(unit)) == ""


@pytest.mark.external
def test_systemd_calls_it_strict(program: Program) -> None:
    output = analyze(program, "security", "--offline=true", "--no-pager", f"--threshold={WORST}", str(UNIT))

    assert re.search(r"Overall exposure level for \S+: (0|1)\.\d OK", output), output


@pytest.mark.external
async def test_the_exporter_keeps_to_the_system_calls_of_the_unit(program: Program, tmp_path: Path) -> None:
    strace = program("strace", install="apt-get install strace")
    permitted, taken_away = (word.removeprefix("~").split() for word in settings("SystemCallFilter"))
    allowed = system_calls(program, permitted) - system_calls(program, taken_away)
    trace = tmp_path / "trace"
    async with Simulator() as simulator:
        config = tmp_path / "config.toml"
        write_config(config, simulator, demo_world(simulator))
        text = f'[web]\nlisten_address = "127.0.0.1:0"\n[state]\nfile = "state.jsonl"\n{config.read_text()}'
        config.write_text(text)
        under = (strace, "-D", "-f", "-qq", "-o", str(trace))
        async with Process.run(config, under=under) as exporter:
            await exporter.shows(lambda scrape: scrape.counts()["verified"])
            assert (await exporter.get("/"))[0] == 200
            exporter.signal(signal.SIGTERM)
            assert await exporter.ended() == 0

    called = set(re.findall(r"^\d+ +(\w+)\(", trace.read_text(), re.MULTILINE))
    assert {"execve", "bind", "exit_group"} <= called, "it was watched from start to end"
    assert called <= allowed, f"systemd would refuse {sorted(called - allowed)}"
    families = set(re.findall(r"\bsocket\((\w+)", trace.read_text()))
    assert families <= set(settings("RestrictAddressFamilies")[0].split()), families


def system_calls(program: Program, names: list[str]) -> set[str]:
    """Return the system calls of systemd's groups."""
    found: set[str] = set()
    for name in names:
        lines = [line.strip() for line in analyze(program, "syscall-filter", name).splitlines()[1:]]
        found |= {line for line in lines if line.isidentifier()}
        found |= system_calls(program, [line for line in lines if line.startswith("@")])
    return found


def test_the_guide_names_what_the_unit_names() -> None:
    guide = GUIDE.read_text()
    (user,), (credential,), (command,) = settings("User"), settings("LoadCredential"), settings("ExecStart")
    name, _, source = credential.partition(":")

    assert f"useradd --system --user-group --no-create-home --shell /usr/sbin/nologin {user}" in guide
    assert f'password_file = "/run/credentials/{UNIT.name}/{name}"' in guide
    assert source in guide
    program, _run, _flag, config = command.split()
    assert f"python3 -m venv {program.partition('/bin/')[0]}\n" in guide
    assert config in guide


def test_it_has_longer_to_stop_than_the_exporter_takes() -> None:
    (stop,) = settings("TimeoutStopSec")
    example = (PROJECT / "config.example.toml").read_text()
    (shutdown,) = re.findall(r'^shutdown_timeout = "(\d+)s"', example, re.MULTILINE)

    assert int(stop.removesuffix("s")) >= 2 * int(shutdown)


def test_it_is_always_restarted_and_dumps_no_core() -> None:
    assert (settings("Restart"), settings("LimitCORE")) == (["always"], ["0"])


@pytest.fixture
def without_write_and_execute(tmp_path: Path) -> dict[str, str]:
    """Return the environment of a Python that the kernel refuses memory that is both written and run."""
    (tmp_path / "sitecustomize.py").write_text(SITECUSTOMIZE)
    environ = {"PYTHONPATH": str(tmp_path)}
    if subprocess.run([sys.executable, "-c", ""], env=environ, check=False).returncode == 3:
        pytest.skip("this kernel can't refuse it (Linux 6.3 can)")
    return environ


@pytest.mark.slow
async def test_the_exporter_lives_without_memory_that_is_written_and_run(
    tmp_path: Path, without_write_and_execute: dict[str, str]
) -> None:
    """What MemoryDenyWriteExecute= forbids a service, the kernel refuses here."""
    async with Simulator() as simulator:
        config = tmp_path / "config.toml"
        write_config(config, simulator, demo_world(simulator))
        config.write_text(f'[web]\nlisten_address = "127.0.0.1:0"\n{config.read_text()}')
        async with Process.run(config, environ=without_write_and_execute) as exporter:
            await exporter.shows(lambda scrape: scrape.counts()["verified"])
            assert (await exporter.get("/"))[0] == 200
            exporter.signal(signal.SIGHUP)
            assert await exporter.status("/-/healthy") == 200
            exporter.signal(signal.SIGTERM)
            assert await exporter.ended() == 0
