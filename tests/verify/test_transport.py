"""Both transports on real sockets, against misbehaving servers."""

from __future__ import annotations

import asyncio
import gzip
import socket
import threading
import time
import tracemalloc
import zlib
from typing import TYPE_CHECKING, Any

import pytest

from exporter.verify.outcome import Failure, Reason
from exporter.verify.transport import MAX_BODY_BYTES
from tests.support.misbehaving_servers import (
    FACTOR,
    Wire,
    answer,
    says,
    then_closes,
    then_repeats,
    then_resets,
    then_stalls,
)
from tests.support.processes import PATIENCE_SECONDS
from tests.support.requests import IDENTITY
from tests.support.transport_attempts import (
    AMPLE_SECONDS,
    CHUNKED,
    CLOSED,
    CUT_SHORT,
    HEAD,
    NOT_HTTP,
    RESET,
    RESET_IN_BODY,
    SHORT_BODY,
    SHORT_SECONDS,
    VERIFIED,
    WELL,
    assert_broken,
    assert_recovers,
    client_of,
    failure,
    give_ample_time,
    url_of,
)

if TYPE_CHECKING:
    from exporter.watched import WatchedFactor
    from tests.support.misbehaving_servers import Behaviour


pytestmark = pytest.mark.usefixtures("each_transport")


# An answer


async def test_a_factor_is_fetched(watched: WatchedFactor) -> None:
    async with Wire(says(answer(FACTOR, "Twilio-Request-Id: RQ1"))) as wire, client_of(url_of(wire)) as client:
        attempt = await client.fetch_factor(watched)
    assert (attempt.result, attempt.code, attempt.request_id) == (VERIFIED, 200, "RQ1")
    (request,) = wire.requests
    head = request.decode().split("\r\n")
    path = f"/v2/Services/{watched.key.service_sid}/Entities/{IDENTITY}/Factors/{watched.key.factor_sid}"
    assert head[0] == f"GET {path} HTTP/1.1"
    names = sorted(line.partition(":")[0].lower() for line in head[1:] if line)
    assert names == ["accept", "accept-encoding", "authorization", "host", "user-agent"]


async def test_an_unusual_identity_is_one_segment_on_the_wire(watched: WatchedFactor) -> None:
    object.__setattr__(watched, "identity", "a/b c%2Fd?e#f+g~ë")
    async with Wire(WELL) as wire, client_of(url_of(wire)) as client:
        await client.fetch_factor(watched)
    (request,) = wire.requests
    assert b"/Entities/a%2Fb%20c%252Fd%3Fe%23f%2Bg~%C3%AB/Factors/" in request.split(b"\r\n")[0]


async def test_cookies_are_not_sent_back(watched: WatchedFactor) -> None:
    async with (
        Wire(says(answer(FACTOR, "Set-Cookie: session=1; Path=/"))) as wire,
        client_of(url_of(wire)) as client,
    ):
        for _ in range(2):
            await client.fetch_factor(watched)
    assert len(wire.requests) == 2
    assert not any(b"cookie" in request.lower() for request in wire.requests)


async def test_a_redirect_is_not_followed(watched: WatchedFactor) -> None:
    async with Wire(WELL) as other, Wire(WELL) as wire, client_of(url_of(wire)) as client:
        wire.behave = says(answer(b"", f"Location: {url_of(other)}/", status="307 Temporary Redirect"))
        attempt = await client.fetch_factor(watched)
        assert attempt.result == Failure(Reason.BAD_REQUEST, f"HTTP 307, a redirect to 127.0.0.1:{other.port}")
        wire.behave = says(
            answer(b"", "Location: https://a.test/", "Location: https://b.test/", status="302 Found")
        )
        assert failure(await client.fetch_factor(watched)).detail == "HTTP 302, a redirect to an unknown host"
        await assert_recovers(client, wire, watched)
    assert other.accepted == 0


async def test_connections_are_reused(watched: WatchedFactor) -> None:
    async with Wire(WELL) as wire, client_of(url_of(wire), max_connections=2) as client:
        for _ in range(5):
            assert (await client.fetch_factor(watched)).result == VERIFIED
        assert wire.accepted == 1
        for _ in range(3):
            await asyncio.gather(client.fetch_factor(watched), client.fetch_factor(watched))
    assert (wire.accepted, len(wire.requests)) == (2, 11)


async def test_a_connection_that_was_closed_while_idle_is_replaced(watched: WatchedFactor) -> None:
    closed = asyncio.Event()

    async def answer_then_close(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer())
        writer.close()
        await writer.wait_closed()
        closed.set()

    async with Wire(answer_then_close) as wire, client_of(url_of(wire)) as client:
        for _ in range(3):
            assert (await client.fetch_factor(watched)).result == VERIFIED
            await closed.wait()
            closed.clear()
            for _ in range(5):  # rounds of the loop, in which the client sees the end
                await asyncio.sleep(0)
    assert (wire.accepted, len(wire.requests)) == (3, 3)


@pytest.mark.parametrize(
    "behave",
    [
        says(b"HTTP/1.1 200 OK\r\nContent-Le", b"ngth: %d\r\n" % len(FACTOR), b"\r\n", FACTOR[:7], FACTOR[7:]),
        says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(FACTOR), FACTOR)),
        then_closes(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + FACTOR),
        then_closes(b"HTTP/1.0 200 OK\r\n\r\n" + FACTOR),
        says(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + answer()),
        says(answer(FACTOR + b" " * (MAX_BODY_BYTES - len(FACTOR)))),
        says(answer(gzip.compress(FACTOR), "Content-Encoding: gzip")),
        says(answer(gzip.compress(FACTOR), "Content-Encoding: X-GZIP")),
        says(answer(zlib.compress(FACTOR), "Content-Encoding: deflate")),
        says(answer(FACTOR, "Content-Encoding: identity")),
        says(answer(gzip.compress(FACTOR.ljust(MAX_BODY_BYTES)), "Content-Encoding: gzip")),
        says(answer(gzip.compress(FACTOR), "Content-Encoding: gzip")[:-20], gzip.compress(FACTOR)[-20:]),
    ],
    ids=[
        "in pieces",
        "chunked",
        "until close",
        "HTTP 1.0",
        "after an interim answer",
        "of 1 MiB",
        "gzip",
        "x-gzip",
        "deflate",
        "identity",
        "gzip of 1 MiB",
        "gzip in pieces",
    ],
)
async def test_a_response_in_every_framing_of_http(watched: WatchedFactor, behave: Behaviour) -> None:
    async with Wire(behave) as wire, client_of(url_of(wire)) as client:
        assert (await client.fetch_factor(watched)).result == VERIFIED
        await assert_recovers(client, wire, watched)


async def test_an_empty_gzip_body_is_an_empty_body(watched: WatchedFactor) -> None:
    async with Wire(says(answer(b"", "Content-Encoding: gzip"))) as wire, client_of(url_of(wire)) as client:
        detail = failure(await client.fetch_factor(watched)).detail
    assert detail == "HTTP 200, but the body is not JSON"


# No connection


async def test_connection_refused(watched: WatchedFactor) -> None:
    wire = Wire(WELL)
    async with client_of(url_of(wire)) as client:
        assert failure(await client.fetch_factor(watched)) == Failure(
            Reason.CONNECT, "the connection failed: connection refused"
        )
        async with wire:
            await assert_recovers(client, wire, watched)


async def test_a_host_that_does_not_resolve(watched: WatchedFactor) -> None:
    async with client_of("http://verify.invalid:80") as client:
        result = failure(await client.fetch_factor(watched))
    assert result.reason is Reason.DNS
    assert result.detail.startswith("the host name could not be resolved: ")


async def test_a_resolver_that_does_not_answer(watched: WatchedFactor, monkeypatch: pytest.MonkeyPatch) -> None:
    received, given_up = threading.Event(), threading.Event()

    def silence(*_args: object, **_options: object) -> list[Any]:
        received.set()
        given_up.wait(AMPLE_SECONDS)
        return []

    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", silence)
        async with client_of("http://verify.invalid:80", timeout_seconds=0.05) as client:
            assert failure(await client.fetch_factor(watched)).reason is Reason.TIMEOUT
            shared = await asyncio.to_thread(threading.current_thread)
        assert received.wait(PATIENCE_SECONDS)
    blocked = [thread for thread in threading.enumerate() if thread.name == "resolver"]
    assert all(thread.daemon for thread in blocked), "the process doesn't wait for a resolver"
    assert shared not in blocked, "nor does the pool of the event loop"
    given_up.set()
    for thread in blocked:
        thread.join(AMPLE_SECONDS)


# An answer that breaks off, or is none


@pytest.mark.parametrize(
    ("behave", "detail"),
    [
        pytest.param(then_closes(), CLOSED, id="closed before headers"),
        pytest.param(then_resets(), RESET, id="reset before headers"),
        pytest.param(then_closes(HEAD), CLOSED, id="closed inside headers"),
        pytest.param(then_resets(HEAD), RESET, id="reset inside headers"),
        pytest.param(then_closes(b"HT"), CLOSED, id="closed inside the status line"),
        pytest.param(then_closes(SHORT_BODY), CUT_SHORT, id="closed inside the body"),
        pytest.param(then_resets(SHORT_BODY), RESET_IN_BODY, id="reset inside the body"),
        pytest.param(then_closes(CHUNKED + b"9\r\n{"), CUT_SHORT, id="closed inside a chunk"),
        pytest.param(then_closes(CHUNKED + b"1\r\n{\r\n"), CUT_SHORT, id="closed between chunks"),
        pytest.param(says(CHUNKED + b"zz\r\n{\r\n"), NOT_HTTP, id="chunk of no size"),
        pytest.param(says(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), NOT_HTTP, id="another protocol"),
        pytest.param(says(b"\x15\x03\x01\x00\x02\x02\x46\r\n\r\n"), NOT_HTTP, id="binary"),
        pytest.param(says(b"HTTP/1.1 abc OK\r\n\r\n"), NOT_HTTP, id="status of no number"),
        pytest.param(says(b"HTTP/1.1 2000 OK\r\n\r\n"), NOT_HTTP, id="status of four digits"),
        pytest.param(says(b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n"), NOT_HTTP, id="header without colon"),
        pytest.param(says(HEAD + b"Content-Length: ten\r\n\r\n{}"), NOT_HTTP, id="length of no number"),
        pytest.param(says(HEAD + b"X: " + b"a" * 65536 + b"\r\n\r\n"), NOT_HTTP, id="header of 64 KiB"),
        pytest.param(then_repeats(HEAD, b"X: a\r\n"), NOT_HTTP, id="headers without end"),
        pytest.param(then_repeats(HEAD + b"X: ", b"a" * 4096), NOT_HTTP, id="header without end"),
        pytest.param(then_repeats(b"", b"HTTP/1.1 " * 400), NOT_HTTP, id="status line without end"),
    ],
)
async def test_incomplete_and_invalid_responses(watched: WatchedFactor, behave: Behaviour, detail: str) -> None:
    async with Wire(behave) as wire, client_of(url_of(wire)) as client:
        attempt = await client.fetch_factor(watched)
        assert_broken(attempt, detail)
        assert attempt.code is None
        assert len(wire.requests) == 1
        await assert_recovers(client, wire, watched)


@pytest.mark.parametrize(
    ("breaks", "detail"), [(then_resets(), RESET), (then_closes(), CLOSED), (then_closes(HEAD), CLOSED)]
)
async def test_a_broken_connection_causes_no_second_request(
    watched: WatchedFactor, breaks: Behaviour, detail: str
) -> None:
    async with Wire(WELL) as wire, client_of(url_of(wire)) as client:
        assert (await client.fetch_factor(watched)).result == VERIFIED
        wire.behave = breaks
        assert failure(await client.fetch_factor(watched)) == Failure(Reason.CONNECT, detail)
        assert (wire.accepted, len(wire.requests)) == (1, 2)
        await assert_recovers(client, wire, watched)
    assert (wire.accepted, len(wire.requests)) == (2, 3)


# Too slow


@pytest.mark.slow
@pytest.mark.parametrize(
    "behave",
    [
        pytest.param(then_stalls(), id="before headers"),
        pytest.param(then_stalls(HEAD), id="inside headers"),
        pytest.param(then_stalls(SHORT_BODY), id="inside the body"),
        pytest.param(then_stalls(CHUNKED), id="before the first chunk"),
        pytest.param(then_repeats(HEAD + b"X: ", b"a", 0.01), id="headers dribble"),
        pytest.param(then_repeats(answer(b"", length=100_000), b" ", 0.01), id="body dribbles"),
        pytest.param(then_repeats(CHUNKED, b"1\r\n \r\n", 0.01), id="chunks dribble"),
        pytest.param(then_repeats(HEAD + b"\r\n", b" ", 0.01), id="body until close dribbles"),
        pytest.param(then_repeats(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", 0.01), id="interim answers"),
    ],
)
async def test_the_attempt_as_a_whole_times_out(watched: WatchedFactor, behave: Behaviour) -> None:
    async with Wire(behave) as wire, client_of(url_of(wire), timeout_seconds=SHORT_SECONDS) as client:
        started = time.monotonic()
        async with asyncio.timeout(PATIENCE_SECONDS):  # the server would never stop
            attempt = await client.fetch_factor(watched)
        elapsed = time.monotonic() - started
        assert failure(attempt) == Failure(Reason.TIMEOUT, "no complete answer in time")
        assert attempt.code is None
        assert SHORT_SECONDS <= attempt.duration_seconds <= elapsed
        await assert_recovers(client, wire, watched)


async def test_fifty_timeouts_in_a_row_block_nothing(watched: WatchedFactor) -> None:
    async with (
        Wire(then_stalls(HEAD)) as wire,
        client_of(url_of(wire), timeout_seconds=0.02, max_connections=2) as client,
    ):
        for _ in range(25):
            attempts = await asyncio.gather(client.fetch_factor(watched), client.fetch_factor(watched))
            assert {failure(attempt).reason for attempt in attempts} == {Reason.TIMEOUT}
        wire.behave = WELL
        give_ample_time(client)
        for _ in range(3):
            later = await asyncio.gather(*(client.fetch_factor(watched) for _ in range(4)))
            assert [attempt.result for attempt in later] == [VERIFIED] * 4


# A body that can't be used

BOMB_BYTES = 64 << 20


@pytest.mark.parametrize(
    ("behave", "words"),
    [
        pytest.param(says(answer(b" " * (MAX_BODY_BYTES + 1))), "larger than 1048576 bytes", id="larger"),
        pytest.param(then_repeats(CHUNKED, b"8000\r\n" + b" " * 32768 + b"\r\n"), "larger", id="without end"),
        pytest.param(
            says(answer(gzip.compress(b" " * (MAX_BODY_BYTES + 1)), "Content-Encoding: gzip")), "larger", id="gzip"
        ),
        pytest.param(
            says(answer(gzip.compress(b" " * BOMB_BYTES), "Content-Encoding: gzip")), "larger", id="gzip bomb"
        ),
        pytest.param(
            says(answer(zlib.compress(b" " * BOMB_BYTES), "Content-Encoding: deflate")), "larger", id="deflate bomb"
        ),
        pytest.param(
            then_repeats(answer(gzip.compress(FACTOR), "Content-Encoding: gzip", length=1 << 30), bytes(65536)),
            "has trailing data",
            id="endless gzip",
        ),
        pytest.param(says(answer(FACTOR, "Content-Encoding: gzip")), "can't be decompressed", id="no gzip"),
        pytest.param(
            says(answer(gzip.compress(FACTOR)[:10] + b"\xff" * 40, "Content-Encoding: gzip")),
            "can't be decompressed",
            id="bad gzip",
        ),
        pytest.param(
            says(answer(gzip.compress(FACTOR)[:-8] + b"\x00" * 8, "Content-Encoding: gzip")),
            "can't be decompressed",
            id="wrong checksum",
        ),
        pytest.param(
            says(answer(gzip.compress(FACTOR)[:-9], "Content-Encoding: gzip")), "incomplete", id="gzip cut short"
        ),
        pytest.param(
            says(answer(FACTOR, "Content-Encoding: br")), "unsupported content encoding", id="other encoding"
        ),
        pytest.param(
            says(answer(gzip.compress(gzip.compress(FACTOR)), "Content-Encoding: gzip, gzip")),
            "unsupported content encoding",
            id="two encodings",
        ),
    ],
)
async def test_unusable_bodies(watched: WatchedFactor, behave: Behaviour, words: str) -> None:
    async with Wire(behave) as wire, client_of(url_of(wire)) as client:
        tracemalloc.start()
        try:
            attempt = await client.fetch_factor(watched)
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        result = failure(attempt)
        assert result.reason is Reason.DECODE
        assert result.detail.startswith("HTTP 200, but the ")
        assert words in result.detail
        assert attempt.code == 200
        assert peak_bytes < 8 * MAX_BODY_BYTES
        await assert_recovers(client, wire, watched)


async def test_an_endless_error_page_keeps_the_reason_of_its_status(watched: WatchedFactor) -> None:
    page = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\n\r\n<html>"
    async with Wire(then_repeats(page, b"x" * 65536)) as wire, client_of(url_of(wire)) as client:
        attempt = await client.fetch_factor(watched)
        assert failure(attempt) == Failure(Reason.SERVER_ERROR, "HTTP 503")
        assert (attempt.code, attempt.retry_after_seconds) == (503, 7.0)
        await assert_recovers(client, wire, watched)
