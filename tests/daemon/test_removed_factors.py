"""A removed factor: its series are gone at once, and what was known of it comes back with it."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exporter.config import load
from exporter.daemon.engine import Engine
from exporter.polling.clock import Clock
from exporter.polling.roster import Difference
from exporter.polling.slices import at_once
from exporter.simulator import Fault, FaultKind
from exporter.state.keeper import StateKeeper
from exporter.verify.outcome import Answer, Reason, Status
from exporter.watched import FactorKey
from tests.support.config_files import account_of, entry, numbered_entry, write_config
from tests.support.factors import outcome
from tests.support.running_exporter import LeapingClock, becomes, running

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from exporter.config import Config
    from exporter.polling.record import FactorRecord
    from exporter.simulator import Simulator
    from tests.support.scrape import Scrape

FAMILIES = (
    "last_verified_timestamp_seconds", "last_success_timestamp_seconds", "fetch_failures_total", "exists", "up",
    "verified",
)  # fmt: skip


def of(page: Scrape, name: str) -> dict[str, float | None]:
    return {family: page.factor(family, name) for family in FAMILIES}


@pytest.fixture
def clock() -> LeapingClock:
    clock = LeapingClock()
    clock.stop()
    return clock


@pytest.mark.usefixtures("brisk")
async def test_it_survives_reloads_and_a_restart(
    simulator: Simulator, tmp_path: Path, clock: LeapingClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="exporter.daemon.reload")
    stays, removed = simulator.add_factor(), simulator.add_factor()
    entries = [entry("stays", stays), entry("removed", removed)]

    def write(*factors: dict[str, object]) -> Path:
        return write_config(
            tmp_path / "config.toml",
            {"main": account_of(simulator)},
            factors,
            polling={"interval": "10m", "max_attempts": 1, "forget_after": "1h"},
            state={"file": "state.jsonl"},
        )

    path = write(*entries)
    async with running(path, clock=clock) as exporter:
        clock.leap(31)
        await exporter.shows(lambda page: page.counts()["verified"] == 2)
        simulator.faults.add(Fault(FaultKind.STATUS, status=500, factor_sid=removed.sid))
        clock.leap(600)
        known = of(await exporter.shows(lambda page: page.factor("up", "removed") == 0), "removed")
        assert known["fetch_failures_total"] == 1
        write(entries[0])
        assert await exporter.daemon.reload() == Difference(removed=1)
        page = await exporter.scrape()
        assert removed.sid not in page.text
        assert page.value("twilio_verify_exporter_watchlist_factors") == 1
        clock.leap(60)
        write(*entries)
        assert await exporter.daemon.reload() == Difference(added=1, restored=1)
        assert of(await exporter.scrape(), "removed") == known
        record = next(of for of in caplog.records if getattr(of, "fields", {}).get("restored") == 1)
        assert record.getMessage() == "configuration reloaded"
        write(entries[0])
        await exporter.daemon.reload()
    assert removed.sid in tmp_path.joinpath("state.jsonl").read_text()

    for _restart in range(2):  # it goes from one file to the next
        clock.leap(60)
        async with running(path, clock=clock) as exporter:
            page = await exporter.scrape()
            assert page.factor("verified", "stays") == 1
            assert removed.sid not in page.text
            await exporter.daemon.housekeeping()
    async with running(path, clock=clock) as exporter:
        write(*entries)
        assert await exporter.daemon.reload() == Difference(added=1, restored=1)
        assert of(await exporter.scrape(), "removed") == known
        write(entries[0])
        await exporter.daemon.reload()
        clock.leap(3600)
        write(*entries)
        assert await exporter.daemon.reload() == Difference(added=1)
        page = await exporter.scrape()
        assert page.factor("last_verified_timestamp_seconds", "removed") is None
        assert page.factor("fetch_failures_total", "removed") == 0


@pytest.mark.usefixtures("brisk")
async def test_what_was_removed_while_the_exporter_was_stopped_comes_back_too(
    simulator: Simulator, tmp_path: Path, clock: LeapingClock
) -> None:
    entries = [entry("stays", simulator.add_factor()), entry("removed", simulator.add_factor())]

    def write(*factors: dict[str, object]) -> Path:
        return write_config(
            tmp_path / "config.toml",
            {"main": account_of(simulator)},
            factors,
            polling={"interval": "10m"},
            state={"file": "state.jsonl"},
        )

    async with running(write(*entries), clock=clock) as exporter:
        clock.leap(31)
        known = of(await exporter.shows(lambda page: page.counts()["verified"] == 2), "removed")
    async with running(write(entries[0]), clock=clock) as exporter:
        assert (await exporter.scrape()).value("twilio_verify_exporter_watchlist_factors") == 1
    async with running(write(*entries), clock=clock) as exporter:
        assert of(await exporter.scrape(), "removed") == known


@pytest.mark.usefixtures("brisk")
async def test_a_late_answer_changes_nothing_that_is_kept(
    simulator: Simulator, tmp_path: Path, clock: LeapingClock
) -> None:
    stays, removed = simulator.add_factor(), simulator.add_factor()
    accounts = {"main": account_of(simulator)}
    entries = [entry("stays", stays), entry("removed", removed)]
    polling = {"interval": "10m", "unverified_interval": "10m"}
    path = write_config(tmp_path / "config.toml", accounts, entries, polling=polling)
    async with running(path, clock=clock) as exporter:
        clock.leap(31)
        known = of(await exporter.shows(lambda page: page.counts()["verified"] == 2), "removed")
        simulator.set_status(removed.sid, "unverified")
        simulator.faults.add(Fault(FaultKind.LATENCY, seconds=0.5, factor_sid=removed.sid))
        clock.leap(600)
        await becomes(lambda: simulator.calls.by_factor[removed.sid] == 2)
        write_config(path, accounts, entries[:1], polling=polling)
        await exporter.daemon.reload()
        await becomes(lambda: exporter.daemon.engine.poller.accounts["main"].throttle.in_flight == 0)
        write_config(path, accounts, entries, polling=polling)
        assert await exporter.daemon.reload() == Difference(added=1, restored=1)
        page = await exporter.scrape()
        assert of(page, "removed") == known, "the answer came while nobody watched the factor"
        assert page.total("twilio_verify_factor_status_changes_total") == 0


@pytest.mark.usefixtures("brisk")
async def test_the_factors_of_an_entity_come_back_with_a_listing(
    simulator: Simulator, tmp_path: Path, clock: LeapingClock
) -> None:
    found = simulator.add_factor(identity="somebody-0001")
    accounts = {"main": account_of(simulator)}
    entity = {"name": "ops", "service_sid": found.service_sid, "identity": found.identity}
    listed = [entry("listed", simulator.add_factor())]
    polling = {"interval": "10m", "discovery_interval": "10m"}
    text = "".join(f'{name} = "{value}"\n' for name, value in entity.items())
    path = write_config(tmp_path / "config.toml", accounts, listed, polling=polling)
    without = path.read_text()

    async with running(path, clock=clock) as exporter:
        path.write_text(f"{without}\n[[entities]]\n{text}")
        await exporter.daemon.reload()
        clock.leap(31)
        name = f"ops-{found.sid[-8:]}"
        await exporter.shows(lambda page: page.factor("info", name) is not None)
        clock.leap(31)
        known = of(await exporter.shows(lambda page: page.factor("verified", name) == 1), name)
        path.write_text(without)
        assert await exporter.daemon.reload() == Difference(removed=1)
        assert found.sid not in (await exporter.scrape()).text
        simulator.faults.add(Fault(FaultKind.STALL_BEFORE_HEADERS, factor_sid=found.sid))
        path.write_text(f"{without}\n[[entities]]\n{text}")
        await exporter.daemon.reload()
        assert found.sid not in (await exporter.scrape()).text, "not before it is listed again"
        clock.leap(31)
        page = await exporter.shows(lambda page: page.factor("info", name) is not None)
        assert of(page, name) == known


# Any sequence of steps: an engine without requests, whose outcomes come from the test

FORGET_AFTER = 3600.0
STALE_SECONDS = 3 * 300.0
NUMBERS = range(1, 3)


class Times:
    """Both clocks of all processes of a test."""

    seconds = 1_800_000_000.0

    def now(self) -> float:
        return self.seconds


View = tuple[object, ...]


def view(record: FactorRecord) -> View:
    """Return what is known of a factor beyond its status that is shown."""
    since = None if record.not_verified_since is None else round(record.not_verified_since, 2)
    return (
        record.last_status, record.answered_seconds, record.last_verified_seconds, record.up, record.failures,
        record.failing_since_seconds, since, record.factor_type, record.entity_sid, record.slowed,
        record.answered_interval_seconds,
    )  # fmt: skip


@dataclass
class Expected:
    """What a test expects of a factor; removed since then, or watched."""

    view: View
    status: Status | None
    stale_at: float
    since: tuple[float | None, bool]
    removed: float | None = None


class Timeline:
    """What was shown of a factor: the status since each of some times, and none while there was no process."""

    def __init__(self, now: float) -> None:
        self.shown: list[tuple[float, Status | None]] = [(now, None)]

    def add(self, time: float, status: Status | None) -> None:
        if status is not self.shown[-1][1]:
            self.shown.append((time, status))

    def periods(self, now: float) -> list[tuple[float, float, Status]]:
        ends = [*(time for time, _ in self.shown[1:]), now]
        spans = zip(self.shown, ends, strict=True)
        return [(begun, end, status) for (begun, status), end in spans if status is not None and end > begun]


@dataclass
class Process:
    """An engine with a state file, as a daemon runs it, without its jobs and servers."""

    folder: Path
    times: Times
    engine: Engine = field(init=False)
    keeper: StateKeeper = field(init=False)

    def config(self, numbers: Sequence[int]) -> Config:
        path = write_config(
            self.folder / "config.toml",
            {"main": {"account_sid": "AC" + "1" * 32, "password": "p4ssw0rd-of-a-test"}},
            [numbered_entry(number) for number in (0, *numbers)],
            polling={
                "interval": "5m",
                "unverified_interval": "5m",
                "not_found_interval": "5m",
                "forget_after": "1h",
            },
            state={"file": "state.jsonl"},
        )
        return load(path, environ={}, flags={})

    def start(self, numbers: Sequence[int]) -> None:
        config = self.config(numbers)
        self.engine = engine = Engine(config, clock=Clock(self.times.now, self.times.now))
        assert config.settings.state.file is not None
        self.keeper = StateKeeper(
            config.settings.state.file, engine.ledger, engine.removed, engine.clock, engine.discovery
        )
        engine.start(self.keeper.load().snapshots)

    async def stop(self) -> None:
        await self.keeper.save()
        await self.engine.poller.drain(0)


def key(number: int) -> FactorKey:
    text = numbered_entry(number)
    return FactorKey("main", str(text["service_sid"]), str(text["factor_sid"]))


BLANK = Expected((None, None, None, None, 0, None, None, "", "", False, 0.0), None, 0.0, (None, False))
PASS = (("pass", 1.0),)
subsets = st.sets(st.sampled_from(NUMBERS)).map(sorted)
steps = st.one_of(
    st.tuples(st.just("list"), subsets),
    st.tuples(st.just("restart"), subsets),
    st.tuples(st.just("pass"), st.sampled_from([1.0, 299.5, 900.0, 1800.0, 3599.0, 3600.0])),
    st.tuples(st.just("fetch"), st.tuples(st.sampled_from(NUMBERS), st.sampled_from([*Status, Reason.TIMEOUT]))),
    st.tuples(st.just("save"), st.none()),
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.lists(steps, max_size=14))
@example([("fetch", (1, Status.VERIFIED)), *PASS, ("list", [2]), *PASS, ("list", [1, 2]), *PASS])
@example([("fetch", (1, Status.VERIFIED)), *PASS, ("restart", [2]), *PASS, ("restart", [1]), *PASS])
def test_what_was_known_is_back_exactly_or_forgotten_for_its_age(sequence: list[tuple[str, object]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_check(Path(folder), sequence))


async def _check(folder: Path, sequence: list[tuple[str, object]]) -> None:
    times = Times()
    process = Process(folder, times)
    process.start(NUMBERS)
    expected = {key(number): BLANK for number in NUMBERS}
    timelines = {key(number): Timeline(times.seconds) for number in NUMBERS}
    for step, argument in sequence:
        match step, argument:
            case "pass", float(seconds):
                times.seconds += seconds
            case "save", _:
                process.engine.housekeeping()
                await process.keeper.save()
            case "fetch", (int(number), Status() | Reason() as result) if (
                record := process.engine.ledger.get(key(number))
            ) is not None:
                process.engine.poller.withdraw_stale()
                whole = Answer(result, factor_type="push") if isinstance(result, Status) else result
                process.engine.ledger.apply(key(number), outcome(whole), process.engine.clock.moment())
                expected[key(number)] = _known(record)
            case "list", list(numbers):
                _change(expected, numbers, times.seconds)
                at_once(process.engine.applying(process.config(numbers)))
            case "restart", list(numbers):
                await process.stop()
                _note(timelines, expected, {}, times.seconds)
                times.seconds += 5
                _change(expected, numbers, times.seconds)
                process.start(numbers)
        _compare(process, expected, times.seconds)
        records = {one: record for one in expected if (record := process.engine.ledger.get(one)) is not None}
        _note(timelines, expected, records, times.seconds)
        for one, record in records.items():
            if expected[one] is BLANK:
                timelines[one] = Timeline(times.seconds)  # forgotten, or never fetched
            periods = process.engine.ledger.history.periods(record, process.engine.clock.moment())
            assert [(*rounded(of[:2]), of.status) for of in periods if of.status is not None] == [
                (*rounded(of[:2]), of[2]) for of in timelines[one].periods(times.seconds)
            ]
    await process.stop()


def rounded(times: tuple[float, float]) -> tuple[float, float]:
    return round(times[0], 2), round(times[1], 2)


def _note(
    timelines: Mapping[FactorKey, Timeline],
    expected: Mapping[FactorKey, Expected],
    records: Mapping[FactorKey, FactorRecord],
    now: float,
) -> None:
    """Note what is shown of each factor now: nothing of one without a record."""
    for one, timeline in timelines.items():
        record = records.get(one)
        last = timeline.shown[-1][1]
        if last is not None and expected[one].stale_at < now and (record is None or record.status is not last):
            timeline.add(max(expected[one].stale_at, timeline.shown[-1][0]), None)
        timeline.add(now, None if record is None else record.status)


def _known(record: FactorRecord) -> Expected:
    stale_at = record.answered_steady + STALE_SECONDS
    return Expected(view(record), record.status, stale_at, (record.status_since_seconds, record.status_change_seen))


def _change(expected: dict[FactorKey, Expected], numbers: Sequence[int], now: float) -> None:
    for number in NUMBERS:
        one = expected[key(number)]
        if number not in numbers:
            one.removed = now if one.removed is None and one is not BLANK else one.removed
        elif one.removed is not None:
            expected[key(number)] = BLANK if now - one.removed >= FORGET_AFTER else one
            one.removed = None


def _compare(process: Process, expected: dict[FactorKey, Expected], now: float) -> None:
    process.engine.poller.withdraw_stale()
    for one, of in expected.items():
        record = process.engine.ledger.get(one)
        if record is None:
            continue
        assert view(record) == of.view
        if of.status is None or now < of.stale_at - 0.01:
            assert record.status is of.status
            assert (record.status_since_seconds, record.status_change_seen) == of.since
        elif now > of.stale_at + 0.01:
            assert record.status is None
            assert record.status_since_seconds == pytest.approx(of.stale_at, abs=0.01)
            assert record.status_change_seen
