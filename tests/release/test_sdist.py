"""The sdist has every file of the project, and works without git."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from exporter import __version__
from tests.support.processes import PATIENCE_SECONDS, output_of, spawned
from tests.support.scrape import Scrape
from tools.release.files import PROJECT, project_files, sdist_roots

if TYPE_CHECKING:
    from tests.support.fixtures import Program

FOLDER = f"verify_factor_exporter-{__version__}"
LEFT_OUT: set[str] = set()  # what git has and the sdist doesn't need
ONLY_THERE = {"PKG-INFO"}
# Of the tests and of the make that may run them.
_NOT_INHERITED = ("PYTEST_", "COV_", "MAKE", "MFLAGS")
ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_INHERITED)}
# Tests that read files of every kind. As a folder is among them, make leaves out slow tests, such as the one below.
TESTED = "tests/logs tests/test_architecture.py tests/test_docs_structure.py tests/release/test_sdist.py"


def test_every_file_lies_below_what_pyproject_lists() -> None:
    roots = set(sdist_roots())
    covered = {path for path in project_files() if roots & {str(path), *map(str, path.parents)}}

    assert {str(path) for path in set(project_files()) - covered} == LEFT_OUT, "add it to pyproject.toml"
    assert all((PROJECT / root).exists() for root in roots)


def made(folder: Path) -> Path:
    """Build the sdist, unpack it into a folder, and return where it is."""
    build = (sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(folder))
    subprocess.run(build, cwd=PROJECT, capture_output=True, check=True)
    subprocess.run(["tar", "-xzf", f"{FOLDER}.tar.gz"], cwd=folder, check=True)
    return folder / FOLDER


def make(program: Program) -> list[str]:
    """Return the command that runs make with this environment, whose packages are installed already."""
    stamps = (Path(sys.prefix) / name for name in (".runtime", ".dev"))
    up_to_date = [f"--old-file={stamp}" for stamp in stamps if not stamp.exists()]
    return [program("make", install="apt-get install make"), f"VENV={sys.prefix}", *up_to_date]


@pytest.mark.slow
async def test_it_has_every_file_and_make_works_in_it(program: Program, tmp_path: Path) -> None:
    project = made(tmp_path)
    unpacked = {path.relative_to(project) for path in project.rglob("*") if path.is_file()}
    assert {str(path) for path in unpacked.symmetric_difference(project_files())} == LEFT_OUT | ONLY_THERE

    command = (*make(program), "demo", "LISTEN=127.0.0.1:0")
    pipe = asyncio.subprocess.PIPE
    async with spawned(*command, cwd=project, stdout=pipe, env=ENVIRON) as demo, asyncio.timeout(PATIENCE_SECONDS):
        assert demo.stdout is not None
        first = (await demo.stdout.readline()).decode()
        found = re.fullmatch(r"metrics +(http://\S+)\n", first)
        assert found, first
        text = await asyncio.to_thread(lambda: urllib.request.urlopen(found[1]).read().decode())  # noqa: S310 - ours
        assert Scrape(text).value("twilio_verify_exporter_build_info", version=__version__) == 1

    options = "PYTEST=-x -p no:cacheprovider"
    status, out, err = await output_of(
        *make(program), "test", f"T={TESTED}", "JOBS=1", options, cwd=project, env=ENVIRON
    )
    assert status == 0, out.decode()[-4000:] + err.decode()[-4000:]
    assert re.search(r"\d+ passed", out.decode())
