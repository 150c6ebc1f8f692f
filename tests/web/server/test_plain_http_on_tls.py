"""A TLS address: plain HTTP gets 400, and a client that closes its side ends cleanly; on both event loops."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from typing import TYPE_CHECKING

import pytest

from tests.support.certificates import Certificates
from tests.support.config_files import write_config
from tests.support.https_exporter import PAIR, behind, client_context, get
from tests.support.processes import PATIENCE_SECONDS
from tests.support.running_exporter import Process, becomes
from tests.support.served_exporter import ACCOUNT_SID

if TYPE_CHECKING:
    from pathlib import Path

TEXT = b"this address requires TLS: use https instead of http\n"


async def talk(url: str, *sent: bytes, context: ssl.SSLContext | None = None) -> tuple[bytes, bool]:
    """Send bytes and close the sending side; return what is received, and whether the connection was reset."""
    host, _, port = url.partition("://")[2].rpartition(":")
    found, was_reset = b"", False
    async with asyncio.timeout(PATIENCE_SECONDS):
        reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
        try:
            for data in sent:
                writer.write(data)
                await writer.drain()
                await asyncio.sleep(0)
            if context is None:
                writer.write_eof()
            else:
                writer.close()  # sends close_notify
            while data := await reader.read(1 << 16):
                found += data
        except ConnectionError:
            was_reset = True
        except ssl.SSLError as error:
            # Python 3.14's client reports a response that came after it closed its side; others drop it.
            if error.reason != "APPLICATION_DATA_AFTER_CLOSE_NOTIFY":
                raise
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
    return found, was_reset


@pytest.mark.parametrize(
    "sent",
    [
        [b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"],
        [b"G", b"ET /metrics HTTP/1.1\r\n"],
        [b"POST /-/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n", b"x" * 100_000],
        [b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n"],
        [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
    ],
    ids=["GET", "in pieces", "POST", "OPTIONS", "HTTP/2"],
)
async def test_plain_http_gets_400(folder: Path, caplog: pytest.LogCaptureFixture, sent: list[bytes]) -> None:
    async with behind(folder, PAIR) as running:
        caplog.clear()
        found, was_reset = await talk(running.url, *sent)
        assert not was_reset
        head, _, body = found.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.0 400 Bad Request\r\n")
        assert b"\r\nContent-Type: text/plain; charset=utf-8\r\n" in head
        assert b"\r\nContent-Length: %d" % len(TEXT) in head
        assert body == TEXT
        await becomes(lambda: len(running.daemon.server.connections) == 0)
        assert [one.getMessage() for one in caplog.records if one.levelno >= logging.INFO] == []
        assert (await get(f"{running.url}/metrics", client_context(folder)))[0] == 200


async def test_a_plain_http_client_that_stays_is_closed(folder: Path) -> None:
    async with behind(folder, PAIR) as running:
        host, _, port = running.url.partition("://")[2].rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.read()).endswith(TEXT)
        await becomes(lambda: len(running.daemon.server.connections) == 0)
        writer.transport.abort()


@pytest.mark.parametrize("sent", [[], [b"\x00\x01"], [b"\x16\x03\x01"], [b" GET"], [b"\xff" * 9]])
async def test_what_is_neither_tls_nor_http_is_closed_without_an_answer(folder: Path, sent: list[bytes]) -> None:
    async with behind(folder, PAIR) as running:
        found, _ = await talk(running.url, *sent)
        assert b"HTTP" not in found
        await becomes(lambda: len(running.daemon.server.connections) == 0)


async def test_the_server_stops_while_a_client_has_sent_nothing(folder: Path) -> None:
    async with behind(folder, PAIR) as running:
        host, _, port = running.url.partition("://")[2].rpartition(":")
        _reader, writer = await asyncio.open_connection(host, int(port))
        await becomes(lambda: len(running.daemon.server.connections) == 1)
        await running.daemon.server.stop()
        assert len(running.daemon.server.connections) == 0
        writer.transport.abort()


async def test_over_tls_a_client_that_closes_its_side_ends_cleanly(folder: Path) -> None:
    """Python's TLS can't send after a client's close_notify: the connection ends without a reset or an error."""
    async with behind(folder, PAIR) as running:
        _, was_reset = await talk(
            running.url, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", context=client_context(folder)
        )
        assert not was_reset
        await becomes(lambda: len(running.daemon.server.connections) == 0)
        assert (await get(f"{running.url}/metrics", client_context(folder)))[0] == 200


@pytest.mark.slow
async def test_a_process_refuses_plain_http_and_logs_nothing(tmp_path: Path) -> None:
    Certificates.make(tmp_path)
    (tmp_path / "web.yml").write_text(PAIR)
    account = {"account_sid": ACCOUNT_SID, "password": "made-up"}
    path = write_config(tmp_path / "config.toml", {"main": account}, web={"config_file": "web.yml"})
    async with Process.run(path) as exporter:
        before = exporter.log
        found = await asyncio.gather(
            *(talk(exporter.url, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") for _ in range(100))
        )
        assert all(answer.endswith(TEXT) and not was_reset for answer, was_reset in found)
        assert (await get(f"{exporter.url}/metrics", client_context(tmp_path)))[0] == 200
        assert "HTTP" not in exporter.log.removeprefix(before)
