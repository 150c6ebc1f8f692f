"""A start with a watchlist that can't be used: on the last good one, not ready, until the files are right again."""

from __future__ import annotations

import logging
import re
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from exporter.config import ConfigError
from exporter.polling.roster import Difference
from exporter.state.watchlist import read
from tests.support.config_files import account_of, entry, write_config
from tests.support.processes import output_of
from tests.support.running_exporter import LeapingClock, Process, becomes, running

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.simulator import Simulator
    from tests.support.running_exporter import Site

FALLBACK = "twilio_verify_exporter_watchlist_fallback"
RELOADED = "twilio_verify_exporter_config_last_reload_successful"
NOT_READY = (
    "not ready: the watchlist files can't be used, and the last good watchlist stands in for them; see the log\n"
)


class World:
    """Three factors: one in the configuration file, two in watchlist files."""

    def __init__(self, simulator: Simulator, directory: Path, **web: object) -> None:
        self.state_file = directory / "state.jsonl"
        self.csv, self.toml = directory / "a.csv", directory / "b.toml"
        factors = {name: simulator.add_factor() for name in ("own", "one", "two")}
        self.path = write_config(
            directory / "config.toml",
            {"main": account_of(simulator)},
            [entry("own", factors["own"])],
            watchlist={"files": ["a.csv", "b*.toml"]},
            state={"file": "state.jsonl"},
            web=web,
        )
        rows = [list(entry(name, factors[name]).values()) for name in ("one", "two")]
        header = "name,service_sid,identity,factor_sid\n"
        self.whole = header + "".join(",".join(map(str, row)) + "\n" for row in rows)
        self.csv.write_text(self.whole)
        self.toml.write_text("factors = []\n")
        self.identities = [of.identity for of in factors.values()]

    def truncate(self) -> None:
        """Cut the CSV file in the middle of its last row."""
        self.csv.write_text(self.whole[:-20])

    async def saved(self) -> None:
        """Wait until the present watchlist is saved."""
        await becomes(lambda: read(self.state_file))


async def shown(exporter: Site) -> str:
    """Return the configuration that is shown."""
    return (await exporter.get("/config"))[1]


async def shows_all(exporter: Site, *, fallback: int) -> None:
    """Wait until every factor is shown as verified, with a fallback or without."""
    page = await exporter.shows(
        lambda page: (
            all(page.factor("verified", name) == 1 for name in ("own", "one", "two"))
            and page.value(FALLBACK) == fallback
        )
    )
    assert page.value("twilio_verify_exporter_watchlist_total_factors") == 3


@pytest.fixture
def world(simulator: Simulator, tmp_path: Path, brisk: None, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr("exporter.daemon.jobs.WATCH_SECONDS", 0.1)
    return World(simulator, tmp_path)


def logged(caplog: pytest.LogCaptureFixture, message: str) -> list[dict[str, object]]:
    return [getattr(line, "fields", {}) for line in caplog.records if line.getMessage() == message]


async def test_it_runs_on_the_last_good_watchlist_until_the_files_are_right_again(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with running(world.path) as exporter:
        await shows_all(exporter, fallback=0)
        await world.saved()
        assert (await exporter.get("/-/ready"))[0] == 200
    saved = world.state_file.with_name("watchlist.last-good").read_bytes()
    world.truncate()
    async with running(world.path) as exporter:
        await shows_all(exporter, fallback=1)
        assert await exporter.get("/-/ready") == (503, NOT_READY)
        assert await exporter.status("/-/healthy") == 200
        assert (
            "The watchlist files can't be used: the factors of the last good watchlist"
            in (await exporter.get("/"))[1]
        )
        assert re.search(
            "\\n# Running on the last good watchlist, saved 2[0-9TZ:-]+: watchlist.files can't",
            await shown(exporter),
        )
        (line,) = logged(caplog, "running on the last good watchlist")
        assert (line["entries"], line["dropped"], line["superseded"], line["errors"]) == (2, 0, 0, 1)
        (error,) = logged(caplog, "configuration error")
        assert "a.csv: line 3, column 4" in str(error["error"])
        with pytest.raises(ConfigError, match="is not a Verify Factor SID"):
            await exporter.daemon.reload()
        world.csv.write_text("name,service_sid,identity,factor_sid\n")
        with pytest.raises(ConfigError, match=r"a\.csv no longer lists anything: 2 entries are missing"):
            await exporter.daemon.reload()
        assert (await exporter.scrape()).value(RELOADED) == 0
        assert await exporter.get("/-/ready") == (503, NOT_READY)
        world.csv.write_text(world.whole)
        await shows_all(exporter, fallback=0)
        await becomes(lambda: exporter.daemon.config_status.successful)
        assert await exporter.get("/-/ready") == (200, "ready\n")
        assert len(logged(caplog, "last good watchlist no longer in use")) == 1
        assert "ast good watchlist" not in (await exporter.get("/"))[1] + await shown(exporter)
        assert await exporter.daemon.reload() == Difference()
    assert world.state_file.with_name("watchlist.last-good").read_bytes() == saved
    assert not any(identity in caplog.text for identity in world.identities)


@pytest.mark.slow
async def test_unchanged_files_are_not_loaded_again_in_a_fallback(world: World) -> None:
    """A missing file is in the fingerprint, so that only its return is a change."""
    async with running(world.path):
        await world.saved()
    world.csv.unlink()
    async with running(world.path) as exporter:
        await shows_all(exporter, fallback=1)
        for _ in range(3):
            await exporter.daemon.reloader.reload_if_changed()
        assert exporter.daemon.config_status.successful
        world.csv.write_text(world.whole)
        await shows_all(exporter, fallback=0)


async def test_a_reload_that_is_applied_is_what_the_next_start_falls_back_to(world: World) -> None:
    async with running(world.path) as exporter:
        await world.saved()
        world.csv.write_text(world.whole.rpartition(world.whole.splitlines()[-1])[0])
        await exporter.shows(lambda page: page.factor("info", "two") is None)
        await becomes(lambda: (of := read(world.state_file)) and len(of.files[0].entries) == 1)
    world.csv.unlink()
    async with running(world.path) as exporter:
        page = await exporter.shows(lambda page: page.factor("verified", "one") == 1)
        assert page.value(FALLBACK) == 1
        assert page.value("twilio_verify_exporter_watchlist_total_factors") == 2


async def test_a_stop_saves_what_was_not_saved_yet(world: World) -> None:
    async with running(world.path) as exporter:
        exporter.daemon.engine.background.cancel()
    assert read(world.state_file) is not None


async def test_housekeeping_saves_what_could_not_be_saved(world: World) -> None:
    path = world.state_file.with_name("watchlist.last-good")
    path.mkdir()
    clock = LeapingClock()
    async with running(world.path, clock=clock) as exporter:
        await exporter.daemon.watchlist.save()
        path.rmdir()
        clock.leap(60)
        await exporter.daemon.housekeeping()
        await world.saved()


# As processes


@pytest.mark.slow
async def test_a_process_that_starts_with_a_truncated_watchlist(simulator: Simulator, tmp_path: Path) -> None:
    world = World(simulator, tmp_path)
    async with Process.run(world.path) as exporter:
        await shows_all(exporter, fallback=0)
        await world.saved()
        exporter.signal(signal.SIGTERM)
        assert await exporter.ended() == 0
    world.truncate()
    check = (sys.executable, "-m", "exporter", "check", "--config.file", str(world.path))
    status, out, err = await output_of(*check)
    assert (status, out) == (1, b"")
    lines = err.decode().splitlines()
    assert lines[0].startswith(f'{world.csv}:3:62: "two": factor_sid: ')
    saved = world.state_file.with_name("watchlist.last-good")
    assert lines[-1].startswith(
        f"warning: {saved}: the exporter would start on this last good watchlist (2 entries, "
    )
    assert lines[-1].endswith("), but not be ready")
    async with Process.run(world.path) as exporter:
        await shows_all(exporter, fallback=1)
        assert await exporter.get("/-/ready") == (503, NOT_READY)
        assert 'level=error logger=exporter.daemon.daemon msg="running on the last good watchlist"' in exporter.log
        world.csv.write_text(world.whole)
        await shows_all(exporter, fallback=0)
        assert await exporter.get("/-/ready") == (200, "ready\n")
        assert 'msg="last good watchlist no longer in use"' in exporter.log


@pytest.mark.slow
async def test_a_process_without_a_last_good_watchlist_exits_as_ever(simulator: Simulator, tmp_path: Path) -> None:
    world = World(simulator, tmp_path)
    world.truncate()
    run = (sys.executable, "-m", "exporter", "run", "--config.file", str(world.path))
    status, _, err = await output_of(*run)
    assert status == 1
    assert err.decode().startswith(f'{world.csv}:3:62: "two": factor_sid: ')
    world.state_file.with_name("watchlist.last-good").write_text("notes")
    status, _, err = await output_of(*run)
    assert status == 1
    assert "watchlist.last-good: is not a watchlist that this exporter saved" in err.decode()
    assert world.state_file.with_name("watchlist.last-good").read_text() == "notes"


@pytest.mark.slow
async def test_a_process_with_a_bad_configuration_file_exits(simulator: Simulator, tmp_path: Path) -> None:
    world = World(simulator, tmp_path)
    async with Process.run(world.path) as exporter:
        await world.saved()
        exporter.signal(signal.SIGTERM)
        await exporter.ended()
    world.truncate()
    world.path.write_text(world.path.read_text() + "[polling]\n")
    run = (sys.executable, "-m", "exporter", "run", "--config.file", str(world.path))
    status, _, err = await output_of(*run)
    assert status == 1
    assert err.decode().count("\n") == 4
