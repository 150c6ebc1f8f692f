"""Proxies of the environment, and a certificate authority of one's own."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING

import pytest
import trustme

from exporter.simulator import Simulator
from tests.support.config_files import account_of, entry, write_config
from tests.support.running_exporter import LeapingClock, running

if TYPE_CHECKING:
    from pathlib import Path

VARIABLES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


async def test_https_proxy_is_ignored_for_a_loopback_that_no_proxy_covers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        nobody = f"http://127.0.0.1:{reserved.getsockname()[1]}"  # nobody listens there in a moment
    monkeypatch.setenv("HTTPS_PROXY", nobody)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    simulator = Simulator(seed=9)
    await simulator.start(ssl_context=context)
    try:
        path = write_config(
            tmp_path / "config.toml",
            {"main": account_of(simulator, ca_file="ca.pem")},
            [entry("watched", simulator.add_factor())],
            polling={"interval": "1m"},
        )
        clock = LeapingClock()
        async with running(path, clock=clock) as exporter:
            clock.leap(30)
            page = await exporter.shows(lambda page: page.factor("up", "watched") is not None)
        assert page.factor("verified", "watched") == 1
        assert simulator.calls.total == 1
    finally:
        await simulator.stop()


@pytest.mark.parametrize(
    ("no_proxy", "proxied"), [("", True), ("elsewhere.invalid", True), ("no-such-host.invalid", False)]
)
async def test_https_proxy_is_used_for_any_other_host(
    no_proxy: str,
    proxied: bool,
    no_such_host: str,
    simulator: Simulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    requests: list[bytes] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}")
        monkeypatch.setenv("NO_PROXY", no_proxy)
        factor = simulator.add_factor()
        path = write_config(
            tmp_path / "config.toml",
            {"main": account_of(simulator, base_url=f"https://{no_such_host}")},
            [entry("watched", factor)],
            polling={"interval": "1m", "max_attempts": 1},
        )
        clock = LeapingClock()
        async with running(path, clock=clock) as exporter:
            clock.leap(30)
            page = await exporter.shows(lambda page: page.factor("up", "watched") == 0)
    assert page.failures() == {"connect" if proxied else "dns": 1}
    assert len(requests) == proxied
    for request in requests:
        assert request.startswith(f"CONNECT {no_such_host}:443 HTTP/1.1\r\n".encode())
        assert factor.identity.encode() not in request, "the path is inside TLS"
        assert b"uthorization" not in request
