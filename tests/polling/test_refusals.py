"""What a 401 or 403 means: a changed password, one factor's trouble, or the whole account's pause and its end."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

import pytest

from exporter.verify.outcome import Reason, Status
from tests.polling.factors import factor, factors, key, outcome
from tests.polling.rig import LATENCY, Reply, Rig
from tests.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.polling.refusals import Refusals
    from exporter.verify.outcome import Attempt
    from exporter.watched import FactorKey, WatchedFactor

REFUSALS = (Reason.AUTH, Reason.FORBIDDEN)


def refuse(*refused: FactorKey, reason: Reason = Reason.FORBIDDEN) -> Callable[[WatchedFactor], Reply]:
    """Return a rule that refuses these factors, or all of them if none is named."""
    return lambda watched: Reply(reason if not refused or watched.key in refused else Status.VERIFIED)


class Password:
    """A password file: ``write`` changes it, the API takes only ``good``."""

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


async def paused_rig(count: int = 10, *, reason: Reason = Reason.AUTH, services: int = 1) -> Rig:
    """Return polling whose account was just paused for its credentials."""
    rig = Rig(factors(count, services=services, interval=60.0))
    rig.client.rule = refuse(reason=reason)
    rig.offer(key(0))
    await rig.until(lambda: rig.account.credentials_valid is False)
    return rig


# One factor's trouble


@pytest.mark.parametrize("reason", REFUSALS)
@in_virtual_time
async def test_a_refusal_of_one_factor_costs_one_call_and_stops_nobody(reason: Reason) -> None:
    rig = Rig(factors(40, services=4, interval=60.0))
    await rig.run(65)
    calls = len(rig.client.calls)
    suspect = key(5, service=1)
    rig.client.rule = refuse(suspect, reason=reason)
    rig.offer(suspect)
    await asyncio.sleep(2 * LATENCY + 0.01)
    asked = [call.key for call in rig.client.calls[calls:]]
    assert asked[0] == suspect
    assert len(asked) == 2  # exactly one confirming call
    assert asked[1].service_sid != suspect.service_sid
    ended = rig.last(suspect)
    assert (ended.what, ended.outcome.alone, ended.outcome.attempts) == (reason, True, 1)
    assert rig.ledger[suspect].interval_seconds == 900
    assert rig.ledger[suspect].status is Status.VERIFIED
    assert rig.account.credentials_valid is True
    begun = rig.now
    await rig.run(600)
    since = [ended for ended in rig.diary.fetches if ended.at > begun]
    assert all(ended.what is Status.VERIFIED for ended in since if ended.key != suspect)
    for watched in factors(40, services=4):
        if watched.key != suspect:
            assert len([ended for ended in since if ended.key == watched.key]) in (10, 11)
    assert rig.diary.refusals == []
    assert len(rig.client.asked(suspect)) <= 4


@in_virtual_time
async def test_a_factor_refused_at_each_look_is_asked_at_the_slow_interval() -> None:
    rig = Rig(factors(10, interval=60.0))
    rig.client.rule = refuse(key(3))
    await rig.run(3 * 3_600)
    asked = rig.client.asked(key(3))
    assert [b - a for a, b in itertools.pairwise(asked)][1:] == pytest.approx([900] * (len(asked) - 2), abs=1.1)
    assert len(asked) in (12, 13, 14)
    assert all(ended.outcome.alone for ended in rig.diary.of(key(3)))
    rig.client.rule = refuse(key(99))
    await rig.run(900)
    assert rig.ledger[key(3)].interval_seconds == 60
    assert rig.diary.refusals == []


def choose(rig: Rig, suspect: FactorKey) -> FactorKey | None:
    refusals: Refusals = rig.account._refusals
    witness = refusals._witness(rig.ledger[suspect])
    return None if witness is None else witness.watched.key


@in_virtual_time
async def test_the_witness_is_preferably_one_that_answers_and_of_another_service() -> None:
    rig = Rig([*factors(3), factor(3, service=1), factor(4, service=1), factor(5, account="other")])
    rig.account._under_way.add(key(0))
    same, never, answers = key(1), key(3, service=1), key(4, service=1)

    def take(factor: FactorKey, *replies: Status | Reason) -> None:
        for reply in replies:
            rig.ledger.apply(factor, outcome(reply), rig.clock.moment())

    assert choose(rig, key(0)) == never  # nobody answered before: at least of another service
    take(same, Status.VERIFIED)
    assert choose(rig, key(0)) == same
    take(answers, Status.NOT_FOUND)
    assert choose(rig, key(0)) == answers
    take(answers, Reason.FORBIDDEN)
    assert choose(rig, key(0)) == same  # the other one is itself refused now
    take(same, Reason.TIMEOUT)
    assert choose(rig, key(0)) == answers
    rig.account._under_way.update((never, answers, same))
    assert choose(rig, key(0)) == key(2)
    rig.account._under_way.add(key(2))
    assert choose(rig, key(0)) is None


@in_virtual_time
async def test_paused_factors_bear_no_witness() -> None:
    rig = Rig([factor(1), factor(2, paused=True)])
    rig.client.rule = refuse(key(1))
    rig.offer(key(1))
    await asyncio.sleep(1)
    assert rig.account.credentials_valid is False  # as for an account of one factor
    assert len(rig.client.calls) == 1


@in_virtual_time
async def test_several_refusals_under_way_share_one_verdict() -> None:
    rig = Rig(factors(10, services=2), concurrency=4)
    refused = [key(n, service=n % 2) for n in range(3)]
    rig.client.rule = refuse(*refused)
    rig.offer(*refused)
    await asyncio.sleep(5)
    assert len(rig.client.calls) == 4
    assert [(ended.what, ended.outcome.alone) for ended in map(rig.last, refused)] == [(Reason.FORBIDDEN, True)] * 3
    assert rig.last(rig.client.calls[3].key).what is Status.VERIFIED
    assert rig.diary.refusals == []


@in_virtual_time
async def test_the_account_holds_its_requests_until_the_verdict() -> None:
    rig = Rig(factors(20), concurrency=2)
    rig.client.rule = lambda watched: Reply(
        Reason.FORBIDDEN if watched.key == key(0) else Status.VERIFIED, latency=3.0
    )
    rig.offer(key(0))
    await asyncio.sleep(3.01)
    witness = rig.client.calls[-1].key
    rig.offer(*(key(n) for n in range(1, 20) if key(n) != witness))
    await asyncio.sleep(2.9)
    assert len(rig.client.calls) == 2
    assert witness in rig.account._under_way
    await asyncio.sleep(0.2)
    assert len(rig.client.calls) == 4
    assert rig.diary.lags[1][1] == pytest.approx(0)  # time in a hold is no lateness


@pytest.mark.parametrize("reason", [Reason.TIMEOUT, Reason.SERVER_ERROR, Reason.BAD_REQUEST, Reason.RATE_LIMITED])
@in_virtual_time
async def test_a_confirmation_without_an_answer_proves_nothing(reason: Reason) -> None:
    rig = Rig(factors(2))
    rig.client.rule = lambda watched: Reply(Reason.FORBIDDEN if watched.key == key(0) else reason, retry_after=1)
    rig.offer(key(0))
    await asyncio.sleep(60)
    ended = rig.last(key(0))
    assert (ended.what, ended.outcome.alone) == (Reason.FORBIDDEN, False)
    assert rig.ledger[key(0)].interval_seconds == 300
    assert rig.last(key(1)).what is reason
    assert rig.diary.refusals == []
    assert not rig.account.paused()
    rig.client.rule = refuse(key(99))
    rig.offer(key(0), key(1))
    await asyncio.sleep(1)
    assert [rig.last(key(n)).what for n in (0, 1)] == [Status.VERIFIED] * 2


@pytest.mark.parametrize("result", [Reason.DECODE, Reason.UNKNOWN_STATUS, Status.NOT_FOUND])
@in_virtual_time
async def test_a_confirmation_answered_200_or_404_shows_that_the_factor_is_alone(result: Status | Reason) -> None:
    rig = Rig(factors(2))
    rig.client.rule = lambda watched: Reply(Reason.FORBIDDEN if watched.key == key(0) else result)
    rig.offer(key(0))
    await asyncio.sleep(60)
    assert rig.last(key(0)).outcome.alone


@in_virtual_time
async def test_who_is_asked_at_this_moment_can_confirm_after_it() -> None:
    rig = Rig(factors(2))
    rig.client.will(key(0), Reason.FORBIDDEN)
    rig.client.will(key(1), Reply(latency=4))
    rig.offer(key(0), key(1))
    await asyncio.sleep(10)
    assert rig.client.asked(key(1)) == pytest.approx([0, 4])
    assert rig.last(key(0)).outcome.alone
    assert rig.diary.refusals == []


@in_virtual_time
async def test_a_factor_in_its_backoff_neither_confirms_nor_lets_the_account_pause() -> None:
    rig = Rig(factors(2, interval=3_600.0))
    rig.client.will(key(0), Reply(Reason.FORBIDDEN, latency=0.5))
    rig.client.will(key(1), Reason.SERVER_ERROR)
    rig.offer(key(0), key(1))
    await asyncio.sleep(10)
    ended = rig.last(key(0))
    assert (ended.what, ended.outcome.alone) == (Reason.FORBIDDEN, False)
    assert ended.at == pytest.approx(0.5)
    assert rig.diary.refusals == []
    assert rig.client.asked(key(1)) == pytest.approx([0, 1 + LATENCY])  # and it wasn't held


@in_virtual_time
async def test_a_suspect_that_was_cleared_confirms_no_later_refusal() -> None:
    rig = Rig(factors(2, interval=3_600.0))
    rig.client.will(key(0), Reason.FORBIDDEN, Reason.SERVER_ERROR)
    rig.client.will(key(1), Status.VERIFIED, Reply(Reason.FORBIDDEN, latency=0.5))
    rig.offer(key(0))
    await asyncio.sleep(10)
    assert rig.last(key(0)).outcome.alone
    rig.offer(key(0), key(1))
    await asyncio.sleep(10)
    assert rig.last(key(1)).what is Reason.FORBIDDEN
    assert rig.diary.refusals == []


# The whole account's trouble


@pytest.mark.parametrize("reason", REFUSALS)
@in_virtual_time
async def test_an_account_of_one_factor_pauses_at_once(reason: Reason) -> None:
    rig = Rig(factors(1))
    rig.client.rule = refuse(reason=reason)
    rig.offer(key(0))
    await asyncio.sleep(1)
    assert rig.diary.refusals == [(LATENCY, reason)]
    assert rig.account.paused()
    assert rig.account.credentials_valid is False
    ended = rig.last(key(0))
    assert (ended.what, ended.outcome.alone) == (reason, False)
    assert rig.ledger[key(0)].interval_seconds == 300
    assert len(rig.client.calls) == 1


@in_virtual_time
async def test_a_refusal_of_two_factors_pauses_the_account() -> None:
    rig = Rig(factors(10, services=2))
    rig.client.rule = refuse()
    rig.offer(key(0))
    await asyncio.sleep(1)
    assert len(rig.client.calls) == 2
    assert [(ended.what, ended.outcome.alone) for ended in rig.diary.fetches] == [(Reason.FORBIDDEN, False)] * 2
    assert [reason for _, reason in rig.diary.refusals] == [Reason.FORBIDDEN]


@pytest.mark.parametrize("apart", [0.0, 0.3])
@in_virtual_time
async def test_all_factors_refused_at_one_time_confirm_each_other(apart: float) -> None:
    rig = Rig(factors(4), concurrency=4)
    for number in range(4):
        rig.client.will(key(number), Reply(Reason.AUTH, latency=0.1 + number * apart))
    rig.offer(*(key(n) for n in range(4)))
    await asyncio.sleep(2)
    assert len(rig.client.calls) == 4
    assert len(rig.diary.refusals) == 1
    assert rig.account.credentials_valid is False


@in_virtual_time
async def test_ten_thousand_refused_factors_cost_few_calls_before_the_pause_and_few_in_it() -> None:
    rig = Rig(factors(10_000, services=3, interval=300.0), rate=200, concurrency=4)
    rig.client.rule = refuse(reason=Reason.AUTH)
    for _ in range(20):
        await rig.run(1)
        if rig.diary.refusals:
            break
    assert len(rig.client.calls) <= 5
    before = len(rig.client.calls)
    (pause,) = (at for at, _ in rig.diary.refusals)
    await rig.run(3_600)
    probes = [call.began - pause for call in rig.client.calls[before:]]
    waits = [30, 60, 120, 240, 480, 600, 600, 600, 600]
    expected = list(itertools.accumulate(waits, lambda at, wait: at + wait + LATENCY))
    assert probes == pytest.approx([at for at in expected if at < 3_590], abs=0.01)
    probed = [call.key for call in rig.client.calls[before:]]
    assert len(set(probed)) == len(probed)  # they rotate
    assert len(rig.diary.refusals) == 1
    assert rig.account.queue_length > 9_900
    assert rig.account.unseen == 0
    assert len(rig.diary.fetches) == len(rig.client.calls)  # held looks are no fetches


@in_virtual_time
async def test_a_refusal_that_arrives_in_the_pause_asks_nobody_else() -> None:
    rig = Rig(factors(5))
    rig.client.rule = refuse(reason=Reason.AUTH)
    rig.client.will(key(4), Reply(Reason.AUTH, latency=6))
    rig.offer(key(4), key(0))
    await asyncio.sleep(20)
    assert len(rig.client.calls) == 3
    ended = rig.last(key(4))
    assert (ended.what, ended.outcome.alone) == (Reason.AUTH, False)
    assert len(rig.diary.refusals) == 1


@in_virtual_time
async def test_probes_rotate_over_all_factors() -> None:
    rig = await paused_rig(3)
    await asyncio.sleep(3_600)
    probed = [call.key for call in rig.client.calls[2:]]
    assert len(probed) >= 6
    assert {key(n) for n in range(3)} == set(probed[:3])
    assert probed[3:6] == probed[:3]


@in_virtual_time
async def test_held_looks_of_a_pause_are_neither_fetch_nor_failure_and_staleness_runs_on() -> None:
    rig = Rig(factors(20, interval=60.0))
    await rig.run(65)
    rig.client.rule = refuse(reason=Reason.AUTH)
    await rig.run(10)
    assert rig.account.credentials_valid is False
    fetched = len(rig.diary.fetches)
    await rig.run(300)
    assert len(rig.diary.fetches) - fetched == len(rig.client.calls) - fetched <= 4  # the probes
    assert len({factor for _, factor in rig.diary.withdrawals}) == 20
    assert rig.account.queue_length >= 19


# The end of a pause


@in_virtual_time
async def test_an_answered_probe_ends_the_pause_and_the_held_looks_go() -> None:
    rig = await paused_rig(20)
    await rig.run(35)
    rig.client.rule = refuse(key(99))
    await rig.run(50)
    assert rig.account.paused()
    lags = len(rig.diary.lags)
    await rig.run(20)
    (accepted,) = rig.diary.acceptances
    assert accepted == pytest.approx(2 * LATENCY + 30 + LATENCY + 60 + LATENCY, abs=0.01)
    assert not rig.account.paused()
    assert rig.account.credentials_valid is True
    assert all(record.status is Status.VERIFIED for record in rig.ledger)
    assert max(lag for _, lag in rig.diary.lags[lags:]) < 2
    calls = len(rig.client.calls)
    await rig.run(600)
    assert len(rig.diary.acceptances) == len(rig.diary.refusals) == 1
    assert len(rig.client.calls) - calls == pytest.approx(200, abs=20)  # no probe beside the regular looks


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
    rig = await paused_rig()
    rig.client.rule = lambda _watched: Reply(result, retry_after=1)
    await asyncio.sleep(32)
    assert rig.account.paused() is not ends
    assert rig.account.credentials_valid is ends
    assert len(rig.client.calls) == 3  # a probe is one call, whatever comes of it
    rig.client.rule = refuse(key(99))
    await asyncio.sleep(60)
    assert not rig.account.paused()


@in_virtual_time
async def test_a_second_pause_begins_with_the_shortest_wait() -> None:
    rig = await paused_rig()
    await asyncio.sleep(200)
    rig.client.rule = refuse(key(99))
    await asyncio.sleep(30)
    assert rig.account.credentials_valid is True
    rig.client.rule = refuse(reason=Reason.FORBIDDEN)
    rig.offer(key(0))
    calls = len(rig.client.calls)
    await asyncio.sleep(60)
    began = rig.diary.refusals[1][0]
    assert [call.began for call in rig.client.calls[calls + 2 :]] == pytest.approx([began + 30])
    assert [reason for _, reason in rig.diary.refusals] == [Reason.AUTH, Reason.FORBIDDEN]


@in_virtual_time
async def test_new_credentials_end_the_pause_at_once() -> None:
    rig = await paused_rig()
    await asyncio.sleep(500)
    calls, began = len(rig.client.calls), rig.now
    rig.client.rule = refuse(key(99))
    rig.account.credentials_changed()
    await asyncio.sleep(1)
    assert [call.began for call in rig.client.calls[calls:]] == pytest.approx([began])
    assert rig.diary.acceptances == pytest.approx([began + LATENCY])
    assert not rig.account.paused()
    await asyncio.sleep(2_000)
    assert len(rig.client.calls) == calls + 1  # the probe that was planned is planned no more


@in_virtual_time
async def test_new_credentials_that_are_refused_too_begin_with_the_shortest_wait() -> None:
    rig = await paused_rig()
    await asyncio.sleep(500)
    calls, began = len(rig.client.calls), rig.now
    rig.account.credentials_changed()
    await asyncio.sleep(100)
    assert [call.began - began for call in rig.client.calls[calls:]] == pytest.approx(
        [0, 30 + LATENCY, 90 + 2 * LATENCY]
    )
    assert len(rig.diary.refusals) == 1


@in_virtual_time
async def test_new_credentials_outside_a_pause_cost_no_call() -> None:
    rig = Rig(factors(3))
    rig.account.credentials_changed()
    await asyncio.sleep(100)
    assert rig.client.calls == []


@in_virtual_time
async def test_new_credentials_while_a_probe_is_under_way_end_the_pause_with_it() -> None:
    rig = await paused_rig()
    rig.client.rule = lambda _watched: Reply(Reason.FORBIDDEN, latency=8)
    await asyncio.sleep(32)
    assert rig.client.open == 1
    calls = len(rig.client.calls)
    rig.client.rule = refuse(key(99))
    rig.account.credentials_changed()
    await asyncio.sleep(8)
    assert rig.account.credentials_valid is True
    await asyncio.sleep(2_000)
    assert len(rig.client.calls) == calls + 1
    assert len(rig.diary.acceptances) == 1


@in_virtual_time
async def test_a_probe_answered_just_as_the_credentials_change_is_the_last_one() -> None:
    rig = await paused_rig()
    rig.client.rule = refuse(key(99))
    real = rig.client.fetch_factor

    async def fetch(watched: WatchedFactor) -> Attempt:
        attempt = await real(watched)
        rig.account.credentials_changed()
        return attempt

    rig.client.fetch_factor = fetch  # type: ignore[method-assign]
    await asyncio.sleep(1_000)
    assert len(rig.client.calls) == 3
    assert len(rig.diary.acceptances) == 1


# Changed passwords


@in_virtual_time
async def test_a_changed_password_is_used_at_once_and_nothing_failed() -> None:
    password = Password()
    rig = Rig(factors(5), reread=password.reread)
    rig.client.rule = password.rule
    password.file = "new"
    rig.offer(key(0))
    await asyncio.sleep(5)
    assert rig.client.asked(key(0)) == pytest.approx([0, LATENCY])
    assert len(rig.client.calls) == 2
    (ended,) = rig.diary.fetches
    assert (ended.what, ended.outcome.attempts) == (Status.VERIFIED, 2)
    assert ended.outcome.duration_seconds == pytest.approx(2 * LATENCY)
    assert rig.diary.refusals == []
    assert rig.account.credentials_valid is True
    assert password.rereads == 1


@in_virtual_time
async def test_requests_under_way_when_the_password_changes_all_get_another_attempt() -> None:
    password = Password()
    rig = Rig(factors(8), concurrency=8, reread=password.reread)
    rig.client.rule = password.rule
    password.file = "new"
    rig.offer(*(key(n) for n in range(8)))
    await asyncio.sleep(5)
    assert [ended.what for ended in rig.diary.fetches] == [Status.VERIFIED] * 8
    assert len(rig.client.calls) == 16
    assert rig.diary.refusals == []


@in_virtual_time
async def test_a_change_noticed_while_requests_are_under_way_counts_for_them() -> None:
    password = Password()
    rig = Rig(factors(4), reread=password.reread)
    rig.client.rule = password.rule
    rig.offer(*(key(n) for n in range(4)))
    await asyncio.sleep(LATENCY / 2)
    password.file = "new"
    assert password.reread()
    rig.account.credentials_changed()
    await asyncio.sleep(5)
    assert [ended.what for ended in rig.diary.fetches] == [Status.VERIFIED] * 4
    assert rig.diary.refusals == []


@in_virtual_time
async def test_a_change_noticed_by_the_confirmation_clears_the_suspect() -> None:
    password = Password()
    rig = Rig(factors(2), reread=password.reread)
    rig.client.rule = password.rule
    rig.offer(key(0))
    await asyncio.sleep(1.5 * LATENCY)
    assert len(rig.client.calls) == 2  # the confirmation is under way, with the old password
    password.file = "new"
    await asyncio.sleep(5)
    assert [(ended.what, ended.outcome.alone) for ended in rig.diary.fetches] == [(Status.VERIFIED, False)] * 2
    assert rig.diary.refusals == []


@in_virtual_time
async def test_a_changed_password_that_is_wrong_too_pauses_the_account() -> None:
    password = Password(good="another")
    rig = Rig(factors(5), reread=password.reread)
    rig.client.rule = password.rule
    password.file = "new"
    rig.offer(key(0))
    await asyncio.sleep(5)
    assert rig.client.asked(key(0)) == pytest.approx([0, LATENCY])
    assert len(rig.client.calls) == 3  # and the confirmation
    assert len(rig.diary.refusals) == 1


@in_virtual_time
async def test_a_password_that_changes_all_the_time_is_tried_twice_a_fetch() -> None:
    rig = Rig(factors(1), reread=lambda: True)
    rig.client.rule = refuse(reason=Reason.AUTH)
    rig.offer(key(0))
    await asyncio.sleep(5)
    assert len(rig.client.calls) == 2
    assert rig.last(key(0)).what is Reason.AUTH


@in_virtual_time
async def test_a_403_asks_no_password_file() -> None:
    password = Password()
    rig = Rig(factors(3), reread=password.reread)
    rig.client.rule = refuse()
    rig.offer(key(0))
    await asyncio.sleep(1)
    assert password.rereads == 0


@in_virtual_time
async def test_a_pause_ends_by_itself_when_a_probe_finds_the_changed_password() -> None:
    password = Password()
    rig = Rig(factors(5), reread=password.reread)
    rig.client.rule = password.rule
    rig.offer(key(0))
    await asyncio.sleep(5)
    assert rig.account.paused()
    password.file = "new"
    await asyncio.sleep(30)
    assert rig.account.credentials_valid is True
    assert rig.client.calls[-1].began == pytest.approx(2 * LATENCY + 30 + LATENCY)
    calls = len(rig.client.calls)
    await asyncio.sleep(2_000)
    assert len(rig.client.calls) == calls


@in_virtual_time
async def test_a_pause_ends_at_once_when_a_late_refusal_finds_the_changed_password() -> None:
    password = Password()
    rig = Rig(factors(5, interval=3_600.0), reread=password.reread)
    rig.client.rule = password.rule
    rig.client.will(key(4), Reply(Reason.AUTH, latency=6))
    rig.offer(key(0), key(4))
    await asyncio.sleep(5)
    assert rig.account.paused()
    password.file = "new"
    await asyncio.sleep(2)
    assert rig.account.credentials_valid is True
    assert rig.diary.acceptances == pytest.approx([6 + LATENCY])
    assert rig.last(key(4)).what is Status.VERIFIED


# Never two at once, nobody forgotten


@in_virtual_time
async def test_probes_and_confirmations_never_meet_a_regular_look_of_the_same_factor() -> None:
    rig = Rig(factors(12, services=2, interval=20.0), concurrency=3)
    flaky = itertools.cycle([Status.VERIFIED] * 7 + [Reason.FORBIDDEN, Reason.AUTH, Reason.TIMEOUT, Reason.AUTH])
    rig.client.rule = lambda _watched: Reply(next(flaky), latency=4.0)
    await rig.run(3 * 3_600)  # the client fails the test at the first overlap
    assert len(rig.diary.refusals) > 5
    assert len(rig.diary.acceptances) > 5
    rig.client.rule = refuse(key(99))
    if rig.account.paused():
        rig.account.credentials_changed()
    calls = len(rig.client.calls)
    await rig.run(1_000)
    assert {call.key for call in rig.client.calls[calls:]} == {watched.key for watched in factors(12, services=2)}


@in_virtual_time
async def test_a_factor_chosen_out_of_turn_has_had_its_turn() -> None:
    rig = Rig(factors(2, interval=60.0), concurrency=1)
    rig.client.will(key(0), Reply(Reason.FORBIDDEN, latency=2))
    rig.offer(key(0))
    rig.offer(key(1))
    assert rig.account.queue_length == 1
    await asyncio.sleep(2.01)
    assert rig.client.asked(key(1)) == pytest.approx([2])
    assert rig.account.queue_length == 0
    await asyncio.sleep(10)
    assert rig.client.asked(key(1)) == pytest.approx([2])
    assert rig.schedule.waiting(key(1)) is not None


@in_virtual_time
async def test_a_factor_that_falls_due_while_it_is_asked_out_of_turn_is_put_back() -> None:
    rig = Rig(factors(2, interval=60.0), concurrency=4)
    rig.client.will(key(0), Reason.FORBIDDEN)
    rig.client.will(key(1), Reply(latency=5))
    rig.offer(key(0))
    await asyncio.sleep(1)
    rig.offer(key(1))
    assert rig.account.queue_length == 1  # the account holds until the verdict
    await asyncio.sleep(10)
    assert rig.client.asked(key(1)) == pytest.approx([LATENCY])
    assert rig.schedule.waiting(key(1)) is not None


@in_virtual_time
async def test_what_an_urgent_look_learns_moves_the_next_regular_one() -> None:
    rig = Rig(factors(2, interval=86_400.0))
    rig.client.will(key(0), Reason.FORBIDDEN)
    rig.client.will(key(1), Status.UNVERIFIED)
    rig.offer(key(0))
    await asyncio.sleep(1)
    due = rig.schedule.waiting(key(1))
    assert due is not None
    assert due - rig.clock.steady() <= 60


@in_virtual_time
async def test_a_fetch_in_its_backoff_when_the_pause_begins_goes_on_after_it() -> None:
    rig = Rig(factors(5, interval=3_600.0))
    rig.client.will(key(3), Reason.SERVER_ERROR)
    rig.client.rule = refuse(reason=Reason.AUTH)
    rig.offer(key(3))
    await asyncio.sleep(0.5)
    rig.offer(key(0))
    await asyncio.sleep(20)
    assert rig.account.credentials_valid is False
    assert len(rig.client.asked(key(3))) == 1
    rig.client.rule = refuse(key(99))
    await asyncio.sleep(20)
    ended = rig.last(key(3))
    assert (ended.what, ended.outcome.attempts) == (Status.VERIFIED, 2)
    assert ended.outcome.duration_seconds == pytest.approx(1 + 2 * LATENCY)
    assert key(3) not in [call.key for call in rig.client.calls if 25 < call.began < 30]


@in_virtual_time
async def test_a_fetch_in_its_backoff_ends_at_its_next_due_time_in_a_longer_pause() -> None:
    rig = Rig(factors(5, interval=60.0))
    slot = rig.slot_after(key(3))
    assert slot > 5
    rig.client.will(key(3), Reason.SERVER_ERROR)
    rig.client.rule = refuse(reason=Reason.AUTH)
    rig.offer(key(3))
    await asyncio.sleep(0.5)
    rig.offer(key(0))
    await rig.run(100)
    (ended, *_) = rig.diary.of(key(3))
    assert (ended.what, ended.outcome.attempts) == (Reason.SERVER_ERROR, 1)
    assert ended.at == pytest.approx(slot, abs=1e-5)
    assert key(3) in rig.account._turns  # it fell due again, and is held


@in_virtual_time
async def test_a_probe_that_fails_in_an_unforeseen_way_is_not_the_last(caplog: pytest.LogCaptureFixture) -> None:
    rig = await paused_rig()

    def fail(_watched: WatchedFactor) -> Reply:
        raise ZeroDivisionError

    rig.client.rule = fail
    await asyncio.sleep(40)
    assert rig.account.paused()
    assert rig.throttle.in_flight == 0
    rig.client.rule = refuse(key(99))
    await asyncio.sleep(60)
    assert rig.account.credentials_valid is True
    rig.loop.faults.clear()  # the loop was told of the error
    caplog.clear()
