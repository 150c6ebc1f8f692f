"""One load of a watchlist URL: what counts as an answer, and what each failure says."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import ssl
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from exporter.config import HttpSource, PasswordSource, SourceAnswer, SourceFailure
from exporter.config.http_source import LARGEST_ANSWER_BYTES
from exporter.daemon.url_source import NotModified, load_source, load_sources
from tests.support.list_server import JSON, MIB, ListServer, document
from tests.support.misbehaving_servers import then_resets

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

CHECK = "check that the server runs and can be reached from here"
CHECK_LOG = "check the log of the server"


@pytest.fixture
async def server() -> AsyncIterator[ListServer]:
    async with ListServer() as running:
        yield running


def source(url: str, **keys: Any) -> HttpSource:
    values: dict[str, Any] = {"refresh_interval_seconds": 60.0, "timeout_seconds": 60.0}
    return HttpSource("identity-service", url, **(values | keys))


async def failure(server: ListServer, **keys: Any) -> SourceFailure:
    """Return why a load fails."""
    result = await load_source(source(server.url, **keys))
    assert isinstance(result, SourceFailure)
    return result


async def answer(server: ListServer, **keys: Any) -> SourceAnswer:
    result = await load_source(source(server.url, **keys))
    assert isinstance(result, SourceAnswer), result
    return result


async def test_an_answer_is_kept_as_it_came(server: ListServer) -> None:
    body = document([{"name": "a"}])
    server.answers(body, etag='"v1"')
    loaded = await answer(server)
    assert (loaded.content, loaded.etag, loaded.url, loaded.saved) == (body, '"v1"', server.url, None)
    assert loaded == SourceAnswer.of(server.url, body)
    (request,) = server.requests
    lines = request.split("\r\n")
    assert lines[0] == "GET /list HTTP/1.1"
    sent = {line.split(":")[0]: line.partition(": ")[2] for line in lines[1:] if line}
    assert sent["host"] == f"localhost:{server.wire.port}"
    assert sent["user-agent"].startswith("verify-factor-exporter/")
    assert (sent["accept"], sent["accept-encoding"]) == ("application/json", "gzip")
    assert sent["x-prometheus-refresh-interval-seconds"] == "60"
    assert "authorization" not in sent


async def test_a_compressed_answer_is_the_same(server: ListServer) -> None:
    body = document([{"name": str(number)} for number in range(20_000)])
    server.answers_gzip(body)
    assert (await answer(server)).content == body


@pytest.mark.parametrize(
    "content_type", ["application/json", "Application/JSON; Charset=UTF-8", 'application/json;charset="utf-8"']
)
async def test_the_content_type_is_json(server: ListServer, content_type: str) -> None:
    server.answers(b"{}", content_type=content_type)
    assert (await answer(server)).content == b"{}"


async def test_an_answer_that_did_not_change_is_not_sent_again(server: ListServer) -> None:
    server.answers(b"{}", etag='W/"v1"')
    first = await answer(server)
    assert await load_source(source(server.url), etag=first.etag) == NotModified()
    server.answers(b"[]", etag='"v2"')
    assert isinstance(await load_source(source(server.url), etag=first.etag), SourceAnswer)


async def test_304_without_an_etag_is_a_failure(server: ListServer) -> None:
    server.answers(b"", status="304 Not Modified")
    loaded = await load_sources([source(server.url)])
    assert loaded["identity-service"] == await failure(server)
    assert (await failure(server)).problem == "answers HTTP 304 to a request without an ETag"


@pytest.mark.parametrize(
    ("status", "headers", "hint"),
    [
        ("500 Oops", (), CHECK_LOG),
        ("204 No Content", (), CHECK_LOG),
        ("401 Unauthorized", (), "check bearer_token_file, or username and password_file"),
        ("403 Forbidden", (), "check the permissions of its credentials"),
        ("404 Not Found", (), "check the URL"),
        (
            "302 Found",
            ("Location: https://login.example.com/?next=secret",),
            "it leads to login.example.com; redirects are not followed: set url to the final address",
        ),
        (
            "301 Moved",
            ("Location: /elsewhere",),
            "it leads to localhost:PORT; redirects are not followed: set url to the final address",
        ),
        ("308 Moved", (), "it leads to an unknown host; redirects are not followed: set url to the final address"),
    ],
)
async def test_another_status_is_a_failure(
    server: ListServer, status: str, headers: tuple[str, ...], hint: str
) -> None:
    server.answers(b"" if status.startswith("204") else b"secret", *headers, status=status)
    assert await failure(server) == SourceFailure(
        f"answers HTTP {status[:3]}", hint.replace("PORT", str(server.wire.port))
    )


@pytest.mark.parametrize(
    ("content_type", "problem"),
    [
        ("text/html; charset=utf-8", 'answers with the content type "text/html; charset=utf-8"'),
        ("application/json; charset=latin-1", 'answers with the content type "application/json; charset=latin-1"'),
        (None, "answers without a content type"),
    ],
)
async def test_another_content_type_is_a_failure(
    server: ListServer, content_type: str | None, problem: str
) -> None:
    server.answers(b"<html>", content_type=content_type)
    assert (await failure(server)).problem == problem


@pytest.mark.parametrize(
    ("headers", "body", "problem"),
    [
        (("Content-Encoding: br",), b"{}", "answers with an unsupported content encoding"),
        (("Content-Encoding: gzip",), b"{}", "answers with a body that can't be decompressed"),
        (("Content-Encoding: gzip",), b"", "answers with an incomplete body"),
    ],
)
async def test_another_encoding_is_a_failure(
    server: ListServer, headers: tuple[str, ...], body: bytes, problem: str
) -> None:
    server.answers(body, *headers)
    assert (await failure(server)).problem == problem


async def test_data_after_a_compressed_body_is_a_failure(server: ListServer) -> None:
    server.answers(gzip.compress(b"{}") * 2, "Content-Encoding: gzip")
    assert (await failure(server)).problem == "answers with data after its compressed body"


async def test_a_server_that_is_gone(server: ListServer) -> None:
    server.dies()
    problem = "can't be loaded: the connection failed: closed before the response was complete"
    assert await failure(server) == SourceFailure(problem, CHECK)
    server.behave = then_resets(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{")
    assert (await failure(server)).problem.startswith("can't be loaded: the connection failed: ")
    with socket.create_server(("localhost", 0)) as unused:
        port = unused.getsockname()[1]
    refused = await load_source(source(f"http://localhost:{port}/"))
    assert refused == SourceFailure("can't be loaded: the connection failed: connection refused", CHECK)


# Size and time


async def peak(server: ListServer) -> tuple[str, int]:
    """Return the problem of a load, and how many bytes it had in memory at most."""
    tracemalloc.start()
    try:
        problem = (await failure(server)).problem
        return problem, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["streamed", "declared", "bomb"])
async def test_an_answer_that_is_too_large_ends_at_the_limit(server: ListServer, how: str) -> None:
    """At 64 MiB and 1 byte, or a quarter of a gigabyte of spaces; without that much memory."""
    match how:
        case "bomb":
            server.bombs(256)
        case _:
            server.streams(LARGEST_ANSWER_BYTES + 1, declared=how == "declared")
    problem, most = await peak(server)
    assert problem == "answers with more than 64 MiB"
    assert most < 24 * MIB
    if how == "declared":
        assert server.sent < 16 * MIB


async def test_an_answer_of_the_largest_size_is_not(server: ListServer) -> None:
    server.streams(LARGEST_ANSWER_BYTES)
    loaded = await answer(server)
    assert len(loaded.compressed) < MIB
    assert len(loaded.content) == LARGEST_ANSWER_BYTES


async def test_a_slow_drip_ends_at_the_timeout(server: ListServer) -> None:
    server.drips(b" " * 100_000)
    async with asyncio.timeout(60):
        slow = await failure(server, timeout_seconds=0.3)
    assert slow == SourceFailure("can't be loaded: no complete answer in time", CHECK)


# Credentials


async def test_a_token_and_a_password_are_sent(server: ListServer) -> None:
    server.answers(b"{}")
    await answer(server, secret=PasswordSource("token-1"))
    await answer(server, secret=PasswordSource("pass-1"), username="reader")
    assert "\r\nauthorization: Bearer token-1\r\n" in server.requests[0]
    assert "\r\nauthorization: Basic cmVhZGVyOnBhc3MtMQ==\r\n" in server.requests[1]


async def test_the_file_of_a_secret_is_read_for_every_request(server: ListServer, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("one\n")
    of = source(server.url, secret=PasswordSource.from_file(path))
    path.write_text("two\n")
    server.answers(b"{}")
    await load_source(of)
    path.write_text("")
    await load_source(of)
    assert ["Bearer two" in request for request in server.requests] == [True, True]
    assert of.secret is not None
    assert of.secret.problem is not None


async def test_a_401_reads_the_secret_again(server: ListServer, tmp_path: Path) -> None:
    """A token that was replaced between its reading and the answer: one request more, and no failure."""
    path = tmp_path / "token"
    path.write_text("old")
    of = source(server.url, secret=PasswordSource.from_file(path))

    async def behave(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        good = "Bearer new" in server.requests[-1]
        path.write_text("new")
        status = "200 OK" if good else "401 Unauthorized"
        writer.write(f"HTTP/1.1 {status}\r\nContent-Type: {JSON}\r\nContent-Length: 2\r\n\r\n{{}}".encode())
        await writer.drain()

    server.behave = behave
    assert isinstance(await load_source(of), SourceAnswer)
    assert len(server.requests) == 2
    server.answers(b"", status="401 Unauthorized")
    assert (await failure(server, secret=of.secret)).problem == "answers HTTP 401"
    assert len(server.requests) == 3, "the secret is the same, so the request is not repeated"


async def test_its_own_authorities_are_trusted() -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    async with ListServer(context=context) as server:
        server.answers(b"{}")
        pem = authority.cert_pem.bytes().decode()
        assert (await answer(server, authorities=pem)).content == b"{}"
        assert (await failure(server)).problem.startswith("can't be loaded: the TLS handshake failed")


async def test_the_proxy_of_the_environment_is_not_used(
    server: ListServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in Prometheus, whose http_sd uses none by default."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    server.answers(b"{}")
    assert (await answer(server)).content == b"{}"


async def test_sources_are_loaded_at_the_same_time(server: ListServer) -> None:
    both, waiting = asyncio.Event(), []

    async def behave(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        waiting.append(1)
        if len(waiting) == 2:
            both.set()
        await both.wait()
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: {JSON}\r\nContent-Length: 2\r\n\r\n{{}}".encode())
        await writer.drain()

    server.behave = behave
    other = HttpSource("other", server.url, refresh_interval_seconds=1.0, timeout_seconds=60.0)
    loaded = await load_sources([source(server.url), other])
    assert {name: type(result) for name, result in loaded.items()} == {
        "identity-service": SourceAnswer,
        "other": SourceAnswer,
    }


def test_nothing_shows_a_url_or_a_secret() -> None:
    of = source("https://x/?sig=secret", secret=PasswordSource("secret"), username="secret")
    text = repr(of) + repr(SourceAnswer.of(of.url, json.dumps({"identity": "secret"}).encode()))
    assert "secret" not in text.replace("secret=Pass", "")
