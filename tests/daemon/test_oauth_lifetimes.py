"""Access tokens over their lifetimes, for thousands of factors, in virtual time."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from typing import TYPE_CHECKING

import httpx
import pytest

from exporter.config import load
from exporter.daemon.daemon import Daemon
from tests.support.config_files import write_config
from tests.support.scrape import Scrape
from tests.support.virtual_time import in_virtual_time, virtual_clock, virtual_loop

if TYPE_CHECKING:
    from pathlib import Path

FACTORS = 10_000
LIFETIME = 600.0  # seconds; Twilio offers a minute to 30 days
SERVICE = "VA" + "1" * 32
SECRET = "made-up-secret"


class TokenApi(httpx.AsyncBaseTransport):
    """The Verify API and the token endpoint in memory: accepts its own tokens until they expire."""

    def __init__(self) -> None:
        self.loop = virtual_loop()
        self.token_requests: list[float] = []
        self.down = False
        self.fetches: Counter[int] = Counter()
        self._expires: dict[str, float] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        now = self.loop.time()
        await asyncio.sleep(0.1)
        if request.method == "POST":
            return self._token(request, now)
        valid = now < self._expires.get(request.headers["Authorization"], -1.0)
        self.fetches[200 if valid else 401] += 1
        if not valid:
            return httpx.Response(401, json={"code": 20003, "message": "Authenticate", "status": 401})
        sid = request.url.path.rpartition("/")[2]
        return httpx.Response(200, json={"sid": sid, "status": "verified", "factor_type": "push"})

    def _token(self, request: httpx.Request, now: float) -> httpx.Response:
        self.token_requests.append(now)
        if self.down:
            raise ConnectionRefusedError(111, "Connection refused")
        assert request.url == "https://oauth.twilio.com/v2/token"
        assert SECRET in request.content.decode()
        token = f"token-{len(self.token_requests)}"
        self._expires[f"Bearer {token}"] = now + LIFETIME
        return httpx.Response(200, json={"access_token": token, "token_type": "Bearer", "expires_in": LIFETIME})


class Run:
    """A daemon's polling, without its jobs and servers."""

    def __init__(self, folder: Path, factors: int) -> None:
        entries = [
            {
                "name": f"factor-{number}",
                "service_sid": SERVICE,
                "identity": f"identity-{number:06d}",
                "factor_sid": f"YF{number:032x}",
            }
            for number in range(factors)
        ]
        account = {
            "account_sid": "AC" + "0" * 32,
            "oauth": {"client_id": "OQ" + "0" * 32, "client_secret": SECRET},
            "requests_per_second": 100,
            "max_concurrency": 16,
        }
        path = write_config(
            folder / "config.toml", {"main": account}, entries, polling={"interval": "5m", "timeout": "10s"}
        )
        config = load(path, environ={}, flags={})
        self.api = TokenApi()
        self.daemon = Daemon(
            config, transport=lambda _account: self.api, clock=virtual_clock(), rng=random.Random(1)
        )
        self.daemon.engine.roster.list(config.factors)

    async def last(self, seconds: float) -> None:
        """Let time pass with a dispatch every second."""
        engine, loop = self.daemon.engine, self.api.loop
        end = loop.time() + seconds
        while loop.time() < end:
            engine.poller.dispatch()
            if round(loop.time()) % 10 == 0:
                engine.housekeeping()
            await asyncio.sleep(1.0)

    async def stop(self) -> Scrape:
        """End the polling; return a scrape."""
        await self.daemon.engine.poller.drain(20)
        return self.page()

    def page(self) -> Scrape:
        return Scrape(bytes(self.daemon.view.exposition(openmetrics=False)).decode())


@pytest.mark.slow
@in_virtual_time
async def test_over_three_lifetimes_each_takes_one_request_for_a_token_and_no_fetch_fails(tmp_path: Path) -> None:
    run = Run(tmp_path, FACTORS)
    await run.last(3 * LIFETIME)
    page = await run.stop()
    requests = run.api.token_requests
    assert len(requests) == 4, "the first one, and one at 80 % of each lifetime"
    assert [later - earlier for earlier, later in itertools.pairwise(requests)] == pytest.approx(
        [0.8 * LIFETIME] * 3, abs=2
    )
    assert page.value("twilio_verify_api_requests_total", operation="token", code="200") == 4
    assert page.failures() == {}
    assert run.api.fetches[401] == 0
    assert run.api.fetches[200] >= FACTORS * 3 * LIFETIME / 300 * 0.95
    assert page.counts()["verified"] == FACTORS
    assert page.value("twilio_verify_exporter_late_fetches_total") == 0
    assert page.value("twilio_verify_api_in_flight") == 0


@pytest.mark.slow
@in_virtual_time
async def test_an_endpoint_that_is_down_for_two_lifetimes_fails_fetches_by_its_reason_and_recovers(
    tmp_path: Path,
) -> None:
    run = Run(tmp_path, 3000)
    await run.last(400)
    assert run.page().failures() == {}
    run.api.down = True
    began, answered = run.api.loop.time(), run.api.fetches[200]
    await run.last(2 * LIFETIME)
    page = run.page()
    during = [at for at in run.api.token_requests if at >= began]
    assert len(during) <= 2 * LIFETIME / 60 + 5, "no storm"
    assert all(later - earlier >= 10 - 1e-6 for earlier, later in itertools.pairwise(run.api.token_requests))
    assert page.failures().keys() == {"connect"}
    dead_seconds = 2 * LIFETIME - (LIFETIME - 400)  # without a usable token
    assert page.failures()["connect"] == pytest.approx(3000 * dead_seconds / 300, rel=0.1)
    assert run.api.fetches[401] == 0, "nothing is sent without a token"
    assert run.api.fetches[200] - answered == pytest.approx(3000 * (LIFETIME - 400) / 300, rel=0.1)
    assert page.value("twilio_verify_credentials_valid") == 1
    assert page.counts()["unknown"] == 3000, "their last answer is stale"
    run.api.down = False
    await run.last(400)
    page = await run.stop()
    assert page.counts()["verified"] == 3000
    assert page.failures()["connect"] < 3000 * (dead_seconds + 70) / 300
    assert len(run.api.token_requests) == 1 + len(during) + 1
