"""The examples of docs/watchlist-sources.md, against a real PostgreSQL and nginx."""

from __future__ import annotations

import contextlib
import json
import os
import re
import ssl
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from exporter.config.watchlist import Watchlist
from exporter.simulator import Simulator
from tests.external.test_prometheus import free_port
from tests.support.certificates import Certificates
from tests.support.config_files import account_of, write_config
from tests.support.passwords import header
from tests.support.processes import output_of, spawned
from tests.support.programs.nginx import nginx
from tests.support.programs.postgres import postgres
from tests.support.running_exporter import Process, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from exporter.simulator import SimulatedFactor
    from tests.support.fixtures import Program
    from tests.support.programs.postgres import Postgres
    from tests.support.scrape import Scrape

pytestmark = pytest.mark.external

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
PAGE = EXAMPLES.parent / "watchlist-sources.md"
ROLE, TOKEN = "verify_watchlist", "made-up-token"
SERVICE_SID = "VA" + "5" * 32


def factor_sid(number: int) -> str:
    return f"YF{number:032x}"


def user(number: int, *, team: str | None = None, identity: str | None = "", sid: str | None = "") -> str:
    """Return the SQL that adds a user; an empty value stands for one made of the number."""
    values = (identity if identity != "" else f"user-{number:08}", sid if sid != "" else factor_sid(number), team)
    shown = ", ".join("NULL" if value is None else f"'{value}'" for value in values)
    columns = "id, email, verify_identity, verify_factor_sid, team"
    return f"INSERT INTO users ({columns}) VALUES ({number}, 'made-up', {shown});"  # noqa: S608  # the values are the test's


def entry(number: int, team: str = "") -> dict[str, object]:
    """Return the entry of such a user."""
    return {
        "name": f"user-{number}",
        "service_sid": SERVICE_SID,
        "identity": f"user-{number:08}",
        "factor_sid": factor_sid(number),
        "labels": {"team": team},
    }


@contextlib.asynccontextmanager
async def user_database(program: Program) -> AsyncIterator[Postgres]:
    """Run a PostgreSQL with the page's table, view and role."""
    [table] = re.findall(r"```sql\n(CREATE TABLE .*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    async with postgres(program) as database:
        await database.run(table + (EXAMPLES / "watchlist.sql").read_text(encoding="utf-8"))
        yield database


@dataclass(frozen=True, slots=True)
class Reply:
    """A response of a watchlist source."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def entries(self) -> list[dict[str, Any]]:
        """The factors that it lists, which the exporter's loader has to accept."""
        assert self.status == 200, self
        document = json.loads(self.body)
        assert document.keys() == {"factors"}
        watchlist = Watchlist(["main"], 300.0)
        watchlist.add_document("source", document)
        assert watchlist.errors == []
        factors: list[dict[str, Any]] = document["factors"]
        assert len(watchlist.factors) == len(factors)
        return factors


async def get(url: str, tls: ssl.SSLContext | bool = True, /, **headers: str) -> Reply:
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers, ssl=tls) as response:
        return Reply(response.status, response.headers, await response.read())


@dataclass(frozen=True, slots=True)
class Example:
    """The running example; ``log`` is the file of its standard error."""

    url: str
    log: Path

    async def get(self, **headers: str) -> Reply:
        return await get(self.url, True, **{"Authorization": f"Bearer {TOKEN}"} | headers)


@contextlib.asynccontextmanager
async def example(database: Postgres, folder: Path, service_sid: str = SERVICE_SID) -> AsyncIterator[Example]:
    """Run the example as the page says."""
    token, log, port = folder / "token", folder / "example.log", free_port()
    token.write_text(f"{TOKEN}\n")
    environ = {"PGUSER": ROLE, "SERVICE_SID": service_sid, "TOKEN_FILE": str(token), "PORT": str(port)}
    command = (sys.executable, str(EXAMPLES / "watchlist_from_sql.py"))
    with log.open("wb") as stream:
        async with spawned(*command, env=os.environ | database.variables | environ, stderr=stream) as started:

            async def answers() -> bool:
                assert started.returncode is None, log.read_text()
                with contextlib.suppress(aiohttp.ClientConnectionError):
                    return (await get(f"http://127.0.0.1:{port}/")).status == 401
                return False

            await until(answers, bool)
            yield Example(f"http://127.0.0.1:{port}/", log)


async def test_the_server_lists_what_the_query_returns(program: Program, tmp_path: Path) -> None:
    async with user_database(program) as database, example(database, tmp_path) as source:
        await database.run(user(1, team="payments") + user(2))
        await database.run("UPDATE users SET disabled = true WHERE id = 2;")
        first = await source.get()
        assert first.entries == [entry(1, "payments")]
        assert first.headers["Content-Type"] == "application/json"

        tag = first.headers["ETag"]
        for given in (tag, f"W/{tag}", f'"another", {tag}'):
            same = await source.get(**{"If-None-Match": given})
            assert (same.status, same.headers["ETag"], same.body) == (304, tag, b"")
        await database.run(user(3))
        second = await source.get(**{"If-None-Match": tag})
        assert second.entries == [entry(1, "payments"), entry(3)]
        assert second.headers["ETag"] != tag


async def test_the_server_skips_rows_with_a_null_and_says_how_many(program: Program, tmp_path: Path) -> None:
    async with user_database(program) as database, example(database, tmp_path) as source:
        await database.run(user(1))
        assert (await source.get()).entries == [entry(1)]
        assert "skipped" not in source.log.read_text()

        await database.run(user(2, sid=None) + user(3, identity=None))
        assert (await source.get()).entries == [entry(1)]
        assert "skipped 2 of 3 rows with a NULL" in source.log.read_text()
        assert "user-00000002" not in source.log.read_text()


async def test_the_server_answers_only_with_the_token(program: Program, tmp_path: Path) -> None:
    async with user_database(program) as database, example(database, tmp_path) as source:
        await database.run(user(1))
        for given in (f"Bearer {TOKEN}x", "Bearer ", f"Basic {TOKEN}", "", "Bearer \u00e9"):
            refused = await source.get(Authorization=given)
            assert (refused.status, refused.headers["WWW-Authenticate"], refused.body) == (401, "Bearer", b"")

    status, _, err = await output_of(
        *(sys.executable, str(EXAMPLES / "watchlist_from_sql.py")),
        env=os.environ | {"SERVICE_SID": SERVICE_SID, "TOKEN_FILE": os.devnull},
    )
    assert (status, err) == (1, b"the token is empty\n")


async def test_the_server_answers_503_while_the_database_does_not_answer(program: Program, tmp_path: Path) -> None:
    async with user_database(program) as database, example(database, tmp_path) as source:
        await database.run(user(1) + f"ALTER ROLE {ROLE} NOLOGIN;")
        failed = await source.get()
        assert (failed.status, failed.body) == (503, b"")
        assert "query failed: " in source.log.read_text()

        await database.run(f"ALTER ROLE {ROLE} LOGIN;")
        assert (await source.get()).entries == [entry(1)]


async def test_the_role_reads_the_view_and_nothing_else(program: Program) -> None:
    async with user_database(program) as database:
        await database.run(user(1))
        assert await database.run("SELECT name FROM verify_watchlist;", user=ROLE) == "user-1\n"
        for sql in (
            "SELECT email FROM users;",
            "SET default_transaction_read_only = off; DELETE FROM users;",
            "SET default_transaction_read_only = off; UPDATE verify_watchlist SET identity = 'someone-else';",
            "SET default_transaction_read_only = off; DROP VIEW verify_watchlist;",
        ):
            status, _, err = await database.try_to(sql, user=ROLE)
            assert status != 0, sql
            assert re.search("permission denied|must be owner", err), err
        assert await database.run("SHOW statement_timeout; SHOW transaction_read_only;", user=ROLE) == "5s\non\n"


async def test_the_page_s_constraints_keep_bad_rows_out(program: Program) -> None:
    [constraints] = re.findall(r"```sql\n(ALTER TABLE users.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    async with user_database(program) as database:
        await database.run(user(1) + user(2, sid=None) + constraints + user(3, sid=f"yf{'A' * 32}"))
        for bad in (
            user(4, identity="a person"),
            user(5, identity="short"),
            user(6, identity="x" * 65),
            user(7, sid="YF12"),
            user(8, sid=factor_sid(1)),
        ):
            status, _, err = await database.try_to(bad)
            assert status != 0, bad
            assert "constraint" in err
        assert await database.run("SELECT count(*) FROM users;") == "3\n"


async def publish(text: str, target: Path) -> tuple[int, str]:
    """Run the page's script; return its exit status and its messages."""
    script = str(EXAMPLES / "publish_watchlist.sh")
    status, out, err = await output_of("sh", script, str(target), input_bytes=text.encode())
    assert out == b""
    return status, err.decode()


def files_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def test_the_file_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "factors.json"
    old, new = (json.dumps({"factors": [entry(number)]}) for number in (1, 2))
    assert await publish(old, target) == (0, "")
    assert (target.read_text(), target.stat().st_mode & 0o777) == (old, 0o640)

    with target.open() as reader:
        before = target.stat()
        assert await publish(old, target) == (0, "")
        assert target.stat() == before, "an unchanged file keeps its time, and so its ETag"
        for bad in ("", old[:-3], "<html></html>", json.dumps({"factors": []}), json.dumps({"entries": []})):
            assert (await publish(bad, target))[0] != 0
            assert target.stat() == before
        assert await publish(new, target) == (0, "")
        assert reader.read() == old, "who reads at that moment gets the old file"
    assert target.read_text() == new
    assert files_in(tmp_path) == [target]


async def test_the_file_lists_what_the_view_has(program: Program, tmp_path: Path) -> None:
    async with user_database(program) as database:
        await database.run(user(1, team="payments") + user(2, sid=None) + user(3))
        query = (EXAMPLES / "watchlist_json.sql").read_text(encoding="utf-8")
        text = await database.run(query, "-v", f"service_sid={SERVICE_SID}", user=ROLE)
        assert await publish(text, tmp_path / "factors.json") == (0, "")
        reply = Reply(200, {}, (tmp_path / "factors.json").read_bytes())
        assert reply.entries == [entry(1, "payments"), entry(3)]

        await database.run("DELETE FROM users;")
        text = await database.run(query, "-v", f"service_sid={SERVICE_SID}", user=ROLE)
        assert (await publish(text, tmp_path / "factors.json"))[0] != 0, "an empty list is not published"


@dataclass(frozen=True, slots=True)
class Front:
    """A running nginx with the page's server block; ``root`` is the folder of the file."""

    url: str
    folder: Path
    root: Path

    @property
    def access_log(self) -> str:
        return (self.folder / "access.log").read_text()


@contextlib.asynccontextmanager
async def front(program: Program, folder: Path, upstream: str = "http://127.0.0.1:9/") -> AsyncIterator[Front]:
    """Run nginx with the page's server block, in which only addresses and paths differ."""
    port, root = free_port(), folder / "watchlist"
    root.mkdir()
    Certificates.make(folder)
    (folder / "htpasswd").write_text(f"exporter:{{PLAIN}}{TOKEN}\n")
    block = (EXAMPLES / "nginx.conf").read_text(encoding="utf-8")
    for given, here in {
        "8443 ssl": f"127.0.0.1:{port} ssl",
        "/etc/nginx/watchlist.crt": f"{folder}/server.crt",
        "/etc/nginx/watchlist.key": f"{folder}/server.key",
        "http://127.0.0.1:8080": upstream,
        "/srv/watchlist": str(root),
        "/etc/nginx/watchlist.htpasswd": f"{folder}/htpasswd",
    }.items():
        assert block.count(given) == 1, given
        block = block.replace(given, here)
    async with nginx(program, folder, block, port):
        yield Front(f"https://127.0.0.1:{port}", folder, root)


@contextlib.asynccontextmanager
async def exporter(folder: Path, simulator: Simulator, url: str, *credentials: str) -> AsyncIterator[Process]:
    """Run an exporter whose only source of factors is a URL."""
    (folder / "secret").write_text(TOKEN)
    path = write_config(folder / "config.toml", {"main": account_of(simulator)})
    lines = (
        "[[watchlist.http]]",
        'name = "users"',
        f'url = "{url}"',
        f'ca_file = "{folder}/ca.crt"',
        'refresh_interval = "1s"',
        *credentials,
    )
    with path.open("a") as file:
        file.write("\n".join(lines))
    async with Process.run(path) as running:
        yield running


def verified(scrape: Scrape) -> set[str]:
    """Return the names of the verified factors."""
    samples = scrape.samples("twilio_verify_factor_verified")
    return {sample.labels["factor"] for sample in samples if sample.value == 1}


def source_up(scrape: Scrape) -> float | None:
    return scrape.value("twilio_verify_exporter_watchlist_source_up", source="users")


def user_of(number: int, factor: SimulatedFactor) -> str:
    """Return the SQL that adds a user with a factor of the simulator."""
    return user(number, identity=factor.identity, sid=factor.sid)


async def test_the_exporter_watches_what_the_query_returns(program: Program, tmp_path: Path) -> None:
    async with Simulator() as simulator, user_database(program) as database:
        factors = [simulator.add_factor() for _ in range(3)]
        await database.run(user_of(0, factors[0]))
        async with (
            example(database, tmp_path, factors[0].service_sid) as source,
            front(program, tmp_path, source.url) as served,
            exporter(
                tmp_path, simulator, f"{served.url}/factors", f'bearer_token_file = "{tmp_path}/secret"'
            ) as running,
        ):
            await running.shows(lambda scrape: verified(scrape) == {"user-0"})
            await database.run(user_of(1, factors[1]))
            scrape = await running.shows(lambda scrape: verified(scrape) == {"user-0", "user-1"})
            assert source_up(scrape) == 1

            await database.run(user_of(2, factors[2]) + user(9, identity="a person"))
            scrape = await running.shows(lambda scrape: source_up(scrape) == 0)
            assert verified(scrape) == {"user-0", "user-1"}, "the last good list stays"
            await database.run("DELETE FROM users WHERE id = 9;")
            scrape = await running.shows(lambda scrape: source_up(scrape) == 1)
            await running.shows(lambda scrape: verified(scrape) == {"user-0", "user-1", "user-2"})

            for secret in (TOKEN, "a person", *(factor.identity for factor in factors)):
                assert secret not in running.log
    assert '" 304 ' in served.access_log, "the answer that the exporter has is not sent again"


async def test_the_exporter_watches_what_the_file_lists(program: Program, tmp_path: Path) -> None:
    async with Simulator() as simulator, front(program, tmp_path) as served:
        factors = [simulator.add_factor() for _ in range(2)]
        entries = [
            {
                "name": f"user-{number}",
                "service_sid": factor.service_sid,
                "identity": factor.identity,
                "factor_sid": factor.sid,
            }
            for number, factor in enumerate(factors)
        ]
        target = served.root / "factors.json"
        assert await publish(json.dumps({"factors": entries[:1]}), target) == (0, "")
        credentials = ('username = "exporter"', f'password_file = "{tmp_path}/secret"')
        async with exporter(tmp_path, simulator, f"{served.url}/factors.json", *credentials) as running:
            await running.shows(lambda scrape: verified(scrape) == {"user-0"})

            async def not_modified() -> bool:
                return '" 304 ' in served.access_log

            await until(not_modified, bool)
            assert await publish(json.dumps({"factors": entries}), target) == (0, "")
            await running.shows(lambda scrape: verified(scrape) == {"user-0", "user-1"})

            target.rename(served.root / "elsewhere")
            scrape = await running.shows(lambda scrape: source_up(scrape) == 0)
            assert verified(scrape) == {"user-0", "user-1"}
            assert '" 401 ' not in served.access_log


async def test_nginx_serves_the_file_to_those_with_the_password_and_answers_304(
    program: Program, tmp_path: Path
) -> None:
    async with front(program, tmp_path) as served:
        url, target = f"{served.url}/factors.json", served.root / "factors.json"
        context = ssl.create_default_context(cafile=str(tmp_path / "ca.crt"))
        password = {"Authorization": header("exporter", TOKEN)}
        assert await publish(json.dumps({"factors": [entry(1)]}), target) == (0, "")
        assert (await get(url, context)).status == 401
        first = await get(url, context, **password)
        assert first.entries == [entry(1)]
        assert first.headers["Content-Type"] == "application/json"

        tag = first.headers["ETag"]
        assert await publish(json.dumps({"factors": [entry(1)]}), target) == (0, "")
        same = await get(url, context, **password, **{"If-None-Match": tag})
        assert (same.status, same.headers["ETag"], same.body) == (304, tag, b"")
        assert await publish(json.dumps({"factors": [entry(1), entry(2)]}), target) == (0, "")
        changed = await get(url, context, **password, **{"If-None-Match": tag})
        assert changed.entries == [entry(1), entry(2)]
        assert changed.headers["ETag"] != tag
