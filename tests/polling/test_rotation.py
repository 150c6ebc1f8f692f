"""A client that jams: its requests are given up, a fresh one takes its place, and no slot is lost."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from exporter.polling.account import AccountPolicy
from exporter.polling.clients import RotationReason
from exporter.verify.outcome import Reason, Status
from tests.support.factors import factors
from tests.support.polling_harness import Reply, Rig, ScriptedClient
from tests.support.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.watched import FactorKey, WatchedFactor

TIMEOUT = 10.0
NEVER = Reply(latency=1e7)
SILENCE = Reply(Reason.TIMEOUT, latency=8.3)


class Bench(Rig):
    """A rig whose account may have a fresh client; housekeeping comes each 10 s."""

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
        """Let time pass, with a tick each second and the house kept each ten."""
        for _ in range(seconds // 10):
            await self.run(10)
            self.poller.check_clients()

    def asks(self, key: FactorKey) -> list[tuple[float, float | None]]:
        """Return begin and end of all requests for a factor, whatever client they went through."""
        calls = [call for client in (self.client, *self.fresh) for call in client.calls if call.key == key]
        return sorted((call.began, call.ended) for call in calls)

    @property
    def causes(self) -> list[RotationReason]:
        return [why for _, why in self.diary.rotations]


def stuck(client: ScriptedClient, *, endures: int = 0, deaf: bool = True) -> None:
    """Let no request of a client end."""
    client.rule = lambda _watched: NEVER
    client.endures, client.deaf = endures, deaf


# Stuck


@pytest.mark.parametrize("deaf", [False, True])
@in_virtual_time
async def test_a_request_without_end_fails_in_time_and_a_fresh_client_goes_on(deaf: bool) -> None:
    rig = Bench(factors(1))
    stuck(rig.client, deaf=deaf)
    rig.offer(*rig.keys)
    await rig.keep(60)

    assert rig.causes == [RotationReason.STUCK]
    assert rig.account.rotations == 1
    assert rig.client.closed_at is not None
    [(began, ended), (again, _)] = rig.asks(rig.keys[0])
    assert ended is not None
    assert TIMEOUT + 5 < ended - began <= TIMEOUT + 5 + 20.5
    assert again >= ended, "never two requests at once for a factor"
    [first, _] = rig.diary.attempts
    assert first.result.reason is Reason.TIMEOUT  # type: ignore[union-attr]  # an answer fails the test
    assert first.code is None
    assert first.duration_seconds == pytest.approx(ended - began)
    assert rig.last(rig.keys[0]).what is Status.VERIFIED
    assert rig.last(rig.keys[0]).outcome.attempts == 2
    assert rig.throttle.in_flight == 0
    assert not rig.account.busy


@in_virtual_time
async def test_every_slot_comes_back_from_requests_that_endure_everything() -> None:
    rig = Bench(factors(12), max_attempts=1)
    stuck(rig.client, endures=4)
    rig.offer(*rig.keys)
    await rig.run(1)
    assert rig.throttle.in_flight == rig.throttle.limit == 4
    await rig.keep(60)

    assert rig.client.open == 4, "they are still there"
    assert rig.causes == [RotationReason.STUCK]
    assert rig.throttle.in_flight == 0
    outcomes = [rig.last(key).what for key in rig.keys]
    assert sorted(outcomes) == [Reason.TIMEOUT] * 4 + [Status.VERIFIED] * 8
    assert len(rig.diary.fetches) == 12, "one outcome each"
    for call in rig.client.calls:
        assert rig.last(call.key).what is Reason.TIMEOUT

    rig.client.endures = 0
    for key in rig.keys:
        rig.client._open.get(key, rig.loop.create_future()).cancel()  # now they do end
    await rig.run(5)
    assert rig.client.open == 0
    assert rig.throttle.in_flight == 0, "and give back nothing twice"
    assert len(rig.diary.fetches) == 12


@in_virtual_time
async def test_a_request_that_is_only_late_is_let_be() -> None:
    rig = Bench(factors(1))
    rig.client.will(rig.keys[0], Reply(latency=TIMEOUT + 4.9))
    rig.offer(*rig.keys)
    await rig.keep(30)
    assert rig.last(rig.keys[0]).what is Status.VERIFIED
    assert rig.diary.rotations == []


@in_virtual_time
async def test_one_check_is_not_enough() -> None:
    """After a standstill of the process every request is late, and ends in the next moment."""
    rig = Bench(factors(1))
    rig.client.will(rig.keys[0], Reply(latency=25.0))
    rig.offer(*rig.keys)
    await rig.run(24)
    rig.poller.check_clients()
    await rig.keep(30)
    assert rig.last(rig.keys[0]).what is Status.VERIFIED
    assert rig.diary.rotations == []


@in_virtual_time
async def test_without_a_fresh_client_stuck_requests_are_given_up_all_the_same() -> None:
    rig = Bench(factors(2), max_attempts=1)
    rig.account._clients._new_client = None
    stuck(rig.client)
    rig.offer(*rig.keys)
    await rig.keep(50)
    assert [rig.last(key).what for key in rig.keys] == [Reason.TIMEOUT] * 2
    assert rig.throttle.in_flight == 0
    assert rig.diary.rotations == []


@in_virtual_time
async def test_a_client_that_keeps_getting_stuck_is_replaced_every_five_minutes_and_costs_no_slot() -> None:
    rig = Bench(factors(40), max_attempts=1)
    stuck(rig.client, endures=10**6)
    rig.prepare = lambda client: stuck(client, endures=10**6)
    for _ in range(6):
        rig.offer(*rig.keys[: rig.throttle.limit])
        await rig.keep(100)
    moments = [at for at, _ in rig.diary.rotations]
    assert rig.causes == [RotationReason.STUCK, RotationReason.STUCK]
    assert moments[1] - moments[0] >= 300
    for key in rig.keys:
        rig.forget(key)
    await rig.keep(60)
    assert rig.throttle.in_flight == 0
    assert {ended.what for ended in rig.diary.fetches} == {Reason.TIMEOUT}
    for client in (rig.client, *rig.fresh):
        client.endures = 0


@in_virtual_time
async def test_stuck_through_a_client_that_a_reload_replaced() -> None:
    rig = Bench(factors(1))
    stuck(rig.client, endures=1)
    rig.offer(*rig.keys)
    await rig.run(1)
    reloaded = ScriptedClient()
    rig.account.replace_client(reloaded)
    await rig.keep(10)
    closed = [rig.client.closed_at]
    await rig.keep(50)
    closed.append(rig.client.closed_at)
    assert [at is None for at in closed] == [True, False]
    assert rig.diary.rotations == [], "the client in use is not to blame"
    assert [call.key for call in reloaded.calls] == rig.keys
    assert rig.last(rig.keys[0]).what is Status.VERIFIED
    assert rig.throttle.in_flight == 0


@in_virtual_time
async def test_a_longer_bound_holds_for_the_requests_of_the_client_that_has_it() -> None:
    rig = Bench(factors(2))
    first, second = rig.keys
    rig.client.will(first, Reply(latency=60.0))
    rig.account.apply_policy(AccountPolicy(100, 4, timeout_seconds=120.0))
    reloaded = ScriptedClient()
    reloaded.will(second, Reply(latency=100.0))
    rig.offer(first)
    await rig.run(1)
    rig.account.replace_client(reloaded)
    rig.offer(second)
    await rig.keep(110)
    assert rig.diary.attempts[0].code is None, "the old client's bound"
    assert rig.last(second).outcome.duration_seconds == pytest.approx(100.0)
    assert rig.diary.rotations == []


@in_virtual_time
async def test_a_stuck_confirmation_does_not_pause_the_account_forever() -> None:
    rig = Bench(factors(3))
    rig.client.will(rig.keys[0], Reason.AUTH)
    for other in rig.keys[1:]:
        rig.client.will(other, NEVER)
    rig.client.deaf = True
    rig.offer(rig.keys[0])
    await rig.run(2)
    assert rig.throttle.in_flight == 1, "the other factor that is asked"
    await rig.keep(60)
    assert rig.throttle.in_flight == 0
    assert not rig.account.busy
    rig.offer(*rig.keys)
    await rig.run(5)
    assert [rig.last(key).what for key in rig.keys] == [Status.VERIFIED] * 3


@in_virtual_time
async def test_the_drain_ends_though_requests_and_clients_don_t() -> None:
    rig = Bench(factors(4))
    stuck(rig.client, endures=4)
    rig.offer(*rig.keys)
    await rig.run(1)
    began = rig.now
    await rig.poller.drain(8)
    assert rig.now - began <= 8 + 3
    assert rig.diary.fetches == []
    rig.client.endures = 0


@in_virtual_time
async def test_nothing_is_replaced_while_it_stops() -> None:
    rig = Bench(factors(4))
    stuck(rig.client)
    rig.offer(*rig.keys)
    await rig.run(60)
    rig.account.stop()
    await rig.keep(20)
    assert rig.tried == 0


# Silent


def look_on(rig: Bench) -> Callable[[], None]:
    """Return what makes all factors due over and over."""
    return lambda: rig.offer(*(key for key in rig.keys if key not in rig.account.in_flight_keys))


async def silence(rig: Bench, seconds: int) -> None:
    for _ in range(seconds // 10):
        await rig.run(10, and_each=look_on(rig))
        rig.poller.check_clients()


@in_virtual_time
async def test_a_client_that_brings_no_answers_is_replaced_and_requests_in_flight_may_end() -> None:
    rig = Bench(factors(8))
    rig.client.rule = lambda _watched: SILENCE
    await silence(rig, 120)
    assert rig.causes == [RotationReason.SILENT]
    rotated, _ = rig.diary.rotations[0]
    assert rotated >= 60
    assert len([call for call in rig.client.calls if call.began >= rotated]) == 0
    late = [call for call in rig.client.calls if call.ended is not None and call.ended > rotated]
    assert late, "requests were under way"
    assert all(call.ended == pytest.approx(call.began + 8.3) for call in late), "and had their time"
    assert rig.client.closed_at == pytest.approx(max(call.ended or 0 for call in late))
    assert {rig.last(key).what for key in rig.keys} == {Status.VERIFIED}


@pytest.mark.slow
@pytest.mark.parametrize("reason", [Reason.TIMEOUT, Reason.CONNECT, Reason.DNS, Reason.TLS, Reason.INTERNAL])
@in_virtual_time
async def test_an_outage_does_not_churn(reason: Reason) -> None:
    rig = Bench(factors(8))
    rig.client.rule = lambda _watched: Reply(reason, latency=0.01)
    rig.prepare = lambda client: setattr(client, "rule", rig.client.rule)
    await silence(rig, 1000)
    moments = [at for at, _ in rig.diary.rotations]
    assert len(moments) == 4
    assert all(after - before >= 300 for before, after in itertools.pairwise(moments))
    assert rig.throttle.in_flight <= rig.throttle.limit


@pytest.mark.parametrize("reason", [Reason.SERVER_ERROR, Reason.RATE_LIMITED, Reason.BAD_REQUEST, Reason.DECODE])
@in_virtual_time
async def test_answers_that_are_failures_are_answers(reason: Reason) -> None:
    rig = Bench(factors(8))
    rig.client.rule = lambda _watched: Reply(reason)
    await silence(rig, 400)
    assert rig.diary.rotations == []


@in_virtual_time
async def test_one_answer_in_a_while_shows_that_the_client_works() -> None:
    rig = Bench(factors(8))
    rig.client.rule = lambda watched: Reply() if watched.key == rig.keys[0] else SILENCE
    await silence(rig, 400)
    assert rig.diary.rotations == []


@in_virtual_time
async def test_what_the_old_client_still_brings_says_nothing_of_the_fresh_one() -> None:
    rig = Bench(factors(40), concurrency=20, max_attempts=1)
    rig.client.rule = lambda _watched: SILENCE
    await silence(rig, 70)
    assert rig.causes == [RotationReason.SILENT]
    rig.fresh[0].rule = lambda _watched: NEVER
    assert rig.client.open == 20
    await rig.run(12)
    assert rig.client.open == 0
    assert rig.account._clients.health._unanswered == 0


# A fresh client that can't be made


@in_virtual_time
async def test_the_old_client_stays_where_no_fresh_one_can_be_made(caplog: pytest.LogCaptureFixture) -> None:
    rig = Bench(factors(8))
    rig.client.rule = lambda _watched: SILENCE
    rig.broken = OSError("ca.pem: no such file")
    await silence(rig, 1000)
    assert rig.tried == 4, "no more often than a replacement"
    assert rig.diary.rotations == []
    assert rig.account.rotations == 0
    assert rig.client.closed_at is None
    [told] = [record.getMessage() for record in caplog.records]
    assert "main" in told
    assert "ca.pem: no such file" in told
    caplog.clear()

    rig.broken = None
    await silence(rig, 310)
    assert rig.causes == [RotationReason.SILENT]
    rig.broken = OSError("ca.pem: no such file")
    rig.fresh[0].rule = rig.client.rule
    await silence(rig, 310)
    assert len(caplog.records) == 1, "it is news again"
    caplog.clear()
