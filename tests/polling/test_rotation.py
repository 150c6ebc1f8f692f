"""A stuck or silent client: its requests are cancelled, a fresh client replaces it, and no slot is lost."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from exporter.polling.account import AccountPolicy
from exporter.polling.clients import RotationReason
from exporter.verify.outcome import Reason, Status
from tests.support.factors import factors
from tests.support.polling_harness import PollingHarness, Reply, ScriptedClient
from tests.support.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.watched import FactorKey, WatchedFactor

TIMEOUT = 10.0
NEVER = Reply(latency=1e7)
SILENCE = Reply(Reason.TIMEOUT, latency=8.3)


class Bench(PollingHarness):
    """A env whose account may have a fresh client; housekeeping runs every 10 s."""

    def __init__(self, watched: list[WatchedFactor], *, concurrency: int = 4, max_attempts: int = 3) -> None:
        self.fresh: list[ScriptedClient] = []
        self.prepare: Callable[[ScriptedClient], None] = lambda _client: None
        self.broken: Exception | None = None
        self.tried = 0
        super().__init__(
            watched,
            concurrency=concurrency,
            max_attempts=max_attempts,
            timeout=TIMEOUT,
            new_client=self._renew,
        )
        self.keys = [one.key for one in watched]

    def _renew(self) -> ScriptedClient:
        self.tried += 1
        if self.broken is not None:
            raise self.broken
        client = ScriptedClient()
        self.prepare(client)
        self.fresh.append(client)
        return client

    async def keep(self, seconds: int) -> None:
        """Let time pass, with a dispatch every second and housekeeping every ten."""
        for _ in range(seconds // 10):
            await self.run(10)
            self.poller.check_clients()

    def requests(self, key: FactorKey) -> list[tuple[float, float | None]]:
        """Return begin and end of all requests for a factor, whatever client they went through."""
        calls = [call for client in (self.client, *self.fresh) for call in client.calls if call.key == key]
        return sorted((call.began, call.ended) for call in calls)

    @property
    def causes(self) -> list[RotationReason]:
        return [why for _, why in self.observed.rotations]


def stuck(client: ScriptedClient, *, endures: int = 0, deaf: bool = True) -> None:
    """Let no request of a client end."""
    client.rule = lambda _watched: NEVER
    client.endures, client.deaf = endures, deaf


# Stuck


@pytest.mark.parametrize("deaf", [False, True])
@in_virtual_time
async def test_a_request_without_end_fails_in_time_and_a_fresh_client_goes_on(deaf: bool) -> None:
    env = Bench(factors(1))
    stuck(env.client, deaf=deaf)
    env.offer(*env.keys)
    await env.keep(60)

    assert env.causes == [RotationReason.STUCK]
    assert env.account.rotations == 1
    assert env.client.closed_at is not None
    [(began, ended), (again, _)] = env.requests(env.keys[0])
    assert ended is not None
    assert TIMEOUT + 5 < ended - began <= TIMEOUT + 5 + 20.5
    assert again >= ended, "never two requests at once for a factor"
    [first, _] = env.observed.attempts
    assert first.result.reason is Reason.TIMEOUT  # type: ignore[union-attr]  # an answer fails the test
    assert first.code is None
    assert first.duration_seconds == pytest.approx(ended - began)
    assert env.last(env.keys[0]).what is Status.VERIFIED
    assert env.last(env.keys[0]).outcome.attempts == 2
    assert env.throttle.in_flight == 0
    assert not env.account.busy


@in_virtual_time
async def test_every_slot_comes_back_from_requests_that_endure_everything() -> None:
    env = Bench(factors(12), max_attempts=1)
    stuck(env.client, endures=4)
    env.offer(*env.keys)
    await env.run(1)
    assert env.throttle.in_flight == env.throttle.limit == 4
    await env.keep(60)

    assert env.client.open == 4, "they are still there"
    assert env.causes == [RotationReason.STUCK]
    assert env.throttle.in_flight == 0
    outcomes = [env.last(key).what for key in env.keys]
    assert sorted(outcomes) == [Reason.TIMEOUT] * 4 + [Status.VERIFIED] * 8
    assert len(env.observed.fetches) == 12, "one outcome each"
    for call in env.client.calls:
        assert env.last(call.key).what is Reason.TIMEOUT

    env.client.endures = 0
    for key in env.keys:
        env.client._open.get(key, env.loop.create_future()).cancel()  # now they do end
    await env.run(5)
    assert env.client.open == 0
    assert env.throttle.in_flight == 0, "and give back nothing twice"
    assert len(env.observed.fetches) == 12


@in_virtual_time
async def test_a_request_that_is_only_late_is_let_be() -> None:
    env = Bench(factors(1))
    env.client.will(env.keys[0], Reply(latency=TIMEOUT + 4.9))
    env.offer(*env.keys)
    await env.keep(30)
    assert env.last(env.keys[0]).what is Status.VERIFIED
    assert env.observed.rotations == []


@in_virtual_time
async def test_one_check_is_not_enough() -> None:
    """After a standstill of the process every request is late, and ends in the next moment."""
    env = Bench(factors(1))
    env.client.will(env.keys[0], Reply(latency=25.0))
    env.offer(*env.keys)
    await env.run(24)
    env.poller.check_clients()
    await env.keep(30)
    assert env.last(env.keys[0]).what is Status.VERIFIED
    assert env.observed.rotations == []


@in_virtual_time
async def test_without_a_fresh_client_stuck_requests_are_given_up_all_the_same() -> None:
    env = Bench(factors(2), max_attempts=1)
    env.account._clients._new_client = None
    stuck(env.client)
    env.offer(*env.keys)
    await env.keep(50)
    assert [env.last(key).what for key in env.keys] == [Reason.TIMEOUT] * 2
    assert env.throttle.in_flight == 0
    assert env.observed.rotations == []


@in_virtual_time
async def test_a_client_that_keeps_getting_stuck_is_replaced_every_five_minutes_and_costs_no_slot() -> None:
    env = Bench(factors(40), max_attempts=1)
    stuck(env.client, endures=10**6)
    env.prepare = lambda client: stuck(client, endures=10**6)
    for _ in range(6):
        env.offer(*env.keys[: env.throttle.limit])
        await env.keep(100)
    moments = [at for at, _ in env.observed.rotations]
    assert env.causes == [RotationReason.STUCK, RotationReason.STUCK]
    assert moments[1] - moments[0] >= 300
    for key in env.keys:
        env.forget(key)
    await env.keep(60)
    assert env.throttle.in_flight == 0
    assert {ended.what for ended in env.observed.fetches} == {Reason.TIMEOUT}
    for client in (env.client, *env.fresh):
        client.endures = 0


@in_virtual_time
async def test_stuck_through_a_client_that_a_reload_replaced() -> None:
    env = Bench(factors(1))
    stuck(env.client, endures=1)
    env.offer(*env.keys)
    await env.run(1)
    reloaded = ScriptedClient()
    env.account.replace_client(reloaded)
    await env.keep(10)
    closed = [env.client.closed_at]
    await env.keep(50)
    closed.append(env.client.closed_at)
    assert [at is None for at in closed] == [True, False]
    assert env.observed.rotations == [], "the client in use is not to blame"
    assert [call.key for call in reloaded.calls] == env.keys
    assert env.last(env.keys[0]).what is Status.VERIFIED
    assert env.throttle.in_flight == 0


@in_virtual_time
async def test_an_answer_that_comes_after_the_cancellation_is_taken() -> None:
    env = Bench(factors(1))
    env.client.will(env.keys[0], Reply(latency=30.5))
    env.client.endures, env.client.deaf = 1, True
    env.offer(*env.keys)
    await env.keep(50)
    assert env.causes == [RotationReason.STUCK]
    assert env.last(env.keys[0]).what is Status.VERIFIED
    assert env.last(env.keys[0]).outcome.attempts == 1
    assert env.throttle.in_flight == 0


@in_virtual_time
async def test_what_a_stuck_request_still_brings_during_its_retry_is_dropped() -> None:
    env = Bench(factors(1))
    stuck(env.client, endures=1)
    env.prepare = lambda client: client.will(env.keys[0], Reply(Status.UNVERIFIED, latency=12.0))
    env.offer(*env.keys)
    await env.keep(30)
    await env.until(lambda: bool(env.fresh[0].calls))
    env.client._open[env.keys[0]].set_result(True)  # the first request is answered after all
    await env.run(1)
    assert (env.observed.fetches, env.throttle.in_flight) == ([], 1)
    await env.run(12)
    assert env.last(env.keys[0]).what is Status.UNVERIFIED
    assert env.last(env.keys[0]).outcome.attempts == 2
    assert (len(env.observed.fetches), env.throttle.in_flight) == (1, 0)


@in_virtual_time
async def test_a_request_stuck_at_another_api_ends_without_an_outcome() -> None:
    env = Bench(factors(1, interval=3_600.0))
    stuck(env.client, endures=1)
    env.offer(*env.keys)
    await env.run(1)
    env.account.replace_client(ScriptedClient(), void=True)
    await env.keep(50)
    assert env.client.closed_at is not None
    assert env.observed.fetches == []
    assert env.throttle.in_flight == 0
    assert not env.account.busy
    assert env.schedule.waiting(env.keys[0]) is not None


@in_virtual_time
async def test_a_longer_bound_holds_for_the_requests_of_the_client_that_has_it() -> None:
    env = Bench(factors(2))
    first, second = env.keys
    env.client.will(first, Reply(latency=60.0))
    env.account.apply_policy(AccountPolicy(100, 4, timeout_seconds=120.0))
    reloaded = ScriptedClient()
    reloaded.will(second, Reply(latency=100.0))
    env.offer(first)
    await env.run(1)
    env.account.replace_client(reloaded)
    env.offer(second)
    await env.keep(110)
    assert env.observed.attempts[0].code is None, "the old client's bound"
    assert env.last(second).outcome.duration_seconds == pytest.approx(100.0)
    assert env.observed.rotations == []


@in_virtual_time
async def test_a_stuck_confirmation_does_not_pause_the_account_forever() -> None:
    env = Bench(factors(3))
    env.client.will(env.keys[0], Reason.AUTH)
    for other in env.keys[1:]:
        env.client.will(other, NEVER)
    env.client.deaf = True
    env.offer(env.keys[0])
    await env.run(2)
    assert env.throttle.in_flight == 1, "the confirmation"
    await env.keep(60)
    assert env.throttle.in_flight == 0
    assert not env.account.busy
    env.offer(*env.keys)
    await env.run(5)
    assert [env.last(key).what for key in env.keys] == [Status.VERIFIED] * 3


@in_virtual_time
async def test_the_drain_ends_though_requests_and_clients_don_t() -> None:
    env = Bench(factors(4))
    stuck(env.client, endures=4)
    env.offer(*env.keys)
    await env.run(1)
    began = env.now
    await env.poller.drain(8)
    assert env.now - began <= 8 + 3
    assert env.observed.fetches == []
    env.client.endures = 0


@in_virtual_time
async def test_the_drain_does_not_wait_for_a_request_that_was_abandoned_meanwhile() -> None:
    env = Bench(factors(1, interval=3_600.0))
    stuck(env.client, endures=1)
    env.offer(*env.keys)
    while not env.causes:
        await env.keep(10)
    began = env.now
    await env.poller.drain(60)
    assert env.now - began <= 5
    assert env.throttle.in_flight == 0
    assert not env.account.busy


@in_virtual_time
async def test_nothing_is_replaced_while_it_stops() -> None:
    env = Bench(factors(4))
    stuck(env.client)
    env.offer(*env.keys)
    await env.run(60)
    env.account.stop()
    await env.keep(20)
    assert env.tried == 0


# Silent


def keep_fetching(env: Bench) -> Callable[[], None]:
    """Return what makes all factors due over and over."""
    return lambda: env.offer(*(key for key in env.keys if key not in env.account.in_flight_keys))


async def silence(env: Bench, seconds: int) -> None:
    for _ in range(seconds // 10):
        await env.run(10, and_each=keep_fetching(env))
        env.poller.check_clients()


@in_virtual_time
async def test_a_client_that_brings_no_answers_is_replaced_and_requests_in_flight_may_end() -> None:
    env = Bench(factors(8))
    env.client.rule = lambda _watched: SILENCE
    await silence(env, 120)
    assert env.causes == [RotationReason.SILENT]
    rotated, _ = env.observed.rotations[0]
    assert rotated >= 60
    assert len([call for call in env.client.calls if call.began >= rotated]) == 0
    late = [call for call in env.client.calls if call.ended is not None and call.ended > rotated]
    assert late, "requests were in flight"
    assert all(call.ended == pytest.approx(call.began + 8.3) for call in late), "and had their time"
    assert env.client.closed_at == pytest.approx(max(call.ended or 0 for call in late))
    assert {env.last(key).what for key in env.keys} == {Status.VERIFIED}


@pytest.mark.slow
@pytest.mark.parametrize("reason", [Reason.TIMEOUT, Reason.CONNECT, Reason.DNS, Reason.TLS, Reason.INTERNAL])
@in_virtual_time
async def test_an_outage_does_not_churn(reason: Reason) -> None:
    env = Bench(factors(8))
    env.client.rule = lambda _watched: Reply(reason, latency=0.01)
    env.prepare = lambda client: setattr(client, "rule", env.client.rule)
    await silence(env, 1000)
    moments = [at for at, _ in env.observed.rotations]
    assert len(moments) == 4
    assert all(after - before >= 300 for before, after in itertools.pairwise(moments))
    assert env.throttle.in_flight <= env.throttle.limit


@pytest.mark.parametrize("reason", [Reason.SERVER_ERROR, Reason.RATE_LIMITED, Reason.BAD_REQUEST, Reason.DECODE])
@in_virtual_time
async def test_answers_that_are_failures_are_answers(reason: Reason) -> None:
    env = Bench(factors(8))
    env.client.rule = lambda _watched: Reply(reason)
    await silence(env, 400)
    assert env.observed.rotations == []


@in_virtual_time
async def test_one_answer_in_a_while_shows_that_the_client_works() -> None:
    env = Bench(factors(8))
    env.client.rule = lambda watched: Reply() if watched.key == env.keys[0] else SILENCE
    await silence(env, 400)
    assert env.observed.rotations == []


@in_virtual_time
async def test_what_the_old_client_still_brings_says_nothing_of_the_fresh_one() -> None:
    env = Bench(factors(40), concurrency=20, max_attempts=1)
    env.client.rule = lambda _watched: SILENCE
    await silence(env, 70)
    assert env.causes == [RotationReason.SILENT]
    env.fresh[0].rule = lambda _watched: NEVER
    assert env.client.open == 20
    await env.run(12)
    assert env.client.open == 0
    assert env.account._clients.health._unanswered == 0


# A client that can't be replaced


@in_virtual_time
async def test_the_old_client_stays_in_use_if_it_cannot_be_replaced(caplog: pytest.LogCaptureFixture) -> None:
    env = Bench(factors(8))
    env.client.rule = lambda _watched: SILENCE
    env.broken = OSError("ca.pem: no such file")
    await silence(env, 1000)
    assert env.tried == 4, "no more often than a replacement"
    assert env.observed.rotations == []
    assert env.account.rotations == 0
    assert env.client.closed_at is None
    [line] = caplog.records
    assert line.getMessage() == "HTTP client not replaced"
    assert line.__dict__["fields"] == {"account": "main", "error": "ca.pem: no such file"}
    caplog.clear()

    env.broken = None
    await silence(env, 310)
    assert env.causes == [RotationReason.SILENT]
    env.broken = OSError("ca.pem: no such file")
    env.fresh[0].rule = env.client.rule
    await silence(env, 310)
    assert len(caplog.records) == 1, "logged again after a replacement"
    caplog.clear()
