from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from exporter.simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

STEADY = {"factors": 1000, "interval": 10, "latency": 0.05, "seconds": 22}


@pytest.fixture(scope="session", autouse=True)
def steady_process(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str] | None]:
    """The steady load of test_steady.py, measured beside the other tests: it takes 22 s, most of it waiting."""
    if not any(item.path.name == "test_steady.py" for item in request.session.items):
        yield None
        return
    flags = [f"--{name}={value}" for name, value in STEADY.items()]
    command = [sys.executable, "-m", "benchmarks.steady", "--json", *flags]
    root = request.config.rootpath
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root, start_new_session=True) as process:
        yield process
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # it and its exporter, where nobody waited for its end


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(seed=7, call_log_size=100_000) as running:
        yield running


@pytest.fixture
def no_such_host(monkeypatch: pytest.MonkeyPatch) -> str:
    """A name that no name server is asked for: it isn't there, at once and on every machine."""
    name, ask = "no-such-host.invalid", socket.getaddrinfo

    def answer(host: str, *arguments: Any, **options: Any) -> Any:
        if host == name:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return ask(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    return name


@pytest.fixture
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the scheduler tick ten times a second, where a test is about what is done and not about when."""
    monkeypatch.setattr("exporter.daemon.jobs.DISPATCH_SECONDS", 0.1)
