"""When connections or file descriptors run short, clients that scraped lately come first."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import pytest
from aiohttp import web

from exporter.config.addresses import ListenAddress
from exporter.web.server import peers
from exporter.web.server.connections import Connection, Connections, Stage
from exporter.web.server.limits import Limits
from exporter.web.server.peers import KNOWN_SECONDS, KnownPeers, address_of
from exporter.web.server.sockets import WebServer
from tests.support.processes import PATIENCE_SECONDS, spawned
from tests.support.running_exporter import becomes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KNOWN, OTHER = "127.0.0.1", "127.0.0.2"
SCRAPE = b"GET /metrics HTTP/1.0\r\n\r\n"
SERVER = """
import asyncio, resource, sys
from tests.web.server.test_few_descriptors import served

async def main():
    async with served() as (server, port):
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        print(port, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

asyncio.run(main())
"""


@contextlib.asynccontextmanager
async def served(limits: Limits | None = None) -> AsyncIterator[tuple[WebServer, int]]:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text="hello")

    application = web.Application()
    application.router.add_get("/metrics", answer)
    application.router.add_get("/", answer)
    server = WebServer(application, limits=limits)
    await server.start([ListenAddress("127.0.0.1", 0)])
    try:
        yield server, int(server.addresses[0].rpartition(":")[2])
    finally:
        await server.stop()


async def connect(port: int, address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))


async def answer_to(port: int, address: str, sent: bytes = SCRAPE) -> bytes:
    """Return the response on a new connection; empty if it is closed without one."""
    try:
        reader, writer = await connect(port, address)
        writer.write(sent)
        async with asyncio.timeout(PATIENCE_SECONDS):
            found = await reader.read()
    except ConnectionError:
        return b""
    writer.close()
    return found


@pytest.mark.slow
async def test_a_client_that_scraped_is_answered_while_descriptors_lack() -> None:
    pipe = asyncio.subprocess.PIPE
    async with spawned(sys.executable, "-c", SERVER, stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        port = int(await process.stdout.readline())
        assert (await answer_to(port, KNOWN)).endswith(b"hello")
        others = []
        try:
            for number in range(200):
                with contextlib.suppress(ConnectionError):
                    others.append((await connect(port, OTHER))[1])
                if number % 10 == 9:
                    assert (await answer_to(port, KNOWN)).endswith(b"hello"), number
            while not await answer_to(port, OTHER, b"GET / HTTP/1.0\r\n\r\n"):
                assert (await answer_to(port, KNOWN)).endswith(b"hello")
        finally:
            for writer in others:
                writer.transport.abort()


class Failing:
    """Lets ``accept`` fail a number of times, as without free descriptors."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, numbers: list[int]) -> None:
        self.numbers = numbers
        accept = socket.socket.accept

        def fail(listening: socket.socket) -> object:
            if numbers and (number := numbers.pop(0)):
                raise OSError(number, os.strerror(number))
            return accept(listening)

        monkeypatch.setattr(socket.socket, "accept", fail)


async def test_without_descriptors_a_known_client_displaces_another(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served() as (server, port):
        assert await answer_to(port, KNOWN)
        reader, writer = await connect(port, OTHER)
        await becomes(lambda: len(server.connections) == 1)
        failing = Failing(monkeypatch, [errno.EMFILE])
        assert (await answer_to(port, KNOWN)).endswith(b"hello")
        assert failing.numbers == []
        assert await reader.read() == b""
        writer.close()


async def test_without_descriptors_others_are_served_a_few_per_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.web.server.sockets._NO_ROOM_SECONDS", PATIENCE_SECONDS)
    async with served() as (_, port):
        assert await answer_to(port, KNOWN)
        _, first = await connect(port, OTHER)
        Failing(monkeypatch, [errno.EMFILE, 0] * 4)  # per client: its own connection, and no further one
        assert (await answer_to(port, OTHER)).endswith(b"hello")
        assert await answer_to(port, "127.0.0.3") == b""
        assert (await answer_to(port, "127.0.0.3")).endswith(b"hello")
        first.transport.abort()


@pytest.mark.parametrize("numbers", [[errno.EMFILE] * 2, [errno.ENOBUFS] * 4])
async def test_without_even_a_spare_descriptor_it_tries_again(
    monkeypatch: pytest.MonkeyPatch, numbers: list[int]
) -> None:
    async with served() as (_, port):
        assert await answer_to(port, KNOWN)
        failing = Failing(monkeypatch, numbers)
        assert (await answer_to(port, KNOWN)).endswith(b"hello")
        assert failing.numbers == []


async def test_a_spare_that_is_not_there_again_at_once_is_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served() as (_, port):
        assert await answer_to(port, KNOWN)
        _, other = await connect(port, OTHER)
        opens = os.open
        refused: list[str] = []

        def refuse_once(path: str, *arguments: int) -> int:
            if path == os.devnull and not refused:
                refused.append(path)
                raise OSError(errno.EMFILE, "Too many open files")
            return opens(path, *arguments)

        monkeypatch.setattr(os, "open", refuse_once)
        Failing(monkeypatch, [errno.EMFILE])
        assert (await answer_to(port, KNOWN)).endswith(b"hello")
        assert refused
        assert (await answer_to(port, KNOWN)).endswith(b"hello")
        other.transport.abort()


async def test_at_the_limit_a_known_client_is_served_and_others_give_way() -> None:
    async with served(replace(Limits(), connections=4)) as (server, port):
        assert await answer_to(port, KNOWN)
        kept, keeping = await connect(port, KNOWN)
        keeping.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        await kept.readuntil(b"hello")
        others = [(await connect(port, OTHER))[1] for _ in range(20)]
        await becomes(lambda: len(server.connections) == 4)
        assert (await answer_to(port, KNOWN)).endswith(b"hello")
        keeping.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await kept.readuntil(b"hello")).startswith(b"HTTP/1.1 200")
        keeping.close()
        for writer in others:
            writer.transport.abort()


@dataclass(eq=False)
class Fake:
    """A connection as `make_room` sees it."""

    name: str
    peer: str
    stage: Stage
    since: float
    slow_since: float | None = None
    closed: bool = False

    def slow_for(self) -> float:
        now = asyncio.get_running_loop().time()
        return 0.0 if self.slow_since is None else now - self.slow_since

    def abort(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("newcomer", "order"),
    [
        (OTHER, "new older, new, idle, known new, known idle, slow"),
        (KNOWN, "new older, new, idle, known new, known idle, slow, busy, known newest"),
    ],
)
async def test_the_order_in_which_connections_give_way(newcomer: str, order: str) -> None:
    now = asyncio.get_running_loop().time()
    connections = Connections(Limits(), lambda: None)
    connections.peers.note(KNOWN, now)
    for fake in (
        Fake("known busy", KNOWN, Stage.BUSY, now - 50),
        Fake("known newest", KNOWN, Stage.NEW, now + 3600),
        Fake("busy", OTHER, Stage.BUSY, now - 50, now + 3600),
        Fake("slow", KNOWN, Stage.BUSY, now, now - 60),
        Fake("known idle", KNOWN, Stage.IDLE, now - 60),
        Fake("known new", KNOWN, Stage.NEW, now - 60),
        Fake("idle", OTHER, Stage.IDLE, now - 90),
        Fake("new", OTHER, Stage.NEW, now),
        Fake("new older", OTHER, Stage.NEW, now - 1),
    ):
        connections._open[cast("Connection", fake)] = socket.socket()
    closed = []
    while True:
        before = dict(connections._open)
        if not connections.make_room(newcomer):
            break
        [one] = before.keys() - connections._open.keys()
        before[one].close()
        fake = cast("Fake", one)
        assert fake.closed
        closed.append(fake.name)
    for raw in connections._open.values():
        raw.close()
    assert ", ".join(closed) == order


async def test_without_connections_there_is_no_room_to_make() -> None:
    assert not Connections(Limits(), lambda: None).make_room(KNOWN)


def test_a_client_is_known_for_ten_minutes_after_a_scrape() -> None:
    known = KnownPeers()
    assert not known.any(0.0)
    known.note("a", 1000.0)
    known.note("b", 1100.0)
    known.note("a", 1200.0)
    assert known.any(1200.0 + KNOWN_SECONDS - 1)
    assert not known.any(1200.0 + KNOWN_SECONDS)
    assert known.knows("b", 1100.0 + KNOWN_SECONDS - 1)
    assert not known.knows("b", 1100.0 + KNOWN_SECONDS)
    assert not known.knows("c", 1.0)


def test_what_is_known_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "MOST_KNOWN", 2)
    known = KnownPeers()
    for number, address in enumerate("abac"):
        known.note(address, float(number))
    assert [known.knows(address, 4.0) for address in "abc"] == [True, False, True]


def test_the_address_of_a_client() -> None:
    assert address_of(("::ffff:192.0.2.1", 5, 0, 0)) == address_of(("192.0.2.1", 5)) == "192.0.2.1"
    assert address_of(("2001:db8::1", 5, 0, 0)) == "2001:db8::1"
    assert address_of(None) == address_of("") == ""


@pytest.mark.parametrize(
    ("open_files", "fetches", "expected"),
    [
        (1_048_576, 4, (512, 40, 40, 128, 16, 16)),
        (1024, 4, (512, 40, 40, 128, 16, 16)),
        (1024, 400, (400, 40, 40, 100, 16, 16)),
        (1024, 5000, (333, 40, 40, 83, 16, 16)),
        (64, 4, (24, 6, 3, 6, 3, 3)),
        (32, 4, (4, 2, 1, 2, 1, 1)),
    ],
)
def test_limits_by_the_limit_of_open_files(open_files: int, fetches: int, expected: tuple[int, ...]) -> None:
    limits = Limits().within(open_files, fetches)
    assert (
        limits.connections,
        limits.scrapes,
        limits.requests,
        limits.passwords,
        limits.costly_passwords,
        limits.guesses,
    ) == expected
