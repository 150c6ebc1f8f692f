"""A list that is applied in slices: what may be seen in between, how much is done at once, and what it leads to."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from exporter.exposition.factors import FactorExposition, FactorSamples
from exporter.exposition.pieces import Snapshot
from exporter.polling.clock import Moment
from exporter.polling.ledger import Ledger, LedgerPolicy
from exporter.polling.observer import Observer, Tee
from exporter.polling.poller import Poller
from exporter.polling.record import UNKNOWN
from exporter.polling.removed import RemovedFactors
from exporter.polling.roster import Difference, FoundFactor, Roster
from exporter.polling.schedule import Schedule
from exporter.polling.slices import CHANGED, READ, WHOLE, at_once, in_lists, in_slices, taken_apart
from exporter.verify.outcome import Status
from tests.support.factors import factor, factors, key, outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from exporter.polling.record import FactorRecord
    from exporter.polling.slices import Slices
    from exporter.watched import FactorKey, WatchedFactor


class _Account:
    """Of an account, what watching needs."""

    name = "main"
    stretch = 1.0
    budget_requests_per_second = 1e9
    demand_requests_per_second = fetch_requests_per_second = 0.0

    def __init__(self) -> None:
        self.pending: set[FactorKey] = set()

    def expect_first_fetches(self, keys: Iterable[FactorKey]) -> None:
        self.pending.update(keys)

    def forget(self, gone: FactorKey) -> None:
        self.pending.discard(gone)


class _Changes(Observer):
    """Counts the factors that were changed since it was read last."""

    def __init__(self) -> None:
        self.count = 0

    def watched(self, record: FactorRecord) -> None:
        self.count += 1

    revised = forgotten = watched

    def taken(self) -> int:
        count, self.count = self.count, 0
        return count


class _World:
    """A roster with a real poller, ledger, schedule and exposition, without an event loop."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        clock: Any = SimpleNamespace(
            moment=lambda: Moment(self.seconds, self.seconds),
            steady=lambda: self.seconds,
            awake=lambda: self.seconds,
            suspended_seconds=lambda: 0.0,
            wall=lambda: self.seconds,
        )
        self.ledger = Ledger(LedgerPolicy())
        self.schedule: Schedule[FactorKey] = Schedule()
        self.exposition = FactorExposition(FactorSamples())
        self.changes = _Changes()
        self.account = _Account()
        accounts: Any = {"main": self.account}
        observers = Tee()
        observers.add(self.exposition, self.changes)
        poller = Poller(
            accounts=accounts,
            ledger=self.ledger,
            schedule=self.schedule,
            observer=observers,
            clock=clock,
            removed=RemovedFactors(history=self.ledger.history),
        )
        self.roster = Roster(poller, self.ledger)

    def fetch(self, of: FactorKey, status: Status) -> bool:
        """Have a fetch of a factor end, if it is watched; return whether it is."""
        if (record := self.ledger.get(of)) is None:
            return False
        done = outcome(status)
        change = self.ledger.apply(of, done, Moment(self.seconds, self.seconds))
        self.exposition.fetched(record, done, change)
        return True

    def watched(self) -> dict[FactorKey, WatchedFactor]:
        return {record.watched.key: record.watched for record in self.ledger}

    def check(self) -> None:
        """Assert that a scrape of this moment is whole, and that the totals add up."""
        names = Counter((*of.key[:2], of.name) for of in self.watched().values())
        assert set(names.values()) <= {1}
        text = bytes(Snapshot(self.exposition.columns(openmetrics=False)))
        series = Counter(line.rpartition(b" ")[0] for line in text.splitlines() if not line.startswith(b"#"))
        assert set(series.values()) <= {1}
        fresh = FactorExposition(FactorSamples())
        fresh.render_as(fresh.samples, self.ledger)
        again = bytes(Snapshot(fresh.columns(openmetrics=False)))
        assert sorted(text.splitlines()) == sorted(again.splitlines())
        counted: Counter[tuple[tuple[str, ...], str]] = Counter()
        for record in self.ledger:
            if not record.watched.paused:
                counted[tuple(record.watched.key[:2]), record.status or UNKNOWN] += 1
        totals = {
            (service, status): number
            for service, counts in self.ledger.counts.items()
            for status, number in counts.items()
            if number
        }
        assert totals == counted


def _labelled(number: int, label: str) -> WatchedFactor:
    return replace(factor(number), labels=(("team", label),))


def _named(number: int, name: str) -> WatchedFactor:
    return replace(factor(number), name=name)


def _slices(world: _World, listed: Iterable[WatchedFactor], between: Callable[[], None]) -> Difference:
    """Apply a list as the event loop does, with a call between two slices."""

    async def apply() -> Difference:
        loop = asyncio.get_running_loop()
        ended = False

        def again() -> None:
            if not ended:
                between()
                loop.call_soon(again)

        loop.call_soon(again)
        try:
            return await in_slices(world.roster.listing(listed))
        finally:
            ended = True

    return asyncio.run(apply())


# The slices


async def test_other_work_comes_after_every_whole_slice_and_not_before() -> None:
    turns: list[str] = []

    def work() -> Slices[int]:
        for part in range(6):
            turns.append(f"part {part}")
            yield WHOLE / 2
        return 6

    async def other() -> None:
        while True:
            turns.append("other")
            await asyncio.sleep(0)

    beside = asyncio.create_task(other())
    assert await in_slices(work()) == 6
    beside.cancel()
    parts = ["part 0", "part 1", "other", "part 2", "part 3", "other", "part 4", "part 5", "other"]
    assert turns == parts


async def test_work_that_is_cancelled_is_closed() -> None:
    closed = asyncio.Event()

    def work() -> Slices[None]:
        try:
            while True:
                yield WHOLE
        finally:
            closed.set()

    task = asyncio.create_task(in_slices(work()))
    await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert closed.is_set()


def test_what_is_large_is_taken_apart_in_slices() -> None:
    numbers, names = list(range(2 * READ + 1)), dict.fromkeys(range(2 * READ + 1))
    assert list(taken_apart(numbers)) == [1.0, 1.0, 1 / READ]
    assert list(taken_apart(names)) == [1.0, 1.0, 1 / READ]
    assert not numbers
    assert not names


def test_lists_of_a_size() -> None:
    assert list(in_lists(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(in_lists((), 2)) == []


# How much is done at once

MANY = 10 * CHANGED + 7


@pytest.mark.parametrize(
    "listed",
    [
        pytest.param([_labelled(n, "new") for n in range(MANY)], id="every label"),
        pytest.param([_named(n, f"another-{n}") for n in range(MANY)], id="every name"),
        pytest.param([_named(n, f"factor-{n + 1}") for n in range(MANY)], id="every name moves on by one"),
        pytest.param([_named(n, f"factor-{n ^ 1}") for n in range(MANY - 1)], id="names are exchanged in pairs"),
        pytest.param(factors(10 * MANY), id="ten times as many"),
        pytest.param(factors(10), id="all removed but ten"),
        pytest.param([factor(n) for n in range(MANY, 2 * MANY)], id="all others"),
        pytest.param([factor(n, paused=True) for n in range(MANY)], id="all paused"),
    ],
)
def test_a_slice_changes_a_bounded_number_of_factors(listed: list[WatchedFactor]) -> None:
    world = _World()
    at_once(world.roster.listing(factors(MANY)))
    world.changes.taken()
    at_a_time: list[int] = []
    difference = _slices(world, listed, lambda: at_a_time.append(world.changes.taken()))
    assert world.watched() == {of.key: of for of in listed}
    assert max(at_a_time) <= 2 * CHANGED
    assert sum(at_a_time) + world.changes.taken() == sum(difference[:3]) >= MANY - 10
    assert not world.roster.busy


def test_the_planning_of_first_fetches_is_bounded_too() -> None:
    world = _World()
    planned: list[int] = []
    _slices(world, factors(50 * CHANGED), lambda: planned.append(len(world.schedule)))
    most = max(after - before for before, after in itertools.pairwise(planned))
    assert 0 < most <= 1000
    assert len(world.schedule) == 50 * CHANGED
    assert world.account.pending == {key(n) for n in range(50 * CHANGED)}


@pytest.mark.parametrize("large", [0, 2 * READ])
def test_a_small_change_has_nothing_in_between(large: int) -> None:
    rest = [factor(n) for n in range(1000, 1000 + large)]
    before = [*factors(60), *rest]
    after = [*(_labelled(n, "new") for n in range(30)), *(factor(n) for n in range(60, 95)), *rest]
    world = _World()
    at_once(world.roster.listing(before))
    seen: list[dict[FactorKey, WatchedFactor]] = []
    assert _slices(world, after, lambda: seen.append(world.watched())) == Difference(35, 30, 30)
    assert all(one in ({of.key: of for of in before}, {of.key: of for of in after}) for one in seen)
    assert len(seen) >= 1 + 2 * bool(large)


# Names


@pytest.mark.parametrize("seed", range(5))
def test_no_two_factors_have_one_name_at_any_time(seed: int) -> None:
    rng = random.Random(seed)
    count = 6 * CHANGED
    names = [f"factor-{n}" for n in range(count + 20)]
    rng.shuffle(names)
    world = _World()
    at_once(world.roster.listing(factors(count)))
    old = world.watched()
    listed = [_named(n, names[n]) for n in range(20, count)] + [_named(9999, "factor-3")]
    listed = list({of.name: of for of in listed}.values())
    new = {of.key: of for of in listed}
    moments = 0

    def between() -> None:
        nonlocal moments
        moments += 1
        world.check()
        for one, watched in world.watched().items():
            assert watched in (old.get(one), new.get(one))

    _slices(world, listed, between)
    world.check()
    assert world.watched() == new
    assert moments > 2


def test_names_that_go_round_in_a_circle_change_together() -> None:
    count = 3 * CHANGED
    world = _World()
    at_once(world.roster.listing(factors(count)))
    circle = [_named(n, f"factor-{(n + 1) % count}") for n in range(count)]
    states: list[dict[FactorKey, WatchedFactor]] = []
    _slices(world, [*circle, factor(9999)], lambda: states.append(world.watched()))
    named = [{one: of.name for one, of in state.items() if one != key(9999)} for state in states]
    assert all(names in ({key(n): f"factor-{n}" for n in range(count)}, _names(circle)) for names in named)
    assert _names(circle) in named


def _names(listed: Iterable[WatchedFactor]) -> dict[FactorKey, str]:
    return {of.key: of.name for of in listed}


# What comes in between

_NUMBERS = range(9)
_KEYS = [key(n) for n in _NUMBERS]


class SlicedMachine(RuleBasedStateMachine):
    """Lists applied step by step, with fetches, scrapes, stops in the middle and other lists in between."""

    def __init__(self) -> None:
        super().__init__()
        self.small = [
            patch(f"exporter.polling.{module}.{name}", size)
            for module in ("roster", "poller")
            for name, size in (("CHANGED", 2), ("READ", 3))
        ]
        for each in self.small:
            each.start()
        self.world = _World()
        self.whole = _World()  # gets every list at once
        self.work: Slices[Difference] | None = None
        self.before: dict[FactorKey, WatchedFactor] = {}
        self.listed: dict[FactorKey, WatchedFactor] = {}
        self.found: dict[FactorKey, FoundFactor] = {}
        self.known: dict[FactorKey, Status] = {}

    def teardown(self) -> None:
        for each in self.small:
            each.stop()

    @rule(
        names=st.permutations(_NUMBERS),
        chosen=st.sets(st.sampled_from(_NUMBERS)),
        label=st.sampled_from(["", "a", "b"]),
        paused=st.sets(st.sampled_from(_NUMBERS), max_size=2),
    )
    def begin(self, names: list[int], chosen: set[int], label: str, paused: set[int]) -> None:
        """Begin a list; one that is being applied stops where it is."""
        if self.work is not None:
            self.work.close()
        self.before = self.world.watched()
        self.listed = {
            key(n): replace(
                factor(n, paused=n in paused),
                name=f"name-{names[n]}",
                labels=(("team", label),) if label else (),
            )
            for n in sorted(chosen)
        }
        self.work = self.world.roster.listing(list(self.listed.values()))
        self.go_on(1)

    @precondition(lambda self: self.work is not None)
    @rule(steps=st.integers(1, 12))
    def step(self, steps: int) -> None:
        self.go_on(steps)

    def go_on(self, steps: int) -> None:
        assert self.work is not None
        try:
            for _ in range(steps):
                next(self.work)
        except StopIteration:
            self.work = None
            self.agrees_with_a_list_that_was_applied_at_once()

    def agrees_with_a_list_that_was_applied_at_once(self) -> None:
        self.whole.roster.list(self.listed.values())
        assert self.world.watched() == self.whole.watched()
        polled = {of.key for of in self.world.watched().values() if of.polled}
        assert {one for one in _KEYS if one in self.world.schedule} == polled
        for record in self.world.ledger:
            assert record.entity == self.whole.ledger[record.watched.key].entity

    @rule(number=st.sampled_from(_NUMBERS), status=st.sampled_from(list(Status)))
    def fetch(self, number: int, status: Status) -> None:
        if self.world.fetch(key(number), status):
            self.known[key(number)] = status

    @precondition(lambda self: not self.world.roster.busy)
    @rule(numbers=st.sets(st.sampled_from(_NUMBERS)))
    def find(self, numbers: set[int]) -> None:
        found = [FoundFactor(key(n), "team", "i", 300.0) for n in sorted(numbers)]
        self.found.update({of.key: of for of in found})
        self.world.roster.find(found)
        self.whole.roster.find(found)

    @precondition(lambda self: not self.world.roster.busy)
    @rule(numbers=st.sets(st.sampled_from(_NUMBERS)))
    def lose(self, numbers: set[int]) -> None:
        for n in numbers:
            self.found.pop(key(n), None)
        self.world.roster.lose(map(key, numbers))
        self.whole.roster.lose(map(key, numbers))

    @invariant()
    def a_scrape_is_whole(self) -> None:
        self.world.check()

    @invariant()
    def every_factor_is_as_before_or_as_it_is_listed_now(self) -> None:
        if self.work is None:
            return
        for one, watched in self.world.watched().items():
            if one not in self.found:
                assert watched in (self.before.get(one), self.listed.get(one))

    @invariant()
    def what_is_known_stays(self) -> None:
        for record in self.world.ledger:
            assert record.last_status == self.known.get(record.watched.key)


TestSlicedMachine = SlicedMachine.TestCase
TestSlicedMachine.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
