"""What is watched, and why: listed factors, found ones, their names, and what a change does to each."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from exporter.polling.account import AccountPolicy
from exporter.polling.clock import Moment
from exporter.polling.ledger import Ledger, LedgerPolicy
from exporter.polling.roster import Difference, FoundFactor, Roster
from exporter.verify.outcome import Reason, Status
from exporter.watched import FactorKey, WatchedFactor
from tests.support.factors import SERVICES, factor, factors, key, outcome
from tests.support.polling_harness import PollingHarness, Reply
from tests.support.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from exporter.polling.slices import Slices


def found(number: int, entity: str = "team", *, labels: tuple[tuple[str, str], ...] = ()) -> FoundFactor:
    return FoundFactor(key(number), entity, f"identity-of-{entity}", 300.0, labels)


def harness_of(*listed: WatchedFactor) -> tuple[PollingHarness, Roster]:
    env = PollingHarness([factor(99)])
    roster = Roster(env.poller, env.ledger)
    assert roster.list([factor(99), *listed]) == Difference(added=len(listed))
    return env, roster


def names(env: PollingHarness) -> set[str]:
    return {record.watched.name for record in env.ledger} - {"factor-99"}


@in_virtual_time
async def test_a_list_reports_the_difference() -> None:
    env, roster = harness_of(factor(1), factor(2), factor(3))
    changed = replace(factor(2), name="two", labels=(("team", "ops"),))
    assert roster.list([factor(99), factor(1), changed, factor(4)]) == Difference(added=1, removed=1, changed=1)
    assert names(env) == {"factor-1", "two", "factor-4"}
    assert env.observed.revised_names == ["two"]
    assert env.observed.forgotten_names == ["factor-3"]
    assert key(3) not in env.schedule
    assert roster.list([factor(99), factor(1), changed, factor(4)]) == Difference()


@in_virtual_time
async def test_names_may_be_swapped() -> None:
    env, roster = harness_of(factor(1), factor(2))
    swapped = [replace(factor(1), name="factor-2"), replace(factor(2), name="factor-1")]
    assert roster.list([factor(99), *swapped]) == Difference(changed=2)
    assert env.ledger[key(1)].watched.name == "factor-2"
    assert env.ledger[key(2)].watched.name == "factor-1"


@in_virtual_time
async def test_what_is_known_and_the_phase_stay_with_the_key() -> None:
    env, roster = harness_of(factor(1))
    await env.run(40)
    env.ledger.apply(key(1), outcome(Reason.TIMEOUT), env.clock.moment())
    record = env.ledger[key(1)]
    phase = env.schedule.waiting(key(1))
    roster.list([factor(99), replace(factor(1), name="renamed", interval_seconds=600.0)])
    assert env.ledger[key(1)] is record
    assert (record.status, record.failures, record.up) == (Status.VERIFIED, 1, False)
    assert record.interval_seconds == 600
    assert env.schedule.waiting(key(1)) == phase


@in_virtual_time
async def test_a_shorter_interval_is_kept_from_now_on() -> None:
    env, roster = harness_of(replace(factor(1), interval_seconds=86_400.0))
    await env.run(60)
    before = len(env.client.requested_at(key(1)))
    assert before == 1
    roster.list([factor(99), replace(factor(1), interval_seconds=30.0)])
    await env.run(61)
    assert len(env.client.requested_at(key(1))) >= before + 2


@in_virtual_time
async def test_found_factors_are_named_after_their_entity() -> None:
    env, roster = harness_of()
    labels = (("team", "ops"),)
    assert roster.find([found(1, labels=labels), found(2)]) == Difference(added=2)
    assert names(env) == {f"team-{key(1).factor_sid[-8:]}", f"team-{key(2).factor_sid[-8:]}"}
    record = env.ledger[key(1)]
    assert (record.watched.labels, record.entity, record.watched.identity) == (labels, "team", "identity-of-team")
    assert roster.find([found(1, labels=labels), found(2)]) == Difference()
    assert env.ledger.entity_counts["main", SERVICES[0], "team"]["unknown"] == 2


@in_virtual_time
async def test_what_is_listed_wins_and_counts_in_its_entity() -> None:
    env, roster = harness_of(factor(1))
    assert roster.find([found(1), found(2)]) == Difference(added=1)
    assert env.ledger[key(1)].watched == factor(1)
    assert env.ledger[key(1)].entity == "team"
    counts = env.ledger.entity_counts["main", SERVICES[0], "team"]
    assert sum(counts.values()) == 2
    assert roster.lose([key(1), key(2)]) == Difference(removed=1)
    assert names(env) == {"factor-1"}
    assert env.ledger[key(1)].entity == ""
    assert sum(counts.values()) == 0


@in_virtual_time
async def test_listed_then_found_what_is_known_stays() -> None:
    env, roster = harness_of(factor(1))
    await env.run(40)
    record = env.ledger[key(1)]
    assert record.status is Status.VERIFIED
    roster.find([found(1)])
    assert roster.list([factor(99)]) == Difference(changed=1)
    assert env.ledger[key(1)] is record
    assert record.watched.name == f"team-{key(1).factor_sid[-8:]}"
    assert roster.list([factor(99), factor(1)]) == Difference(changed=1)
    assert roster.lose([key(1)]) == Difference()
    assert env.ledger[key(1)] is record
    assert record.watched == factor(1)


def twin(number: int, tail: str = "c0ffee00") -> FoundFactor:
    sid = f"YF{number:024x}{tail}"
    return FoundFactor(FactorKey("main", SERVICES[0], sid), "team", "identity-of-team", 300.0)


@in_virtual_time
async def test_factors_of_the_same_short_name_show_their_whole_sid_until_one_is_left() -> None:
    env, roster = harness_of()
    one, two = twin(1), twin(2)
    roster.find([one])
    assert names(env) == {"team-c0ffee00"}
    assert roster.find([two]) == Difference(added=1, changed=1)
    assert names(env) == {f"team-{one.key.factor_sid}", f"team-{two.key.factor_sid}"}
    assert roster.lose([one.key]) == Difference(removed=1, changed=1)
    assert names(env) == {"team-c0ffee00"}


@in_virtual_time
async def test_a_listed_name_is_never_taken() -> None:
    one = twin(1)
    env, roster = harness_of(replace(factor(5), name="team-c0ffee00"))
    roster.find([one])
    assert names(env) == {"team-c0ffee00", f"team-{one.key.factor_sid}"}
    listed = [replace(factor(5), name="team-c0ffee00"), replace(factor(6), name=f"team-{one.key.factor_sid}")]
    roster.list([factor(99), *listed])
    assert names(env) == {"team-c0ffee00", f"team-{one.key.factor_sid}", f"team-{one.key.factor_sid}+"}
    roster.list([factor(99)])
    assert names(env) == {"team-c0ffee00"}


@in_virtual_time
async def test_an_entity_that_is_renamed_renames_its_factors() -> None:
    env, roster = harness_of()
    roster.find([found(1, "team")])
    assert roster.find([found(1, "crew")]) == Difference(changed=1)
    assert names(env) == {f"crew-{key(1).factor_sid[-8:]}"}
    assert env.ledger[key(1)].entity == "crew"
    assert sum(env.ledger.entity_counts["main", SERVICES[0], "team"].values()) == 0


@in_virtual_time
async def test_a_factor_of_which_nothing_is_known_is_not_missed() -> None:
    env, roster = harness_of(factor(1))
    assert roster.lose([key(1), key(7)]) == Difference()
    assert roster.found(key(1)) is None
    assert roster.listed(key(1))
    assert not roster.listed(key(7))
    assert names(env) == {"factor-1"}


@in_virtual_time
async def test_a_paused_factor_is_not_fetched_and_starts_again_later() -> None:
    env, roster = harness_of(factor(1, interval=30))
    await env.run(40)
    before = len(env.client.requested_at(key(1)))
    roster.list([factor(99), factor(1, interval=30, paused=True)])
    assert env.ledger.counts["main", SERVICES[0]] == {"verified": 1, "unknown": 0}
    await env.run(100)
    assert len(env.client.requested_at(key(1))) == before
    roster.list([factor(99), factor(1, interval=30)])
    await env.run(31)
    assert len(env.client.requested_at(key(1))) > before


@in_virtual_time
async def test_a_pause_that_began_during_a_fetch() -> None:
    env, roster = harness_of(factor(1))
    env.client.will(key(1), Reply(Status.VERIFIED, latency=5.0))
    env.offer(key(1))
    await env.run(1)
    assert env.client.open == 1
    roster.list([factor(99), factor(1, paused=True)])
    await env.run(600)
    assert env.client.requested_at(key(1)) == [0.0]
    assert key(1) not in env.schedule


@in_virtual_time
async def test_many_factors_at_once() -> None:
    env, roster = harness_of(*factors(50))
    assert roster.list([factor(99), *factors(40), *(factor(n) for n in range(60, 65))]) == Difference(5, 10, 0)
    assert len(env.ledger) == 46


class RosterMachine(RuleBasedStateMachine):
    """Any sequence of lists, finds and losses, against sets and a plain rule for the names."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(LedgerPolicy())
        self.poller = Recorded(self.ledger)
        self.roster = Roster(self.poller, self.ledger)  # type: ignore[arg-type]  # a stand-in for the poller
        self.listed: dict[FactorKey, WatchedFactor] = {}
        self.found: dict[FactorKey, FoundFactor] = {}

    @rule(numbers=st.sets(st.integers(0, 5)), short=st.booleans())
    def list(self, numbers: set[int], short: bool) -> None:
        chosen = [twin(n) for n in numbers]
        self.listed = {
            f.key: WatchedFactor(
                f.key, "team-c0ffee00" if short and not i else f"listed-{f.key.factor_sid}", "i", 1
            )
            for i, f in enumerate(chosen)
        }
        self.roster.list(self.listed.values())

    @rule(numbers=st.sets(st.integers(0, 5)), entity=st.sampled_from(["team", "crew"]))
    def find(self, numbers: set[int], entity: str) -> None:
        chosen = [replace(twin(n), entity=entity) for n in numbers]
        self.found.update({f.key: f for f in chosen})
        self.roster.find(chosen)

    @rule(numbers=st.sets(st.integers(0, 5)))
    def lose(self, numbers: set[int]) -> None:
        for n in numbers:
            self.found.pop(twin(n).key, None)
        self.roster.lose(twin(n).key for n in numbers)

    @invariant()
    def watched_is_what_is_listed_or_found(self) -> None:
        watched = {record.watched.key: record.watched for record in self.ledger}
        assert watched.keys() == self.listed.keys() | self.found.keys()
        shown = [w.name for w in watched.values()]
        assert len(set(shown)) == len(shown)
        listed_names = {w.name for w in self.listed.values()}
        for k, w in watched.items():
            if k in self.listed:
                assert w == self.listed[k]
                continue
            entity = self.found[k].entity
            alone = [f.entity for f in self.found.values()].count(entity) == 1
            short = f"{entity}-c0ffee00"
            assert w.name == (short if alone and short not in listed_names else f"{entity}-{k.factor_sid}")

    @invariant()
    def entities_count_what_was_found(self) -> None:
        for entity in ("team", "crew"):
            counts = self.ledger.entity_counts.get(("main", SERVICES[0], entity), {})
            assert sum(counts.values()) == sum(f.entity == entity for f in self.found.values())


class Recorded:
    """A poller that only keeps the ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def watch(self, factors: list[WatchedFactor], _snapshots: object = None) -> int:
        for watched in factors:
            self.ledger.watch(watched)
        return 0

    def add(
        self, factors: list[WatchedFactor], _snapshots: object = None
    ) -> tuple[list[FactorKey], set[FactorKey]]:
        self.watch(factors)
        return [watched.key for watched in factors], set()

    def revise(self, factors: list[WatchedFactor]) -> None:
        for watched in factors:
            self.ledger.revise(watched, Moment(0.0, 0.0))

    def change(self, factors: list[WatchedFactor]) -> list[FactorKey]:
        self.revise(factors)
        return []

    def plans(self, _key: FactorKey) -> bool:
        return True

    def begin(self, _keys: list[FactorKey], *, again: object = None) -> Slices[None]:
        yield 0.0

    def forget(self, keys: list[FactorKey], *, keep: bool = True) -> None:
        assert keep, "only what is gone for long is not kept"
        for gone in keys:
            self.ledger.forget(gone)


TestRosterMachine = RosterMachine.TestCase
TestRosterMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@pytest.mark.parametrize("seconds", [0.0, 100.0])
@in_virtual_time
async def test_a_budget_that_is_changed_counts_at_once(seconds: float) -> None:
    env = PollingHarness(factors(200, interval=10), rate=100, concurrency=40)
    await env.run(30 + seconds)
    before = len(env.client.calls)
    env.account.apply_policy(AccountPolicy(requests_per_second=5, max_concurrency=2, max_attempts=1))
    start = env.now
    await env.run(60)
    begun = [call.began for call in env.client.calls[before:]]
    assert len(begun) <= 5 * 60 + 40
    assert max(sum(at <= moment < at + 0.999 for moment in begun) for at in (start + 2, start + 30)) <= 5
