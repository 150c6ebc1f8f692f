"""Limits of clients: time, bytes and connections; over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import resource
import socket
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from exporter.config.addresses import ListenAddress
from exporter.web.server.connections import Connections, Stage
from exporter.web.server.limits import Limits
from exporter.web.server.sockets import HEALTH_ADDRESS, ListenError, WebServer
from tests.support.certificates import Certificates
from tests.support.https_exporter import PAIR, behind, client_context, get
from tests.support.processes import PATIENCE_SECONDS
from tests.support.running_exporter import becomes
from tests.support.served_exporter import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

BRISK = Limits(
    handshake_seconds=0.3, head_seconds=0.3, body_seconds=0.3, send_seconds=0.3, idle_seconds=0.3, close_seconds=0.1
)
HOST = b"Host: x\r\n"
LARGE = 8 << 20
OPEN_AT_ONCE = 1000


class Pages:
    """An application with a page for every way to be slow."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.application = web.Application()
        self.application.router.add_get("/", self.hello)
        self.application.router.add_get("/large", self.large)
        self.application.router.add_get("/whole", self.whole)
        self.application.router.add_post("/body", self.body)

    async def hello(self, _request: web.Request) -> web.Response:
        return web.Response(text="hello")

    async def large(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            for _ in range(LARGE >> 16):
                await response.write(b"x" * (1 << 16))
        finally:
            self.ended.append("large")
        return response

    async def whole(self, _request: web.Request) -> web.Response:
        return web.Response(body=b"x" * LARGE)

    async def body(self, request: web.Request) -> web.Response:
        try:
            return web.Response(body=await request.content.read())
        finally:
            self.ended.append("body")


class Client:
    """A connection over which a test sends any bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def rest(self) -> bytes:
        """Return all data until the connection is closed."""
        found = b""
        async with asyncio.timeout(PATIENCE_SECONDS):
            with contextlib.suppress(ConnectionError):
                while data := await self.reader.read(1 << 20):
                    found += data
        return found

    async def answer(self) -> bytes:
        """Return the head of a response."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.reader.readuntil(b"\r\n\r\n")


class Served:
    """A server of these pages, and connections to it."""

    def __init__(self, pages: Pages, server: WebServer) -> None:
        self.pages = pages
        self.server = server
        self.url = server.addresses[0]
        self._clients: list[Client] = []

    async def connect(self, *, receive_bytes: int = 0) -> Client:
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        raw = socket.socket()
        if receive_bytes:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        raw.setblocking(False)
        await asyncio.get_running_loop().sock_connect(raw, (host, int(port)))
        client = Client(*await asyncio.open_connection(sock=raw, limit=1 << 12))
        self._clients.append(client)
        return client

    async def close(self) -> None:
        for client in self._clients:
            client.writer.transport.abort()
        await self.server.stop()


@contextlib.asynccontextmanager
async def served(limits: Limits, monkeypatch: pytest.MonkeyPatch | None = None) -> AsyncIterator[Served]:
    if monkeypatch is not None:
        monkeypatch.setattr("exporter.web.server.sockets._SWEEP_SECONDS", 0.05)
    pages = Pages()
    server = WebServer(pages.application, limits=limits)
    await server.start([ListenAddress("127.0.0.1", 0)])
    made = Served(pages, server)
    try:
        yield made
    finally:
        await made.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nfive!",
        b"POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfive!\r\n",
    ],
)
async def test_an_unfinished_request_is_closed(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(BRISK, monkeypatch) as site:
        client = await site.connect()
        client.send(sent)
        assert await client.rest() == b""
        await becomes(lambda: len(site.server.connections) == 0)
        assert site.pages.ended == (["body"] if b"POST" in sent else [])


async def test_a_slow_head_after_a_request_is_closed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = replace(BRISK, idle_seconds=60.0)
    async with served(limits, monkeypatch) as site:
        client = await site.connect()
        client.send(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        assert (await client.answer()).startswith(b"HTTP/1.1 200 ")
        client.send(b"GET / HT")
        assert await client.rest() == b"hello"


async def test_an_idle_connection_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(BRISK, monkeypatch) as site:
        client = await site.connect()
        client.send(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        assert (await client.rest()).endswith(b"hello")


async def test_a_client_that_reads_no_response_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(BRISK, monkeypatch) as site:
        client = await site.connect(receive_bytes=4096)
        client.send(b"GET /large HTTP/1.1\r\n" + HOST + b"\r\n")
        await becomes(lambda: site.pages.ended == ["large"])
        await becomes(lambda: len(site.server.connections) == 0)
        assert len(await client.rest()) < LARGE


async def test_a_client_that_pipelines_and_reads_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(BRISK, monkeypatch) as site:
        client = await site.connect(receive_bytes=4096)
        requests = (b"GET /large HTTP/1.1\r\n" + HOST + b"\r\n") * 200
        client.send(requests)
        await becomes(lambda: len(site.server.connections) == 0)


@pytest.mark.parametrize(("patience", "status"), [(0.2, b"200"), (600.0, b"503")], ids=["gives way", "not yet"])
async def test_a_client_that_requests_a_page_and_reads_nothing(
    monkeypatch: pytest.MonkeyPatch, patience: float, status: bytes
) -> None:
    monkeypatch.setattr("exporter.web.server.gate.SLOW_SECONDS", patience)
    async with served(replace(BRISK, requests=2, send_seconds=600.0), monkeypatch) as site:
        for _ in range(2):  # aiohttp sends the response after its handler returns
            (await site.connect(receive_bytes=4096)).send(b"GET /whole HTTP/1.1\r\n" + HOST + b"\r\n")
        await becomes(lambda: sum(one.slow_for() >= 0.2 for one in site.server.connections) == 2)
        client = await site.connect()
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        assert status in (await client.rest()).split(b"\r\n")[0]


async def test_when_all_are_busy_the_one_that_reads_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.web.server.connections.SLOW_SECONDS", 0.2)
    async with served(replace(BRISK, connections=2, send_seconds=600.0), monkeypatch) as site:
        for _ in range(2):
            (await site.connect(receive_bytes=4096)).send(b"GET /whole HTTP/1.1\r\n" + HOST + b"\r\n")
        await becomes(lambda: sum(one.slow_for() >= 0.2 for one in site.server.connections) == 2)
        client = await site.connect()
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        assert (await client.rest()).endswith(b"hello")


@pytest.mark.parametrize("expect", [b"\xff", b"200-stop"])
async def test_an_expectation_that_is_not_met_is_417(expect: bytes) -> None:
    async with served(Limits()) as site:
        client = await site.connect()
        client.send(b"GET / HTTP/1.1\r\n" + HOST + b"Expect: " + expect + b"\r\n\r\n")
        assert (await client.answer()).startswith(b"HTTP/1.1 417 ")


@pytest.mark.parametrize(
    ("sent", "size"),
    [
        (b"GET / HTTP/1.1\r\n" + HOST + b"\r\n", 5),
        (b"GET /large HTTP/1.1\r\n" + HOST + b"\r\n", LARGE),
        (b"POST /body HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nhello", 5),
    ],
)
async def test_a_client_that_sends_no_more_gets_its_response(sent: bytes, size: int) -> None:
    async with served(Limits()) as site:
        client = await site.connect()
        client.send(sent)
        client.writer.write_eof()
        received = await client.rest()
        assert received.startswith(b"HTTP/1.1 200 ")
        assert len(received) > size
        await becomes(lambda: len(site.server.connections) == 0)


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HT", b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nfive!"]
)
async def test_a_client_that_ends_within_a_request_is_closed(sent: bytes) -> None:
    async with served(Limits()) as site:
        client = await site.connect()
        client.send(sent)
        client.writer.write_eof()
        assert await client.rest() == b""
        await becomes(lambda: len(site.server.connections) == 0)


async def test_invalid_http_is_answered_with_the_usual_headers() -> None:
    async with served(Limits()) as site:
        site.server.connections.headers = {"X-Frame-Options": "deny"}
        client = await site.connect()
        client.send(b"not HTTP\r\n\r\n")
        head = (await client.rest()).lower()
    assert head.startswith(b"http/1.0 400")
    assert b"server: verify-factor-exporter\r\n" in head
    assert b"x-content-type-options: nosniff\r\n" in head
    assert b"x-frame-options: deny\r\n" in head
    assert b"aiohttp" not in head


async def test_a_client_that_never_completes_the_close_is_aborted(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = replace(BRISK, send_seconds=600.0)
    async with served(limits, monkeypatch) as site:
        client = await site.connect(receive_bytes=4096)
        client.send(b"GET /large HTTP/1.1\r\n" + HOST + b"\r\n")
        await becomes(lambda: any(one.slow_for() > 0 for one in site.server.connections))
        [connection] = site.server.connections
        connection.force_close()  # as aiohttp does
        await becomes(lambda: len(site.server.connections) == 0)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n" + HOST, b"400"),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"x" * 9000 + b"\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: x\r\n" * 200, b"400"),
        (b"POST /body HTTP/1.1\r\n" + HOST + b"Content-Length: 70000\r\n", b"413"),
        (b"POST /body HTTP/1.1\r\n" + HOST + b"Content-Length: 99999999999999999999\r\n", b"400"),
        (b"POST /body HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n", b"400"),
    ],
)
async def test_what_is_too_large_is_refused(head: bytes, status: bytes) -> None:
    async with served(Limits()) as site:
        client = await site.connect()
        client.send(head + b"\r\n")
        assert (await client.answer()).split()[1] == status


async def test_an_endless_head_is_cut_off() -> None:
    async with served(replace(Limits(), header_lines=1_000_000)) as site:
        client = await site.connect()
        client.send(b"GET / HTTP/1.1\r\n" + HOST)
        with contextlib.suppress(ConnectionError):
            for _ in range(200):
                client.send(b"X: " + b"x" * 4000 + b"\r\n")
                await client.writer.drain()
                await asyncio.sleep(0)
        assert await client.rest() == b""
        assert len(site.server.connections) == 0


async def test_beyond_the_limit_the_longest_waiting_connection_is_closed() -> None:
    async with served(replace(Limits(), connections=4)) as site:
        served_once = await site.connect()
        served_once.send(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        await served_once.answer()
        silent = [await site.connect() for _ in range(3)]
        await becomes(lambda: len(site.server.connections) == 4)
        newest = await site.connect()
        newest.send(b"GET / HTTP/1.0\r\n\r\n")
        assert (await newest.rest()).endswith(b"hello")
        assert await silent[0].rest() == b""  # the oldest connection without a request
        served_once.send(b"GET / HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
        assert (await served_once.rest()).endswith(b"hello")


async def test_when_all_are_busy_a_new_connection_is_refused() -> None:
    async with served(replace(Limits(), connections=2)) as site:
        for _ in range(2):
            client = await site.connect(receive_bytes=4096)
            client.send(b"GET /large HTTP/1.1\r\n" + HOST + b"\r\n")
        await becomes(lambda: [one.stage for one in site.server.connections] == [Stage.BUSY] * 2)
        refused = await site.connect()
        assert await refused.rest() == b""
        assert len(site.server.connections) == 2


async def test_without_free_descriptors_a_connection_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(Limits()) as site:
        silent = await site.connect()
        await becomes(lambda: len(site.server.connections) == 1)
        accept = socket.socket.accept
        failed: list[socket.socket] = []

        def fail_once(self: socket.socket) -> object:
            if not failed:
                failed.append(self)
                raise OSError(errno.EMFILE, "Too many open files")
            return accept(self)

        monkeypatch.setattr(socket.socket, "accept", fail_once)
        client = await site.connect()
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        assert (await client.rest()).endswith(b"hello")
        assert failed
        assert await silent.rest() == b""


@pytest.mark.parametrize("number", [errno.EPERM, errno.ECONNABORTED])
async def test_a_failed_accept_affects_no_other_connection(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    async with served(Limits()) as site:
        accept = socket.socket.accept
        failed: list[socket.socket] = []

        def fail_once(self: socket.socket) -> object:
            if not failed:
                failed.append(self)
                raise OSError(number, "no")
            return accept(self)

        monkeypatch.setattr(socket.socket, "accept", fail_once)
        client = await site.connect()
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        assert (await client.rest()).endswith(b"hello")


async def test_a_repeated_warning_has_a_constant_message(caplog: pytest.LogCaptureFixture) -> None:
    connections = Connections(Limits(), lambda: None)
    for _ in range(3):
        connections.warn("too many", limit=1)
    logged = {(record.getMessage(), str(record.__dict__["fields"])) for record in caplog.records}
    assert logged == {("too many", "{'limit': 1}")}, "the log collapses repeats"


async def test_a_health_address_in_use_is_named_in_the_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with serving(tmp_path) as running:
            settings = running.daemon.engine.config.settings.web
            health = settings.model_copy(update={"health_listen_address": ListenAddress("127.0.0.1", port)})
            await running.daemon.server.stop()
            with pytest.raises(ListenError, match=r"set another with web\.health_listen_address") as refused:
                await running.daemon.listen(health)
            assert refused.value.key == HEALTH_ADDRESS
            assert running.daemon.server.addresses == []


@pytest.fixture
def many_descriptors() -> int:
    """Raise the limit of open files, and return how many connections may be open on both ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * OPEN_AT_ONCE
    if soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return min(OPEN_AT_ONCE, (soft - 300) // 2)


@pytest.mark.slow
@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
async def test_a_thousand_idle_and_slow_connections_do_not_block_scrapes(
    tmp_path: Path, many_descriptors: int, secure: bool
) -> None:
    Certificates.make(tmp_path)
    async with behind(tmp_path, PAIR if secure else "") as running:
        context = client_context(tmp_path) if secure else True
        host, _, port = running.url.partition("://")[2].rpartition(":")
        opened: list[socket.socket] = []
        beginnings = (b"", b"GET /metrics HTTP/1.1\r\nHost: x\r\n", b"\x16\x03\x01\x02\x00\x01", b"x")
        loop = asyncio.get_running_loop()
        try:
            for number in range(many_descriptors):
                raw = socket.socket()
                raw.setblocking(False)
                opened.append(raw)
                await loop.sock_connect(raw, (host, int(port)))
                if beginning := beginnings[number % len(beginnings)]:
                    with contextlib.suppress(ConnectionError):
                        await loop.sock_sendall(raw, beginning)
                if number % 100 == 99:
                    assert (await get(f"{running.url}/metrics", context))[0] == 200
            assert len(running.daemon.server.connections) <= Limits().connections
            for _ in range(10):
                assert (await get(f"{running.url}/metrics", context))[0] == 200
                assert (await get(f"{running.url}/-/healthy", context))[0] == 200
        finally:
            for raw in opened:
                raw.close()
        await becomes(lambda: len(running.daemon.server.connections) == 0)
