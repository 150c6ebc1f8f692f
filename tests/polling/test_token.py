"""Access tokens: when they are renewed, and what fetches do without one."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

import pytest

from exporter.polling.account import AccountPolicy
from exporter.polling.clients import RotationReason
from exporter.polling.services import ServicePolicy
from exporter.polling.token import AccessToken
from exporter.verify.outcome import Answer, Attempt, Failure, Reason, ServiceAnswer, Status, TokenAnswer
from tests.support.factors import factor, factors, key
from tests.support.polling_harness import LATENCY, PollingHarness, Reply, ScriptedClient
from tests.support.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from exporter.watched import WatchedFactor

LIFETIME = 3600.0


# The decisions


def obtained(at: float, lifetime: float = LIFETIME) -> AccessToken:
    token = AccessToken()
    token.requested(at)
    token.obtained(TokenAnswer("secret-token", lifetime))
    return token


def test_a_token_is_renewed_at_80_percent_of_its_lifetime_which_counts_from_its_request() -> None:
    token = AccessToken()
    assert not token.usable(0.0)
    token = obtained(100.0, 1000.0)
    assert token.usable(1099.9)
    assert not token.usable(1100.0)
    assert not token.renewal_due(899.9)
    assert token.renewal_due(900.0)


def test_requests_for_tokens_are_10_s_apart_and_up_to_60_s_after_failures() -> None:
    token, now, waits = AccessToken(), 0.0, []
    for _ in range(6):
        token.requested(now)
        token.failed(Failure(Reason.CONNECT))
        waits.append(token.next_at - now)
        now = token.next_at
    assert waits == [10, 20, 40, 60, 60, 60]
    token.requested(now)
    token.failed(Failure(Reason.RATE_LIMITED), 200.0)
    assert token.next_at == now + 200
    token.obtained(TokenAnswer("t", 5.0))
    assert (token.next_at, token.failure, token.failures) == (now + 10, None, 0)


def test_only_a_token_under_60_s_old_is_as_good_as_another_one() -> None:
    token = obtained(100.0)
    assert not token.refused(token.generation, 159.9)
    assert token.usable(159.9)
    before = token.generation
    assert token.refused(before, 160.0)
    assert not token.usable(160.0)
    assert token.refused(before, 160.0), "another request has taken care of it"


def test_changed_credentials_end_a_token_and_the_wait_after_failures_but_not_the_spacing() -> None:
    token = obtained(100.0)
    token.requested(1000.0)
    token.failed(Failure(Reason.AUTH))
    token.failed(Failure(Reason.AUTH))
    token.credentials_changed()
    assert not token.usable(1001.0)
    assert (token.next_at, token.failure) == (1010.0, None)


def test_a_probe_uses_a_token_that_was_requested_10_s_before_at_most() -> None:
    token = obtained(100.0)
    token.forget(109.9)
    assert token.usable(109.9)
    token.forget(110.0)
    assert not token.usable(110.0)


def test_a_token_that_expired_before_its_refusal_came_says_nothing_about_the_credentials() -> None:
    token = obtained(100.0, 30.0)
    assert not token.refused(token.generation, 129.9)
    assert token.refused(token.generation, 130.0)


def test_neither_a_probe_nor_a_401_shortens_the_wait_that_the_endpoint_requests() -> None:
    token = obtained(100.0)
    token.requested(3000.0)
    token.failed(Failure(Reason.RATE_LIMITED), 300.0)
    token.forget(3299.9)
    assert (token.usable(3299.9), token.next_at) == (True, 3300.0)
    assert token.refused(token.generation, 3299.9)
    assert (token.usable(3299.9), token.next_at) == (False, 3300.0)
    assert token.failure == Failure(Reason.RATE_LIMITED)
    token.forget(3300.0)
    assert token.next_at == 3010.0
    assert token.failures == 0


def test_no_text_of_a_token_shows_it() -> None:
    for text in (repr(obtained(0.0)), repr(TokenAnswer("secret-token", 1.0)), repr(AccessToken())):
        assert "secret-token" not in text


# Polling


def harness(count: int = 40, **options: object) -> PollingHarness:
    return PollingHarness(factors(count, interval=60.0), oauth=True, **options)  # type: ignore[arg-type]  # by name


def token_of(env: PollingHarness) -> AccessToken:
    return env.account._tokens.token


def valid(env: PollingHarness) -> bool | None:
    return env.account.credentials_valid


def refusing_until(env: PollingHarness, tokens: int) -> Callable[[WatchedFactor], Reply]:
    """Return a rule that refuses requests before this many tokens were requested."""
    return lambda _watched: Reply(Reason.AUTH if len(env.client.tokens) < tokens else Status.VERIFIED)


@in_virtual_time
async def test_all_requests_wait_for_one_token() -> None:
    env = harness()
    await env.run(120)
    assert len(env.client.tokens) == 1
    assert all(ended.what is Status.VERIFIED for ended in env.observed.fetches)
    first = min(call.began for call in env.client.calls)
    assert first == pytest.approx(env.client.tokens[0] + LATENCY)
    assert env.account.credentials_valid is True
    assert env.throttle.in_flight == 0


@in_virtual_time
async def test_a_token_is_renewed_once_per_lifetime_beside_the_fetches() -> None:
    env = harness()
    await env.run(3 * LIFETIME)
    started = env.client.tokens[0]
    assert env.client.tokens == pytest.approx([started + 0.8 * LIFETIME * n for n in range(4)], abs=5)
    assert all(ended.what is Status.VERIFIED for ended in env.observed.fetches)
    assert all(ended.outcome.attempts == 1 for ended in env.observed.fetches)
    assert env.client.most_in_a_second() <= 100


@in_virtual_time
async def test_a_token_counts_against_the_rate() -> None:
    env = harness(rate=1.0)
    await env.run(60)
    assert min(call.began for call in env.client.calls) == pytest.approx(env.client.tokens[0] + LATENCY)
    begun = sorted([*env.client.tokens, *(call.began for call in env.client.calls)])
    assert all(later - earlier >= 1 - 1e-6 for earlier, later in itertools.pairwise(begun[1:]))


@in_virtual_time
async def test_fetches_are_retried_after_the_first_failed_request_for_a_token() -> None:
    env = PollingHarness(factors(40), oauth=True)
    grants = iter([Failure(Reason.CONNECT, "token endpoint: down")])
    env.client.grants = lambda: next(grants, TokenAnswer("t", LIFETIME))
    await env.run(60)
    assert len(env.client.tokens) == 2
    assert env.client.tokens[1] - env.client.tokens[0] == pytest.approx(10, abs=0.1)
    assert all(ended.what is Status.VERIFIED for ended in env.observed.fetches)
    assert max(ended.outcome.attempts for ended in env.observed.fetches) == 2


@pytest.mark.parametrize("reason", [Reason.CONNECT, Reason.TIMEOUT, Reason.DECODE, Reason.SERVER_ERROR])
@in_virtual_time
async def test_without_a_token_fetches_fail_for_its_reason_and_nothing_is_sent(reason: Reason) -> None:
    env = harness()
    await env.run(60)
    calls = len(env.client.calls)
    env.client.grants = lambda: Failure(reason, "token endpoint: down")
    token_of(env).credentials_changed()
    requests = len(env.client.tokens)
    began = env.now
    await env.run(LIFETIME)
    asked = env.client.tokens[requests:]
    assert len(env.client.calls) == calls
    assert all(later - earlier >= 10 - 1e-6 for earlier, later in itertools.pairwise(asked))
    assert len(asked) <= LIFETIME / 60 + 5
    failed = [ended for ended in env.observed.fetches if ended.at > began + 1]
    assert {ended.what for ended in failed} == {reason}
    assert len(failed) > 20 * 40, "the queue doesn't stand still"
    assert env.account.credentials_valid is True
    assert env.observed.refusals == []
    env.client.grants = lambda: TokenAnswer("t", LIFETIME)
    await env.run(1000)
    assert all(env.last(key(number)).what is Status.VERIFIED for number in range(40))


@in_virtual_time
async def test_a_refused_app_pauses_the_account_and_is_probed_like_a_password() -> None:
    env = harness()
    env.client.grants = lambda: Failure(Reason.AUTH, "token endpoint: HTTP 401")
    await env.run(1000)
    began = env.client.tokens[0]
    ((paused, reason),) = env.observed.refusals
    assert paused == pytest.approx(began + LATENCY)
    assert reason is Reason.AUTH
    assert [at - began for at in env.client.tokens] == pytest.approx([0, 30, 90, 210, 450, 930], abs=2)
    assert env.client.calls == []
    assert valid(env) is False
    env.client.grants = lambda: TokenAnswer("t", LIFETIME)
    await env.run(700)
    assert len(env.observed.acceptances) == 1
    assert valid(env) is True
    assert all(env.last(key(number)).what is Status.VERIFIED for number in range(40))


@in_virtual_time
async def test_a_changed_secret_ends_the_pause() -> None:
    env = harness()
    env.client.grants = lambda: Failure(Reason.AUTH)
    await env.run(200)
    env.client.grants = lambda: TokenAnswer("t", LIFETIME)
    env.account.credentials_changed()
    await env.run(15)
    assert env.account.credentials_valid is True


@in_virtual_time
async def test_the_secret_is_read_again_at_once_when_it_is_refused() -> None:
    changes = iter([True])
    env = harness(reread=lambda: next(changes, False))
    grants = iter([Failure(Reason.AUTH)])
    env.client.grants = lambda: next(grants, TokenAnswer("t", LIFETIME))
    await env.run(60)
    assert len(env.client.tokens) == 2
    assert env.observed.refusals == []
    assert all(ended.what is Status.VERIFIED for ended in env.observed.fetches)


@in_virtual_time
async def test_a_revoked_token_is_renewed_once_for_all_requests() -> None:
    env = harness(concurrency=10)
    await env.run(120)
    env.client.rule = refusing_until(env, 2)
    await env.run(120)
    assert len(env.client.tokens) == 2
    assert env.observed.refusals == []
    assert all(ended.what is Status.VERIFIED for ended in env.observed.fetches)
    assert env.account.credentials == 0, "the credentials are the same"


@in_virtual_time
async def test_a_refusal_of_a_new_token_counts_as_refused_credentials() -> None:
    env = harness()
    await env.run(120)
    env.client.rule = refusing_until(env, 99)
    await env.run(20)
    assert len(env.client.tokens) == 2
    assert [reason for _, reason in env.observed.refusals] == [Reason.AUTH]
    await env.run(40)
    assert len(env.client.tokens) == 3, "a probe uses a new token"
    env.client.rule = lambda _watched: Reply()
    await env.run(600)
    assert len(env.observed.acceptances) == 1


@in_virtual_time
async def test_an_app_that_is_refused_while_a_403_is_confirmed_pauses_the_account_once() -> None:
    env = harness()
    await env.run(120)

    def forbidden(_watched: WatchedFactor) -> Reply:
        token_of(env)._use("")  # it expired
        return Reply(Reason.FORBIDDEN)

    env.client.rule = forbidden
    env.client.grants = lambda: Failure(Reason.AUTH)
    await env.run(25)
    assert [reason for _, reason in env.observed.refusals] == [Reason.AUTH]


@in_virtual_time
async def test_a_probe_uses_a_new_token_after_a_403_since_the_permission_may_be_given_to_new_ones_only() -> None:
    env = harness()
    await env.run(600)
    env.client.rule = lambda _watched: Reply(Reason.FORBIDDEN if len(env.client.tokens) == 1 else Status.VERIFIED)
    await env.run(100)
    assert [reason for _, reason in env.observed.refusals] == [Reason.FORBIDDEN]
    assert len(env.observed.acceptances) == 1
    assert len(env.client.tokens) == 2


@in_virtual_time
async def test_a_401_of_an_intermediary_renews_an_older_token() -> None:
    env = harness(1)
    await env.run(120)
    env.client.rule = lambda _watched: (
        Reply(Reason.DECODE, code=401) if len(env.client.tokens) == 1 else Reply(Status.VERIFIED)
    )
    await env.run(70)
    assert len(env.client.tokens) == 2
    assert env.last(key(0)).what is Status.VERIFIED


@in_virtual_time
async def test_while_the_token_lasts_a_failed_renewal_fails_no_fetch() -> None:
    env = harness()
    grants: Iterator[TokenAnswer | Failure] = iter(
        [TokenAnswer("t", 600.0), Failure(Reason.TIMEOUT), Failure(Reason.AUTH)]
    )
    env.client.grants = lambda: next(grants, TokenAnswer("u", LIFETIME))
    await env.run(1200)
    assert [reason for _, reason in env.observed.unrenewed] == [Reason.TIMEOUT, Reason.AUTH]
    assert all(ended.what is Status.VERIFIED for ended in env.observed.fetches)
    assert [later - earlier for earlier, later in itertools.pairwise(env.client.tokens)] == pytest.approx(
        [480, 10, 20], abs=5
    )
    assert env.observed.refusals == []


@in_virtual_time
async def test_a_suspend_counts_in_the_lifetime_of_a_token() -> None:
    env = harness(4)
    await env.run(120)
    env.clock.suspend(LIFETIME)
    await env.run(120)
    assert len(env.client.tokens) == 2
    assert all(ended.what is Status.VERIFIED for ended in env.observed.fetches)


@in_virtual_time
async def test_a_token_that_lasts_shorter_than_the_spacing_is_no_failure() -> None:
    env = harness(4)
    env.client.grants = lambda: TokenAnswer("t", 3.0)
    await env.run(180)
    assert all(later - earlier >= 10 - 1e-6 for earlier, later in itertools.pairwise(env.client.tokens))
    assert all(ended.what is Status.VERIFIED for ended in env.observed.fetches)


@in_virtual_time
async def test_a_service_is_not_fetched_without_a_token_and_not_given_up_for_a_day() -> None:
    env = PollingHarness(factors(3, interval=60.0), oauth=True, services=ServicePolicy())
    await env.run(70)
    env.client.rule = lambda _watched: Reply(Status.NOT_FOUND)
    env.client.exists = lambda _sid: ServiceAnswer(exists=False)
    env.client.grants = lambda: Failure(Reason.AUTH)
    attempt = await asyncio.wait_for(lacking(env), 60)
    assert attempt is None
    assert env.client.services == []
    env.client.grants = lambda: TokenAnswer("t", LIFETIME)
    await env.run(300)
    assert env.client.services


async def lacking(env: PollingHarness) -> Attempt | None:
    env.account.credentials_changed()
    await env.run(11)
    return await env.account.request_service(key(0).service_sid)


@in_virtual_time
async def test_a_listing_fails_for_lack_of_a_token() -> None:
    env = harness(1)
    env.client.grants = lambda: Failure(Reason.DNS)
    await env.run(70)
    assert env.last(key(0)).what is Reason.DNS
    assert env.last(key(0)).outcome.code is None


@in_virtual_time
async def test_polling_that_stops_leaves_nobody_waiting() -> None:
    env = harness()
    env.client.grants = lambda: TokenAnswer("t", LIFETIME)
    await env.run(60)
    env.account.credentials_changed()
    token_of(env).requested(env.clock.steady())  # so that the next one has to wait
    env.offer(key(1))
    await asyncio.sleep(0.1)
    requests, stopped = len(env.client.tokens), env.now
    env.account.stop()
    await env.account.finish(8.0)
    assert env.now - stopped < 0.1
    assert len(env.client.tokens) == requests
    assert not env.account.busy


@in_virtual_time
async def test_a_request_for_a_token_in_flight_ends_before_polling_stops() -> None:
    env = harness()
    env.offer(key(1))
    await asyncio.sleep(LATENCY / 2)
    env.account.stop()
    await env.account.finish(5.0)
    assert len(env.client.tokens) == 1
    assert env.client.calls == []


@in_virtual_time
async def test_a_stop_does_not_wait_for_a_request_for_a_token() -> None:
    env = harness()
    stalled = Stalled()
    env.account.replace_client(stalled)
    env.offer(key(1))
    await asyncio.sleep(1)
    stopped = env.now
    env.account.stop()
    await env.account.finish(8.0)
    assert env.now - stopped < 0.1
    assert (len(stalled.tokens), env.client.tokens, env.client.calls) == (1, [], [])
    assert env.throttle.in_flight == 0


@in_virtual_time
async def test_a_stop_requests_no_token_with_a_secret_that_changed_last() -> None:
    env = harness(reread=lambda: True)
    env.client.grants = lambda: Failure(Reason.AUTH)
    env.offer(key(1))
    await asyncio.sleep(LATENCY / 2)
    stopped = env.now
    env.account.stop()
    await env.account.finish(15.0)
    assert env.now - stopped < 0.1
    assert len(env.client.tokens) == 1


@in_virtual_time
async def test_a_removed_account_counts_no_more_requests_for_tokens() -> None:
    env = harness()
    env.offer(key(1))
    await asyncio.sleep(LATENCY / 2)
    await env.poller.drop_account("main").finish(0)
    assert len(env.client.tokens) == 1
    assert env.observed.attempts == []


class Stalled(ScriptedClient):
    """A client whose requests for tokens don't end by themselves, and survive ``endures`` cancellations."""

    async def request_token(self) -> Attempt:
        self.tokens.append(self.loop.time())
        while True:
            try:
                await self.loop.create_future()
            except asyncio.CancelledError:
                if self.endures == 0:
                    raise
                self.endures -= 1


class WithPassword(ScriptedClient):
    """A client without an app."""

    async def request_token(self) -> Attempt:
        raise ValueError("the account has no OAuth app")


@pytest.mark.parametrize("seconds", [LATENCY / 2, 5.0], ids=["in flight", "waits"])
@in_virtual_time
async def test_a_reload_to_a_password_ends_the_wait_for_a_token(seconds: float) -> None:
    env = harness(concurrency=2)
    await env.run(60)
    env.client.rule = lambda _watched: Reply(Reason.AUTH)  # of the old token
    token_of(env).credentials_changed()
    if seconds > 1:
        token_of(env).requested(env.clock.steady())
    env.offer(key(1), key(2), key(3))
    await asyncio.sleep(seconds)
    env.account.apply_policy(AccountPolicy(100.0, 2))
    env.account.replace_client(client := WithPassword())
    env.account.credentials_changed()
    before = len(env.observed.fetches)
    await asyncio.sleep(1)
    assert [ended.what for ended in env.observed.fetches[before:]] == [Status.VERIFIED] * 3
    assert client.tokens == []
    await env.run(120)
    assert len(client.calls) > 40
    assert env.throttle.in_flight == 0


@in_virtual_time
async def test_a_reload_to_a_password_and_back_requests_one_token() -> None:
    env = harness()
    env.account.replace_client(stalled := Stalled())
    env.offer(key(1))
    await asyncio.sleep(1)
    env.account.apply_policy(AccountPolicy(100.0, 4))
    env.account.apply_policy(AccountPolicy(100.0, 4, oauth=True))
    env.account.replace_client(env.client)
    env.account.credentials_changed()
    await env.run(60)
    assert (len(stalled.tokens), len(env.client.tokens)) == (1, 1)
    assert all(ended.what is Status.VERIFIED for ended in env.observed.fetches)


@pytest.mark.parametrize("endures", [0, 1])
@in_virtual_time
async def test_a_stuck_request_for_a_token_times_out_and_rotates_the_client(endures: int) -> None:
    fresh = ScriptedClient()
    env = harness(timeout=10.0, new_client=lambda: fresh)
    env.account.replace_client(stalled := Stalled())
    stalled.endures = endures
    await env.run(120, and_each=env.account.check_client)
    assert len(stalled.tokens) == 1
    (first, *_) = (attempt.result for attempt in env.observed.attempts)
    assert isinstance(first, Failure)
    assert first.reason is Reason.TIMEOUT
    assert [why for _, why in env.observed.rotations] == [RotationReason.STUCK]
    assert len(fresh.tokens) == 1
    assert all(env.last(key(number)).what is Status.VERIFIED for number in range(40))


@in_virtual_time
async def test_a_client_that_is_silent_to_requests_for_tokens_is_rotated() -> None:
    fresh = ScriptedClient()
    env = harness(new_client=lambda: fresh)
    env.client.grants = lambda: Failure(Reason.TIMEOUT)
    await env.run(900, and_each=env.account.check_client)
    assert [why for _, why in env.observed.rotations] == [RotationReason.SILENT]
    assert env.last(key(0)).what is Status.VERIFIED


class Closing(ScriptedClient):
    """A client that is replaced while it requests a token."""

    def __init__(self, env: PollingHarness) -> None:
        super().__init__()
        self._env = env

    async def request_token(self) -> Attempt:
        self._env.account.replace_client(self._env.client)
        return Attempt(Failure(Reason.CONNECT, "closed by the exporter"), 0.0)


@in_virtual_time
async def test_a_token_is_requested_again_by_the_client_that_replaces_another() -> None:
    env = harness()
    env.account.replace_client(Closing(env))
    await env.run(30)
    assert len(env.client.tokens) == 1
    assert all(ended.what is Status.VERIFIED for ended in env.observed.fetches)
    assert all(ended.outcome.attempts == 1 for ended in env.observed.fetches)


@in_virtual_time
async def test_a_token_of_credentials_that_changed_meanwhile_is_not_used() -> None:
    env = harness()

    def grants() -> TokenAnswer:
        if len(env.client.tokens) == 1:
            env.account.credentials_changed()
        return TokenAnswer(f"token-{len(env.client.tokens)}", LIFETIME)

    env.client.grants = grants
    await env.run(60)
    assert token_of(env).value == "token-2"
    assert all(ended.what is Status.VERIFIED for ended in env.observed.fetches)


@in_virtual_time
async def test_an_account_with_a_password_requests_no_token() -> None:
    env = PollingHarness([factor(1)])
    await env.run(60)
    assert env.client.tokens == []
    assert {type(attempt.result) for attempt in env.observed.attempts} == {Answer}
