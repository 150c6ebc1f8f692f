"""The last good watchlist: read back as it was written, whole or refused, and saved only when it differs."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import stat
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exporter.config import Config, ConfigError, load
from exporter.polling.clock import Clock
from exporter.state import watchlist
from exporter.state.watchlist import Listed, WatchlistKeeper, beside, read, write
from tests.support.config_texts import ACCOUNT_SID, HEADER, account, factor, factor_sid, row

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.config.last_good import ListedFile

NOW = 1_800_000_000.0
TEXT = (
    '[polling]\ninterval = "5m"\n[state]\nfile = "state.jsonl"\n[watchlist]\nfiles = ["*.csv", "*.toml"]\n'
    + account()
)
EXTRA = factor(3, name='"on call"', interval='"90s"', paused="true", labels='{ team = "ü", tier = "1" }')
ENTITY = (
    '[[entities]]\nname = "people"\nservice_sid = "VA' + "0" * 32 + '"\nidentity = "made-up-entity"\n'
    'labels = { team = "x" }\n[[entities]]\nname = "others"\nservice_sid = "VA' + "0" * 32 + '"\n'
    'identity = "another-entity"\n'
)
SAVED = "last good watchlist saved"
on_disk = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


class Site:
    """A configuration with watchlist files, and its state file's directory."""

    def __init__(self, directory: Path) -> None:
        self.config_file = directory / "config.toml"
        self.config_file.write_text(TEXT)
        self.csv = directory / "a.csv"
        self.toml = directory / "b.toml"
        (directory / "config.toml").rename(directory / "config.conf")  # matches no pattern
        self.config_file = directory / "config.conf"
        self.csv.write_text(f"{HEADER}\n{row(1)}{row(2)}")
        self.toml.write_text(EXTRA + ENTITY)
        self.state_file = directory / "state.jsonl"
        self.path = beside(self.state_file)

    def load(self, *, fall_back: bool = True) -> Config:
        """Load the configuration as a start does."""
        return load(self.config_file, environ={}, flags={}, last_good=read, fall_back=fall_back)

    def listed(self) -> Listed:
        """Return what is to be saved of the present configuration."""
        return Listed({"main": ACCOUNT_SID}, 300.0, self.files())

    def files(self) -> list[ListedFile]:
        """Return what the watchlist files list."""
        files = self.load(fall_back=False).whole.take()
        assert files is not None
        return list(files)

    def write(self) -> int:
        """Save the present watchlist."""
        return write(self.path, NOW, self.listed())


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def keeper(site: Site) -> WatchlistKeeper:
    return WatchlistKeeper(site.state_file, Clock())


def problem(site: Site) -> str:
    with pytest.raises(ConfigError) as refused:
        read(site.state_file)
    return str(refused.value)


def test_it_is_beside_the_state_file_and_its_owners_alone(site: Site) -> None:
    before = os.umask(0)
    try:
        size = site.write()
    finally:
        os.umask(before)
    assert site.path == site.state_file.with_name("watchlist.last-good")
    assert stat.S_IMODE(site.path.stat().st_mode) == 0o600
    assert site.path.stat().st_size == size


def test_a_start_on_it_watches_exactly_the_same(site: Site) -> None:
    good = site.load()
    site.write()
    site.csv.write_text("")
    fallback = site.load()
    assert fallback.fallback is not None
    assert fallback.fallback.saved_seconds == NOW
    assert fallback.fallback.restored == 5
    assert (fallback.factors, fallback.entities) == (good.factors, good.entities)
    assert (fallback.listed, fallback.total_factors) == (good.listed, good.total_factors)


def test_the_default_interval_may_change_in_between(site: Site) -> None:
    site.write()
    site.csv.write_text("")
    site.config_file.write_text(TEXT.replace("5m", "7m"))
    seconds = {of.key.factor_sid: of.interval_seconds for of in site.load().factors}
    assert seconds == {factor_sid(1): 420.0, factor_sid(2): 420.0, factor_sid(3): 90.0}


def test_it_holds_no_secret(site: Site) -> None:
    site.write()
    text = site.path.read_text()
    assert "a-made-up-secret" not in text
    assert "made-up-identity" in text


def test_many_lines_are_written_in_chunks(site: Site) -> None:
    site.csv.write_text(HEADER + "\n" + "".join(row(number) for number in range(10, 2510)))
    site.write()
    last_good = read(site.state_file)
    assert last_good is not None
    assert [len(file.entries) for file in last_good.files] == [2500, 3]


def test_a_missing_one_is_none(site: Site) -> None:
    assert read(site.state_file) is None


@on_disk
@given(st.integers(0, 10_000))
def test_one_that_is_cut_short_is_refused(site: Site, length: int) -> None:
    site.write()
    content = site.path.read_bytes()
    site.path.write_bytes(content[: length % len(content)])
    assert "watchlist.last-good: is " in problem(site)


@on_disk
@given(st.integers(0, 10_000), st.integers(1, 255))
def test_one_with_a_changed_byte_is_refused_or_the_same(site: Site, place: int, change: int) -> None:
    """The time in the header is not covered."""
    site.write()
    content = bytearray(site.path.read_bytes())
    content[place % len(content)] ^= change
    site.path.write_bytes(content)
    try:
        last_good = read(site.state_file)
    except ConfigError:
        return
    assert last_good is not None
    assert sum(len(file.entries) for file in last_good.files) == 5
    assert bytes(content).partition(b"\n")[2].startswith(b'{"accounts"')


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"my notes\n", "is not a watchlist that this exporter saved"),
        (b"[1]\n", "is not a watchlist that this exporter saved"),
        (b"[" * 100_000, "is not a watchlist that this exporter saved"),
        (b"", "is not a watchlist that this exporter saved"),
        (json.dumps({"format": watchlist.FORMAT, "version": 2}).encode(), "was written by another version"),
        (json.dumps({"format": watchlist.FORMAT, "version": 1}).encode(), "is truncated or modified"),
    ],
)
def test_a_foreign_file_is_refused(site: Site, content: bytes, why: str) -> None:
    site.path.write_bytes(content)
    assert why in problem(site)


@pytest.mark.parametrize("saved", ["NaN", "Infinity", '"now"'])
def test_a_time_that_is_none_is_refused(site: Site, saved: str) -> None:
    site.write()
    site.path.write_text(site.path.read_text().replace("1800000000.0", saved, 1))
    assert "is truncated or modified" in problem(site)


def test_a_directory_is_refused(site: Site) -> None:
    site.path.mkdir()
    assert "watchlist.last-good: is a directory" in problem(site)


def test_lines_of_other_kinds_are_ignored(site: Site) -> None:
    site.write()
    whole = read(site.state_file)
    body = site.path.read_bytes().partition(b"\n")[2] + b'{"something": "else"}\n7\n{"factor": 3}\n'
    header = {"format": watchlist.FORMAT, "version": 1, "saved": 1.0}
    sha256 = hashlib.sha256(body).hexdigest()
    site.path.write_bytes(json.dumps(header | {"sha256": sha256}).encode() + b"\n" + body)
    longer = read(site.state_file)
    assert whole is not None
    assert longer is not None
    assert longer.files == whole.files


# Saving


async def test_it_is_written_again_only_when_it_differs(
    site: Site, keeper: WatchlistKeeper, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    keeper.applied(site.load())
    await keeper.save()
    before = site.path.stat().st_ino
    await keeper.save()
    keeper.applied(site.load())
    await keeper.save()
    assert site.path.stat().st_ino == before
    assert caplog.text.count(SAVED) == 1
    for number, change in enumerate(("csv", "account"), start=2):
        if change == "csv":
            site.csv.write_text(f"{HEADER}\n{row(2)}{row(1)}")
        else:
            site.config_file.write_text(TEXT.replace(ACCOUNT_SID, "AC" + "4" * 32))
        keeper.applied(site.load())
        await keeper.save()
        assert caplog.text.count(SAVED) == number
    assert list(site.path.parent.glob(".*")) == []


async def test_a_fallback_is_not_saved(site: Site, keeper: WatchlistKeeper) -> None:
    keeper.applied(site.load())
    await keeper.save()
    before = site.path.read_bytes()
    site.csv.write_text("")
    config = site.load()
    assert config.fallback is not None
    site.toml.write_text(EXTRA)
    keeper.applied(config)
    await keeper.save()
    assert site.path.read_bytes() == before
    assert config.whole.take() is None, "nor kept in memory"


async def test_an_intended_empty_list_replaces_it(site: Site, keeper: WatchlistKeeper) -> None:
    site.write()
    site.config_file.write_text(TEXT.replace("[watchlist]", "[watchlist]\nallow_empty = true"))
    for file in (site.csv, site.toml):
        file.unlink()
    keeper.applied(site.load())
    await keeper.save()
    last_good = read(site.state_file)
    assert last_good is not None
    assert last_good.files == []
    site.config_file.write_text(TEXT)
    assert site.load().factors == ()


async def test_without_watchlist_files_there_is_none(site: Site, keeper: WatchlistKeeper) -> None:
    site.csv.unlink()
    site.toml.unlink()
    keeper.applied(site.load())
    await keeper.save()
    assert not site.path.exists()


async def test_without_a_state_file_nothing_is_saved_or_kept(site: Site) -> None:
    keeper = WatchlistKeeper(None, Clock())
    config = site.load()
    keeper.applied(config)
    await keeper.save()
    assert not keeper.due
    assert not site.path.exists()
    assert config.whole.take() is None


@pytest.mark.parametrize("content", [b"my notes\n", b""])
async def test_a_foreign_file_is_kept_aside(
    site: Site, keeper: WatchlistKeeper, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    site.path.write_bytes(content)
    keeper.applied(site.load())
    await keeper.save()
    (refused,) = site.path.parent.glob("watchlist.last-good.refused-*")
    assert refused.read_bytes() == content
    assert read(site.state_file) is not None
    assert "unusable last good watchlist kept" in caplog.text


async def test_a_directory_is_left_alone(
    site: Site, keeper: WatchlistKeeper, caplog: pytest.LogCaptureFixture
) -> None:
    site.path.mkdir()
    keeper.applied(site.load())
    await keeper.save()
    assert site.path.is_dir()
    problems = [str(getattr(line, "fields", {}).get("problem")) for line in caplog.records]
    assert any("is not a regular file" in text for text in problems)


async def test_a_failed_save_is_logged_once_and_repeated_after_a_minute(
    site: Site, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    keeper = WatchlistKeeper(site.path.parent / "nowhere" / "state.jsonl", Clock(lambda: NOW, lambda: now))
    keeper.applied(site.load())
    await keeper.save()
    await keeper.save()
    assert caplog.text.count("last good watchlist not saved") == 1
    (site.path.parent / "nowhere").mkdir()
    now = watchlist.RETRY_SECONDS - 1
    before = keeper.due
    now = watchlist.RETRY_SECONDS
    after = keeper.due
    await keeper.save()
    assert (before, after, keeper.due) == (False, True, False)
    assert (site.path.parent / "nowhere" / "watchlist.last-good").exists()


async def test_an_older_watchlist_never_replaces_a_newer_one(site: Site, keeper: WatchlistKeeper) -> None:
    keeper.applied(site.load())
    first = asyncio.create_task(keeper.save())
    await asyncio.sleep(0)
    site.csv.write_text(f"{HEADER}\n{row(7)}")
    keeper.applied(site.load())
    await asyncio.gather(first, keeper.save())
    last_good = read(site.state_file)
    assert last_good is not None
    assert [table["factor_sid"] for _array, table in last_good.files[0].entries] == [factor_sid(7)]


async def test_what_a_killed_writer_left_is_removed(site: Site, keeper: WatchlistKeeper) -> None:
    left = site.path.with_name(".watchlist.last-good.999999999.0123abcd.tmp")
    left.write_text("half")
    keeper.applied(site.load())
    await keeper.save()
    assert not left.exists()
