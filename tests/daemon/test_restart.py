"""Warm restarts: what was known is shown at once with its real age, and the API is not stormed."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import logging
import os
import stat
import threading
from typing import TYPE_CHECKING

import pytest

from exporter.simulator import Fault, FaultKind, Simulator
from tests.support.config_files import account_of, entry, write_config
from tests.support.processes import PATIENCE_SECONDS
from tests.support.running_exporter import LeapingClock, becomes, running, until

if TYPE_CHECKING:
    from pathlib import Path

COUNT = 60
LAST_SAVE = "twilio_verify_exporter_state_last_save_timestamp_seconds"


@pytest.fixture
def world(simulator: Simulator, tmp_path: Path) -> Path:
    """A configuration of factors that are fetched every ten minutes, with a state file."""
    factors = [simulator.add_factor(factor_type="passkeys") for _ in range(COUNT)]
    simulator.approve(factors[3].sid)
    simulator.set_status(factors[1].sid, "unverified")
    simulator.set_status(factors[2].sid, "deleted")
    return write_config(
        tmp_path / "config.toml",
        {"main": account_of(simulator, requests_per_second=500, max_concurrency=16)},
        [entry(f"f{number}", factor) for number, factor in enumerate(factors)],
        polling={"interval": "10m", "unverified_interval": "10m", "not_found_interval": "10m"},
        state={"file": "state.jsonl"},
    )


async def first_run(path: Path) -> tuple[str, float]:
    """Let an exporter fetch every factor once and stop; return its last page and when it stopped."""
    clock = LeapingClock()
    async with running(path, clock=clock) as exporter:
        clock.leap(31)
        page = await exporter.shows(lambda page: page.counts()["unknown"] == 0)
    return str(page), clock.steady()


def series(page: str, *families: str) -> list[str]:
    return sorted(
        line
        for line in page.splitlines()
        if any(line.startswith(f"twilio_verify_factor_{name}{{") for name in families)
    )


@pytest.mark.slow
async def test_the_series_are_there_at_once_and_the_api_is_not_stormed(simulator: Simulator, world: Path) -> None:
    before, stopped = await first_run(world)
    assert sum(simulator.calls.by_factor.values()) == COUNT
    requests = simulator.calls.total
    clock = LeapingClock(stopped + 20)
    clock.stop()
    async with running(world, clock=clock) as exporter:
        page = await exporter.scrape()
        shown = (
            "verified", "exists", "up", "last_success_timestamp_seconds", "last_verified_timestamp_seconds",
            "created_timestamp_seconds", "updated_timestamp_seconds", "last_approved_timestamp_seconds",
            "status_since_timestamp_seconds", "fetch_duration_seconds", "fetch_failures_total", "info",
            "interval_seconds",
        )  # fmt: skip
        assert series(page.text, *shown) == series(before, *shown)
        assert len(series(before, "last_approved_timestamp_seconds")) == 1
        assert page.counts() == {"verified": COUNT - 2, "unverified": 1, "not_found": 1, "unknown": 0}
        assert await exporter.status("/-/ready") == 200
        clock.leap(2)
        await asyncio.sleep(2)
        assert simulator.calls.total - requests <= 5, "each in its regular slot, without first fetches"


async def test_what_is_stale_by_now_is_not_claimed(simulator: Simulator, world: Path) -> None:
    before, stopped = await first_run(world)
    simulator.faults.add(Fault(FaultKind.STALL_BEFORE_HEADERS))
    async with running(world, clock=LeapingClock(stopped + 1801)) as exporter:
        page = await exporter.scrape()
        assert page.counts() == {"verified": 0, "unverified": 0, "not_found": 0, "unknown": COUNT}
        shown = ("last_success_timestamp_seconds", "last_verified_timestamp_seconds")
        assert series(page.text, *shown) == series(before, *shown)
        assert series(page.text, "verified", "exists") == []


async def test_the_file_is_the_owners_and_holds_no_identity(simulator: Simulator, world: Path) -> None:
    await first_run(world)
    file = world.with_name("state.jsonl")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) == COUNT + 2
    for factor in simulator.factors.values():
        assert factor.identity not in text
    assert '"f1"' not in text
    assert simulator.password not in text


@pytest.mark.parametrize("damage", ["cut", "changed", "later", "foreign", "a clock a day behind", "one line"])
async def test_a_file_that_is_not_restored_is_kept(
    simulator: Simulator, world: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    caplog.set_level(logging.INFO, "exporter")
    _page, stopped = await first_run(world)
    file = world.with_name("state.jsonl")
    content = file.read_bytes()
    bad = {
        "cut": content[:-200],
        "changed": content.replace(b"verified", b"VERIFIED", 1),
        "later": content.replace(b'"version":1', b'"version":9', 1),
        "foreign": b"my notes\n",
        "a clock a day behind": content,
        "one line": with_a_line_of_the_future(content),
    }[damage]
    file.write_bytes(bad)
    clock = LeapingClock(stopped - 86_400 if damage == "a clock a day behind" else stopped + 1)
    clock.stop()
    async with running(world, clock=clock) as exporter:
        page = await exporter.scrape()
        if damage == "one line":
            assert page.counts()["verified"] == COUNT - 2, "the others are restored"
            assert page.value(LAST_SAVE) == pytest.approx(stopped, abs=600)
            (restored,) = (line for line in caplog.records if line.getMessage() == "state restored")
            assert getattr(restored, "fields", {})["skipped"] == 1
        else:
            assert page.counts()["verified"] <= 10, "those fetched since"
            assert page.value(LAST_SAVE) is None
            assert "state not restored" in caplog.text
        assert "unusable state kept" in caplog.text
        (kept,) = world.parent.glob("state.jsonl.refused-*")
        assert kept.read_bytes() == bad
    assert file.read_bytes().startswith(b'{"format":"verify-factor-exporter state"')
    assert kept.read_bytes() == bad, "the save on exit doesn't touch it"


def with_a_line_of_the_future(content: bytes) -> bytes:
    """Return a sound file with one more factor, whose answer is still to come."""
    body = content[: content.rindex(b"\n", 0, -1) + 1]
    body += b'["main","VA0","YF0",{"status":"verified","answered_seconds":3000000000.0}]\n'
    return body + hashlib.sha256(body).hexdigest().encode() + b"\n"


async def test_an_empty_file_is_a_fresh_start(
    simulator: Simulator, world: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "exporter")
    world.with_name("state.jsonl").touch()
    await first_run(world)
    assert "state not restored" not in caplog.text
    assert "no saved state" in caplog.text
    assert list(world.parent.glob("state.jsonl.refused*")) == []
    assert len(world.with_name("state.jsonl").read_text().splitlines()) == COUNT + 2


@pytest.mark.parametrize("kind", ["pipe", "directory"])
async def test_what_is_no_file_is_left_alone_and_counted(
    simulator: Simulator, world: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    caplog.set_level(logging.INFO, "exporter")
    file = world.with_name("state.jsonl")
    if kind == "pipe":
        os.mkfifo(file)
    else:
        file.mkdir()
    async with running(world) as exporter:
        assert exporter.daemon.state is not None
        await exporter.daemon.state.save()
        page = await exporter.scrape()
        assert page.value("twilio_verify_exporter_state_save_failures_total") == 1
        assert page.value(LAST_SAVE) is None
        assert not file.is_file()
        if kind == "pipe":
            file.unlink()
        else:
            file.rmdir()
        await exporter.daemon.state.save()
        page = await exporter.scrape()
        assert page.value("twilio_verify_exporter_state_save_failures_total") == 1
        assert page.value(LAST_SAVE) is not None
        assert file.is_file()
    problems = {line.getMessage(): str(getattr(line, "fields", {}).get("problem")) for line in caplog.records}
    assert str(file) in problems["state not restored"]
    assert problems["state not saved"].endswith("name a file in state.file")
    assert "state saved again" in problems


async def test_what_cannot_be_kept_is_not_overwritten(
    simulator: Simulator, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    file = world.with_name("state.jsonl")
    file.write_text("my notes\n")
    with monkeypatch.context() as patch:
        patch.setattr(os, "link", fail)
        patch.setattr("pathlib.Path.rename", fail)
        async with running(world) as exporter:
            assert exporter.daemon.state is not None
            await exporter.daemon.state.save()
            assert exporter.daemon.state.save_failures == 1
    assert file.read_text() == "my notes\n"
    async with running(world):
        pass
    assert [kept.read_text() for kept in world.parent.glob("state.jsonl.refused-*")] == ["my notes\n"]
    assert file.read_text() != "my notes\n"


async def test_the_last_save_and_the_failures_are_shown(simulator: Simulator, world: Path) -> None:
    clock = LeapingClock()
    clock.stop()
    async with running(world, clock=clock) as exporter:
        page = await exporter.scrape()
        assert page.value(LAST_SAVE) is None
        assert page.value("twilio_verify_exporter_state_save_failures_total") == 0
        assert exporter.daemon.state is not None
        await exporter.daemon.state.save()
        page = await exporter.scrape()
        saved = page.value(LAST_SAVE)
        assert saved == pytest.approx(clock.wall())
    later = LeapingClock(clock.wall() + 50)
    async with running(world, clock=later) as exporter:
        page = await exporter.scrape()
        assert page.value(LAST_SAVE) == pytest.approx(saved)


async def test_without_a_state_file_nothing_is_shown_of_it(simulator: Simulator, world: Path) -> None:
    world.write_text(world.read_text().replace('file = "state.jsonl"', 'file = ""'))  # noqa: ASYNC240  a test's file
    async with running(world) as exporter:
        page = await exporter.scrape()
        assert "twilio_verify_exporter_state_" not in "".join(
            line for line in page.text.splitlines() if not line.startswith("#")
        )


@pytest.mark.usefixtures("brisk")
async def test_a_save_that_hangs_stops_nothing_else(
    simulator: Simulator, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released, tries = threading.Event(), []

    def hang(*_arguments: object) -> int:
        tries.append(1)
        assert released.wait(PATIENCE_SECONDS)
        return 0

    monkeypatch.setattr("exporter.state.file.write", hang)
    clock = LeapingClock()
    async with running(world, clock=clock) as exporter:
        try:
            for leaps in range(1, 4):
                clock.leap(61)
                await exporter.daemon.housekeeping()
                await becomes(lambda: tries)
                assert len(tries) == 1, f"one at a time, after {leaps} minutes"
        finally:
            released.set()


async def test_it_is_saved_while_it_runs(
    simulator: Simulator, world: Path, brisk: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.daemon.jobs.HOUSEKEEPING_SECONDS", 0.1)
    clock = LeapingClock()
    file = world.with_name("state.jsonl")
    async with running(world, clock=clock) as exporter:
        clock.leap(31)
        await exporter.shows(lambda page: page.counts()["unknown"] == 0)
        clock.leap(61)

        async def saved() -> bool:
            return file.exists()

        await until(saved, bool)
        assert len(file.read_text().splitlines()) == COUNT + 2


async def test_a_file_that_cannot_be_written_is_logged_once(
    simulator: Simulator, tmp_path: Path, world: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = world.read_text().replace('"state.jsonl"', '"nowhere/state.jsonl"')  # noqa: ASYNC240  a test's file
    world.write_text(content)  # noqa: ASYNC240  a test's file
    async with running(world) as exporter:
        assert caplog.text.count("state not saved") == 1, "the directory is missing"
        await exporter.daemon.state.save()  # type: ignore[union-attr]  # configured with a state file
        await exporter.daemon.state.save()  # type: ignore[union-attr]  # configured with a state file
        assert caplog.text.count("state not saved") == 2, "the write failed, logged once"
        (tmp_path / "nowhere").mkdir()
        await exporter.daemon.state.save()  # type: ignore[union-attr]  # configured with a state file
        assert (tmp_path / "nowhere" / "state.jsonl").exists()
