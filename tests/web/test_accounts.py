"""``/api/v1/accounts``: budget, use and pause of every account."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from exporter.polling.clock import Moment
from exporter.verify.outcome import Failure, Reason
from exporter.web.views import account_views
from tests.support.factors import factors
from tests.support.polling_harness import PollingHarness, Reply
from tests.support.running_exporter import LeapingClock
from tests.support.served_exporter import ACCOUNT_SID, VERIFIED, entries, serving
from tests.support.virtual_time import START, in_virtual_time

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.served_exporter import ServedExporter


async def accounts(running: ServedExporter) -> Any:
    reply = await running.request("/api/v1/accounts")
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "application/json; charset=utf-8"
    return json.loads(reply.text)


async def test_an_account_has_every_field_and_no_secret(tmp_path: Path) -> None:
    async with serving(
        tmp_path, entries("one", "two", interval="2s"), accounts=("main", "idle"), clock=LeapingClock()
    ) as running:
        running.apply("one", VERIFIED)
        reply = await running.request("/api/v1/accounts")
        document = json.loads(reply.text)

    assert document["accounts"][0] == {
        "account": "main",
        "credentials_valid": None,
        "paused": False,
        "paused_for": None,
        "paused_until_seconds": None,
        "probe_at_seconds": None,
        "factors": 2,
        "queue_length": 0,
        "in_flight": 0,
        "concurrency_limit": 4,
        "max_concurrency": 4,
        "requests_per_second": 10.0,
        "demand_requests_per_second": 1.0,
        "budget_requests_per_second": 10.0,
        "stretch": 1.0,
        "latency_seconds": None,
        "client_rotations": 0,
        "service_exists": {},
    }
    assert [account["account"] for account in document["accounts"]] == ["main", "idle"]
    assert document["accounts"][1]["factors"] == 0
    assert document.keys() == {"accounts"}
    for kept in ("made-up", ACCOUNT_SID, "127.0.0.1"):
        assert kept not in reply.text


async def test_a_pause_for_a_429_is_shown_with_its_end(tmp_path: Path) -> None:
    clock = LeapingClock()
    async with serving(tmp_path, entries("one"), clock=clock) as running:
        throttle = running.daemon.engine.poller.accounts["main"].throttle
        now = clock.moment()
        throttle.rate_limited(now.steady, started=now.steady, pause_seconds=60.0)
        [paused] = (await accounts(running))["accounts"]
        clock.leap(61)
        [over] = (await accounts(running))["accounts"]

    assert (paused["paused"], paused["paused_for"], paused["probe_at_seconds"]) == (True, "rate_limited", None)
    assert paused["paused_until_seconds"] == pytest.approx(now.wall + 60, abs=0.01)
    assert paused["concurrency_limit"] == 2
    assert (over["paused"], over["paused_for"], over["paused_until_seconds"]) == (False, None, None)


async def test_a_pause_for_credentials_is_shown_with_its_next_probe(tmp_path: Path) -> None:
    clock = LeapingClock()
    async with serving(tmp_path, entries("one"), clock=clock) as running:
        now = clock.moment()
        running.daemon.engine.poller.accounts["main"]._refusals._pause(Failure(Reason.AUTH))
        [paused] = (await accounts(running))["accounts"]

    assert (paused["paused"], paused["paused_for"], paused["paused_until_seconds"]) == (True, "credentials", None)
    assert paused["probe_at_seconds"] == pytest.approx(now.wall + 30, abs=0.1)
    assert paused["credentials_valid"] is False


@in_virtual_time
async def test_an_account_with_requests_in_flight() -> None:
    env = PollingHarness(factors(30), concurrency=2)
    env.client.rule = lambda _watched: Reply(latency=0.5)
    env.offer(*(one.key for one in factors(30)))
    await env.run(6.2)
    now = Moment(START + env.now, env.clock.steady())
    [view] = account_views(env.accounts, env.ledger.counts, now, {})

    assert view.factors == 30
    assert (view.in_flight, view.queue_length) == (2, 30 - 2 * 13)
    assert view.latency_seconds == pytest.approx(0.5)
    assert view.budget_requests_per_second == pytest.approx(4.0)
    assert view.credentials_valid is True
    env.account._clients.rotations = 3
    assert account_views(env.accounts, {}, now, {})[0].client_rotations == 3
