"""What a 401 or 403 means: one factor's trouble, or the whole account's."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

import pytest

from exporter.verify.outcome import Reason, Status
from tests.support.factors import factor, factors, key, outcome
from tests.support.polling_harness import LATENCY, PollingHarness, Reply
from tests.support.refusing_api import REFUSALS, paused_harness, refuse
from tests.support.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from exporter.polling.refusals import Refusals
    from exporter.watched import FactorKey


# One factor's trouble


@pytest.mark.parametrize("reason", REFUSALS)
@in_virtual_time
async def test_a_refusal_of_one_factor_costs_one_request_and_pauses_nothing(reason: Reason) -> None:
    env = PollingHarness(factors(40, services=4, interval=60.0))
    await env.run(65)
    calls = len(env.client.calls)
    suspect = key(5, service=1)
    env.client.rule = refuse(suspect, reason=reason)
    env.offer(suspect)
    await asyncio.sleep(2 * LATENCY + 0.01)
    requested = [call.key for call in env.client.calls[calls:]]
    assert requested[0] == suspect
    assert len(requested) == 2  # exactly one confirmation
    assert requested[1].service_sid != suspect.service_sid
    ended = env.last(suspect)
    assert (ended.what, ended.outcome.alone, ended.outcome.attempts) == (reason, True, 1)
    assert env.ledger[suspect].interval_seconds == 900
    assert env.ledger[suspect].status is Status.VERIFIED
    assert env.account.credentials_valid is True
    begun = env.now
    await env.run(600)
    since = [ended for ended in env.observed.fetches if ended.at > begun]
    assert all(ended.what is Status.VERIFIED for ended in since if ended.key != suspect)
    for watched in factors(40, services=4):
        if watched.key != suspect:
            assert len([ended for ended in since if ended.key == watched.key]) in (10, 11)
    assert env.observed.refusals == []
    assert len(env.client.requested_at(suspect)) <= 4


@in_virtual_time
async def test_a_factor_refused_at_every_fetch_has_the_slow_interval() -> None:
    env = PollingHarness(factors(10, interval=60.0))
    env.client.rule = refuse(key(3))
    await env.run(3 * 3_600)
    requested = env.client.requested_at(key(3))
    assert [b - a for a, b in itertools.pairwise(requested)][1:] == pytest.approx(
        [900] * (len(requested) - 2), abs=1.1
    )
    assert len(requested) in (12, 13, 14)
    assert all(ended.outcome.alone for ended in env.observed.of(key(3)))
    env.client.rule = refuse(key(99))
    await env.run(900)
    assert env.ledger[key(3)].interval_seconds == 60
    assert env.observed.refusals == []


def choose(env: PollingHarness, suspect: FactorKey) -> FactorKey | None:
    refusals: Refusals = env.account._refusals
    other = refusals._other_factor(env.ledger[suspect])
    return None if other is None else other.watched.key


@in_virtual_time
async def test_the_other_factor_is_preferably_one_that_answers_and_of_another_service() -> None:
    env = PollingHarness([*factors(3), factor(3, service=1), factor(4, service=1), factor(5, account="other")])
    env.account.in_flight_keys.add(key(0))
    same, never, answers = key(1), key(3, service=1), key(4, service=1)

    def take(factor: FactorKey, *replies: Status | Reason) -> None:
        for reply in replies:
            env.ledger.apply(factor, outcome(reply), env.clock.moment())

    assert choose(env, key(0)) == never  # none has answered yet, so one of another service
    take(same, Status.VERIFIED)
    assert choose(env, key(0)) == same
    take(answers, Status.NOT_FOUND)
    assert choose(env, key(0)) == answers
    take(answers, Reason.FORBIDDEN)
    assert choose(env, key(0)) == same  # the other one is itself refused now
    take(same, Reason.TIMEOUT)
    assert choose(env, key(0)) == answers
    for busy in (never, answers, same):
        env.account.in_flight_keys.add(busy)
    assert choose(env, key(0)) == key(2)
    env.account.in_flight_keys.add(key(2))
    assert choose(env, key(0)) is None


@in_virtual_time
async def test_paused_factors_do_not_confirm() -> None:
    env = PollingHarness([factor(1), factor(2, paused=True)])
    env.client.rule = refuse(key(1))
    env.offer(key(1))
    await asyncio.sleep(1)
    assert env.account.credentials_valid is False  # as for an account of one factor
    assert len(env.client.calls) == 1


@in_virtual_time
async def test_refusals_in_flight_share_one_verdict() -> None:
    env = PollingHarness(factors(10, services=2), concurrency=4)
    refused = [key(n, service=n % 2) for n in range(3)]
    env.client.rule = refuse(*refused)
    env.offer(*refused)
    await asyncio.sleep(5)
    assert len(env.client.calls) == 4
    assert [(ended.what, ended.outcome.alone) for ended in map(env.last, refused)] == [(Reason.FORBIDDEN, True)] * 3
    assert env.last(env.client.calls[3].key).what is Status.VERIFIED
    assert env.observed.refusals == []


@in_virtual_time
async def test_the_account_holds_its_requests_until_the_verdict() -> None:
    env = PollingHarness(factors(20), concurrency=2)
    env.client.rule = lambda watched: Reply(
        Reason.FORBIDDEN if watched.key == key(0) else Status.VERIFIED, latency=3.0
    )
    env.offer(key(0))
    await asyncio.sleep(3.01)
    other = env.client.calls[-1].key
    env.offer(*(key(n) for n in range(1, 20) if key(n) != other))
    await asyncio.sleep(2.9)
    assert len(env.client.calls) == 2
    assert other in env.account.in_flight_keys
    await asyncio.sleep(0.2)
    assert len(env.client.calls) == 4
    assert env.observed.lags[1][1] == pytest.approx(0)  # time in a pause is no lateness


@pytest.mark.parametrize("reason", [Reason.TIMEOUT, Reason.SERVER_ERROR, Reason.BAD_REQUEST, Reason.RATE_LIMITED])
@in_virtual_time
async def test_a_confirmation_without_an_answer_proves_nothing(reason: Reason) -> None:
    env = PollingHarness(factors(2))
    env.client.rule = lambda watched: Reply(Reason.FORBIDDEN if watched.key == key(0) else reason, retry_after=1)
    env.offer(key(0))
    await asyncio.sleep(60)
    ended = env.last(key(0))
    assert (ended.what, ended.outcome.alone) == (Reason.FORBIDDEN, False)
    assert env.ledger[key(0)].interval_seconds == 300
    assert env.last(key(1)).what is reason
    assert env.observed.refusals == []
    assert not env.account.pause
    env.client.rule = refuse(key(99))
    env.offer(key(0), key(1))
    await asyncio.sleep(1)
    assert [env.last(key(n)).what for n in (0, 1)] == [Status.VERIFIED] * 2


@pytest.mark.parametrize("result", [Reason.DECODE, Reason.UNKNOWN_STATUS, Status.NOT_FOUND])
@in_virtual_time
async def test_a_confirmation_answered_200_or_404_shows_that_the_factor_is_alone(result: Status | Reason) -> None:
    env = PollingHarness(factors(2))
    env.client.rule = lambda watched: Reply(Reason.FORBIDDEN if watched.key == key(0) else result)
    env.offer(key(0))
    await asyncio.sleep(60)
    assert env.last(key(0)).outcome.alone


@in_virtual_time
async def test_a_factor_in_flight_can_confirm_afterwards() -> None:
    env = PollingHarness(factors(2))
    env.client.will(key(0), Reason.FORBIDDEN)
    env.client.will(key(1), Reply(latency=4))
    env.offer(key(0), key(1))
    await asyncio.sleep(10)
    assert env.client.requested_at(key(1)) == pytest.approx([0, 4])
    assert env.last(key(0)).outcome.alone
    assert env.observed.refusals == []


@in_virtual_time
async def test_a_factor_in_its_backoff_neither_confirms_nor_lets_the_account_pause() -> None:
    env = PollingHarness(factors(2, interval=3_600.0))
    env.client.will(key(0), Reply(Reason.FORBIDDEN, latency=0.5))
    env.client.will(key(1), Reason.SERVER_ERROR)
    env.offer(key(0), key(1))
    await asyncio.sleep(10)
    ended = env.last(key(0))
    assert (ended.what, ended.outcome.alone) == (Reason.FORBIDDEN, False)
    assert ended.at == pytest.approx(0.5)
    assert env.observed.refusals == []
    assert env.client.requested_at(key(1)) == pytest.approx([0, 1 + LATENCY])  # and it was not delayed


@in_virtual_time
async def test_a_suspect_that_was_cleared_confirms_no_later_refusal() -> None:
    env = PollingHarness(factors(2, interval=3_600.0))
    env.client.will(key(0), Reason.FORBIDDEN, Reason.SERVER_ERROR)
    env.client.will(key(1), Status.VERIFIED, Reply(Reason.FORBIDDEN, latency=0.5))
    env.offer(key(0))
    await asyncio.sleep(10)
    assert env.last(key(0)).outcome.alone
    env.offer(key(0), key(1))
    await asyncio.sleep(10)
    assert env.last(key(1)).what is Reason.FORBIDDEN
    assert env.observed.refusals == []


# The whole account's trouble


@pytest.mark.parametrize("reason", REFUSALS)
@in_virtual_time
async def test_an_account_of_one_factor_pauses_at_once(reason: Reason) -> None:
    env = PollingHarness(factors(1))
    env.client.rule = refuse(reason=reason)
    env.offer(key(0))
    await asyncio.sleep(1)
    assert env.observed.refusals == [(LATENCY, reason)]
    assert env.account.pause
    assert env.account.credentials_valid is False
    ended = env.last(key(0))
    assert (ended.what, ended.outcome.alone) == (reason, False)
    assert env.ledger[key(0)].interval_seconds == 300
    assert len(env.client.calls) == 1


@in_virtual_time
async def test_a_refusal_of_two_factors_pauses_the_account() -> None:
    env = PollingHarness(factors(10, services=2))
    env.client.rule = refuse()
    env.offer(key(0))
    await asyncio.sleep(1)
    assert len(env.client.calls) == 2
    assert [(ended.what, ended.outcome.alone) for ended in env.observed.fetches] == [(Reason.FORBIDDEN, False)] * 2
    assert [reason for _, reason in env.observed.refusals] == [Reason.FORBIDDEN]


@pytest.mark.parametrize("apart", [0.0, 0.3])
@in_virtual_time
async def test_all_factors_refused_at_one_time_confirm_each_other(apart: float) -> None:
    env = PollingHarness(factors(4), concurrency=4)
    for number in range(4):
        env.client.will(key(number), Reply(Reason.AUTH, latency=0.1 + number * apart))
    env.offer(*(key(n) for n in range(4)))
    await asyncio.sleep(2)
    assert len(env.client.calls) == 4
    assert len(env.observed.refusals) == 1
    assert env.account.credentials_valid is False


@in_virtual_time
async def test_ten_thousand_refused_factors_cost_few_calls_before_the_pause_and_few_in_it() -> None:
    env = PollingHarness(factors(10_000, services=3, interval=300.0), rate=200, concurrency=4)
    env.client.rule = refuse(reason=Reason.AUTH)
    for _ in range(20):
        await env.run(1)
        if env.observed.refusals:
            break
    assert len(env.client.calls) <= 5
    before = len(env.client.calls)
    (pause,) = (at for at, _ in env.observed.refusals)
    await env.run(3_600)
    probes = [call.began - pause for call in env.client.calls[before:]]
    waits = [30, 60, 120, 240, 480, 600, 600, 600, 600]
    expected = list(itertools.accumulate(waits, lambda at, wait: at + wait + LATENCY))
    assert probes == pytest.approx([at for at in expected if at < 3_590], abs=0.01)
    probed = [call.key for call in env.client.calls[before:]]
    assert len(set(probed)) == len(probed)  # they rotate
    assert len(env.observed.refusals) == 1
    assert env.account.queue_length > 9_900
    assert env.account.first_fetches_pending == 0
    assert len(env.observed.fetches) == len(env.client.calls)  # delayed fetches have no outcome


@in_virtual_time
async def test_a_refusal_that_arrives_in_the_pause_asks_nobody_else() -> None:
    env = PollingHarness(factors(5))
    env.client.rule = refuse(reason=Reason.AUTH)
    env.client.will(key(4), Reply(Reason.AUTH, latency=6))
    env.offer(key(4), key(0))
    await asyncio.sleep(20)
    assert len(env.client.calls) == 3
    ended = env.last(key(4))
    assert (ended.what, ended.outcome.alone) == (Reason.AUTH, False)
    assert len(env.observed.refusals) == 1


@in_virtual_time
async def test_probes_rotate_over_all_factors() -> None:
    env = await paused_harness(3)
    await asyncio.sleep(3_600)
    probed = [call.key for call in env.client.calls[2:]]
    assert len(probed) >= 6
    assert {key(n) for n in range(3)} == set(probed[:3])
    assert probed[3:6] == probed[:3]


@in_virtual_time
async def test_fetches_that_a_pause_delays_are_no_failures_and_staleness_runs_on() -> None:
    env = PollingHarness(factors(20, interval=60.0))
    await env.run(65)
    env.client.rule = refuse(reason=Reason.AUTH)
    await env.run(10)
    assert env.account.credentials_valid is False
    fetched = len(env.observed.fetches)
    await env.run(300)
    assert len(env.observed.fetches) - fetched == len(env.client.calls) - fetched <= 4  # the probes
    assert len({factor for _, factor in env.observed.withdrawals}) == 20
    assert env.account.queue_length >= 19
