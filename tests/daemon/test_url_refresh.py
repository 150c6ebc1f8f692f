"""When a URL source is loaded, and what is known and logged of it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import httpx

from exporter.config import Config, ConfigError, ErrorDetail, HttpSource, PasswordSource, load
from exporter.config.sharding import Shard
from exporter.daemon.background import BackgroundTasks
from exporter.daemon.url_sources import UrlSources, with_first_answers
from exporter.polling.clock import Clock
from exporter.polling.roster import Difference
from tests.support.config_texts import account, factor
from tests.support.list_server import JSON, document, source_table

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

START = 1_000_000.0
NAME = "identity-service"


def answer(number: int = 2) -> httpx.Response:
    entry = {"service_sid": "VA" + "0" * 32, "identity": "made-up-identity", "factor_sid": f"YF{number:032x}"}
    return httpx.Response(200, headers={"Content-Type": JSON}, content=document([entry]))


class Bench:
    """The sources of a configuration, with a clock that a test moves, and answers that it sets."""

    def __init__(self, directory: Path, *sources: str, shard: Shard | None = None) -> None:
        self.now = START
        self.clock = Clock(lambda: self.now, lambda: self.now)
        self.path = directory / "config.toml"
        self.path.write_text(account() + factor(1) + "".join(sources))
        self.config = load(self.path, environ={}, flags={}, shard=shard)
        self.requests: list[tuple[str, float]] = []
        self.respond: Callable[[], httpx.Response] = answer
        self.background = BackgroundTasks()
        self.changes = 0
        self.release = asyncio.Event()
        self.release.set()
        self.sources = UrlSources(
            self.config,
            change=self.change,
            spawn=self.background.spawn,
            clock=self.clock,
            last_good=lambda _path: None,
            transport=self.transport,
        )

    def transport(self, source: HttpSource) -> httpx.AsyncBaseTransport:
        async def handle(_request: httpx.Request) -> httpx.Response:
            self.requests.append((source.name, self.now))
            await self.release.wait()
            return self.respond()

        return httpx.MockTransport(handle)

    async def change(self, make: Callable[[Config], Config]) -> Difference:
        self.changes += 1
        self.config = make(self.config)
        self.sources.applied(self.config)
        return Difference(added=1)

    async def tick(self, seconds: float = 1.0) -> None:
        """Let time pass and what is due happen."""
        self.now += seconds
        self.sources.dispatch()
        if self.release.is_set():
            await self.background.wait()

    async def loaded(self) -> None:
        """Load every source once."""
        await self.tick(0)

    def times(self, name: str = NAME) -> list[float]:
        return [at for requested, at in self.requests if requested == name]

    def fails(self, status: int = 500) -> None:
        self.respond = lambda: httpx.Response(status)


def table(name: str = NAME, **keys: Any) -> str:
    return source_table(name, f"https://{name}.example.com/list", **keys)


def logged(caplog: pytest.LogCaptureFixture, message: str) -> list[dict[str, Any]]:
    return [getattr(line, "fields", {}) for line in caplog.records if line.getMessage() == message]


async def test_a_source_is_loaded_at_once_and_then_at_its_interval(tmp_path: Path) -> None:
    bench = Bench(tmp_path, table(refresh_interval="1m"))
    for _ in range(600):
        await bench.tick()
    first, second, *rest = bench.times()
    assert first == START + 1
    assert first < second <= first + 60
    gaps = {round(after - before) for before, after in zip([second, *rest], rest, strict=False)}
    assert gaps == {60}, "failures and answers keep the cadence"
    assert bench.changes == 1


async def test_sources_and_shards_are_spread(tmp_path: Path) -> None:
    """Several sources of an exporter, and a source of several exporters, each at a time of its own."""
    names = [f"source-{number}" for number in range(8)]
    seconds = set()
    for ordinal in range(4):
        bench = Bench(tmp_path, *(table(name) for name in names), shard=Shard(ordinal, 4))
        for _ in range(130):
            await bench.tick()
        seconds |= {(bench.times(name)[-1] - START) % 60 for name in names}
    assert len(seconds) >= 20, "32 times, of which some coincide"


async def test_a_failure_keeps_the_cadence(tmp_path: Path) -> None:
    bench = Bench(tmp_path, table(refresh_interval="10s"))
    bench.fails()
    for _ in range(100):
        await bench.tick()
    assert 10 <= len(bench.times()) <= 12


async def test_there_is_one_request_at_a_time(tmp_path: Path) -> None:
    bench = Bench(tmp_path, table(refresh_interval="1s"))
    bench.release.clear()
    for _ in range(5):
        await bench.tick()
        await asyncio.sleep(0)
    assert len(bench.requests) == 1
    bench.release.set()
    await bench.background.wait()
    await bench.tick(2)
    assert len(bench.requests) == 2


async def test_one_line_per_kind_of_failure(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    bench = Bench(tmp_path, table(refresh_interval="1s"))
    await bench.loaded()
    status = bench.sources.statuses[NAME]
    assert (status.up, status.last_success_seconds, status.problems) == (True, START, ())
    for code in (500, 502, 500, 502, 500):
        bench.fails(code)
        await bench.tick(2)
    lines = logged(caplog, "watchlist source failed")
    assert [line["error"] for line in lines] == [
        f'watchlist.http "{NAME}": answers HTTP {code}; check the log of the server' for code in (500, 502)
    ]
    assert (lines[0]["entries"], lines[0]["errors"]) == (1, 1)
    assert (status.up, status.last_success_seconds) == (False, START)
    bench.respond = answer
    await bench.tick(2)
    assert (status.up, status.last_success_seconds, status.problems) == (True, bench.now, ())
    assert len(logged(caplog, "watchlist source recovered")) == 1
    bench.fails(500)
    await bench.tick(2)
    assert len(logged(caplog, "watchlist source failed")) == 3, "after a success, it is new again"


async def test_failures_of_ever_new_kinds_do_not_fill_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(tmp_path, table(refresh_interval="1s"))
    for number in range(300):
        bench.respond = lambda number=number: httpx.Response(  # type: ignore[misc]  # a default argument
            200, headers={"Content-Type": f"text/{number}"}
        )
        await bench.tick(2)
    assert len(logged(caplog, "watchlist source failed")) == 100


async def test_a_refused_answer_is_not_read_again_until_something_changed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(tmp_path, table(refresh_interval="1s"))
    await bench.loaded()
    bench.respond = lambda: answer(1)
    for _ in range(5):
        await bench.tick(2)
    assert (bench.changes, bench.sources.statuses[NAME].up) == (2, False)
    assert len(logged(caplog, "watchlist source failed")) == 1
    bench.fails()
    await bench.tick(2)
    bench.respond = lambda: answer(1)
    await bench.tick(2)
    assert "lists the same factor as" in bench.sources.statuses[NAME].problems[0]
    assert bench.changes == 2
    bench.path.write_text(bench.path.read_text().replace(f"YF{1:032x}", f"YF{9:032x}"))
    bench.config = load(bench.path, environ={}, flags={}, answers=bench.config.answers)
    bench.sources.applied(bench.config)
    await bench.tick(2)
    assert (bench.changes, bench.sources.statuses[NAME].up) == (3, True)


async def test_an_unexpected_error_is_a_failure_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(tmp_path, table(refresh_interval="1s"))

    async def change(_make: object) -> Difference:
        raise RuntimeError

    bench.sources = UrlSources(
        bench.config,
        change=change,
        spawn=bench.background.spawn,
        clock=bench.clock,
        last_good=lambda _path: None,
        transport=bench.transport,
    )
    await bench.loaded()
    await bench.tick(2)
    assert len(bench.requests) == 2, "and it is loaded again"
    status = bench.sources.statuses[NAME]
    assert status.problems == (
        f'watchlist.http "{NAME}": could not be applied, because of an unexpected error (RuntimeError)',
    )
    assert "RuntimeError" in caplog.text


async def test_an_answer_of_a_source_that_is_gone_is_dropped(tmp_path: Path) -> None:
    """By a reload, while the request is in flight; one whose URL was changed begins again."""
    bench = Bench(tmp_path, table())
    bench.release.clear()
    await bench.tick()
    await asyncio.sleep(0)
    old = bench.sources.statuses[NAME]
    bench.path.write_text(account() + factor(1) + source_table(NAME, "https://moved.example.com/"))
    bench.config = load(bench.path, environ={}, flags={}, answers=bench.config.answers)
    bench.sources.applied(bench.config)
    assert bench.sources.statuses[NAME] is not old
    bench.release.set()
    await bench.background.wait()
    assert bench.changes == 0
    assert bench.sources.statuses[NAME].up is None
    await bench.tick()
    assert bench.changes == 1


async def test_an_error_of_a_source_that_is_gone_is_dropped(tmp_path: Path) -> None:
    bench = Bench(tmp_path, table())

    async def change(_make: object) -> Difference:
        bench.path.write_text(account() + factor(1))
        bench.sources.applied(load(bench.path, environ={}, flags={}))
        raise ConfigError([ErrorDetail("x", "y")])

    bench.sources = UrlSources(
        bench.config,
        change=change,
        spawn=bench.background.spawn,
        clock=bench.clock,
        last_good=lambda _path: None,
        transport=bench.transport,
    )
    status = bench.sources.statuses[NAME]
    await bench.loaded()
    assert (status.up, bench.sources.statuses) == (None, {})


async def test_a_secret_that_can_not_be_read_is_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "token"
    path.write_text("token-1")
    bench = Bench(tmp_path, table(refresh_interval="1s", bearer_token_file="token"))
    await bench.loaded()
    path.unlink()
    for _ in range(3):
        await bench.tick(2)
    (line,) = logged(caplog, "secret of watchlist source not read and previous one kept")
    assert (line["source"], line["file"], line["problem"]) == (NAME, path, "does not exist")
    path.write_text("token-2")
    await bench.tick(2)
    assert bench.sources.statuses[NAME].secret_problem is None
    (source,) = bench.config.http
    assert isinstance(source.secret, PasswordSource)
    assert source.secret.current == "token-2"
    assert "token-" not in caplog.text


async def test_a_reload_keeps_what_is_known_of_a_source(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("x")
    bench = Bench(tmp_path, table(bearer_token_file="token"))
    await bench.loaded()
    before = bench.sources.statuses[NAME]
    again = load(bench.path, environ={}, flags={}, answers=bench.config.answers)
    bench.sources.applied(again)
    assert bench.sources.statuses[NAME] is before
    assert before.source is again.http[0], "with the secret that the reload has read"


async def test_a_configuration_without_sources_needs_no_first_load(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    assert await with_first_answers(bench.config, transport=bench.transport) is bench.config
    bench.sources.dispatch()
    bench.sources.refresh_soon()
    assert bench.requests == []
