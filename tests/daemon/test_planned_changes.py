"""Planned changes of a running exporter, as docs/operations.md describes them: none of them needs a trick."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from exporter.config import ConfigError
from exporter.polling.roster import Difference
from tests.support.config_files import account_of, entry, numbered_entries, numbered_entry, write_config
from tests.support.https_exporter import handshake
from tests.support.protected_exporter import WEB_CONFIG, World, see_protection, start, watched
from tests.support.running_exporter import running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from exporter.simulator import Simulator

pytestmark = pytest.mark.slow

ACCOUNT = {"account_sid": "AC" + "1" * 32, "password": "correct-horse-battery-1"}
LISTED = "twilio_verify_exporter_watchlist_listed_factors"
TOTAL = "twilio_verify_exporter_watchlist_total_factors"


@pytest.fixture
async def world(tmp_path: Path, brisk: None) -> AsyncIterator[World]:
    world = await start(tmp_path)
    async with world.stack:
        yield world


async def test_a_certificate_and_its_key_are_rotated(world: World) -> None:
    async def certificate() -> bytes | None:
        return (await handshake(world.exporter.url, world.trusted)).getpeercert(binary_form=True)

    first = await certificate()
    world.files.damage("replace", "server.crt")
    assert not await world.reload(), "the key is still the old one"
    assert await certificate() == first
    world.files.damage("replace", "server.key")
    assert await world.reload()
    assert await certificate() != first
    await see_protection(world)


async def test_users_and_their_passwords_are_rotated(world: World) -> None:
    (world.files.directory / "web.yml").write_text(WEB_CONFIG.replace("  one: ", "  two: "))
    assert await world.reload()
    assert (await world.request("/metrics", user="two"))[0] == 200
    assert (await world.request("/metrics", user="one"))[0] == 401


async def test_the_password_of_an_account_is_rotated(world: World) -> None:
    password = world.files.directory / "main.password"
    password.write_text("wrong-password-1")
    assert await world.reload()
    password.write_bytes(world.files.whole["main.password"])
    assert await world.reload()
    page = await world.scrape()
    assert {sample.value for sample in page.samples("twilio_verify_api_paused")} == {0}


async def test_a_single_factor_is_removed(world: World) -> None:
    before = watched(await world.scrape())
    world.files.damage("replace", "w-b.csv", 1)
    assert await world.exporter.daemon.reload() == Difference(removed=1)
    assert before - watched(await world.scrape()) == {("other", "three")}


async def test_factors_move_between_files_and_keep_what_is_known(world: World) -> None:
    known, new = world.known(), world.files.directory / "w-new.toml"
    old = world.files.directory / "w-a.toml"
    first, _, second = old.read_text().rpartition("[[factors]]")
    new.write_text(f"[[factors]]{second}")
    with pytest.raises(ConfigError, match="lists the same factor as"):
        await world.exporter.daemon.reload()
    assert world.known() == known
    old.write_text(first)
    assert await world.exporter.daemon.reload() == Difference()
    assert world.known() == known


async def test_the_watchlist_is_emptied_on_purpose(simulator: Simulator, tmp_path: Path, brisk: None) -> None:
    accounts, entries = {"main": account_of(simulator)}, [entry("one", simulator.add_factor())]
    path = write_config(tmp_path / "config.toml", accounts, entries)
    async with running(path) as exporter:
        await exporter.shows(lambda page: page.factor("verified", "one") == 1)
        write_config(path, accounts)
        with pytest.raises(ConfigError, match=r"set watchlist\.allow_empty = true if this is intended"):
            await exporter.daemon.reload()
        write_config(path, accounts, watchlist={"allow_empty": True})
        assert await exporter.daemon.reload() == Difference(removed=1)
        assert (await exporter.scrape()).value("twilio_verify_exporter_watchlist_factors") == 0
        write_config(path, accounts, entries)
        assert await exporter.daemon.reload() == Difference(added=1, restored=1)


async def test_shards_are_added_and_each_factor_is_watched_once(tmp_path: Path) -> None:
    (tmp_path / "w.toml").write_text(numbered_entries(*range(60)))
    names = {str(numbered_entry(number)["name"]) for number in range(60)}
    shares: dict[int, list[set[str]]] = {}
    for count in (2, 3):
        async with AsyncExitStack() as stack:
            pages = [
                await (
                    await stack.enter_async_context(
                        running(
                            write_config(
                                tmp_path / f"{ordinal}-of-{count}.toml",
                                {"main": ACCOUNT | {"base_url": "http://127.0.0.1:1"}},
                                watchlist={"files": ["w.toml"]},
                                sharding={"shard": f"{ordinal}/{count}"},
                            )
                        )
                    )
                ).scrape()
                for ordinal in range(count)
            ]
        shares[count] = [{factor for _, factor in watched(page)} for page in pages]
        assert {page.value(TOTAL) for page in pages} == {60}
        assert sum(page.value(LISTED) or 0 for page in pages) == 60
        assert sum(map(len, shares[count])) == 60
        assert set.union(*shares[count]) == names
    for before, after in zip(shares[2], shares[3], strict=False):
        assert after < before, "a new shard takes from the others, which take nothing from each other"
