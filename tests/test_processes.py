"""Processes that tests start end with them, and a run that leaves one behind fails."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import uuid
from pathlib import Path

import pytest

from tests.support.leftovers import VARIABLE, left_behind, marked
from tests.support.processes import PATIENCE_SECONDS, output_of, popen, spawned
from tests.support.running_exporter import becomes

ROOT = Path(__file__).parents[1]
SLEEP = (sys.executable, "-c", "import time; time.sleep(3600)")
# A process that starts another one, says its ID, and lives on.
FAMILY = (
    sys.executable,
    "-c",
    f"import subprocess, time; print(subprocess.Popen({SLEEP!r}).pid, flush=True); time.sleep(3600)",
)


@pytest.fixture
def mark() -> str:
    return str(uuid.uuid4())


async def becomes_marked(mark: str, processes: set[int]) -> None:
    """Wait until these processes have their environment: in the middle of an exec, one has none."""
    await becomes(lambda: marked(mark).keys() == processes)


async def test_a_block_that_ends_by_any_way_leaves_nothing_of_the_group(mark: str) -> None:
    environ = {**os.environ, VARIABLE: mark}

    async def hang() -> None:
        async with spawned(*FAMILY, env=environ, stdout=asyncio.subprocess.PIPE) as started:
            assert started.stdout is not None
            child = int(await started.stdout.readline())
            await becomes_marked(mark, {started.pid, child})
            begun.set()
            await asyncio.Event().wait()

    begun = asyncio.Event()
    task = asyncio.create_task(hang())
    async with asyncio.timeout(PATIENCE_SECONDS):
        await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert left_behind(mark) == []

    with pytest.raises(LookupError):
        async with spawned(*SLEEP, env=environ):
            raise LookupError
    assert left_behind(mark) == []

    with pytest.raises(TimeoutError):
        await output_of(*SLEEP, within=0.01, env=environ)
    assert left_behind(mark) == []

    with pytest.raises(LookupError), popen(*SLEEP, env=environ):
        raise LookupError
    assert left_behind(mark) == []


async def test_a_process_left_running_is_listed_and_killed(mark: str) -> None:
    async with spawned(*SLEEP, env={**os.environ, VARIABLE: mark}) as started:
        assert marked(str(uuid.uuid4())) == {}
        await becomes_marked(mark, {started.pid})
        [line] = left_behind(mark, grace_seconds=0)
        assert line.startswith(f"{started.pid}: ")
        assert line.endswith("time.sleep(3600)")
        assert await started.wait() < 0


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_run_that_leaves_a_process_behind_fails(tmp_path: Path, workers: int) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["tests.support.leftovers"]\n')
    (tmp_path / "test_leaving.py").write_text(
        textwrap.dedent(
            f"""
            import subprocess

            def test_leaves_one():
                global kept
                kept = subprocess.Popen({SLEEP!r}, start_new_session=True)

            def test_leaves_none():
                subprocess.run(["true"], check=True)
            """
        )
    )
    plugins = ("-p", "no:cacheprovider", *(("-p", "xdist", "-n", str(workers)) if workers else ()))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--rootdir", str(tmp_path), *plugins, str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    assert "2 passed, 1 error" in done.stdout
    assert "tests left processes behind:" in done.stdout
    assert "time.sleep(3600)" in done.stdout
