"""``POST /-/reload`` and ``PUT /-/log-level``: disabled by default, and their responses when enabled."""

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
async def test_disabled_by_default(tmp_path: Path, path: str, method: str) -> None:
    async with serving(tmp_path) as running:
        reply = await running.request(path, method)
        assert (reply.status, reply.text) == (403, "disabled: web.enable_lifecycle is false\n")


@pytest.mark.parametrize(("path", "method"), PATHS)
@pytest.mark.parametrize("site", ["cross-site", "same-site", "made-up"])
async def test_cross_site_requests_are_refused(tmp_path: Path, path: str, method: str, site: str) -> None:
    async with serving(tmp_path, web=OPEN) as running:
        reply = await running.request(path, method, Sec_Fetch_Site=site)
        assert (reply.status, reply.text) == (403, "refused: cross-site request\n")


@pytest.mark.parametrize("name", ["Origin", "Referer"])
@pytest.mark.parametrize(
    ("said", "foreign"),
    [("http://elsewhere.example", True), ("null", True), ("http://[", True), ("{url}/", False), ("{url}", False)],
)
async def test_over_plain_http_origin_and_referer_decide(
    tmp_path: Path, name: str, said: str, foreign: bool
) -> None:
    async with serving(tmp_path, web=OPEN) as running:
        reply = await running.request("/-/log-level", "PUT", body=b"info", **{name: said.format(url=running.url)})
        assert reply.status == (403 if foreign else 200)


@pytest.mark.parametrize(("path", "method"), PATHS)
async def test_other_methods_are_refused(tmp_path: Path, path: str, method: str) -> None:
    async with serving(tmp_path, web=OPEN) as running:
        reply = await running.request(path, "GET")
        assert reply.status == 405
        assert reply.headers["Allow"] == method


async def test_a_reload_returns_how_many_factors_changed(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("one", "two"), web=OPEN) as running:
        (tmp_path / "config.toml").write_text(
            (tmp_path / "config.toml").read_text().replace('"two"', '"deux"'), encoding="utf-8"
        )
        reply = await running.request("/-/reload", "POST")
        assert (reply.status, reply.text) == (
            200,
            "configuration reloaded; factors: 0 added, 0 removed, 1 changed, 0 restored\n",
        )
        assert running.key("deux")


async def test_a_refused_reload_returns_the_errors(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("one"), web=OPEN) as running:
        path = tmp_path / "config.toml"
        path.write_text(path.read_text() + "\n[polling2]\n", encoding="utf-8")
        reply = await running.request("/-/reload", "POST")
        assert reply.status == 500
        first, *errors = reply.text.splitlines()
        assert first == "configuration refused; the old one stays applied:"
        assert len(errors) == 1
        assert errors[0].endswith('polling2: unknown table; did you mean "polling"?')
        assert running.key("one")


async def test_a_reload_may_disable_these_paths(tmp_path: Path) -> None:
    async with serving(tmp_path, entries("one"), web=OPEN) as running:
        path = tmp_path / "config.toml"
        path.write_text(path.read_text().replace("enable_lifecycle = true", "enable_lifecycle = false"))
        assert (await running.request("/-/reload", "POST")).status == 200
        assert (await running.request("/-/reload", "POST")).status == 403


async def test_no_reload_while_stopping(tmp_path: Path) -> None:
    async with serving(tmp_path, web=OPEN) as running:
        running.daemon.readiness.draining = True
        assert (await running.request("/-/reload", "POST")).status == 503


async def test_the_log_level(tmp_path: Path, log_level: None) -> None:
    async with serving(tmp_path, web=OPEN) as running:
        for body, level in ((b"debug", logging.DEBUG), (b" Error\n", logging.ERROR), (b"info", logging.INFO)):
            reply = await running.request("/-/log-level", "PUT", body=body)
            assert (reply.status, reply.text) == (200, f"log level set to {body.decode().strip().lower()}\n")
            assert logging.getLogger("exporter").level == level


async def test_the_log_level_in_pieces(tmp_path: Path, log_level: None) -> None:
    async with serving(tmp_path, web=OPEN) as running:
        host, _, port = running.url.removeprefix("http://").rpartition(":")
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
    async with serving(tmp_path, web=OPEN) as running:
        before = logging.getLogger("exporter").level
        reply = await running.request("/-/log-level", "PUT", body=body)
        assert reply.status == 400
        assert "invalid log level: the body must be one of debug, info, warning, error" in reply.text
        assert logging.getLogger("exporter").level == before
