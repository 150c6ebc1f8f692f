"""The ledger against an oracle that keeps no state: it recomputes what is known from the history of events."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from exporter.polling.clock import Moment
from exporter.polling.ledger import Ledger, LedgerPolicy
from exporter.polling.record import UNKNOWN
from exporter.polling.status_history import MOST_CHANGES, StatusHistory
from exporter.verify.outcome import Answer, Failure, Outcome, Reason, Status
from tests.support.factors import code_of, factor
from tests.support.virtual_time import START

if TYPE_CHECKING:
    from exporter.watched import FactorKey, WatchedFactor

UNNOTICED_SECONDS = 2.0  # a smaller step of the wall clock counts as its drift
POLICY = LedgerPolicy(
    unverified_interval_seconds=60, unverified_window_seconds=600, not_found_interval_seconds=900, stale_after=2
)
FACTORS = (
    factor(0, interval=30),
    factor(1, interval=300),
    factor(2, interval=300, service=1),
    factor(3, interval=1_200, account="other"),
    factor(4, interval=100, account="other"),
    factor(5, paused=True),
)
POLLED = FACTORS[:-1]


def with_platform(answer: Answer) -> Answer:
    """Return an answer, of a push factor with a notification platform that depends on its other fields."""
    if answer.factor_type != "push":
        return answer
    platform = ("apn", "none")[answer.created_seconds is None]
    return replace(answer, notification_platform=platform)


results = st.one_of(
    st.builds(
        Answer,
        st.sampled_from([Status.VERIFIED, Status.UNVERIFIED]),
        st.one_of(st.none(), st.just(1e9)),
        st.one_of(st.none(), st.just(1.5e9)),
        st.sampled_from(["", "push", "totp"]),
        st.sampled_from(["", "YE1"]),
        st.one_of(st.none(), st.just(1.6e9)),
    ).map(with_platform),
    st.just(Answer(Status.NOT_FOUND)),
    st.builds(Failure, st.sampled_from(Reason)),
)
outcomes = st.builds(
    lambda result, duration, alone: Outcome(
        result,
        duration,
        code=code_of(result),
        alone=alone and isinstance(result, Failure) and result.reason.refused,
    ),
    results,
    st.floats(0.01, 30),
    st.booleans(),
)


@dataclass(frozen=True, eq=False)  # two equal outcomes at the same moment are two events
class Event:
    """What happened to a factor: an outcome, a stretch of its account, a check of the time, or a reload."""

    at: Moment
    outcome: Outcome | None = None
    stretch: float | None = None
    expiry: bool = False
    watched: WatchedFactor | None = None
    policy: LedgerPolicy | None = None


@dataclass
class History:
    """All that happened to one factor since it is watched."""

    watched: WatchedFactor
    events: list[Event] = field(default_factory=list)

    def answers(self, events: list[Event]) -> list[tuple[Event, Answer]]:
        return [(e, e.outcome.result) for e in events if e.outcome and isinstance(e.outcome.result, Answer)]

    def failures(self, events: list[Event]) -> list[tuple[Outcome, Failure]]:
        return [
            (e.outcome, e.outcome.result) for e in events if e.outcome and isinstance(e.outcome.result, Failure)
        ]

    def entry(self, events: list[Event]) -> WatchedFactor:
        return [e.watched for e in events if e.watched is not None][-1]

    def policy(self, events: list[Event]) -> LedgerPolicy:
        return [e.policy for e in events if e.policy is not None][-1]

    def interval(self, events: list[Event]) -> float:
        """The interval in effect after these events, by the rules of the contract, one after the other."""
        base = self.entry(events).interval_seconds
        policy = self.policy(events)
        stretch = [e.stretch for e in events if e.stretch is not None][-1]
        counting = [e for e in events if not e.expiry]
        now = counting[-1].at.steady
        answers = self.answers(events)
        since = events.index(answers[-1][0]) if answers else 0
        slowed = any(
            failure.reason in ("bad_request", "decode", "unknown_status") or outcome.alone
            for outcome, failure in self.failures(events[since:])
        )
        last = answers[-1][1].status if answers else None
        first_seen = now
        for event, answer in reversed(answers):
            if answer.status != last:
                break
            first_seen = event.at.steady
        newly = {"unverified": policy.unverified_window_seconds, "not_found": 900}
        if not slowed and last in newly and now - first_seen < newly[last]:
            return min(base, policy.unverified_interval_seconds) * stretch
        if slowed or last == "not_found":
            return max(base, policy.not_found_interval_seconds) * stretch
        return base * stretch

    def stale(self) -> bool:
        """Whether the last answer was found stale after it came."""
        return self.stale_since() is not None

    def stale_since(self) -> float | None:
        """Since when the last answer is stale, if that was found."""
        answers = self.answers(self.events)
        if not answers:
            return None
        place = self.events.index(answers[-1][0])
        in_force = self.interval(self.events[: place + 1])
        for number, event in enumerate(self.events[place + 1 :], place + 1):
            known = self.events[:number]
            longest = max(self.entry(known).interval_seconds, in_force)
            limit = answers[-1][0].at.steady + self.policy(known).stale_after * longest
            if event.expiry and event.at.steady >= limit:
                return limit
        return None

    def shown(self) -> Status | None:
        """The status that may be shown."""
        answers = self.answers(self.events)
        return None if not answers or self.stale() or self.watched.paused else answers[-1][1].status


class LedgerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(POLICY, StatusHistory(Moment(START, START)))
        self.histories: dict[FactorKey, History] = {}
        self.shown: dict[FactorKey, list[tuple[float, Status | None]]] = {}
        self.stepping, self.stepped, self.unnoticed = False, False, 0.001
        self.stretches = {"main": 1.0, "other": 1.0}
        self.current_policy = POLICY
        self.steady = START
        self.wall_step = 0.0

    @property
    def now(self) -> Moment:
        return Moment(self.steady + self.wall_step, self.steady)

    @initialize(stepping=st.booleans())
    def begin(self, stepping: bool) -> None:
        """Let the wall clock step in half of the runs: the history of statuses begins again then."""
        self.stepping = stepping
        for watched in FACTORS:
            self.watch(watched)

    @rule(watched=st.sampled_from(FACTORS))
    def watch(self, watched: WatchedFactor) -> None:
        if watched.key not in self.histories:
            self.ledger.watch(watched)
            stretch = self.stretches[watched.key.account]
            first = Event(self.now, stretch=stretch, watched=watched, policy=self.current_policy)
            self.histories[watched.key] = History(watched, [first])

    @rule(watched=st.sampled_from(FACTORS))
    def forget(self, watched: WatchedFactor) -> None:
        if self.histories.pop(watched.key, None):
            self.ledger.forget(watched.key)
            self.shown.pop(watched.key, None)

    @rule(watched=st.sampled_from(FACTORS), interval=st.sampled_from([20.0, 300.0, 2000.0]), paused=st.booleans())
    def revise(self, watched: WatchedFactor, interval: float, paused: bool) -> None:
        history = self.histories.get(watched.key)
        if history is None:
            return
        history.watched = replace(watched, name=f"until-{interval}", interval_seconds=interval, paused=paused)
        record = self.ledger.revise(history.watched, self.now)
        assert record.watched is history.watched
        history.events.append(Event(self.now, watched=history.watched))

    @rule(
        stale_after=st.integers(2, 4),
        window=st.sampled_from([0.0, 600.0]),
        unverified=st.sampled_from([10.0, 60.0]),
        not_found=st.sampled_from([60.0, 900.0]),
    )
    def adopt(self, stale_after: int, window: float, unverified: float, not_found: float) -> None:
        before = {k: history.interval(history.events) for k, history in self.histories.items()}
        policy = LedgerPolicy(unverified, window, not_found, stale_after)
        changed = self.ledger.apply_policy(policy, self.now)
        if policy == self.current_policy:
            assert changed == []
            return
        self.current_policy = policy
        for history in self.histories.values():
            history.events.append(Event(self.now, policy=policy))
        for k, history in self.histories.items():
            if not history.watched.paused and history.interval(history.events) != before[k]:
                assert k in changed

    @rule(watched=st.sampled_from(FACTORS), entity=st.sampled_from(["", "team", "crew"]))
    def join(self, watched: WatchedFactor, entity: str) -> None:
        if watched.key in self.histories:
            self.ledger.join(watched.key, entity)

    @rule(watched=st.sampled_from(POLLED), outcome=outcomes)
    def apply(self, watched: WatchedFactor, outcome: Outcome) -> None:
        change = self.ledger.apply(watched.key, outcome, self.now)
        history = self.histories.get(watched.key)
        if history is None:
            assert change is None
            return
        before = history.answers(history.events)
        history.events.append(Event(self.now, outcome=outcome))
        after = history.answers(history.events)
        if len(after) > len(before) > 0 and after[-1][1].status != before[-1][1].status:
            assert change is not None
            assert change[:2] == (before[-1][1].status, after[-1][1].status)
        else:
            assert change is None

    @rule(seconds=st.one_of(st.floats(0, 100), st.floats(100, 5_000)))
    def pass_time(self, seconds: float) -> None:
        self.steady = round(self.steady + seconds, 3)

    @precondition(lambda self: self.stepping)
    @rule(seconds=st.floats(-1e6, 1e6))
    def step_the_wall_clock(self, seconds: float) -> None:
        step = abs(seconds - self.wall_step)
        self.stepped |= step > 0
        self.unnoticed += step if step <= UNNOTICED_SECONDS else 0.0
        self.wall_step = seconds

    @rule()
    def tidy(self) -> None:
        self.ledger.history.tidy(self.now)

    @rule()
    def expire(self) -> None:
        stale_before = {k for k, history in self.histories.items() if history.stale()}
        withdrawn = self.ledger.expire(self.steady)
        for history in self.histories.values():
            history.events.append(Event(self.now, expiry=True))
        stale_after = {k for k, history in self.histories.items() if history.stale()}
        claimed = {k for k in stale_after - stale_before if not self.histories[k].watched.paused}
        assert sorted(withdrawn) == sorted(claimed)

    @rule(account=st.sampled_from(["main", "other"]), factor=st.sampled_from([1.0, 1.5, 4.0]))
    def stretch(self, account: str, factor: float) -> None:
        before = {k: history.interval(history.events) for k, history in self.histories.items()}
        self.stretches[account] = factor
        changed = self.ledger.stretch(account, factor, self.now)
        for k, history in self.histories.items():
            if k.account == account:
                history.events.append(Event(self.now, stretch=factor))
        assert set(changed) == {
            k
            for k, history in self.histories.items()
            if history.interval(history.events) != before[k] and not history.watched.paused
        }

    @invariant()
    def the_same_is_known(self) -> None:
        assert [record.watched.key for record in self.ledger] == list(self.histories)
        for k, history in self.histories.items():
            record, events = self.ledger[k], history.events
            answers, failures = history.answers(events), history.failures(events)
            stale = history.stale()
            last = answers[-1][1] if answers else None
            assert record.status == (last.status if last and not stale else None)
            assert record.created_seconds == (last.created_seconds if last and not stale else None)
            assert record.updated_seconds == (last.updated_seconds if last and not stale else None)
            assert record.approved_seconds == (last.approved_seconds if last and not stale else None)
            at = answers[-1][0].at if answers else None
            assert record.answered_seconds == (at.wall if at else None)
            assert at is None or record.answered_steady == at.steady
            ended = [e.outcome for e in events if e.outcome]
            assert record.up == (isinstance(ended[-1].result, Answer) if ended else None)
            assert record.duration_seconds == (ended[-1].duration_seconds if ended else None)
            assert record.failures == len(failures)
            verified = [e.at.wall for e, answer in answers if answer.status == "verified"]
            assert record.last_verified_seconds == (verified[-1] if verified else None)
            assert record.factor_type == next((a.factor_type for _, a in reversed(answers) if a.factor_type), "")
            assert record.entity_sid == next((a.entity_sid for _, a in reversed(answers) if a.entity_sid), "")
            if not history.watched.paused:
                assert record.interval_seconds == pytest.approx(history.interval(events))

    @invariant()
    def the_history_is_what_was_shown(self) -> None:
        for k, history in self.histories.items():
            shown, status = self.shown.setdefault(k, [(self.steady, None)]), history.shown()
            if status is not shown[-1][1]:
                stale = history.stale_since()
                began = self.steady if stale is None or history.watched.paused else stale
                shown.append((max(began, shown[-1][0]), status))
            ends = [*(time for time, _ in shown[1:]), self.steady]
            spans = zip(shown, ends, strict=True)
            true: list[tuple[float, float, Status]] = []
            moments: list[tuple[float, float, Status]] = []  # a step that counts as drift lengthens them, too
            for (s, of), e in spans:
                if of is not None and e == s:
                    moments.append((round(s, 3), round(e, 3), of))
                if of is not None and e > s:
                    begins = true.pop()[0] if true and true[-1][1:] == (round(s, 3), of) else round(s, 3)
                    true.append((begins, round(e, 3), of))
            periods = self.ledger.history.periods(self.ledger[k], self.now)
            assert periods[-1].end_seconds == pytest.approx(self.now.wall)
            claimed = [
                (round(of.start_seconds - self.wall_step, 3), round(of.end_seconds - self.wall_step, 3), of.status)
                for of in periods
                if of.status is not None
            ]
            if not self.stepped and len(shown) < MOST_CHANGES:
                assert claimed == true
            for start, end, of in claimed:
                within = self.unnoticed
                assert any(s - within <= start and end <= e + within and of is o for s, e, o in true + moments)

    @invariant()
    def the_counts_are_the_factors(self) -> None:
        counted: Counter[tuple[str, str, str]] = Counter()
        for k, history in self.histories.items():
            if not history.watched.paused:
                counted[k.account, k.service_sid, self.ledger[k].status or UNKNOWN] += 1
        shown = Counter(
            {
                (*service, status): n
                for service, counts in self.ledger.counts.items()
                for status, n in counts.items()
            }
        )
        assert min(shown.values(), default=0) >= 0
        assert +shown == counted

    @invariant()
    def the_counts_by_type_and_platform_are_the_factors(self) -> None:
        by_type: Counter[tuple[str, str, str, str]] = Counter()
        by_platform: Counter[tuple[str, str, str]] = Counter()
        for k, history in self.histories.items():
            answers = [answer for _, answer in history.answers(history.events)]
            typed = [answer for answer in answers if answer.factor_type]
            kind = typed[-1].factor_type if typed else "unknown"
            status = UNKNOWN if history.stale() or not answers else answers[-1].status
            if history.watched.paused:
                continue
            by_type[k.account, k.service_sid, kind, status] += 1
            if kind == "push" and status in ("verified", "unverified"):
                by_platform[k.account, k.service_sid, typed[-1].notification_platform] += 1
        ledger = self.ledger
        types = {(*service, *of): n for service, counts in ledger.type_counts.items() for of, n in counts.items()}
        push = {(*service, of): n for service, counts in ledger.push_counts.items() for of, n in counts.items()}
        assert min([*types.values(), *push.values()], default=0) >= 0
        assert (+Counter(types), +Counter(push)) == (by_type, by_platform)

    @invariant()
    def the_counts_of_entities_are_their_factors(self) -> None:
        counted: Counter[tuple[str, str, str, str]] = Counter()
        for k, history in self.histories.items():
            record = self.ledger[k]
            if record.entity:
                status = UNKNOWN if history.watched.paused else record.status or UNKNOWN
                counted[k.account, k.service_sid, record.entity, status] += 1
        shown = Counter(
            {(*entity, status): n for entity, of in self.ledger.entity_counts.items() for status, n in of.items()}
        )
        assert min(shown.values(), default=0) >= 0
        assert +shown == counted

    @invariant()
    def demand_is_unstretched(self) -> None:
        for account, stretch in self.stretches.items():
            expected = sum(
                stretch / history.interval(history.events)
                for k, history in self.histories.items()
                if k.account == account and not history.watched.paused
            )
            assert self.ledger.demand(account) == pytest.approx(expected)

    @invariant()
    def the_calendar_is_small(self) -> None:
        assert self.ledger.stale_places <= 2 * len(FACTORS)


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_a_step_that_counts_as_drift_moves_a_beginning_by_no_more() -> None:
    machine = LedgerMachine()
    machine.begin(stepping=True)
    machine.pass_time(1.0)
    machine.apply(FACTORS[0], Outcome(Answer(Status.NOT_FOUND), 1.0, code=404))
    machine.the_history_is_what_was_shown()
    machine.step_the_wall_clock(1.0)
    machine.the_history_is_what_was_shown()


def test_two_equal_outcomes_at_the_same_moment_are_two_events() -> None:
    """An answer, a failure that slows down, and the same answer again, without time between them."""
    machine = LedgerMachine()
    machine.begin(stepping=False)
    answer = Outcome(Answer(Status.VERIFIED), 1.0, code=200)
    refused = Failure(Reason.BAD_REQUEST)
    for outcome in (answer, Outcome(refused, 1.0, code=code_of(refused)), answer):
        machine.apply(FACTORS[0], outcome)
        machine.demand_is_unstretched()
