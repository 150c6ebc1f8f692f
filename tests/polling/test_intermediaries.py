"""A 401, 403 or 404 that Twilio did not send changes neither status nor credentials nor pauses."""

from __future__ import annotations

import asyncio

import pytest

from exporter.polling.account import INTERMEDIARY_RESPONSES
from exporter.verify.outcome import Reason, Status
from tests.support.factors import factor, factors, key
from tests.support.polling_harness import PollingHarness, Reply
from tests.support.refusing_api import paused_harness
from tests.support.virtual_time import in_virtual_time

CODES = (401, 403, 404)


def by_gateway(code: int = 404) -> Reply:
    return Reply(Reason.DECODE, code=code)


@pytest.mark.parametrize("code", CODES)
@in_virtual_time
async def test_the_status_stays_and_the_response_is_retried_once(code: int) -> None:
    env = PollingHarness(factors(3, interval=60.0))
    env.client.will(key(0), Status.VERIFIED, by_gateway(code), by_gateway(code))
    env.offer(key(0))
    await asyncio.sleep(1)
    env.offer(key(0))
    await asyncio.sleep(10)
    ended = env.last(key(0))
    assert (ended.what, ended.outcome.attempts, ended.change) == (Reason.DECODE, 2, None)
    assert env.ledger[key(0)].status is Status.VERIFIED
    assert [call.key for call in env.client.calls] == [key(0)] * 3  # no other factor confirms it
    assert (env.observed.refusals, env.account.pause) == ([], None)
    assert env.account.credentials_valid is True


@pytest.mark.parametrize("code", CODES)
@in_virtual_time
async def test_nothing_is_learnt_about_the_credentials(code: int) -> None:
    env = PollingHarness(factors(3))
    env.client.rule = lambda _watched: by_gateway(code)
    await env.run(600)
    assert env.account.credentials_valid is None
    assert env.observed.refusals == []


@pytest.mark.parametrize("changed", [True, False])
@pytest.mark.parametrize("code", CODES)
@in_virtual_time
async def test_only_a_401_makes_the_password_be_read_again(code: int, changed: bool) -> None:
    read: list[bool] = []

    def reread() -> bool:
        read.append(changed)
        return changed

    env = PollingHarness([factor(0)], reread=reread)
    env.client.will(key(0), by_gateway(code), Status.VERIFIED)
    env.offer(key(0))
    await asyncio.sleep(10)
    assert env.last(key(0)).what is Status.VERIFIED
    assert read == ([changed] if code == 401 else [])


@pytest.mark.parametrize("code", CODES)
@in_virtual_time
async def test_it_does_not_end_a_pause(code: int) -> None:
    env = await paused_harness(3)
    env.client.rule = lambda _watched: by_gateway(code)
    await env.run(3_600)
    assert env.account.pause is not None
    assert env.observed.acceptances == []
    env.client.rule = lambda _watched: Reply()
    await env.run(700)
    assert env.account.credentials_valid is True
    assert len(env.observed.acceptances) == 1


@pytest.mark.parametrize("code", CODES)
@in_virtual_time
async def test_it_confirms_no_refusal_and_shows_no_good_credentials(code: int) -> None:
    env = PollingHarness(factors(2))
    env.client.will(key(0), Reason.FORBIDDEN)
    env.client.will(key(1), by_gateway(code))
    env.offer(key(0))
    await asyncio.sleep(10)
    ended = env.last(key(0))
    assert (ended.what, ended.outcome.alone) == (Reason.FORBIDDEN, False)
    assert (env.account.credentials_valid, env.observed.refusals) == (None, [])


@in_virtual_time
async def test_after_ten_in_a_row_fetches_are_not_retried_until_an_answer() -> None:
    env = PollingHarness(factors(1))
    env.client.rule = lambda _watched: by_gateway()
    attempts = []
    for _ in range(8):
        env.offer(key(0))
        await asyncio.sleep(40)
        attempts.append(env.last(key(0)).outcome.attempts)
    assert attempts == [2] * (INTERMEDIARY_RESPONSES // 2) + [1] * 3

    env.client.will(key(0), Status.VERIFIED)
    for _ in range(2):
        env.offer(key(0))
        await asyncio.sleep(40)
    assert env.last(key(0)).outcome.attempts == 2


@in_virtual_time
async def test_other_failures_are_retried_during_such_responses() -> None:
    env = PollingHarness(factors(1))
    env.client.rule = lambda _watched: by_gateway()
    for _ in range(6):
        env.offer(key(0))
        await asyncio.sleep(40)
    env.client.rule = lambda _watched: Reply(Reason.SERVER_ERROR)
    env.offer(key(0))
    await asyncio.sleep(100)
    assert env.last(key(0)).outcome.attempts == 3
