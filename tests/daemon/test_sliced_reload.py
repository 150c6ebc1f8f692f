"""A reload with a long list, which is applied in slices: scrapes, clients that leave and stops in the middle."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from typing import TYPE_CHECKING

import pytest

from exporter.config import ConfigError
from exporter.polling.roster import Difference
from tests.support.config_files import account_of, numbered_entry, write_config
from tests.support.proofs.reload_storm import faults_of
from tests.support.running_exporter import becomes, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from exporter.simulator import Simulator
    from tests.support.running_exporter import Exporter
    from tests.support.scrape import Scrape

FACTORS = 60
_HASH = "twilio_verify_exporter_config_hash_info"
_LISTED = "twilio_verify_exporter_watchlist_listed_factors"


class Lists:
    """An exporter, and the lists that it reloads."""

    def __init__(self, exporter: Exporter, simulator: Simulator, path: Path) -> None:
        self.exporter = exporter
        self._simulator = simulator
        self._path = path

    def write(self, count: int, team: str) -> None:
        entries = [numbered_entry(n, labels={"team": team}) for n in range(count)]
        write_config(self._path, {"main": account_of(self._simulator)}, entries)

    def begin(self) -> asyncio.Task[Difference]:
        return asyncio.create_task(self.exporter.daemon.reload())

    def watched(self) -> dict[str, str]:
        return {of.watched.name: dict(of.watched.labels)["team"] for of in self.exporter.daemon.engine.ledger}

    async def in_the_middle(self, team: str) -> None:
        """Wait until some factors have new labels, and others still have the old ones."""
        for _ in range(1_000_000):
            if 0 < list(self.watched().values()).count(team) < FACTORS // 2:
                return
            await asyncio.sleep(0)
        raise AssertionError("no moment in the middle")


@pytest.fixture
async def lists(simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lists]:
    for module in ("roster", "poller"):
        monkeypatch.setattr(f"exporter.polling.{module}.CHANGED", 1)  # one factor per slice
    path = tmp_path / "config.toml"
    entries = [numbered_entry(n, labels={"team": "old"}) for n in range(FACTORS)]
    write_config(path, {"main": account_of(simulator)}, entries)
    async with running(path) as exporter:
        yield Lists(exporter, simulator, path)


def _hash(page: Scrape) -> str:
    [sample] = page.samples(_HASH)
    return sample.labels["sha256"]


async def test_a_scrape_in_the_middle_is_whole_and_shows_the_old_configuration(lists: Lists) -> None:
    before = await lists.exporter.scrape()
    lists.write(2 * FACTORS, "new")
    reload = lists.begin()
    await lists.in_the_middle("new")
    middle = await lists.exporter.scrape()
    assert not reload.done()
    assert not gc.isenabled()
    names = {sample.labels["factor"] for sample in middle.samples("twilio_verify_factor_info")}
    teams = {sample.labels["team"] for sample in middle.samples("twilio_verify_factor_info")}
    assert faults_of(middle, [names]) == []
    assert teams == {"old", "new"}
    assert _hash(middle) == _hash(before)
    assert middle.value(_LISTED) == FACTORS
    assert await reload == Difference(added=FACTORS, changed=FACTORS)
    after = await lists.exporter.scrape()
    assert _hash(after) != _hash(before)
    assert after.value(_LISTED) == 2 * FACTORS
    assert set(lists.watched().values()) == {"new"}
    assert len(lists.watched()) == 2 * FACTORS
    assert gc.isenabled()


async def test_a_reload_goes_on_when_nobody_waits_for_it(lists: Lists) -> None:
    lists.write(FACTORS, "new")
    reload = lists.begin()
    await lists.in_the_middle("new")
    reload.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await reload
    await becomes(lambda: set(lists.watched().values()) == {"new"})
    await becomes(lambda: lists.exporter.daemon.engine.applied is lists.exporter.daemon.engine.config)


async def test_a_second_reload_waits_for_the_end_of_the_first(lists: Lists) -> None:
    lists.write(FACTORS, "new")
    first = lists.begin()
    await lists.in_the_middle("new")
    lists.write(FACTORS - 10, "newest")
    second = lists.begin()
    assert await first == Difference(changed=FACTORS)
    assert await second == Difference(removed=10, changed=FACTORS - 10)
    assert set(lists.watched().values()) == {"newest"}


async def test_a_stop_in_the_middle_ends_the_reload(lists: Lists) -> None:
    lists.write(FACTORS, "new")
    reload = lists.begin()
    await lists.in_the_middle("new")
    stop = asyncio.create_task(lists.exporter.daemon.stop())
    with pytest.raises(ConfigError, match="the exporter is stopping"):
        await reload
    await stop
    assert set(lists.watched().values()) == {"old", "new"}
    assert not lists.exporter.daemon.engine.roster.busy
    with pytest.raises(ConfigError, match="the exporter is stopping"):
        await lists.exporter.daemon.reload()


async def test_what_failed_in_the_middle_is_applied_by_the_next_reload(
    lists: Lists, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = lists.exporter.daemon.engine
    change = engine.poller.change
    changed = 0

    def failing(factors: list[object]) -> object:
        nonlocal changed
        changed += 1
        if changed == 10:
            raise RuntimeError("a fault of ours")
        return change(factors)  # type: ignore[arg-type]  # what it was called with

    lists.write(FACTORS, "new")
    with monkeypatch.context() as patch:
        patch.setattr(engine.poller, "change", failing)
        with pytest.raises(RuntimeError, match="a fault of ours"):
            await lists.exporter.daemon.reload()
    assert lists.exporter.daemon.config_status.successful is False
    assert list(lists.watched().values()).count("new") == 9
    assert gc.isenabled()
    assert await lists.exporter.daemon.reload() == Difference(changed=FACTORS - 9)
    assert set(lists.watched().values()) == {"new"}
    assert lists.exporter.daemon.config_status.successful
