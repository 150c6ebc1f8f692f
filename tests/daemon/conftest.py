from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest

from exporter.simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(seed=7, call_log_size=100_000) as running:
        yield running


@pytest.fixture
def no_such_host(monkeypatch: pytest.MonkeyPatch) -> str:
    """A host name whose lookup fails at once on every machine, without a name server."""
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
