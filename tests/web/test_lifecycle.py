"""``POST /-/reload`` and ``PUT /-/log-level``: closed by default, and what they answer when they are open."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import pytest

from tests.support.served_exporter import entries, serving

if TYPE_CHECKING:
    from pathlib import Path

OPEN = {"enable_lifecycle": True}
PATHS = [("/-/reload", "POST"), ("/-/log-level", "PUT")]


@pytest.mark.parametrize(("path", "method"), PATHS)
async def test_closed_unless_opened(tmp_path: Path, path: str, method: str) -> None:
    async with serving(tmp_path) as house:
        reply = await house.ask(path, method)
        assert (reply.status, reply.text) == (403, "disabled: web.enable_lifecycle is false\n")


@pytest.mark.parametrize(("path", "method"), PATHS)
@pytest.mark.parametrize("site", ["cross-site", "same-site", "made-up"])
async def test_closed_to_pages_of_other_sites(tmp_path: Path, path: str, method: str, site: str) -> None:
    async with serving(tmp_path, web=OPEN) as house:
        reply = await house.ask(path, method, Sec_Fetch_Site=site)
        assert (reply.status, reply.text) == (403, "refused: cross-site request\n")


@pytest.mark.parametrize("name", ["Origin", "Referer"])
@pytest.mark.parametrize(
    ("said", "foreign"),
    [("http://elsewhere.example", True), ("null", True), ("http://[", True), ("{url}/", False), ("{url}", False)],
)
async def test_over_plain_http_the_address_of_the_page_tells(
    tmp_path: Path, name: str, said: str, foreign: bool
) -> None:
    async with serving(tmp_path, web=OPEN) as house:
        reply = await house.ask("/-/log-level", "PUT", body=b"info", **{name: said.format(url=house.url)})
        assert reply.status == (403 if foreign else 200)


@pytest.mark.parametrize(("path", "method"), PATHS)
async def test_other_methods_are_refused(tmp_path: Path, path: str, method: str) -> None:
    async with serving(tmp_path, web=OPEN) as house:
        reply = await house.ask(path, "GET")
        assert reply.status == 405
        assert reply.headers["Allow"] == method


async def test_a_reload_answers_what_became_of_the_factors(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("one", "two"), web=OPEN) as house:
        (tmp_path / "config.toml").write_text(
            (tmp_path / "config.toml").read_text().replace('"two"', '"deux"'), encoding="utf-8"
        )
        reply = await house.ask("/-/reload", "POST")
        assert (reply.status, reply.text) == (
            200,
            "configuration reloaded; factors: 0 added, 0 removed, 1 changed\n",
        )
        assert house.key("deux")


async def test_a_refused_reload_answers_why(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("one"), web=OPEN) as house:
        path = tmp_path / "config.toml"
        path.write_text(path.read_text() + "\n[polling2]\n", encoding="utf-8")
        reply = await house.ask("/-/reload", "POST")
        assert reply.status == 500
        first, *faults = reply.text.splitlines()
        assert first == "configuration refused; the old one stays applied:"
        assert len(faults) == 1
        assert faults[0].endswith('polling2: is not a known key; did you mean "polling"?')
        assert house.key("one")


async def test_a_reload_may_close_these_paths(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("one"), web=OPEN) as house:
        path = tmp_path / "config.toml"
        path.write_text(path.read_text().replace("enable_lifecycle = true", "enable_lifecycle = false"))
        assert (await house.ask("/-/reload", "POST")).status == 200
        assert (await house.ask("/-/reload", "POST")).status == 403


async def test_no_reload_while_it_stops(tmp_path: Path) -> None:
    async with serving(tmp_path, web=OPEN) as house:
        house.daemon.draining = True
        assert (await house.ask("/-/reload", "POST")).status == 503


async def test_the_log_level(tmp_path: Path, log_level: None) -> None:
    async with serving(tmp_path, web=OPEN) as house:
        for body, level in ((b"debug", logging.DEBUG), (b" Error\n", logging.ERROR), (b"info", logging.INFO)):
            reply = await house.ask("/-/log-level", "PUT", body=body)
            assert (reply.status, reply.text) == (200, f"log level set to {body.decode().strip().lower()}\n")
            assert logging.getLogger("exporter").level == level


async def test_the_log_level_in_pieces(tmp_path: Path, log_level: None) -> None:
    async with serving(tmp_path, web=OPEN) as house:
        host, _, port = house.url.removeprefix("http://").rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"PUT /-/log-level HTTP/1.0\r\nContent-Length: 5\r\n\r\nde")
        await writer.drain()
        await asyncio.sleep(0.05)  # another packet
        writer.write(b"bug")
        answer = await reader.read()
        writer.close()
        assert answer.endswith(b"log level set to debug\n")


@pytest.mark.parametrize("body", [b"", b"verbose", b"debug" * 100, b"\xff\xfe"])
async def test_an_unknown_level_changes_nothing(tmp_path: Path, log_level: None, body: bytes) -> None:
    async with serving(tmp_path, web=OPEN) as house:
        before = logging.getLogger("exporter").level
        reply = await house.ask("/-/log-level", "PUT", body=body)
        assert reply.status == 400
        assert "invalid log level: the body must be one of debug, info, warning, error" in reply.text
        assert logging.getLogger("exporter").level == before
