"""``healthcheck``: where it asks, and what it makes of the answer."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

import pytest

from exporter.cli import healthcheck
from exporter.cli.access import Access
from exporter.cli.healthcheck import DEFAULT_URL, check_health, configured_url
from tests.support.ipv6 import needs_ipv6
from tests.support.running_exporter import LeapingClock
from tests.support.served_exporter import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from tests.support.commands import Ran

ACCESS = Access()
VARIABLE = "VERIFY_EXPORTER_WEB__LISTEN_ADDRESS"


@contextlib.asynccontextmanager
async def answering(answer: bytes | None, host: str = "127.0.0.1") -> AsyncIterator[tuple[str, list[bytes]]]:
    """Answer each request with these bytes, or not at all; gives the address and the requests that came."""
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        if answer is None:
            await reader.read()
        else:
            writer.write(answer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, host, 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}", requests


def http(status: str, body: str) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()


async def test_an_exporter_that_ticks_and_one_that_does_not(
    call_beside: Callable[..., Awaitable[Ran]], tmp_path: Path
) -> None:
    clock = LeapingClock()
    async with serving(tmp_path, clock=clock) as running:
        healthy = await call_beside("healthcheck", "--url", running.url)
        clock.leap(16)
        silent = await call_beside("healthcheck", f"--url={running.url}/")

    assert (healthy.status, healthy.out, healthy.err) == (0, "healthy\n", "")
    assert (silent.status, silent.out) == (1, "")
    assert silent.err == f"{running.url}/: not healthy: the scheduler has not run for 15 s\n"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (http("404 Not Found", "404: Not Found"), "HTTP 404"),
        (http("503 Service Unavailable", "<html>\n<h1>later</h1>\n</html>"), "HTTP 503"),
        (http("503 Service Unavailable", "not healthy:\x1b[31m\n" * 9), "HTTP 503"),
        (http("302 Found", ""), "HTTP 302"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "no exporter responds there (BadStatusLine)"),
        (b"", "no exporter responds there (RemoteDisconnected)"),
        (http("200 OK", "<h1>It works!</h1>"), "something other than the exporter responds there"),
        (http("200 OK", "healthy\n")[:-4], "something other than the exporter responds there"),
    ],
)
async def test_other_responses(answer: bytes, words: str) -> None:
    async with answering(answer) as (url, requests):
        assert await asyncio.to_thread(check_health, url, ACCESS) == words

    assert requests[0].startswith(b"GET /-/healthy HTTP/1.1\r\n")


async def test_a_prefix_of_the_path_is_kept() -> None:
    async with answering(http("200 OK", "healthy\n")) as (url, requests):
        assert await asyncio.to_thread(check_health, f"{url}/verify/", ACCESS) == ""

    assert requests[0].startswith(b"GET /verify/-/healthy HTTP/1.1\r\n")


async def test_an_exporter_that_never_responds() -> None:
    async with answering(None) as (url, _):
        assert await asyncio.to_thread(check_health, url, Access(timeout_seconds=0.05)) == "no answer within 0.05 s"


def test_nothing_listens(call: Callable[..., Ran]) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # bound and not listening: nobody else takes the port meanwhile
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        ran = call("healthcheck", "--url", url)

    assert (ran.status, ran.out) == (1, "")
    assert ran.err == f"{url}: no exporter responds there (Connection refused)\n"


@pytest.mark.parametrize(
    "url", ["127.0.0.1:10069", "ftp://127.0.0.1", "http://", "http://[::1", "http://h:99999", ""]
)
def test_an_invalid_url(url: str) -> None:
    assert check_health(url, ACCESS) == "not a URL such as http://127.0.0.1:10069"


def test_a_host_name_that_cannot_be_one() -> None:
    assert check_health(f"http://{'x' * 70}/", ACCESS).startswith("no exporter responds there (Unicode")


def test_a_url_with_a_space_in_it() -> None:
    assert check_health("http://127.0.0.1:1/a b", ACCESS).startswith("no exporter responds there (")


@needs_ipv6
async def test_ipv6(call_beside: Callable[..., Awaitable[Ran]]) -> None:
    async with answering(http("200 OK", "healthy\n"), "::1") as (url, _):
        assert url.startswith("http://[::1]:")
        assert (await call_beside("healthcheck", "--url", url)).status == 0


async def test_the_configuration_file_names_the_address(
    call_beside: Callable[..., Awaitable[Ran]], tmp_path: Path
) -> None:
    path = tmp_path / "config.toml"
    async with answering(http("200 OK", "healthy\n")) as (url, _):
        path.write_text(f'[web]\nlisten_address = "{url.removeprefix("http://")}"\n')
        assert (await call_beside("healthcheck", "--config.file", str(path))).status == 0


@pytest.mark.parametrize("variable", [VARIABLE, VARIABLE.lower(), "Verify_Exporter_web__Listen_Address"])
async def test_the_environment_overrides_the_file(
    call_beside: Callable[..., Awaitable[Ran]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    path = tmp_path / "config.toml"
    path.write_text('[web]\nlisten_address = "127.0.0.1:1"\n')
    async with answering(http("200 OK", "healthy\n")) as (url, requests):
        monkeypatch.setenv(variable, url.removeprefix("http://"))
        assert (await call_beside("healthcheck", "--config.file", str(path))).status == 0
        assert (await call_beside("healthcheck", "--url", "http://127.0.0.1:1")).status == 1

    assert len(requests) == 1


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ('":9000"', "http://127.0.0.1:9000"),
        ('"0.0.0.0:9000"', "http://127.0.0.1:9000"),
        ('"[::]:9000"', "http://[::1]:9000"),
        ('"[::1]:9000"', "http://[::1]:9000"),
        ('"10.0.0.7:9000"', "http://10.0.0.7:9000"),
        ('"exporter.example:9000"', "http://exporter.example:9000"),
        ('["127.0.0.1:9000", "[::1]:9001"]', "http://127.0.0.1:9000"),
        ("[]", DEFAULT_URL),
        ("9000", DEFAULT_URL),
        ('"nonsense"', DEFAULT_URL),
    ],
)
def test_the_address_of_a_configuration(tmp_path: Path, address: str, url: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f"[web]\nlisten_address = {address}\n")

    assert configured_url(path, {}) == url


@pytest.mark.parametrize(
    "text", ["", "[web]\n", "[web\n", "web = 1\n", "web = [1]\n", "[[web]]\n", "[log]\nlevel = 'info'\n", "\xff"]
)
def test_the_default_is_used_without_an_address_in_the_configuration(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(text.encode("latin-1"))

    assert configured_url(path, {}) == configured_url(tmp_path / "missing.toml", {}) == DEFAULT_URL


def test_the_default_url_is_checked(
    call: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    requested: list[str] = []

    def good(url: str, access: Access) -> str:
        assert not access.verify
        requested.append(url)
        return ""

    monkeypatch.setattr(healthcheck, "check_health", good)

    assert call("healthcheck").status == 0
    assert requested == [DEFAULT_URL]


def test_an_unreadable_named_file_is_an_error(call: Callable[..., Ran], tmp_path: Path) -> None:
    ran = call("healthcheck", "--config.file", str(tmp_path / "typo.toml"))

    assert (ran.status, ran.out) == (1, "")
    assert (
        ran.err == f"{tmp_path}/typo.toml: can't be read; correct --config.file, or name the exporter with --url\n"
    )
