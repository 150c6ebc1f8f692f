"""A transport that gets stuck, over real sockets: a new one replaces it and polling continues."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING

import aiohttp
import httpx
import pytest

from exporter.config import AccountSettings, load
from exporter.daemon.daemon import Daemon
from exporter.daemon.parts import default_transport
from tests.support.config_files import account_of, entry, write_config
from tests.support.running_exporter import Exporter, becomes

if TYPE_CHECKING:
    import io
    from collections.abc import Callable
    from pathlib import Path

    from exporter.simulator import Simulator

pytestmark = pytest.mark.slow

ROTATIONS = "twilio_verify_api_client_rotations_total"


class Jamming(httpx.AsyncBaseTransport):
    """The shipped transport, until it jams: requests then don't even end when they are cancelled, or all fail."""

    def __init__(self, account: AccountSettings, *, silent: bool) -> None:
        self._inner = default_transport(account)
        self._silent = silent
        self.stuck = False
        self.closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        if not self.stuck:
            return response
        await response.aclose()
        if self._silent:
            raise httpx.PoolTimeout("no connection is free")
        never = asyncio.Event()
        try:
            await never.wait()
        finally:
            await never.wait()  # as a close that waits for the other side
        raise AssertionError

    async def aclose(self) -> None:
        self.closed = True
        await self._inner.aclose()


@pytest.mark.usefixtures("brisk")
@pytest.mark.parametrize("silent", [False, True], ids=["stuck", "silent"])
async def test_a_jammed_transport_is_replaced(
    simulator: Simulator,
    tmp_path: Path,
    logged: Callable[..., io.StringIO],
    monkeypatch: pytest.MonkeyPatch,
    silent: bool,
) -> None:
    monkeypatch.setattr("exporter.daemon.jobs.HOUSEKEEPING_SECONDS", 0.3)
    log = logged()
    factors = [simulator.add_factor() for _ in range(12)]
    path = write_config(
        tmp_path / "config.toml",
        {"main": account_of(simulator)},
        [entry(f"factor-{number}", factor) for number, factor in enumerate(factors)],
        polling={"timeout": "2s", "max_attempts": 1},
    )
    transports: list[Jamming] = []

    def transport(account: AccountSettings) -> httpx.AsyncBaseTransport:
        transports.append(Jamming(account, silent=silent))
        return transports[-1]

    read = functools.partial(load, path, environ={}, flags={})
    daemon = Daemon(read(), load=read, transport=transport)
    await daemon.start()
    try:
        async with aiohttp.ClientSession() as session:
            exporter = Exporter(session, daemon)
            before = await exporter.shows(lambda page: page.counts()["verified"] == 12)
            assert before.value(ROTATIONS, account="main") == 0
            with monkeypatch.context() as impatient:  # for this transport alone: a slow one is not stuck
                impatient.setattr("exporter.polling.account.STUCK_SECONDS", 0.2)
                impatient.setattr("exporter.polling.clients.SILENT_SECONDS", 0.5)
                transports[0].stuck = True
                await becomes(lambda: len(transports) == 2)
            after = await exporter.shows(
                lambda page: page.value(ROTATIONS, account="main") and page.total("twilio_verify_factor_up") == 12
            )
            assert after.value(ROTATIONS, account="main") == 1
            assert (after.value("twilio_verify_api_in_flight") or 0) <= 4
            assert after.failures().keys() == {"timeout"} or after.failures().keys() == {"timeout", "connect"}
            await exporter.shows(lambda page: page.value("twilio_verify_api_in_flight") == 0)
            assert [one.closed for one in transports] == [True, False]
    finally:
        await daemon.stop()
    assert log.getvalue().count("stuck HTTP client replaced") == 1
    assert "Traceback" not in log.getvalue()
