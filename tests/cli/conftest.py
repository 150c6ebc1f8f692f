from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from exporter.cli import main
from exporter.simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command left behind."""

    status: int
    out: str
    err: str


def status_of(*words: str) -> int:
    """Run a command line as the process would and return its exit status."""
    try:
        return main(words)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else -1


@pytest.fixture(autouse=True)
def untouched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep our variables out of the tests, and put the log back as it was."""
    for name in [name for name in os.environ if name.startswith("VERIFY_EXPORTER_")]:
        monkeypatch.delenv(name)
    root, ours = logging.getLogger(), logging.getLogger("exporter")
    before = root.handlers[:], root.level, ours.level
    yield
    logging.captureWarnings(False)
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run a command line in this thread."""

    def run(*words: str) -> Ran:
        status = status_of(*words)
        return Ran(status, *capsys.readouterr())

    return run


@pytest.fixture
def call_beside(capsys: pytest.CaptureFixture[str]) -> Callable[..., Awaitable[Ran]]:
    """Run a command line in another thread, while this loop serves what it calls."""

    async def run(*words: str) -> Ran:
        async with asyncio.timeout(30):
            status = await asyncio.to_thread(status_of, *words)
        return Ran(status, *capsys.readouterr())

    return run


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(seed=7) as running:
        yield running
