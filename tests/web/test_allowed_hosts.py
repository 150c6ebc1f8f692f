"""A request that names a foreign host causes nothing: a web page may have made its name resolve to this address."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exporter.web.hosts import is_allowed
from tests.support.processes import PATIENCE_SECONDS
from tests.support.served_exporter import entries, serving

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.served_exporter import ServedExporter

OPEN = {"enable_lifecycle": True, "enable_probe": True}
ACTIONS = ["POST /-/reload", "PUT /-/log-level", "GET /probe?factor=one", "HEAD /probe?factor=one"]


async def status(running: ServedExporter, line: str, *headers: str) -> tuple[int, str]:
    """Send a request with exactly these lines; return the status and the body."""
    host, _, port = running.url.removeprefix("http://").rpartition(":")
    async with asyncio.timeout(PATIENCE_SECONDS):
        reader, writer = await asyncio.open_connection(host, int(port))
        lines = [line, *headers, "Connection: close", "Content-Length: 4", "", "info"]
        writer.write("\r\n".join(lines).encode())
        answer = (await reader.read()).decode()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    return int(answer.split()[1]), answer.partition("\r\n\r\n")[2]


@pytest.mark.parametrize("action", ACTIONS)
async def test_a_foreign_name_is_refused(tmp_path: Path, log_level: None, action: str) -> None:
    async with serving(tmp_path, entries("one"), web=OPEN) as running:
        before = running.daemon.engine.config
        code, text = await status(running, f"{action} HTTP/1.1", "Host: rebound.example:10069")
        assert code == 403
        if not action.startswith("HEAD"):
            why = 'the host "rebound.example:10069" is not in web.allowed_hosts; add its name, or use an IP address'
            assert text == f"refused: {why}\n"
        assert running.daemon.engine.config is before
        assert running.daemon.engine.poller.first_fetches_pending == 1


@pytest.mark.parametrize("path", ["/", "/metrics", "/config", "/api/v1/factors", "/-/healthy"])
async def test_what_only_reads_may_have_any_name(tmp_path: Path, path: str) -> None:
    async with serving(tmp_path, entries("one"), web=OPEN) as running:
        assert (await status(running, f"GET {path} HTTP/1.1", "Host: any.example"))[0] == 200


async def test_disabled_paths_say_so_first(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        code, text = await status(running, "POST /-/reload HTTP/1.1", "Host: rebound.example")
        assert (code, text) == (403, "disabled: web.enable_lifecycle is false\n")


@pytest.mark.parametrize(
    ("version", "headers", "expected"),
    [
        ("1.0", (), 200),
        ("1.0", ("Host: rebound.example",), 403),
        ("1.1", (), 400),
        ("1.1", ("Host: 127.0.0.1", "Host: 127.0.0.1"), 400),
        ("1.1", ("Host: 127.0.0.1", "Host: rebound.example"), 400),
        ("1.0", ("Host: rebound.example", "Host: 127.0.0.1"), 400),
        ("1.1", ("Host: 127.0.0.1, rebound.example",), 403),
        ("1.1", ("Host:",), 403),
        ("1.1", ("Host: 127.0.0.1", "X-Forwarded-Host: rebound.example"), 200),
        ("1.1", ("Host: rebound.example", "X-Forwarded-Host: 127.0.0.1", "Forwarded: host=127.0.0.1"), 403),
    ],
)
async def test_versions_and_repeated_headers(
    tmp_path: Path, log_level: None, version: str, headers: tuple[str, ...], expected: int
) -> None:
    async with serving(tmp_path, web=OPEN) as running:
        assert (await status(running, f"PUT /-/log-level HTTP/{version}", *headers))[0] == expected


@pytest.mark.parametrize(
    ("target", "host", "expected"),
    [
        ("http://127.0.0.1:10069", "127.0.0.1", 200),
        ("http://[::1]:10069", "[::1]:10069", 200),
        ("http://exporter.example.com", "exporter.example.com", 200),
        ("http://rebound.example", "127.0.0.1", 403),
        ("http://127.0.0.1", "rebound.example", 403),
        ("http://rebound.example", "rebound.example", 403),
        ("http://127.0.0.1@rebound.example", "127.0.0.1", 403),
    ],
)
async def test_with_an_absolute_target_both_hosts_count(
    tmp_path: Path, log_level: None, target: str, host: str, expected: int
) -> None:
    web = {**OPEN, "allowed_hosts": ["exporter.example.com"]}
    async with serving(tmp_path, web=web) as running:
        assert (await status(running, f"PUT {target}/-/log-level HTTP/1.1", f"Host: {host}"))[0] == expected


async def test_a_reload_changes_the_allowed_names(tmp_path: Path, log_level: None) -> None:
    line, host = "PUT /-/log-level HTTP/1.1", "Host: Exporter.example.com.:443"
    async with serving(tmp_path, web={**OPEN, "allowed_hosts": ["EXPORTER.example.com"]}) as running:
        assert (await status(running, line, host))[0] == 200
        path = tmp_path / "config.toml"
        path.write_text(path.read_text().replace("EXPORTER.example.com", "other.example.com"), encoding="utf-8")
        await running.daemon.reload()
        assert (await status(running, line, host))[0] == 403


ALLOWED = ("exporter.example.com", "exporter")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.0.0.1:10069", "192.0.2.7:80", "10.0.0.1.", "[::1]", "[::1]:10069", "[2001:db8::7]:",
        "::1", "[fe80::1%25eth0]", "[fe80::1%eth0]:1", "localhost", "LOCALHOST:10069", "localhost.",
        "demo.localhost:1", "exporter", "exporter:10069", "Exporter.Example.COM", "exporter.example.com.",
        "exporter.example.com.:10069",
    ],
)  # fmt: skip
def test_addresses_loopback_and_listed_names_are_allowed(host: str) -> None:
    assert is_allowed(host, ALLOWED)


@pytest.mark.parametrize(
    "host",
    [
        "", ":", ":10069", ".", "..", "rebound.example", "localhost.example", "notlocalhost", "exporter.example",
        "127.0.0.1.example", "127.0.0.1.rebound.example:10069", "2130706433", "0x7f.1", "127.1",
        "exporter.example.com..",
        "[rebound.example]", "[]", "[::1", "::1]", "[::1]x", "[::1].rebound.example", "x[::1]", "127.0.0.1:80:80",
        "rebound.example#127.0.0.1", "127.0.0.1@rebound.example", "rebound.example/127.0.0.1", "127.0.0.1 x",
        "a.exporter.example.com", "exporter.example.com:x", "exporter.example.com:80:x",
    ],
)  # fmt: skip
def test_other_hosts_are_not(host: str) -> None:
    assert not is_allowed(host, ALLOWED)


@given(st.text(), st.sampled_from(["", ":10069"]))
@example("rebound.example", "")
def test_no_name_below_a_foreign_domain_is_allowed(name: str, port: str) -> None:
    assert not is_allowed(f"{name}.rebound.example{port}", ALLOWED)
