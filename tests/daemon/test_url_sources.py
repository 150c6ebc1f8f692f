"""Watchlists behind URLs: whatever a URL answers, what it listed last is watched."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from exporter.config import ConfigError
from exporter.logs.output import EventFormatter
from exporter.state.watchlist import read
from tests.support.config_files import account_of, entry, write_config
from tests.support.list_server import JSON, MIB, ListServer, document, head, source_table
from tests.support.running_exporter import Process, becomes, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from exporter.config import Config
    from exporter.polling.roster import Difference
    from exporter.simulator import SimulatedFactor, Simulator
    from tests.support.scrape import Scrape

UP = "twilio_verify_exporter_watchlist_source_up"
LAST_SUCCESS = "twilio_verify_exporter_watchlist_source_last_success_timestamp_seconds"
FALLBACK = "twilio_verify_exporter_watchlist_fallback"
RELOADED = "twilio_verify_exporter_config_last_reload_successful"
TOTAL = "twilio_verify_exporter_watchlist_total_factors"
NAME = "identity-service"


class World:
    """A factor in the configuration file, one in a watchlist file, and two that a URL lists."""

    def __init__(self, simulator: Simulator, directory: Path, server: ListServer) -> None:
        self.server = server
        self.directory = directory
        self.factors: dict[str, SimulatedFactor] = {
            name: simulator.add_factor() for name in ("own", "filed", "one", "two", "three")
        }
        self.account = account_of(simulator)
        self.file = directory / "a.csv"
        self.state_file = directory / "state.jsonl"
        self.configure()
        self.file.write_text(self.csv("filed"))
        self.lists("one", "two")

    @property
    def path(self) -> Path:
        return self.directory / "config.toml"

    def configure(self, *sources: str, state: bool = True, **watchlist: object) -> None:
        """Write the configuration file; without ``sources``, it has the URL of the server."""
        write_config(
            self.path,
            {"main": self.account},
            [entry("own", self.factors["own"])],
            watchlist={"files": ["a.csv"], **watchlist},
            state={"file": "state.jsonl" if state else ""},
            web={"enable_lifecycle": True},
        )
        text = self.path.read_text()
        self.path.write_text(text + "".join(sources or (self.source(),)))

    def source(self, name: str = NAME, **keys: Any) -> str:
        return source_table(name, self.server.url, **({"refresh_interval": "1s", "timeout": "60s"} | keys))

    def csv(self, *names: str) -> str:
        rows = [list(entry(name, self.factors[name]).values()) for name in names]
        header = "name,service_sid,identity,factor_sid\n"
        return header + "".join(",".join(map(str, row)) + "\n" for row in rows)

    def entries(self, *names: str) -> list[dict[str, object]]:
        return [entry(name, self.factors[name]) for name in names]

    def lists(self, *names: str, etag: str = "") -> None:
        """Let the URL list these factors."""
        self.server.lists(*self.entries(*names), etag=etag)

    async def answered(self, times: int = 2) -> None:
        """Wait until the server has got so many requests more; the answer before the last one is processed then."""
        before = len(self.server.requests)
        await becomes(lambda: len(self.server.requests) >= before + times)

    @property
    def identities(self) -> list[str]:
        return [of.identity for of in self.factors.values()]


def watches(*names: str, **values: float) -> Callable[[Scrape], bool]:
    """Return whether exactly these factors are watched; ``values`` are those of the source's metrics."""

    def holds(page: Scrape) -> bool:
        all_names = ("own", "filed", "one", "two", "three")
        shown = {name for name in all_names if page.factor("info", name) is not None}
        return shown == set(names) and all(page.value(metric) == value for metric, value in values.items())

    return holds


def up(page: Scrape, name: str = NAME) -> float | None:
    """Return whether a source is up, None if that isn't known."""
    return page.value(UP, source=name)


@pytest.fixture
async def server() -> AsyncIterator[ListServer]:
    async with ListServer() as running:
        yield running


@pytest.fixture
def world(
    simulator: Simulator, tmp_path: Path, server: ListServer, brisk: None, monkeypatch: pytest.MonkeyPatch
) -> World:
    monkeypatch.setattr("exporter.daemon.jobs.WATCH_SECONDS", 0.1)
    return World(simulator, tmp_path, server)


def logged(caplog: pytest.LogCaptureFixture, message: str) -> list[dict[str, object]]:
    return [getattr(line, "fields", {}) for line in caplog.records if line.getMessage() == message]


ALL = ("own", "filed", "one", "two")


async def test_what_a_url_lists_is_watched_and_changes_with_its_answer(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with running(world.path) as exporter:
        page = await exporter.shows(watches(*ALL))
        assert (up(page), page.value(TOTAL), page.value(FALLBACK)) == (1, 4, 0)
        before = exporter.daemon.engine.config.sha256
        await becomes(exporter.daemon.readiness.ready)
        world.lists("two", "three")
        page = await exporter.shows(watches("own", "filed", "two", "three"))
        assert exporter.daemon.engine.config.sha256 != before
        (line,) = logged(caplog, "watchlist source changed")
        assert (line["source"], line["added"], line["removed"]) == (NAME, 1, 1)
        loaded = page.value(LAST_SUCCESS, source=NAME)
        await exporter.shows(lambda page: page.value(LAST_SUCCESS, source=NAME) != loaded)
        assert len(logged(caplog, "watchlist source changed")) == 1, "the same answer again changes nothing"
        assert await exporter.get("/-/ready") == (200, "ready\n")
        _, config = await exporter.get("/config")
        assert f'# watchlist.http "{NAME}": 2 entries.' in config
        assert f'[[watchlist.http]]\nname = "{NAME}"\nurl = "{world.server.url}"\n' in config
    assert not any(identity in caplog.text + config for identity in world.identities)


@pytest.mark.slow
async def test_an_answer_with_the_same_etag_is_not_sent_again(world: World) -> None:
    world.lists("one", "two", etag='"v1"')
    async with running(world.path) as exporter:
        await exporter.shows(watches(*ALL))
        await world.answered()
        assert "if-none-match" not in world.server.requests[0]
        assert all('if-none-match: "v1"\r\n' in request for request in world.server.requests[1:])
        world.lists("one", etag='"v2"')
        page = await exporter.shows(watches("own", "filed", "one"))
        assert up(page) == 1
        await world.answered()
        assert 'if-none-match: "v2"\r\n' in world.server.requests[-1]


def _dies(world: World) -> None:
    world.server.dies()


def _answers_html(world: World) -> None:
    world.server.answers(b"<html>Log in</html>", content_type="text/html")


def _answers_html_as_json(world: World) -> None:
    world.server.answers(b"<html>Log in</html>")


def _is_empty(world: World) -> None:
    world.server.answers(document())


def _has_a_bad_entry_more(world: World) -> None:
    bad = entry("bad", world.factors["three"]) | {"factor_sid": "YF1"}
    world.server.lists(*world.entries("one", "two", "three"), bad)


def _lists_a_factor_of_a_file(world: World) -> None:
    world.lists("one", "two", "filed")


def _is_too_large(world: World) -> None:
    world.server.streams(64 * MIB + 1)


def _is_a_bomb(world: World) -> None:
    world.server.bombs(65)


def _is_truncated(world: World) -> None:
    world.server.answers(document(world.entries("one", "two"))[:-30])


FAILURES: dict[str, tuple[Callable[[World], None], str]] = {
    "dies": (_dies, "can't be loaded: the connection failed"),
    "answers HTML": (_answers_html, 'answers with the content type "text/html"'),
    "answers HTML as JSON": (_answers_html_as_json, "is HTML or XML, not JSON"),
    "is empty": (_is_empty, "no longer lists anything; it has 2 entries"),
    "has a bad entry more": (_has_a_bad_entry_more, 'factors[3].factor_sid of "bad": '),
    "lists a factor of a file": (_lists_a_factor_of_a_file, 'factors[2] of "filed": lists the same factor as '),
    "is too large": (_is_too_large, "answers with more than 64 MiB"),
    "is a bomb": (_is_a_bomb, "answers with more than 64 MiB"),
    "is truncated": (_is_truncated, "line 1, column "),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", FAILURES)
async def test_whatever_happens_to_a_url_what_it_listed_last_is_watched(
    world: World, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One log line, the metric, and after a restart the same: on the last good watchlist, and not ready."""
    fails, problem = FAILURES[what]
    caplog.set_level(logging.INFO)
    async with running(world.path) as exporter:
        await exporter.shows(watches(*ALL))
        await becomes(lambda: read(world.state_file))
        await becomes(exporter.daemon.readiness.ready)
        fails(world)
        page = await exporter.shows(lambda page: up(page) == 0)
        await world.answered()
        page = await exporter.scrape()
        assert watches(*ALL, **{FALLBACK: 0, RELOADED: 1})(page)
        assert page.value(LAST_SUCCESS, source=NAME) is not None
        (line,) = logged(caplog, "watchlist source failed")
        assert (line["source"], line["entries"]) == (NAME, 2)
        assert str(line["error"]).startswith(f'watchlist.http "{NAME}": ')
        assert problem in str(line["error"])
        assert await exporter.status("/-/ready") == 200
        _, status = await exporter.get("/")
        assert f"The watchlist URL <b><bdi>{NAME}</bdi></b> can&#39;t be used: what it listed " in status.replace(
            "can't", "can&#39;t"
        )
        assert "stays in effect" in status
    caplog.clear()
    saved = world.state_file.with_name("watchlist.last-good").read_bytes()
    async with running(world.path) as exporter:
        page = await exporter.shows(watches(*ALL, **{FALLBACK: 1}))
        assert up(page) == 0
        assert page.value(LAST_SUCCESS, source=NAME) is None
        (line,) = logged(caplog, "running on the last good watchlist")
        assert (line["sources"], line["entries"], line["dropped"], line["superseded"]) == (NAME, 2, 0, 0)
        assert len(logged(caplog, "watchlist source failed")) == 1
        why = f'watchlist.http "{NAME}" can\'t be used, and the last good watchlist stands in for them; see the log'
        assert await exporter.get("/-/ready") == (503, f"not ready: {why}\n")
        assert f'watchlist.http "{NAME}" can\'t be used' in (await exporter.get("/config"))[1]
        assert "what it listed before the start" in (await exporter.get("/"))[1]
        assert world.state_file.with_name("watchlist.last-good").read_bytes() == saved
        world.lists("one", "two", "three")
        page = await exporter.shows(watches(*ALL, "three", **{FALLBACK: 0}))
        await exporter.shows(lambda page: up(page) == 1)
        assert len(logged(caplog, "last good watchlist no longer in use")) == 1
        await becomes(lambda: len(logged(caplog, "watchlist source recovered")) == 1)
        await becomes(exporter.daemon.readiness.ready)
    assert not any(identity in caplog.text for identity in world.identities)


@pytest.mark.slow
async def test_a_slow_drip_ends_at_the_timeout(world: World) -> None:
    world.configure(world.source(timeout="300ms"))
    async with running(world.path) as exporter:
        await exporter.shows(watches(*ALL))
        world.server.drips(document(world.entries("three")) + b" " * 100_000)
        await exporter.shows(lambda page: up(page) == 0)
        assert watches(*ALL)(await exporter.scrape())


@pytest.mark.slow
async def test_without_a_last_good_list_the_other_sources_are_watched(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.server.dies()
    world.configure(state=False)
    async with running(world.path) as exporter:
        page = await exporter.shows(watches("own", "filed", **{FALLBACK: 0}))
        assert up(page) == 0
        await becomes(lambda: exporter.daemon.engine.poller.first_fetches_pending == 0)
        assert await exporter.get("/-/ready") == (
            503,
            f'not ready: watchlist.http "{NAME}" can\'t be loaded; see the log\n',
        )
        assert "nothing that it lists is watched" in (await exporter.get("/"))[1]
        assert f'# watchlist.http "{NAME}": not loaded.' in (await exporter.get("/config"))[1]
        world.lists("one", "two")
        await exporter.shows(watches(*ALL))
        await becomes(exporter.daemon.readiness.ready)
        world.server.dies()
        await exporter.shows(lambda page: up(page) == 0)
        assert await exporter.status("/-/ready") == 200, "one that was loaded once doesn't make it unready"
    assert len(logged(caplog, "watchlist source failed")) == 2


@pytest.mark.slow
async def test_an_empty_list_may_be_intended(world: World) -> None:
    world.configure(allow_empty=True)
    async with running(world.path) as exporter:
        await exporter.shows(watches(*ALL))
        world.server.answers(document())
        page = await exporter.shows(watches("own", "filed"))
        assert up(page) == 1


@pytest.mark.slow
async def test_an_account_may_not_lose_its_last_entries(world: World, simulator: Simulator) -> None:
    """The list isn't empty, but all that it had of an account is gone."""
    world.configure()
    text = world.path.read_text() + "[accounts.other]\n"
    world.path.write_text(text + "".join(f"{key} = {json.dumps(value)}\n" for key, value in world.account.items()))
    mine = [{**entry("one", world.factors["one"]), "account": "other"}]
    others = [{**one, "account": "main"} for one in world.entries("two")]
    world.path.write_text(world.path.read_text().replace('name = "own"', 'name = "own"\naccount = "main"'))
    world.file.write_text("account," + world.csv("filed").replace("\n", "\nmain,", 1))
    world.server.lists(*mine, *others)
    async with running(world.path) as exporter:
        await exporter.shows(watches(*ALL))
        world.server.lists(*others)
        await exporter.shows(lambda page: up(page) == 0)
        assert watches(*ALL)(await exporter.scrape())
        (problem,) = exporter.daemon.sources.statuses[NAME].problems
        assert 'would leave the account "other" without entries' in problem


@pytest.mark.slow
async def test_nothing_shows_a_token_a_query_or_an_identity(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever fails, and at every level; logs as they are written, with what libraries say."""
    caplog.set_level(logging.DEBUG)
    (world.directory / "token").write_text("canary-token-1")
    signed = world.server.url + "?signature=canary-query-1&x=y"
    world.configure(source_table(NAME, signed, refresh_interval="1s", timeout="60s", bearer_token_file="token"))
    shown: list[str] = []
    async with running(world.path) as exporter:
        formatter = EventFormatter("logfmt", exporter.daemon.engine.confidential.redactor)

        async def look() -> None:
            await exporter.shows(lambda page: up(page) == 0)
            for path in ("/", "/metrics", "/config", "/-/ready", "/api/v1/factors"):
                shown.append((await exporter.get(path))[1])

        await exporter.shows(watches(*ALL))
        assert "authorization: Bearer canary-token-1" in world.server.requests[0]
        assert "GET /list?signature=canary-query-1&x=y HTTP" in world.server.requests[0]
        for fails, _problem in FAILURES.values():
            fails(world)
            await look()
            world.lists("one", "two")
            await exporter.shows(lambda page: up(page) == 1)
        identity = world.factors["one"].identity
        world.server.answers(b"", f"Location: https://x/{identity}?canary-token-1", status="302 Found")
        await look()
        world.lists("one", "two")
        await exporter.shows(lambda page: up(page) == 1)
        world.server.lists({"name": "n", "service_sid": identity, "identity": "x", "factor_sid": "canary-token-1"})
        await look()
        config = (await exporter.get("/config"))[1]
        assert f'url = "{world.server.url}?[redacted]"\n' in config
        assert 'username = "[redacted]"' in config
        shown += [formatter.format(record) for record in caplog.records]
    text = "\n".join(shown)
    assert "canary" not in text
    assert not any(of.identity in text for of in world.factors.values())


# Files and URLs don't hinder each other


@pytest.mark.slow
async def test_a_bad_url_does_not_hinder_a_reload_of_files(world: World) -> None:
    async with running(world.path) as exporter:
        await exporter.shows(watches(*ALL))
        world.server.dies()
        await exporter.shows(lambda page: up(page) == 0)
        world.file.write_text(world.csv("filed", "three"))
        page = await exporter.shows(watches(*ALL, "three"))
        assert (page.value(RELOADED), up(page)) == (1, 0)


@pytest.mark.slow
async def test_a_bad_file_does_not_hinder_a_url(world: World) -> None:
    """Its answer is applied together with the files as they were applied."""
    async with running(world.path) as exporter:
        await exporter.shows(watches(*ALL))
        world.file.write_text(world.csv("filed")[:-20])
        await exporter.shows(lambda page: page.value(RELOADED) == 0)
        world.lists("one", "three")
        page = await exporter.shows(watches("own", "filed", "one", "three"))
        assert (page.value(RELOADED), up(page)) == (0, 1)
        world.file.unlink()
        world.lists("three")
        await exporter.shows(watches("own", "filed", "three"))
        world.file.write_text(world.csv("filed", "two"))
        page = await exporter.shows(watches("own", "filed", "two", "three"))
        await exporter.shows(lambda page: page.value(RELOADED) == 1)


async def test_a_file_that_lists_a_factor_of_a_url_is_refused(world: World) -> None:
    async with running(world.path) as exporter:
        await exporter.shows(watches(*ALL))
        world.file.write_text(world.csv("filed", "one"))
        await exporter.shows(lambda page: page.value(RELOADED) == 0)
        place = f'watchlist.http "{NAME}": factors.0. of "one"'
        with pytest.raises(ConfigError, match=f"{place}: lists the same factor as .*a.csv:3:1; "):
            await exporter.daemon.reload()
        world.lists("two")
        page = await exporter.shows(watches(*ALL, **{RELOADED: 1}))
        assert up(page) == 1


@pytest.mark.slow
async def test_a_bad_file_and_a_url_that_is_down_at_the_start(world: World) -> None:
    """Each source is replaced and comes back on its own."""
    async with running(world.path) as exporter:
        await exporter.shows(watches(*ALL))
        await becomes(lambda: read(world.state_file))
    whole = world.file.read_text()
    world.file.write_text(whole[:-20])
    world.server.dies()
    async with running(world.path) as exporter:
        page = await exporter.shows(watches(*ALL, **{FALLBACK: 1}))
        status = (await exporter.get("/-/ready"))[1]
        assert f'the watchlist files and watchlist.http "{NAME}" can\'t be used' in status
        world.lists("one", "three")
        page = await exporter.shows(watches("own", "filed", "one", "three"))
        assert (page.value(FALLBACK), up(page)) == (1, 1)
        await becomes(lambda: (of := read(world.state_file)) and "three" in repr([f.entries for f in of.files]))
        world.server.dies()
        await exporter.shows(lambda page: up(page) == 0)
        world.file.write_text(whole)
        page = await exporter.shows(watches("own", "filed", "one", "three", **{FALLBACK: 0}))
    async with running(world.path) as exporter:
        page = await exporter.shows(watches("own", "filed", "one", "three", **{FALLBACK: 1}))


@pytest.mark.slow
async def test_the_files_come_back_before_the_url(world: World) -> None:
    async with running(world.path) as exporter:
        await exporter.shows(watches(*ALL))
        await becomes(lambda: read(world.state_file))
    whole = world.file.read_text()
    world.file.write_text(whole[:-20])
    world.server.dies()
    async with running(world.path) as exporter:
        await exporter.shows(watches(*ALL, **{FALLBACK: 1}))
        world.file.write_text(world.csv("filed", "three"))
        await exporter.shows(watches(*ALL, "three", **{FALLBACK: 1}))
        assert await exporter.status("/-/ready") == 503
        world.file.write_text(world.csv("filed", "two"))
        await exporter.shows(watches(*ALL)), "what another source lists by now is not listed twice"
        world.lists("one", "three")
        await exporter.shows(watches(*ALL, "three", **{FALLBACK: 0}))


# Reloads that change the sources


async def test_a_list_may_move_from_a_file_to_a_url(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """In one reload, which loads the URL: no factor vanishes for a moment."""
    caplog.set_level(logging.INFO)
    world.configure(source_table("unused", world.server.url.replace("/list", "/other"), refresh_interval="1h"))
    world.server.answers(document())
    async with running(world.path) as exporter:
        await exporter.shows(watches("own", "filed"))
        world.server.answers(document(world.entries("filed", "one")))
        world.configure(files=[])
        caplog.clear()
        await exporter.shows(watches("own", "filed", "one"))
        (line,) = logged(caplog, "configuration reloaded")
        assert (line["added"], line["removed"]) == (1, 0)


async def test_a_new_url_that_is_down_keeps_a_reload_from_emptying_the_list(world: World) -> None:
    async with running(world.path) as exporter:
        await exporter.shows(watches(*ALL))
        world.server.dies()
        world.file.write_text(world.csv("filed"))
        other = source_table("other", world.server.url.replace("/list", "/other"))
        world.configure(other, files=["a.csv"])
        text = world.path.read_text()
        own = text.index("[[factors]]")
        world.path.write_text(text[:own] + other)
        world.path.write_text(world.path.read_text().replace('["a.csv"]', "[]"))
        with pytest.raises(ConfigError) as refused:
            await exporter.daemon.reload()
        assert [error.problem for error in refused.value.errors] == [
            "would lose all its 4 entries",
            "can't be loaded: the connection failed: closed before the response was complete",
        ]
        assert watches(*ALL)(await exporter.scrape())


@pytest.mark.slow
async def test_a_new_url_with_a_bad_answer_adds_nothing(world: World) -> None:
    """The rest of the reload is applied, and the source is known as bad at once."""
    async with running(world.path) as exporter:
        await exporter.shows(watches(*ALL))
        await becomes(exporter.daemon.readiness.ready)
        world.server.answers(b"<html>")
        world.configure(world.source(), world.source("second", refresh_interval="1h"))
        page = await exporter.shows(lambda page: up(page, "second") == 0)
        assert watches(*ALL, **{RELOADED: 1})(page)
        assert "is HTML or XML" in str(exporter.daemon.sources.statuses["second"].problems)
        assert exporter.daemon.engine.config.unloaded == ("second",)
        async with aiohttp.ClientSession() as session, session.post(exporter.url + "/-/reload") as response:
            answer = await response.text()
        assert answer.startswith("configuration reloaded; factors: 0 added, ")
        assert '\na watchlist URL can\'t be used: watchlist.http "second": is HTML or XML' in answer
        assert await exporter.status("/-/ready") == 200, "a reload doesn't make it unready"


async def test_a_new_name_or_url_keeps_the_list(world: World) -> None:
    async with running(world.path) as exporter:
        await exporter.shows(watches(*ALL))
        world.server.dies()
        world.configure(world.source("renamed"))
        page = await exporter.shows(lambda page: up(page, "renamed") == 0)
        assert watches(*ALL)(page)
        assert up(page) is None
        world.configure(source_table("renamed", world.server.url + "/moved", refresh_interval="1s"))
        await exporter.daemon.reload()
        page = await exporter.scrape()
        assert watches(*ALL)(page)
        assert up(page, "renamed") == 0
        world.lists("three")
        await exporter.shows(watches("own", "filed", "three"))


@pytest.mark.slow
@pytest.mark.parametrize("name", [NAME, "renamed"])
async def test_a_reload_of_other_settings_claims_no_load(world: World, name: str) -> None:
    """A URL that is down stays down, and its age goes on, until it is loaded with the new settings, at once."""
    async with running(world.path) as exporter:
        await exporter.shows(watches(*ALL))
        world.server.answers(b"", status="500 Internal Server Error")
        page = await exporter.shows(lambda page: up(page) == 0)
        last_success, requests = page.value(LAST_SUCCESS, source=NAME), len(world.server.requests)
        world.configure(world.source(name, refresh_interval="1h"))
        await exporter.daemon.reload()
        page = await exporter.scrape()
        assert (up(page, name), page.value(LAST_SUCCESS, source=name)) == (0, last_success)
        world.lists("one", "three")
        page = await exporter.shows(watches("own", "filed", "one", "three"))
        assert up(page, name) == 1
        assert len(world.server.requests) > requests


async def test_a_late_answer_of_the_old_url_does_not_replace_that_of_the_new_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answered, released = asyncio.Event(), asyncio.Event(), asyncio.Event()
    old, new = document(world.entries("three")), document(world.entries("two"))

    async def behave(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_new = "/moved" in world.server.requests[-1].splitlines()[0]
        if to_new:
            asked.set()
            await released.wait()
        body = new if to_new else old
        writer.write(head("200 OK", f"Content-Type: {JSON}", f"Content-Length: {len(body)}") + body)
        await writer.drain()

    async with running(world.path) as exporter:
        await exporter.shows(watches(*ALL))
        reloader = exporter.daemon.reloader
        change = reloader.change

        async def noted(make: Callable[[Config], Config]) -> Difference:
            answered.set()
            return await change(make)

        monkeypatch.setattr(reloader, "change", noted)
        world.server.answers(b"", status="500 Internal Server Error")
        await exporter.shows(lambda page: up(page) == 0)
        world.configure(source_table(NAME, world.server.url + "/moved", refresh_interval="1h"))
        world.server.behave = behave
        reload = asyncio.create_task(exporter.daemon.reload())
        await asked.wait()
        await answered.wait()
        released.set()
        await reload
        await exporter.daemon.reload()  # after the late answer
        assert watches("own", "filed", "two")(await exporter.scrape())


async def test_a_source_that_is_removed_takes_its_entries_with_it(world: World) -> None:
    async with running(world.path) as exporter:
        await exporter.shows(watches(*ALL))
        world.configure(" ")
        page = await exporter.shows(watches("own", "filed"))
        assert up(page) is None
        world.configure()
        await exporter.shows(watches(*ALL))


async def test_a_requested_reload_loads_every_source_soon(world: World) -> None:
    world.configure(world.source(refresh_interval="1h"))
    async with running(world.path) as exporter:
        await exporter.shows(watches(*ALL))
        world.lists("one", "three")
        await exporter.daemon.reload()
        await exporter.shows(watches("own", "filed", "one", "three"))
        assert len(world.server.requests) == 2


async def test_a_reload_that_waits_for_a_new_url_is_not_awaited(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the next looks at the files are no lost runs."""
    monkeypatch.setattr("exporter.daemon.reload._LONGEST_WAIT_SECONDS", 0.05)
    arrived, released = asyncio.Event(), asyncio.Event()
    async with running(world.path) as exporter:
        await exporter.shows(watches(*ALL))
        good = world.server.behave

        async def slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            arrived.set()
            await released.wait()
            await good(reader, writer)

        world.server.behave = slowly
        world.configure(source_table("slow", world.server.url + "/slow", timeout="60s"))
        await arrived.wait()
        await exporter.daemon.reloader.reload_if_changed()
        await exporter.daemon.reloader.reload_if_changed()
        released.set()
        await exporter.shows(lambda page: up(page, "slow") == 1)


async def test_a_start_does_not_wait_longer_than_half_a_minute(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.daemon.url_sources._LONGEST_WAIT_SECONDS", 0.2)
    world.server.drips(document(world.entries("one")) + b" " * 1_000_000)
    world.configure(world.source(timeout="1h"))
    async with running(world.path) as exporter:
        page = await exporter.shows(watches("own", "filed"))
        assert up(page) == 0


async def test_a_stop_does_not_wait_for_a_reload_that_waits_for_a_url(world: World) -> None:
    arrived = asyncio.Event()
    async with running(world.path) as exporter:
        await exporter.shows(watches(*ALL))

        async def never(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
            arrived.set()
            await reader.read()

        world.server.behave = never
        world.configure(source_table("slow", world.server.url + "/slow", timeout="1h"))
        await arrived.wait()
    assert exporter.daemon.engine.config.http[0].name == NAME


@pytest.mark.slow
async def test_a_process_watches_what_it_did_before_a_restart(world: World) -> None:
    async with Process.run(world.path) as exporter:
        await exporter.shows(watches(*ALL))
        await becomes(lambda: read(world.state_file))
        exporter.signal(signal.SIGTERM)
        assert await exporter.ended() == 0
    world.server.dies()
    async with Process.run(world.path) as exporter:
        page = await exporter.shows(watches(*ALL, **{FALLBACK: 1}))
        assert up(page) == 0
        assert 'msg="running on the last good watchlist" sources=identity-service' in exporter.log
        assert exporter.log.count('msg="watchlist source failed"') == 1
        world.lists("one", "two", "three")
        await exporter.shows(watches(*ALL, "three", **{FALLBACK: 0}))
        exporter.signal(signal.SIGTERM)
        assert await exporter.ended() == 0
    assert not any(identity in exporter.log for identity in world.identities)
