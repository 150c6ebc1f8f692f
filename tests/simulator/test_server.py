"""Start and stop, TLS, and scripts that go on while nobody asks."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import trustme

from exporter.simulator import Action, FactorStatus, Fault, FaultKind, Script, Simulator, Step, server
from tests.support.processes import PATIENCE_SECONDS
from tests.support.raw_client import Connection, fetch_path, get, open_to, send_request, settled

if TYPE_CHECKING:
    from aiohttp import web


def port_of(simulator: Simulator) -> int:
    port = urlsplit(simulator.base_url).port
    assert port is not None
    return port


def test_the_same_seed_makes_the_same_account() -> None:
    first, second, other = Simulator(seed=1), Simulator(seed=1), Simulator(seed=2)

    assert (first.account_sid, first.username, first.password) == (
        second.account_sid,
        second.username,
        second.password,
    )
    assert first.add_factor(identity="ops-oncall").sid == second.add_factor(identity="ops-oncall").sid
    assert first.account_sid != other.account_sid


def test_there_is_no_address_before_the_start() -> None:
    with pytest.raises(RuntimeError, match="no address before it is started"):
        _ = Simulator().base_url


async def test_it_starts_again_on_the_same_port() -> None:
    simulator = Simulator()
    factor = simulator.add_factor()
    await simulator.start()
    with pytest.raises(RuntimeError, match="running already"):
        await simulator.start()
    url = simulator.base_url
    assert (await get(simulator, fetch_path(factor))).status == 200
    await simulator.stop()
    await simulator.stop()
    with pytest.raises(ConnectionRefusedError):
        await get(simulator, fetch_path(factor))
    await simulator.start(port=port_of(simulator))
    assert simulator.base_url == url
    assert (await get(simulator, fetch_path(factor))).status == 200
    await simulator.stop()


async def test_a_port_in_use_is_an_error(simulator: Simulator) -> None:
    other = Simulator()
    with pytest.raises(OSError, match="address already in use"):
        await other.start(port=port_of(simulator))
    await other.start()
    await other.stop()


@pytest.mark.parametrize(
    ("host", "name"),
    [("0.0.0.0", "127.0.0.1"), ("::1", "[::1]"), ("localhost", "127.0.0.1")],  # noqa: S104  addresses to translate, not to bind
)
async def test_the_address_is_one_that_clients_can_use(host: str, name: str) -> None:
    simulator = Simulator()
    try:
        await simulator.start(host)
    except OSError as refused:
        if host != "::1":
            raise
        pytest.skip(f"this machine has no IPv6: {refused}")
    factor = simulator.add_factor()
    reply = await get(simulator, fetch_path(factor))
    assert reply.json["url"].startswith(simulator.base_url)
    if host != "localhost":  # which of its addresses comes first is the system's choice
        assert simulator.base_url.startswith(f"http://{name}:")
    await simulator.stop()


async def test_links_carry_another_name_where_one_is_given() -> None:
    simulator = Simulator(public_url="https://simulator.test")
    await simulator.start()
    assert simulator.base_url == "https://simulator.test"
    await simulator.stop()


async def test_it_speaks_tls_and_stops_at_once_with_a_stalled_client() -> None:
    authority = trustme.CA()
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server_side)
    client_side = ssl.create_default_context()
    authority.configure_trust(client_side)
    simulator = Simulator()
    factor = simulator.add_factor()
    await simulator.start(ssl_context=server_side)

    assert simulator.base_url.startswith("https://127.0.0.1:")
    assert (await get(simulator, fetch_path(factor), tls=client_side)).status == 200

    simulator.faults.add(Fault(FaultKind.STALL_IN_BODY))
    stalled = await send_request(simulator, fetch_path(factor), tls=client_side)
    await stalled.until(b'{"sid"')
    simulator.faults.clear()
    simulator.faults.add(Fault(FaultKind.RESET_IN_BODY))
    cut = await send_request(simulator, fetch_path(factor), tls=client_side)
    assert await cut.end() == "reset"
    async with asyncio.timeout(PATIENCE_SECONDS):
        await simulator.stop()
        await stalled.end()


async def test_a_handshake_that_ends_after_the_stop_is_cut() -> None:
    connections = server._Connections(_never)
    await connections.abort()
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(connections, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    _, connection = await loop.create_connection(Connection, "127.0.0.1", port)
    await connection.end()
    listener.close()


async def _never(_: object) -> web.StreamResponse:
    raise AssertionError("nobody is answered after the stop")


async def test_a_stop_ends_idle_and_stalled_connections_at_once(simulator: Simulator) -> None:
    path = fetch_path(simulator.add_factor())
    simulator.faults.add(Fault(FaultKind.STALL_BEFORE_HEADERS, times=20))
    stalled = [await send_request(simulator, path) for _ in range(20)]
    idle = await open_to(simulator)
    await settled(lambda: simulator.calls.in_flight == 20)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await simulator.stop()
        for connection in (*stalled, idle):
            await connection.end()

    assert simulator.calls.in_flight == 0
    assert simulator.calls.by_code == {("fetch", "none"): 20}


async def test_a_stop_ends_a_connection_whose_client_does_not_read(simulator: Simulator) -> None:
    simulator.faults.add(Fault(FaultKind.HUGE_BODY))
    path = fetch_path(simulator.add_factor())
    connection = await send_request(simulator, path)
    assert connection.transport is not None
    connection.transport.pause_reading()
    await settled(lambda: simulator.calls.by_code)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await simulator.stop()
    connection.transport.resume_reading()
    await connection.end()


async def test_scripts_run_without_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_TICK_SECONDS", 0.001)
    now = 0.0
    changed: asyncio.Future[tuple[FactorStatus, FactorStatus, float]] = asyncio.get_running_loop().create_future()
    async with Simulator(clock=lambda: now) as simulator:
        factor = simulator.add_factor(status="unverified", script=Script((Step(20, Action.VERIFY),)))
        simulator.on_change.append(lambda _, old, new, when: changed.set_result((old, new, when)))
        now = 25
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await changed == ("unverified", "verified", 20)
        assert simulator.factors[factor.sid].status == "verified"


async def test_scripts_run_on_every_request() -> None:
    now = 0.0
    async with Simulator(clock=lambda: now) as simulator:
        factor = simulator.add_factor(status="unverified", script=Script((Step(20, Action.VERIFY),)))
        assert (await get(simulator, fetch_path(factor))).json["status"] == "unverified"
        now = 20
        assert (await get(simulator, fetch_path(factor))).json["status"] == "verified"
