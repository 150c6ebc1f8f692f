"""Listening on every address or none, and errors with the address and a hint."""

from __future__ import annotations

import asyncio
import errno
import re
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from exporter.config.addresses import ListenAddress
from exporter.web.server.sockets import ListenError, WebServer
from tests.support.ipv6 import needs_ipv6

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator


@pytest.fixture
async def server() -> AsyncIterator[WebServer]:
    async def hello(_request: web.Request) -> web.Response:
        return web.Response(text="hello")

    application = web.Application()
    application.router.add_get("/", hello)
    made = WebServer(application)
    yield made
    await made.stop()


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


async def says_hello(host: str, port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection(host, port)
    except ConnectionRefusedError:
        return False
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer.endswith(b"hello")


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
    return port


async def test_one_address(server: WebServer) -> None:
    await server.start([ListenAddress("127.0.0.1", 0)])

    [url] = server.addresses
    assert re.fullmatch(r"http://127\.0\.0\.1:[0-9]+", url)
    assert await says_hello("127.0.0.1", port_of(url))
    await server.stop()
    assert not await says_hello("127.0.0.1", port_of(url))


@needs_ipv6
async def test_no_host_is_every_address_of_both_families(server: WebServer) -> None:
    await server.start([ListenAddress(None, 0)])

    [url] = server.addresses
    assert re.fullmatch(r"http://localhost:[0-9]+", url)
    assert server.bound == [f"http://[::]:{port_of(url)}"]
    assert await says_hello("127.0.0.1", port_of(url))
    assert await says_hello("::1", port_of(url))


@pytest.mark.parametrize("why", ["no dual stack", "no IPv6 at all"])
async def test_no_host_is_every_ipv4_address_where_there_is_no_ipv6(
    server: WebServer, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    create = socket.create_server

    def without_ipv6(address: tuple[str, int], **options: object) -> socket.socket:
        if options.get("family") is socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return create(address, backlog=1)

    if why == "no dual stack":
        monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    monkeypatch.setattr(socket, "create_server", without_ipv6)
    await server.start([ListenAddress(None, 0)])

    assert server.addresses[0].startswith("http://localhost:")
    assert server.bound == [f"http://0.0.0.0:{port_of(server.addresses[0])}"]
    assert await says_hello("127.0.0.1", port_of(server.addresses[0]))


@needs_ipv6
async def test_two_addresses(server: WebServer) -> None:
    await server.start([ListenAddress("127.0.0.1", 0), ListenAddress("::1", 0)])

    first, second = server.addresses
    assert second.startswith("http://[::1]:")
    assert await says_hello("127.0.0.1", port_of(first))
    assert await says_hello("::1", port_of(second))


async def test_a_host_name_is_resolved(server: WebServer) -> None:
    await server.start([ListenAddress("localhost", 0)])

    assert await says_hello("localhost", port_of(server.addresses[0]))


async def test_a_port_in_use(server: WebServer, taken: int) -> None:
    with pytest.raises(ListenError) as refused:
        await server.start([ListenAddress("127.0.0.1", taken)])

    assert str(refused.value) == (
        f"127.0.0.1:{taken}: the port is in use; stop the program that uses it, "
        "or set another with --web.listen-address"
    )
    assert server.addresses == []


async def test_a_port_in_use_on_every_address(server: WebServer) -> None:
    with socket.create_server(("", 0)) as listening, pytest.raises(ListenError, match=r"^:[0-9]+: the port is in"):
        await server.start([ListenAddress(None, listening.getsockname()[1])])


async def test_if_one_address_fails_none_is_left_open(server: WebServer, taken: int) -> None:
    first = free_port()
    with pytest.raises(ListenError, match=f"^127.0.0.1:{taken}: "):
        await server.start([ListenAddress("127.0.0.1", first), ListenAddress("127.0.0.1", taken)])

    assert not await says_hello("127.0.0.1", first)
    await server.start([ListenAddress("127.0.0.1", first)])
    assert await says_hello("127.0.0.1", first)


async def test_an_address_of_another_machine(server: WebServer) -> None:
    with pytest.raises(ListenError) as refused:
        await server.start([ListenAddress("192.0.2.1", 0)])

    assert str(refused.value) == (
        "192.0.2.1:0: not an address of this machine; use one of its addresses, or :PORT for all"
    )


def _fails(error: Exception) -> Callable[..., object]:
    def fail(*_arguments: object, **_options: object) -> object:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), "not permitted; set a port above 1023 with --web."),
        (OSError(errno.EMFILE, "Too many open files"), "can't listen: Too many open files"),
    ],
)
@pytest.mark.parametrize("host", [None, "127.0.0.1"])
async def test_other_errors_of_the_system(
    server: WebServer, monkeypatch: pytest.MonkeyPatch, host: str | None, error: OSError, words: str
) -> None:
    monkeypatch.setattr(socket, "create_server", _fails(error))
    with pytest.raises(ListenError) as refused:
        await server.start([ListenAddress(host, 80)])

    assert str(refused.value).startswith(f"{host or ''}:80: {words}")


@pytest.mark.parametrize("host", ["no-such-host.invalid", "x" * 70])
async def test_a_name_without_an_address(server: WebServer, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    if len(host) < 64:  # a longer label is refused before it is resolved
        unknown = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        monkeypatch.setattr(socket, "getaddrinfo", _fails(unknown))
    with pytest.raises(ListenError) as refused:
        await server.start([ListenAddress(host, 80)])

    assert str(refused.value) == f"{host}:80: the host name can't be resolved; use an address of this machine"
