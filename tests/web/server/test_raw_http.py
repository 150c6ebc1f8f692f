"""Arbitrary bytes from a client cause no internal error, no hang and no leak."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support.processes import PATIENCE_SECONDS
from tests.support.served_exporter import VERIFIED, entries, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.served_exporter import ServedExporter

QUIET_SECONDS = 0.02
DESCRIPTORS = Path("/proc/self/fd")
STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3}) ")

PATHS = (
    b"/", b"/metrics", b"/-/healthy", b"/-/ready", b"/-/verified", b"/-/reload", b"/-/log-level",
    b"/api/v1/factors", b"/api/v1/accounts", b"/factors/main/x/y", b"/probe", b"/config", b"/nowhere", b"*", b"//",
    b"/../..", b"http://[::1", b"http://x/metrics", b"x:443", b"/%", b"/%00", b"/%ff%fe", b"/\xff",
    b"/?page=%ff", b"/?a=\x00", b"/metrics?" + b"a=b&" * 500, b"",
)  # fmt: skip
METHODS = (
    b"GET",
    b"HEAD",
    b"POST",
    b"PUT",
    b"OPTIONS",
    b"TRACE",
    b"CONNECT",
    b"PRI",
    b"get",
    b"G\x00T",
    b"",
    b"\xff",
)
VERSIONS = (b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/9.9", b"HTTP/1.1 x", b"http/1.1", b"")
ENDS = (b"\r\n", b"\n", b"\r", b"\r\r\n", b"\x00")
NAMES = (
    b"Host", b"Content-Length", b"Transfer-Encoding", b"Connection", b"Expect", b"Accept", b"Accept-Encoding",
    b"Authorization", b"Content-Encoding", b"Upgrade", b"Range", b"If-Modified-Since", b"Cookie", b"Content-Type",
    b"Sec-WebSocket-Key", b"Sec-Fetch-Site", b"X\x00", b"X Y", b"", b":", b"\xff", b" Host",
)  # fmt: skip
VALUES = (
    b"x", b"", b"0", b"5", b"-1", b"+5", b"0x5", b"1_0", b"99999999999999999999", b"5, 5", b"chunked",
    b"gzip, chunked", b"chunked, identity", b"close", b"keep-alive", b"upgrade", b"websocket", b"100-continue",
    b"200-stop", b"gzip", b"deflate", b"br;q=x", b"application/openmetrics-text;version=abc", b"*/*;q=\xff",
    b"Basic", b"Basic \xff", b"Basic Og==", b"bytes=0-0,-1", b"a=\"\\", b"\x00", b"\xff\xfe", b"x" * 5000, b"h2c",
    b" \t ", b"cross-site",
)  # fmt: skip
BODIES = (
    b"", b"debug", b"5\r\nhello\r\n0\r\n\r\n", b"ffffffffffffffff\r\n", b"-1\r\n", b"5;x=\x00\r\nhello",
    b"\x1f\x8b\x08", b"0\r\nX: y\r\n\r\n", b"\x16\x03\x01\x00\xa5\x01\x00", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x81\x85",
)  # fmt: skip

pieces = st.one_of(st.sampled_from(ENDS), st.binary(max_size=40), st.sampled_from(BODIES))
field = st.builds(
    lambda name, value, end: name + b": " + value + end,
    st.sampled_from(NAMES),
    st.one_of(st.sampled_from(VALUES), st.binary(max_size=20)),
    st.sampled_from((b"\r\n", b"\r\n", b"\r\n", *ENDS)),
)
request = st.builds(
    lambda method, path, version, fields, end, body: (
        method + b" " + path + b" " + version + b"\r\n" + b"".join(fields) + end + body
    ),
    st.sampled_from((b"GET", b"GET", b"POST", b"PUT", *METHODS)),
    st.one_of(st.sampled_from(PATHS), st.binary(max_size=20)),
    st.sampled_from((b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", *VERSIONS)),
    st.one_of(st.lists(field, max_size=6), st.lists(field, max_size=5).map(lambda found: [b"Host: x\r\n", *found])),
    st.sampled_from((b"\r\n", b"\r\n", b"\r\n", *ENDS)),
    st.one_of(st.sampled_from(BODIES), st.binary(max_size=40)),
)
conversation = st.lists(st.one_of(request, request, request, pieces), min_size=1, max_size=4)


class Errors(logging.Handler):
    """Records what is logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(f"{record.name}: {record.getMessage()} {record.exc_info}")


class Beside:
    """A served exporter in its own thread, accessed over plain sockets."""

    def __init__(self, running: ServedExporter, loop: asyncio.AbstractEventLoop) -> None:
        self._house = running
        self._loop = loop
        host, _, port = running.url.removeprefix("http://").rpartition(":")
        self._address = host, int(port)

    def talk(self, *sent: bytes) -> bytes:
        """Send bytes on one connection; return what is received until nothing more comes."""
        found = b""
        with socket.create_connection(self._address, timeout=PATIENCE_SECONDS) as connection:
            try:
                for data in sent:
                    connection.sendall(data)
                    connection.settimeout(QUIET_SECONDS)
                    with contextlib.suppress(TimeoutError):
                        while data := connection.recv(1 << 20):
                            found += data
                        return found
                    connection.settimeout(PATIENCE_SECONDS)
            except ConnectionError:
                return found
        return found

    def request(self) -> bytes:
        """Return the response to an ordinary scrape."""
        with socket.create_connection(self._address, timeout=PATIENCE_SECONDS) as connection:
            connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            found = b""
            while data := connection.recv(1 << 20):
                found += data
        return found

    def open_things(self) -> tuple[int, int, int]:
        """Return how many connections, tasks and file descriptors there are."""

        async def count() -> tuple[int, int]:
            return len(self._house.daemon.server.connections), len(asyncio.all_tasks()) - 1

        connections, tasks = asyncio.run_coroutine_threadsafe(count(), self._loop).result(PATIENCE_SECONDS)
        return connections, tasks, len(list(DESCRIPTORS.iterdir())) if DESCRIPTORS.is_dir() else 0


@pytest.fixture(scope="module")
def errors() -> Iterator[Errors]:
    handler = Errors()
    logging.getLogger().addHandler(handler)
    yield handler
    logging.getLogger().removeHandler(handler)


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory, errors: Errors) -> Iterator[Beside]:
    folder = tmp_path_factory.mktemp("running")
    ready: list[Beside] = []
    started, done = threading.Event(), threading.Event()

    async def serve() -> None:
        async with serving(folder, entries("a", "b"), web={"enable_lifecycle": True}) as running:
            running.apply("a", VERIFIED)
            ready.append(Beside(running, asyncio.get_running_loop()))
            started.set()
            await asyncio.to_thread(done.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert started.wait(PATIENCE_SECONDS)
        ready[0].request()
        yield ready[0]
    finally:
        done.set()
        thread.join(PATIENCE_SECONDS)
    assert errors.records == []


@pytest.mark.slow
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@example([b"GET /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"])
@example([b"GET / HTTP/1.1\r\nHost: x\r\nExpect: 200-stop\r\n\r\n"])
@example(
    [b"PUT /-/log-level HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x08"]
)
@example([b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", b"\x81\x85"])
@example([b"PUT /-/log-level HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", b"zz\r\n"])
@given(conversation)
def test_no_bytes_cause_an_internal_error(beside: Beside, errors: Errors, sent: list[bytes]) -> None:
    answers = STATUS.findall(beside.talk(*sent))
    assert [status for status in answers if status >= b"500" and status != b"503"] == []
    assert errors.records == []


@pytest.mark.slow
def test_no_connection_is_left(beside: Beside) -> None:
    before = settled(beside, (0, sys.maxsize, sys.maxsize))
    for number in range(100):
        beside.talk(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"[: number % 41], b"\xff" * (number % 7))
    settled(beside, before)
    assert beside.request().startswith(b"HTTP/1.0 200 OK\r\n")


def settled(beside: Beside, most: tuple[int, int, int]) -> tuple[int, int, int]:
    """Wait until no more than that is open, and return what is: a job of the daemon may run at any moment."""
    latest = time.monotonic() + PATIENCE_SECONDS
    while True:
        found = beside.open_things()
        if all(number <= limit for number, limit in zip(found, most, strict=True)):
            return found
        assert time.monotonic() < latest, found
        time.sleep(0.02)
