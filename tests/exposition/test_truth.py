"""Ledger and exposition together against a small oracle, for any sequence of outcomes, reloads, clock steps,
restarts and scrapes: no sample claims what was not observed, none is lost, none outlives its factor.

The oracle keeps what was observed of each factor, and writes the contract's table of states down once more.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.exposition.factors import FactorExposition, FactorSamples
from exporter.exposition.pieces import Snapshot
from exporter.polling.clock import Moment
from exporter.polling.ledger import Ledger, LedgerPolicy
from exporter.polling.snapshot import FactorSnapshot, snapshot_of
from exporter.verify.outcome import Answer, Failure, Outcome, Reason, Status
from tests.support.factors import factor

if TYPE_CHECKING:
    from exporter.watched import FactorKey, WatchedFactor

pytestmark = pytest.mark.slow

P = "twilio_verify_factor_"
STALE_AFTER = 2
# All intervals in effect are the configured ones: test_ledger_history.py is about the others.
POLICY = LedgerPolicy(1e9, 0.0, 1.0, STALE_AFTER)
FACTORS = tuple(factor(number, interval=100) for number in range(4))
NAMES = ("one", "two", "three", "four", "five", "six")

RESULTS = st.sampled_from([*Status, *Status, *Status, Reason.TIMEOUT, Reason.DECODE, Reason.AUTH])

KINDS = (  # type, notification platform, last approval
    ("push", "apn", None),
    ("push", "other", None),
    ("passkeys", "", None),
    ("passkeys", "", 1.65e9),
    ("sms", "", None),
    ("", "", None),
)

Sample = tuple[str, frozenset[tuple[str, str]]]


@dataclass
class Known:
    """What was observed of one factor since it is watched; times are the oracle's own, which never step."""

    watched: WatchedFactor
    status: Status | None = None
    answered_at: float = 0.0
    answered_interval: float = 0.0
    answered_seconds: float | None = None
    verified_wall: float | None = None
    up: bool | None = None
    failures: int = 0
    duration: float | None = None
    created: float | None = None
    approved: float | None = None
    since: float | None = None
    details: tuple[str, str] = ("", "")
    platform: str = ""
    withdrawn: bool = False
    seen: list[Status] = field(default_factory=list)

    def enrolment(self, result: Status, created: float, wall: float) -> float | None:
        """Return how long an enrolment took that an answer with another status completes, if that was seen."""
        was_seen = self.status is Status.UNVERIFIED and not self.withdrawn and result is Status.VERIFIED
        verified_since = self.verified_wall is not None and self.verified_wall >= created
        return wall - created if was_seen and not verified_since else None

    def counted_as(self) -> tuple[str, str, str, str]:
        """Return service, type and status in the aggregates, and the notification platform if it counts there."""
        status = "unknown" if self.status is None or self.withdrawn else self.status.value
        named = {"": "unknown", "push": "push", "passkeys": "passkeys"}
        exists = status in ("verified", "unverified")
        return (
            self.watched.key.service_sid,
            named.get(self.details[0], "other"),
            status,
            self.platform if exists and self.details[0] == "push" else "",
        )

    def samples(self) -> dict[Sample, float]:
        """Return what a scrape may and must show of it, by the contract's table."""
        watched = self.watched
        labels = {"account": watched.key.account, "service_sid": watched.key.service_sid, "factor": watched.name}
        labels |= dict(watched.labels)
        info = labels | {
            "factor_sid": watched.key.factor_sid,
            "factor_type": self.details[0],
            "entity_sid": self.details[1],
        }
        shown: dict[Sample, float] = {(P + "info", frozenset(info.items())): 1.0}
        if watched.paused:
            return shown
        values = {
            "interval_seconds": watched.interval_seconds,
            "fetch_failures_total": self.failures,
            "up": self.up,
            "last_success_timestamp_seconds": self.answered_seconds,
            "last_verified_timestamp_seconds": self.verified_wall,
            "fetch_duration_seconds": self.duration,
        }
        if self.status is not None and not self.withdrawn:
            values["exists"] = self.status is not Status.NOT_FOUND
            values["status_since_timestamp_seconds"] = self.since
            if self.status is not Status.NOT_FOUND:
                values["last_approved_timestamp_seconds"] = self.approved
                values["verified"] = self.status is Status.VERIFIED
                values["created_timestamp_seconds"] = values["updated_timestamp_seconds"] = self.created
        named = frozenset(labels.items())
        return shown | {(P + name, named): float(value) for name, value in values.items() if value is not None}


class Truth(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000_000.0  # true time
        self.wall_offset = 1.7e9
        self.steady_offset = 0.0
        self.ledger = Ledger(POLICY)
        self.exposition = FactorExposition(FactorSamples())
        self.known: dict[FactorKey, Known] = {}
        self.scrapes = 0

    @property
    def moment(self) -> Moment:
        return Moment(round(self.now + self.wall_offset, 3), self.now + self.steady_offset)

    # What happens

    @initialize()
    def all_are_watched(self) -> None:
        for watched in FACTORS:
            self.exposition.update(self.ledger.watch(watched))
            self.known[watched.key] = Known(watched)

    @rule(seconds=st.sampled_from([1, 40, 120, 199, 200, 250, 700]))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @rule(seconds=st.sampled_from([-86_400, -60, -1, 1, 60, 86_400]))
    def the_wall_clock_steps(self, seconds: int) -> None:
        self.wall_offset += seconds

    @rule(
        watched=st.sampled_from(FACTORS),
        result=RESULTS,
        duration=st.integers(1, 99),
        kind=st.sampled_from(KINDS),
    )
    def a_fetch_ends(
        self, watched: WatchedFactor, result: Status | Reason, duration: int, kind: tuple[str, str, float | None]
    ) -> None:
        """One for a factor that is no longer watched is dropped."""
        now = self.moment
        if isinstance(result, Status):
            factor_type, platform, approved = kind
            created = 1.6e9 + duration
            answer = Answer(result, created, created, factor_type, "YE" + "0" * 32, approved, platform)
            bare = Answer(result)
            outcome = Outcome(bare if result is Status.NOT_FOUND else answer, duration / 100)
        else:
            outcome = Outcome(Failure(result), duration / 100)
        self.scrape()  # what is stale is withdrawn first, as by the tick before
        change = self.ledger.apply(watched.key, outcome, now)
        known = self.known.get(watched.key)
        if known is None:
            assert change is None
            return
        self.exposition.update(self.ledger[watched.key])
        known.duration = duration / 100
        if isinstance(result, Reason):
            known.up = False
            known.failures += 1
            return
        if known.status in (None, result):
            assert change is None
        else:
            assert change == (known.status, result, known.enrolment(result, 1.6e9 + duration, now.wall))
        if known.withdrawn or known.status is not result:
            known.since = None if known.status in (None, result) else now.wall
        known.status, known.up, known.withdrawn = result, True, False
        known.answered_at, known.answered_seconds = self.now, now.wall
        known.answered_interval = known.watched.interval_seconds
        if result is Status.VERIFIED:
            known.verified_wall = now.wall
        known.created = None if result is Status.NOT_FOUND else 1.6e9 + duration
        known.approved = None if result is Status.NOT_FOUND else approved
        if result is not Status.NOT_FOUND:
            known.details = (factor_type or known.details[0], "YE" + "0" * 32)
            known.platform = platform if factor_type else known.platform

    @rule(
        chosen=st.sets(st.sampled_from(range(len(FACTORS)))),
        shift=st.integers(0, len(NAMES) - 1),
        interval=st.sampled_from([50.0, 100.0, 300.0]),
        team=st.sampled_from(["", "a", "b"]),
        paused=st.sampled_from([None, 0, 1]),
    )
    def a_reload(self, chosen: set[int], shift: int, interval: float, team: str, paused: int | None) -> None:
        """Factors come and go; names are swapped, labels, intervals and pauses change."""
        wanted: dict[FactorKey, WatchedFactor] = {}
        for number in chosen:
            changed = replace(
                FACTORS[number],
                name=NAMES[(number + shift) % len(NAMES)],
                interval_seconds=interval,
                labels=(("team", team),) if team else (),
                paused=number == paused,
            )
            wanted[changed.key] = changed
        for key in self.known.keys() - wanted.keys():
            self.ledger.forget(key)
            self.exposition.remove(key)
            del self.known[key]
        for key, watched in wanted.items():
            if key in self.known:
                self.exposition.update(self.ledger.revise(watched, self.moment))
                self.known[key].watched = watched
            else:
                self.exposition.update(self.ledger.watch(watched))
                self.known[key] = Known(watched)

    @rule(down=st.sampled_from([0, 5, 150, 199, 250, 700]), uptime=st.sampled_from([0.0, 5.5, 3e6]))
    def a_restart(self, down: int, uptime: float) -> None:
        """What was known is saved, read back and taken up, on another steady clock, with its age by the wall."""
        self.scrape()
        saved: dict[FactorKey, str] = {}
        for record in self.ledger:
            memory = snapshot_of(record, self.moment)
            if memory is not None:
                saved[record.watched.key] = json.dumps(memory.as_fields())
        for known in self.known.values():
            if known.since is not None and known.since > self.moment.wall + 5:
                known.since = None  # the wall clock was set back since: unknown by now
        self.now += down
        self.steady_offset = uptime - self.now
        self.ledger, self.exposition = Ledger(POLICY), FactorExposition(FactorSamples())
        for key, known in self.known.items():
            record = self.ledger.watch(known.watched)
            memory = FactorSnapshot.from_fields(json.loads(saved[key])) if key in saved else None
            if memory is not None and memory.believable(self.moment.wall):
                self.ledger.restore(key, memory, self.moment)
            if memory is not None and self._from_the_future(known):
                self.known[key] = Known(known.watched)
            elif known.answered_seconds is not None:
                known.answered_at = self.now - (self.moment.wall - known.answered_seconds)
                known.withdrawn |= self._is_stale(known)
            self.exposition.update(record)

    def _from_the_future(self, known: Known) -> bool:
        times = (known.answered_seconds, known.verified_wall)
        return any(seconds is not None and seconds > self.moment.wall + 5 for seconds in times)

    def _is_stale(self, known: Known) -> bool:
        longest = max(known.watched.interval_seconds, known.answered_interval)
        return self.now - known.answered_at >= STALE_AFTER * longest

    # What is shown

    def scrape(self) -> None:
        """Withdraw what is stale, as every scrape does."""
        for key in self.ledger.expire(self.moment.steady):
            self.exposition.update(self.ledger[key])
        for known in self.known.values():
            known.withdrawn |= known.status is not None and self._is_stale(known)

    @invariant()
    def the_aggregates_are_the_truth(self) -> None:
        self.scrape()
        counted = [known.counted_as() for known in self.known.values() if not known.watched.paused]
        for service in {known.watched.key.service_sid for known in self.known.values()}:
            of = ("main", service)
            here = [entry[1:] for entry in counted if entry[0] == service]
            shown = self.ledger.counts[of], self.ledger.type_counts[of], self.ledger.push_counts[of]
            assert [+Counter(counts) for counts in shown] == [
                Counter(status for _, status, _ in here),
                Counter((kind, status) for kind, status, _ in here),
                Counter(platform for _, _, platform in here if platform),
            ]

    @invariant()
    def the_scrape_is_the_truth(self) -> None:
        self.scrape()
        expected: dict[Sample, float] = {}
        for known in self.known.values():
            expected |= known.samples()
        text = bytes(Snapshot(self.exposition.columns(openmetrics=False))).decode()
        openmetrics = bytes(Snapshot(self.exposition.columns(openmetrics=True))).decode() + "# EOF\n"
        self.scrapes += 1
        readings = [parse_text(text)]
        if self.scrapes % 5 == 0:  # its parser is slow
            readings.append(parse_openmetrics(openmetrics))  # type: ignore[no-untyped-call]  # the library is untyped
        for families in readings:
            shown = [
                ((sample.name, frozenset(sample.labels.items())), sample.value)
                for family in families
                for sample in family.samples
            ]
            assert len(dict(shown)) == len(shown), "a series is there twice"
            assert dict(shown) == expected


TestTruth = Truth.TestCase
TestTruth.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
