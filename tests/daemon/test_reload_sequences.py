"""An exporter through any sequence of damaged and replaced files: protection, watchlist and knowledge stay."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from unittest import mock

import pytest
from hypothesis import HealthCheck, example, given, settings

from tests.support.damaged_files import DamagedFiles, Step
from tests.support.https_exporter import PAIR
from tests.support.protected_exporter import (
    ACCOUNTS,
    FILES,
    HOUR_SECONDS,
    OTHER_WEB_CONFIGS,
    REPLACED,
    World,
    config_hash,
    see_protection,
    start,
    watched,
)
from tests.support.running_exporter import until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

STEPS = DamagedFiles(
    # Only the names count here: the contents belong to one run.
    directory=None,  # type: ignore[arg-type]  # nothing is written
    whole=dict.fromkeys(FILES, b""),
    others=dict.fromkeys(REPLACED, ()),
).steps(6)


@pytest.fixture(scope="module")
def running_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[asyncio.Runner, World]]:
    with (
        mock.patch("exporter.daemon.jobs.DISPATCH_SECONDS", 0.1),
        mock.patch("exporter.daemon.jobs.WATCH_SECONDS", HOUR_SECONDS),  # the test itself says when files are read
        asyncio.Runner() as runner,
    ):
        world = runner.run(start(tmp_path_factory.mktemp("files")))
        try:
            yield runner, world
        finally:
            runner.run(world.stack.aclose())


async def live_through(world: World, steps: list[Step]) -> None:
    """Let the files suffer these steps, each followed by a reload; then restore them."""
    world.files.restore()
    assert await world.reload()
    running_page = whole_page = await see_protection(world)
    before = world.known()
    for how, name, number in steps:
        world.files.damage(how, name, number)
        applied = await world.reload()
        page = await see_protection(world)
        assert page.value("twilio_verify_exporter_config_last_reload_successful") == applied
        assert {account for account, _ in watched(page)} == {*ACCOUNTS}
        if not applied:
            assert watched(page) == watched(running_page)
            assert config_hash(page) == config_hash(running_page)
        running_page = page
    world.files.restore()
    assert await world.reload()
    page = await see_protection(world)
    assert watched(page) == watched(whole_page)
    assert config_hash(page) == config_hash(whole_page)
    assert page.value("twilio_verify_exporter_config_last_reload_successful") == 1
    for factor, after in world.known().items():
        known = before[factor]
        assert after[:-1] == known[:-1], factor
        assert (after.last_verified_seconds or 0) >= (known.last_verified_seconds or 0), factor


async def see_fetches(world: World) -> None:
    """See that every factor is fetched again."""
    name = "twilio_verify_factor_last_success_timestamp_seconds"
    before = world.clock.wall()
    world.clock.leap(HOUR_SECONDS)
    page = await until(
        world.scrape,
        lambda page: len([sample for sample in page.samples(name) if sample.value > before]) == len(world.factors),
    )
    assert {sample.value for sample in page.samples("twilio_verify_credentials_valid")} == {1}


@given(STEPS)
@example([("cut", "web.yml", 0)])
@example([("cut", "web.yml", len(PAIR))])
@example([("replace", "web.yml", number) for number in range(len(OTHER_WEB_CONFIGS))])
@example([("replace", "config.toml", number) for number in range(7)])
@example([("cut", "w-a.toml", 0), ("cut", "w-b.csv", 0), ("cut", "config.toml", 0)])
@example([("remove", "w-a.toml", 0), ("remove", "w-b.csv", 0), ("remove", "main.password", 0)])
@example([("replace", "w-a.toml", 0), ("replace", "w-b.csv", 0)])
@example([("replace", "w-b.csv", 1), ("replace", "w-a.toml", 1), ("replace", "w-a.toml", 3)])
@example([("unreadable", name, 0) for name in FILES])
@example(
    [(how, name, 0) for how in ("pipe", "directory", "loop") for name in ("w-a.toml", "web.yml", "server.key")]
)
@example([("replace", "server.crt", 0), ("replace", "server.key", 0)])
@example([("replace", "main.password", 0), ("cut", "other.password", 5)])
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_is_lost_by_what_becomes_of_files(
    running_world: tuple[asyncio.Runner, World], steps: list[Step]
) -> None:
    runner, world = running_world

    async def run() -> None:
        await live_through(world, steps)
        await see_fetches(world)

    runner.run(run())
