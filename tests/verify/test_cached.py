"""Responses from caches, on real sockets: they are no answers, whatever their status."""

from __future__ import annotations

import dataclasses
import json
from email.utils import formatdate
from typing import TYPE_CHECKING

import pytest

from exporter.verify.freshness import ENOUGH_RESPONSES
from exporter.verify.outcome import Failure, Reason
from exporter.watched import EntityKey, WatchedEntity
from tests.support.misbehaving_servers import FACTOR, Wire, answer, says
from tests.support.requests import IDENTITY
from tests.support.transport_attempts import VERIFIED, WELL, client_of, failure, url_of

if TYPE_CHECKING:
    from exporter.watched import WatchedFactor

pytestmark = pytest.mark.usefixtures("each_transport")

NOW = 1_800_000_000
STATUSES = {
    "200 OK": FACTOR,
    "401 Unauthorized": json.dumps({"code": 20003, "message": "m", "status": 401}).encode(),
    "404 Not Found": json.dumps({"code": 20404, "message": "m", "status": 404}).encode(),
    "429 Too Many Requests": b"",
    "503 Service Unavailable": b"",
}


@pytest.mark.parametrize("status", STATUSES)
async def test_a_response_with_an_age_above_the_interval_is_no_answer(watched: WatchedFactor, status: str) -> None:
    headers = ("Age: 301", "Retry-After: 9", "Twilio-Concurrent-Requests: 7", "Twilio-Request-Id: RQ1")
    async with (
        Wire(says(answer(STATUSES[status], *headers, status=status))) as wire,
        client_of(url_of(wire)) as client,
    ):
        attempt = await client.fetch_factor(dataclasses.replace(watched, interval_seconds=300.0))
        believed = await client.fetch_factor(dataclasses.replace(watched, interval_seconds=301.0))
        wire.behave = WELL
        assert (await client.fetch_factor(watched)).result == VERIFIED

    found = failure(attempt)
    assert (found.reason, found.detail, found.from_cache) == (
        Reason.DECODE,
        f"HTTP {status[:3]}, but from a cache (Age)",
        True,
    )
    assert "exempt the API from caching" in found.hint
    assert (attempt.code, attempt.request_id, attempt.by_intermediary) == (int(status[:3]), "RQ1", True)
    assert (attempt.retry_after_seconds, attempt.concurrent_requests, attempt.twilio_code) == (None, None, None)
    assert "cache" not in getattr(believed.result, "detail", "")


async def test_a_response_with_an_older_date_than_the_others_is_no_answer(watched: WatchedFactor) -> None:
    watched = dataclasses.replace(watched, interval_seconds=60.0)

    def dated(seconds: float) -> bytes:
        return answer(FACTOR, f"Date: {formatdate(NOW + seconds, usegmt=True)}")

    async with Wire(says(dated(-9000))) as wire, client_of(url_of(wire)) as client:
        assert (await client.fetch_factor(watched)).result == VERIFIED  # nothing to compare it with
        wire.behave = says(dated(0))
        for _ in range(ENOUGH_RESPONSES):
            assert (await client.fetch_factor(watched)).result == VERIFIED
        wire.behave = says(dated(-302))
        assert failure(await client.fetch_factor(watched)).detail == "HTTP 200, but from a cache (Date)"
        slow = dataclasses.replace(watched, interval_seconds=3600.0)
        assert (await client.fetch_factor(slow)).result == VERIFIED
        for headers in ((), ("Date: a long time ago",), (f"Date: {formatdate(NOW + 9e6, usegmt=True)}",)):
            wire.behave = says(answer(FACTOR, *headers))
            assert (await client.fetch_factor(watched)).result == VERIFIED


async def test_listings_may_be_as_old_as_their_interval(watched: WatchedFactor) -> None:
    entity = WatchedEntity(EntityKey("main", watched.key.service_sid, IDENTITY), "ops", 60.0)
    page = b'{"factors": [], "meta": {}}'
    async with Wire(says(answer(page, "Age: 900"))) as wire, client_of(url_of(wire)) as client:
        assert not isinstance((await client.list_factors(entity)).result, Failure)
        wire.behave = says(answer(page, "Age: 901"))
        assert failure(await client.list_factors(entity)).detail == "HTTP 200, but from a cache (Age)"
