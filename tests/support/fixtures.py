"""Fixtures that several rooms of tests use; tests/conftest.py registers them for all."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from exporter.logs.output import Redactor, configure
from tests.support.certificates import Certificates
from tests.support.commands import Ran, status_of
from tests.support.processes import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    Program = Callable[..., str]


@pytest.fixture
def log_restored() -> Iterator[None]:
    """The log may be configured: all is as before after the test."""
    root, ours, scheduler = (logging.getLogger(name) for name in ("", "exporter", "apscheduler"))
    before = root.handlers[:], root.level, ours.level, scheduler.level
    yield
    logging.captureWarnings(False)
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])
    scheduler.setLevel(before[3])


@pytest.fixture
def logged(log_restored: None) -> Callable[..., io.StringIO]:
    """Configure the log as ``run`` does and return where it goes."""

    def begin(redact: Redactor | None = None, *, level: str = "info", style: str = "logfmt") -> io.StringIO:
        stream = io.StringIO()
        configure(level=level, style=style, redact=redact or Redactor(), stream=stream)
        return stream

    return begin


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch, log_restored: None) -> None:
    """Keep our variables out of a test."""
    for name in [name for name in os.environ if name.startswith("VERIFY_EXPORTER_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def call(clean_environment: None, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run a command line in this thread."""

    def run(*words: str) -> Ran:
        status = status_of(*words)
        return Ran(status, *capsys.readouterr())

    return run


@pytest.fixture
def call_beside(
    clean_environment: None,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., Awaitable[Ran]]:
    """Run a command line in another thread, while this loop serves what it calls."""

    async def run(*words: str) -> Ran:
        async with asyncio.timeout(PATIENCE_SECONDS):
            status = await asyncio.to_thread(status_of, *words)
        return Ran(status, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates of one authority, made once."""
    return Certificates.make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def folder(tmp_path: Path, certificates: Certificates) -> Path:
    """A folder that holds the usual certificates."""
    certificates.copy_to(tmp_path)
    return tmp_path


@pytest.fixture
def program() -> Program:
    """Return the path of a program that PyPI doesn't carry.

    Where it is missing the test skips and says how to get it; on CI, where it must be there, it fails.
    """

    def find(name: str, *, install: str) -> str:
        path = shutil.which(name)
        if path is not None:
            return path
        reason = f"{name} is not installed ({install})"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)

    return find


@pytest.fixture
def newer_program() -> Program:
    """Return the path that a variable names; a test that wants a newer version than the usual one skips without."""

    def find(variable: str, *, by: str = ".ci/run gets one, newer than the system's, from Debian") -> str:
        path = os.environ.get(variable, "")
        if not path:
            pytest.skip(f"{variable} names no program: {by}")
        assert os.access(path, os.X_OK), f"{variable}={path} can't be run"
        return path

    return find
