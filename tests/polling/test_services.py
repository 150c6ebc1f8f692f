"""Whether a service exists: when it is fetched, what its answers mean, and how long they hold."""

from __future__ import annotations

from itertools import groupby, pairwise
from typing import TYPE_CHECKING

import pytest

from exporter.polling.clock import Moment
from exporter.polling.services import ServicePolicy
from exporter.polling.snapshot import snapshot_of
from exporter.verify.outcome import Failure, Reason, ServiceAnswer, Status
from tests.support.factors import SERVICES, factor, factors, key, outcome
from tests.support.polling_harness import PollingHarness, Reply
from tests.support.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from exporter.watched import FactorKey, WatchedFactor

EXISTS, GONE = ServiceAnswer(exists=True), ServiceAnswer(exists=False)
SERVICE = ("main", SERVICES[0])
INTERVAL = 900.0


class Bench:
    """A harness with services; the factors in ``missing`` answer 404."""

    def __init__(self, watched: Iterable[WatchedFactor], *, rate: float = 100.0) -> None:
        self.env = PollingHarness(watched, services=ServicePolicy(INTERVAL, stale_after=3), rate=rate)
        self.missing: Collection[FactorKey] = ()
        self.env.client.rule = lambda of: Reply(Status.NOT_FOUND if of.key in self.missing else Status.VERIFIED)

    def says(self, answer: ServiceAnswer | Failure) -> None:
        self.env.client.exists = lambda _sid: answer

    async def run(self, seconds: float) -> None:
        await self.env.run(seconds)

    @property
    def requested(self) -> list[float]:
        """When services were requested."""
        return [at for at, _ in self.env.client.services]

    @property
    def known(self) -> bool | None:
        return self.env.services.existence().get(SERVICE)


@in_virtual_time
async def test_no_service_is_fetched_while_every_factor_is_found() -> None:
    bench = Bench(factors(20))
    await bench.run(3 * INTERVAL)
    assert bench.requested == []
    assert bench.env.services.existence() == {}
    assert bench.env.services.requests_per_second("main") == 0


@in_virtual_time
async def test_the_first_404_has_its_service_fetched_once_and_then_every_interval() -> None:
    bench = Bench(factors(20))
    await bench.run(400)
    bench.missing = [key(1)]
    await bench.run(302)
    [first] = bench.requested
    found = next(ended.at for ended in bench.env.observed.of(key(1)) if ended.what is Status.NOT_FOUND)
    assert found <= first <= found + 1
    assert bench.known is True
    assert bench.env.services.requests_per_second("main") == 1 / INTERVAL
    await bench.run(3 * INTERVAL)
    assert len(bench.requested) in (3, 4)
    for earlier, later in pairwise(bench.requested):
        assert later - earlier == pytest.approx(INTERVAL, abs=2)


@in_virtual_time
async def test_what_was_answered_is_dropped_when_no_factor_is_missing_any_more() -> None:
    bench = Bench(factors(20))
    bench.missing = [key(1)]
    await bench.run(100)
    bench.missing = []
    await bench.run(INTERVAL)
    assert bench.env.services.existence() == {}
    assert len(bench.requested) == 1
    assert bench.env.services.requests_per_second("main") == 0
    bench.missing = [key(2)]
    await bench.run(302)
    assert len(bench.requested) == 2


@in_virtual_time
async def test_a_deleted_service_is_one_request_per_interval_until_it_is_found_again() -> None:
    bench = Bench(factors(20))
    await bench.run(400)
    bench.missing = {of.key for of in factors(20)}
    bench.says(GONE)
    await bench.run(320)
    assert bench.known is False
    assert len(bench.requested) == 1
    await bench.run(3 * INTERVAL)
    assert len(bench.requested) == 4
    assert bench.env.observed.service_fetches[0][2:] == (GONE, None)
    assert bench.env.observed.service_fetches[1][2:] == (GONE, False)
    bench.says(EXISTS)
    bench.missing = ()
    await bench.run(INTERVAL)
    assert bench.env.observed.service_fetches[-1][2:] == (EXISTS, False)
    assert len(bench.requested) == 5, "a factor that was found contradicts the last answer"


@in_virtual_time
async def test_a_wrong_404_of_a_service_is_corrected_within_a_minute_or_so() -> None:
    bench = Bench(factors(20))
    await bench.run(400)
    bench.missing = [key(1)]
    bench.says(GONE)
    while bench.known is None:
        await bench.run(1)
    bench.missing = ()
    bench.says(EXISTS)
    began = bench.env.now
    while len(bench.requested) < 2:
        await bench.run(1)
    assert bench.env.now - began <= 62
    assert bench.known is True


@in_virtual_time
async def test_a_service_that_is_gone_though_no_factor_is_missing_any_more_is_fetched_again_in_a_minute() -> None:
    bench = Bench([factor(1)])
    bench.missing = [key(1)]

    def gone_and_found(_sid: str) -> ServiceAnswer:
        if bench.missing:
            bench.missing = ()
            bench.env.forget(key(1))
        return GONE

    bench.env.client.exists = gone_and_found
    await bench.run(100)
    assert len(bench.requested) == 2
    assert bench.requested[1] - bench.requested[0] == pytest.approx(60, abs=2)


@in_virtual_time
async def test_a_service_with_a_missing_factor_is_fetched_again_when_most_of_them_are_missing() -> None:
    bench = Bench(factors(20))
    bench.missing = [key(1)]
    await bench.run(400)
    assert len(bench.requested) == 1
    bench.missing = {of.key for of in factors(20)}
    bench.says(GONE)
    began = bench.env.now
    while bench.known:
        await bench.run(1)
    assert bench.env.now - began <= 300
    assert len(bench.requested) == 2


@in_virtual_time
async def test_a_mass_404_of_a_service_that_exists_is_a_request_a_minute_at_most() -> None:
    bench = Bench(factors(200))
    await bench.run(400)
    bench.missing = {of.key for of in factors(200)}
    await bench.run(302)
    assert 2 <= len(bench.requested) <= 5
    assert min(b - a for a, b in pairwise(bench.requested)) >= 60
    await bench.run(INTERVAL)
    assert len(bench.requested) <= 6


@in_virtual_time
async def test_in_a_mass_404_factors_are_checked_often_until_fetch_service_has_answered() -> None:
    bench = Bench(factors(20))
    bench.says(Failure(Reason.SERVER_ERROR))
    bench.missing = {of.key for of in factors(20)}
    await bench.run(1_800)
    assert {bench.env.ledger[of.key].interval_seconds for of in factors(20)} == {60}
    bench.says(EXISTS)
    await bench.run(INTERVAL + 100)
    assert {bench.env.ledger[of.key].interval_seconds for of in factors(20)} == {900}


@in_virtual_time
async def test_a_refusal_means_unknown_pauses_nobody_and_is_not_repeated_for_a_day() -> None:
    bench = Bench(factors(3))
    bench.missing = [key(1)]
    bench.says(Failure(Reason.FORBIDDEN))
    await bench.run(86_300)
    assert len(bench.requested) == 1
    assert bench.known is None
    assert bench.env.account.pause is None
    assert bench.env.account.credentials_valid is True
    assert bench.env.observed.refusals == []
    await bench.run(INTERVAL + 100)
    assert len(bench.requested) == 2


@in_virtual_time
async def test_changed_credentials_end_the_wait_after_a_refusal() -> None:
    bench = Bench(factors(3))
    bench.missing = [key(1)]
    bench.says(Failure(Reason.AUTH))
    await bench.run(3 * INTERVAL)
    assert len(bench.requested) == 1
    bench.env.account.credentials_changed()
    bench.says(EXISTS)
    await bench.run(INTERVAL + 2)
    assert len(bench.requested) == 2
    assert bench.known is True


@in_virtual_time
async def test_a_password_that_changed_is_tried_at_once() -> None:
    env = PollingHarness([factor(1)], services=ServicePolicy(), reread=lambda: True)
    env.client.rule = lambda _of: Reply(Status.NOT_FOUND)
    answers = iter((Failure(Reason.AUTH), EXISTS))
    env.client.exists = lambda _sid: next(answers)
    await env.run(60)
    assert [result for _, _, result, _ in env.observed.service_fetches] == [EXISTS]
    assert env.services.existence() == {SERVICE: True}


@in_virtual_time
async def test_a_refusal_withdraws_what_was_known() -> None:
    bench = Bench(factors(3))
    bench.missing = [key(1)]
    await bench.run(100)
    assert bench.known is True
    bench.says(Failure(Reason.FORBIDDEN))
    await bench.run(INTERVAL)
    assert bench.known is None


@in_virtual_time
async def test_an_answer_holds_until_it_is_stale() -> None:
    bench = Bench(factors(3))
    bench.missing = {of.key for of in factors(3)}
    bench.says(GONE)
    await bench.run(100)
    bench.says(Failure(Reason.TIMEOUT))
    await bench.run(3 * INTERVAL - 100)
    assert bench.known is False
    await bench.run(100)
    assert bench.known is None


@in_virtual_time
async def test_the_factors_own_fetches_go_on_while_a_service_is_fetched() -> None:
    bench = Bench(factors(20, services=2))
    bench.missing = {of.key for of in factors(20, services=2)}
    bench.env.client.exists = lambda _sid: EXISTS
    await bench.run(40)
    fetched = {ended.key for ended in bench.env.observed.fetches}
    assert fetched == bench.missing
    assert bench.env.services.existence() == {("main", sid): True for sid in SERVICES[:2]}


@in_virtual_time
async def test_many_services_are_fetched_one_after_the_other() -> None:
    bench = Bench(factors(6, services=6))
    bench.missing = {of.key for of in factors(6, services=6)}
    in_flight = most = 0
    send = bench.env.client.fetch_service

    async def counting(service_sid: str) -> object:
        nonlocal in_flight, most
        in_flight += 1
        most = max(most, in_flight)
        try:
            return await send(service_sid)
        finally:
            in_flight -= 1

    bench.env.client.fetch_service = counting  # type: ignore[method-assign, assignment]  # counts the requests
    bench.env.offer(*bench.missing)
    await bench.run(20)
    assert most == 1
    assert len(bench.env.services.existence()) == 6


@in_virtual_time
async def test_a_paused_account_requests_no_service() -> None:
    bench = Bench(factors(3))
    bench.env.client.rule = lambda _of: Reply(Reason.FORBIDDEN)
    bench.env.offer(key(0))
    await bench.run(20)
    assert bench.env.account.pause is not None
    bench.env.services.fetched(bench.env.ledger[key(1)], outcome(Status.NOT_FOUND), None)
    bench.env.ledger.apply(key(1), outcome(Status.NOT_FOUND), bench.env.clock.moment())
    await bench.run(10)
    assert bench.requested == []


@in_virtual_time
async def test_after_a_restart_the_service_of_a_missing_factor_is_fetched_at_once() -> None:
    before = PollingHarness([factor(1), factor(2)])
    before.client.rule = lambda _of: Reply(Status.NOT_FOUND)
    before.offer(key(1), key(2))
    await before.run(2)
    now = Moment(before.clock.wall(), before.clock.steady())
    snapshots = {key(n): snapshot for n in (1, 2) if (snapshot := snapshot_of(before.ledger[key(n)], now))}
    bench = Bench([factor(3)])
    bench.env.poller.watch([factor(1), factor(2)], snapshots)
    await bench.run(1)
    assert len(bench.requested) == 1


@in_virtual_time
async def test_a_service_that_is_no_longer_watched_is_forgotten() -> None:
    bench = Bench(factors(3))
    bench.missing = [key(1)]
    bench.says(Failure(Reason.FORBIDDEN))
    await bench.run(100)
    bench.env.services.retain(())
    assert bench.env.services.requests_per_second("main") == 0
    bench.says(EXISTS)
    await bench.run(100)
    assert len(bench.requested) == 2, "the refusal is forgotten, too"


@in_virtual_time
async def test_an_answer_for_a_service_that_was_forgotten_meanwhile_is_dropped() -> None:
    bench = Bench([factor(1)])
    bench.missing = [key(1)]

    def forgets(_sid: str) -> ServiceAnswer:
        bench.env.forget(key(1))
        bench.env.services.retain(())
        return GONE

    bench.env.client.exists = forgets
    await bench.run(100)
    assert bench.env.services.existence() == {}
    assert bench.env.observed.service_fetches == []


@in_virtual_time
async def test_an_answer_of_another_api_is_dropped_and_the_service_fetched_again_in_a_minute() -> None:
    bench = Bench([factor(1)])
    bench.missing = [key(1)]

    def replaced(_sid: str) -> ServiceAnswer:
        bench.env.account.replace_client(bench.env.client, void=True)
        return GONE

    bench.env.client.exists = replaced
    await bench.run(100)
    assert bench.requested[1] - bench.requested[0] == pytest.approx(60, abs=2)
    assert bench.known is None


@in_virtual_time
async def test_services_queued_when_polling_stops_are_fetched_by_an_account_that_is_back() -> None:
    bench = Bench(factors(6, services=6))
    bench.missing = {of.key for of in factors(6, services=6)}
    bench.env.offer(*bench.missing)
    await bench.run(1.03)
    assert len(bench.requested) == 1
    kept = [("main", sid) for sid in SERVICES[:-1]]
    bench.env.services.retain(kept)
    bench.env.account.stop(dropping=True)
    await bench.env.account.finish(0)
    others = PollingHarness(factors(6, services=6))
    bench.env.accounts["main"] = others.account
    await bench.run(70)
    assert sorted(sid for _, sid in others.client.services) == sorted(SERVICES[:-1])


@in_virtual_time
async def test_services_that_are_forgotten_while_they_are_queued_are_not_fetched() -> None:
    bench = Bench(factors(6, services=6))
    bench.missing = {of.key for of in factors(6, services=6)}
    bench.env.offer(*bench.missing)
    await bench.run(1.03)
    assert len(bench.requested) == 1
    for one in bench.missing:
        bench.env.forget(one)
    bench.env.services.retain(())
    await bench.run(60)
    assert len(bench.requested) == 1


@in_virtual_time
async def test_a_service_is_not_gone_while_its_factors_are_found() -> None:
    bench = Bench(factors(3))
    await bench.run(400)
    bench.missing = [key(1)]
    bench.says(GONE)
    said = []
    for _ in range(int(2 * INTERVAL)):
        await bench.run(1)
        said.append(bench.known)
    longest = max(len(list(same)) for known, same in groupby(said) if known is False)
    assert longest <= 160, "until the next factor is found"
    assert said.count(False) == longest
    assert said[-1] is True
    requested = len(bench.requested)
    assert requested <= 2 * INTERVAL / 60

    bench.missing = {of.key for of in factors(3)}
    await bench.run(300 + 61)
    assert bench.known is False
    await bench.run(3 * INTERVAL)
    assert bench.known is False
    bench.says(EXISTS)
    await bench.run(INTERVAL)
    assert bench.known is True
