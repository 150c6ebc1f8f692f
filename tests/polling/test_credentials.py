"""The end of a pause for refused credentials: by a probe, by new credentials, by a changed password file."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from exporter.verify.outcome import Reason, Status
from tests.support.factors import factors, key
from tests.support.polling_harness import LATENCY, PollingHarness, Reply
from tests.support.refusing_api import paused_harness, refuse
from tests.support.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from exporter.verify.outcome import Attempt
    from exporter.watched import WatchedFactor


class Password:
    """A password file: ``file`` is what it holds, ``read`` what was read last; the API takes only ``good``."""

    def __init__(self, good: str = "new") -> None:
        self.good = good
        self.file = "old"
        self.read = "old"
        self.rereads = 0

    def reread(self) -> bool:
        self.rereads += 1
        changed = self.file != self.read
        self.read = self.file
        return changed

    def rule(self, _watched: WatchedFactor) -> Reply:
        return Reply(Status.VERIFIED if self.read == self.good else Reason.AUTH)


# Probes and new credentials


@in_virtual_time
async def test_an_answered_probe_ends_the_pause_and_the_delayed_fetches_start() -> None:
    env = await paused_harness(20)
    await env.run(35)
    env.client.rule = refuse(key(99))
    await env.run(50)
    assert env.account.pause
    lags = len(env.observed.lags)
    await env.run(20)
    (accepted,) = env.observed.acceptances
    assert accepted == pytest.approx(2 * LATENCY + 30 + LATENCY + 60 + LATENCY, abs=0.01)
    assert not env.account.pause
    assert env.account.credentials_valid is True
    assert all(record.status is Status.VERIFIED for record in env.ledger)
    assert max(lag for _, lag in env.observed.lags[lags:]) < 2
    calls = len(env.client.calls)
    await env.run(600)
    assert len(env.observed.acceptances) == len(env.observed.refusals) == 1
    assert len(env.client.calls) - calls == pytest.approx(200, abs=20)  # no probe beside the regular fetches


@pytest.mark.parametrize(
    ("result", "ends"),
    [
        (Status.NOT_FOUND, True),
        (Reason.UNKNOWN_STATUS, True),
        (Reason.DECODE, True),
        (Reason.SERVER_ERROR, False),
        (Reason.TIMEOUT, False),
        (Reason.BAD_REQUEST, False),
        (Reason.RATE_LIMITED, False),
    ],
)
@in_virtual_time
async def test_a_pause_ends_with_a_200_or_404_only(result: Status | Reason, ends: bool) -> None:
    env = await paused_harness()
    env.client.rule = lambda _watched: Reply(result, retry_after=1)
    await asyncio.sleep(32)
    assert (env.account.pause is None) is ends
    assert env.account.credentials_valid is ends
    assert len(env.client.calls) == 3  # a probe is one request, whatever its outcome
    env.client.rule = refuse(key(99))
    await asyncio.sleep(60)
    assert not env.account.pause


@in_virtual_time
async def test_a_second_pause_begins_with_the_shortest_wait() -> None:
    env = await paused_harness()
    await asyncio.sleep(200)
    env.client.rule = refuse(key(99))
    await asyncio.sleep(30)
    assert env.account.credentials_valid is True
    env.client.rule = refuse(reason=Reason.FORBIDDEN)
    env.offer(key(0))
    calls = len(env.client.calls)
    await asyncio.sleep(60)
    began = env.observed.refusals[1][0]
    assert [call.began for call in env.client.calls[calls + 2 :]] == pytest.approx([began + 30])
    assert [reason for _, reason in env.observed.refusals] == [Reason.AUTH, Reason.FORBIDDEN]


@in_virtual_time
async def test_new_credentials_end_the_pause_at_once() -> None:
    env = await paused_harness()
    await asyncio.sleep(500)
    calls, began = len(env.client.calls), env.now
    env.client.rule = refuse(key(99))
    env.account.credentials_changed()
    await asyncio.sleep(1)
    assert [call.began for call in env.client.calls[calls:]] == pytest.approx([began])
    assert env.observed.acceptances == pytest.approx([began + LATENCY])
    assert not env.account.pause
    await asyncio.sleep(2_000)
    assert len(env.client.calls) == calls + 1  # the planned probe is cancelled


@in_virtual_time
async def test_new_credentials_that_are_refused_too_begin_with_the_shortest_wait() -> None:
    env = await paused_harness()
    await asyncio.sleep(500)
    calls, began = len(env.client.calls), env.now
    env.account.credentials_changed()
    await asyncio.sleep(100)
    assert [call.began - began for call in env.client.calls[calls:]] == pytest.approx(
        [0, 30 + LATENCY, 90 + 2 * LATENCY]
    )
    assert len(env.observed.refusals) == 1


@in_virtual_time
async def test_new_credentials_outside_a_pause_cost_no_call() -> None:
    env = PollingHarness(factors(3))
    env.account.credentials_changed()
    await asyncio.sleep(100)
    assert env.client.calls == []


@in_virtual_time
async def test_new_credentials_while_a_probe_is_under_way_end_the_pause_with_it() -> None:
    env = await paused_harness()
    env.client.rule = lambda _watched: Reply(Reason.FORBIDDEN, latency=8)
    await asyncio.sleep(32)
    assert env.client.open == 1
    calls = len(env.client.calls)
    env.client.rule = refuse(key(99))
    env.account.credentials_changed()
    await asyncio.sleep(8)
    assert env.account.credentials_valid is True
    await asyncio.sleep(2_000)
    assert len(env.client.calls) == calls + 1
    assert len(env.observed.acceptances) == 1


@in_virtual_time
async def test_a_probe_answered_just_as_the_credentials_change_is_the_last_one() -> None:
    env = await paused_harness()
    env.client.rule = refuse(key(99))
    real = env.client.fetch_factor

    async def fetch(watched: WatchedFactor) -> Attempt:
        attempt = await real(watched)
        env.account.credentials_changed()
        return attempt

    env.client.fetch_factor = fetch  # type: ignore[method-assign]  # a stand-in for this test
    await asyncio.sleep(1_000)
    assert len(env.client.calls) == 3
    assert len(env.observed.acceptances) == 1


# Changed passwords


@in_virtual_time
async def test_a_changed_password_is_used_at_once_and_nothing_failed() -> None:
    password = Password()
    env = PollingHarness(factors(5), reread=password.reread)
    env.client.rule = password.rule
    password.file = "new"
    env.offer(key(0))
    await asyncio.sleep(5)
    assert env.client.requested_at(key(0)) == pytest.approx([0, LATENCY])
    assert len(env.client.calls) == 2
    (ended,) = env.observed.fetches
    assert (ended.what, ended.outcome.attempts) == (Status.VERIFIED, 2)
    assert ended.outcome.duration_seconds == pytest.approx(2 * LATENCY)
    assert env.observed.refusals == []
    assert env.account.credentials_valid is True
    assert password.rereads == 1


@in_virtual_time
async def test_requests_under_way_when_the_password_changes_all_get_another_attempt() -> None:
    password = Password()
    env = PollingHarness(factors(8), concurrency=8, reread=password.reread)
    env.client.rule = password.rule
    password.file = "new"
    env.offer(*(key(n) for n in range(8)))
    await asyncio.sleep(5)
    assert [ended.what for ended in env.observed.fetches] == [Status.VERIFIED] * 8
    assert len(env.client.calls) == 16
    assert env.observed.refusals == []


@in_virtual_time
async def test_a_change_noticed_while_requests_are_under_way_counts_for_them() -> None:
    password = Password()
    env = PollingHarness(factors(4), reread=password.reread)
    env.client.rule = password.rule
    env.offer(*(key(n) for n in range(4)))
    await asyncio.sleep(LATENCY / 2)
    password.file = "new"
    assert password.reread()
    env.account.credentials_changed()
    await asyncio.sleep(5)
    assert [ended.what for ended in env.observed.fetches] == [Status.VERIFIED] * 4
    assert env.observed.refusals == []


@in_virtual_time
async def test_a_change_noticed_by_the_confirmation_clears_the_suspect() -> None:
    password = Password()
    env = PollingHarness(factors(2), reread=password.reread)
    env.client.rule = password.rule
    env.offer(key(0))
    await asyncio.sleep(1.5 * LATENCY)
    assert len(env.client.calls) == 2  # the confirmation is in flight, with the old password
    password.file = "new"
    await asyncio.sleep(5)
    assert [(ended.what, ended.outcome.alone) for ended in env.observed.fetches] == [(Status.VERIFIED, False)] * 2
    assert env.observed.refusals == []


@in_virtual_time
async def test_a_changed_password_that_is_wrong_too_pauses_the_account() -> None:
    password = Password(good="another")
    env = PollingHarness(factors(5), reread=password.reread)
    env.client.rule = password.rule
    password.file = "new"
    env.offer(key(0))
    await asyncio.sleep(5)
    assert env.client.requested_at(key(0)) == pytest.approx([0, LATENCY])
    assert len(env.client.calls) == 3  # and the confirmation
    assert len(env.observed.refusals) == 1


@in_virtual_time
async def test_a_password_that_changes_all_the_time_is_tried_twice_a_fetch() -> None:
    env = PollingHarness(factors(1), reread=lambda: True)
    env.client.rule = refuse(reason=Reason.AUTH)
    env.offer(key(0))
    await asyncio.sleep(5)
    assert len(env.client.calls) == 2
    assert env.last(key(0)).what is Reason.AUTH


@in_virtual_time
async def test_a_403_asks_no_password_file() -> None:
    password = Password()
    env = PollingHarness(factors(3), reread=password.reread)
    env.client.rule = refuse()
    env.offer(key(0))
    await asyncio.sleep(1)
    assert password.rereads == 0


@in_virtual_time
async def test_a_pause_ends_by_itself_when_a_probe_finds_the_changed_password() -> None:
    password = Password()
    env = PollingHarness(factors(5), reread=password.reread)
    env.client.rule = password.rule
    env.offer(key(0))
    await asyncio.sleep(5)
    assert env.account.pause
    password.file = "new"
    await asyncio.sleep(30)
    assert env.account.credentials_valid is True
    assert env.client.calls[-1].began == pytest.approx(2 * LATENCY + 30 + LATENCY)
    calls = len(env.client.calls)
    await asyncio.sleep(2_000)
    assert len(env.client.calls) == calls


@in_virtual_time
async def test_a_pause_ends_at_once_when_a_late_refusal_finds_the_changed_password() -> None:
    password = Password()
    env = PollingHarness(factors(5, interval=3_600.0), reread=password.reread)
    env.client.rule = password.rule
    env.client.will(key(4), Reply(Reason.AUTH, latency=6))
    env.offer(key(0), key(4))
    await asyncio.sleep(5)
    assert env.account.pause
    password.file = "new"
    await asyncio.sleep(2)
    assert env.account.credentials_valid is True
    assert env.observed.acceptances == pytest.approx([6 + LATENCY])
    assert env.last(key(4)).what is Status.VERIFIED
