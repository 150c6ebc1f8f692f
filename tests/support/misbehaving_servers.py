"""Servers on loopback that misbehave on purpose, and a proxy that records its requests."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from typing import TYPE_CHECKING, Self

from tests.support.requests import FACTOR_SID

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

FACTOR = json.dumps({"sid": FACTOR_SID, "status": "verified", "factor_type": "push"}).encode()


def answer(body: bytes = FACTOR, *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    """Return a complete HTTP response; ``length`` replaces the real Content-Length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def says(*pieces: bytes) -> Behaviour:
    """Write these pieces one by one and keep the connection."""

    async def behave(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.002)

    return behave


def then_closes(*pieces: bytes) -> Behaviour:
    """Write these pieces and close."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await says(*pieces)(reader, writer)
        writer.close()

    return behave


def then_resets(*pieces: bytes) -> Behaviour:
    """Write these pieces and reset the connection (RST)."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await says(*pieces)(reader, writer)
        raw: socket.socket = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    return behave


def then_stalls(*pieces: bytes) -> Behaviour:
    """Write these pieces and nothing more."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await says(*pieces)(reader, writer)
        await reader.read()

    return behave


def then_repeats(start: bytes, piece: bytes, pause_seconds: float = 0.0) -> Behaviour:
    """Write ``start``, then ``piece`` repeatedly, without end."""

    async def behave(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_seconds)

    return behave


class Wire:
    """A server on loopback; ``behave`` is called for every request, or ``greet`` for every connection instead."""

    def __init__(self, behave: Behaviour, *, context: ssl.SSLContext | None = None) -> None:
        self.behave = behave
        self.greet: Behaviour | None = None
        self.requests: list[bytes] = []
        self.accepted = 0
        self._context = context
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", 0))

    @property
    def port(self) -> int:
        """The port; connections are refused until :meth:`listen`."""
        port: int = self._socket.getsockname()[1]
        return port

    async def listen(self) -> None:
        """Begin to accept connections."""
        self._server = await asyncio.start_server(self._connected, sock=self._socket, ssl=self._context)

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(self, *_error: object) -> None:
        if self._server is not None:
            self._server.close()
        self._socket.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # the transports that were aborted let go of their sockets

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.create_task(self._converse(reader, writer))
        self._tasks.add(task)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self.greet is not None:
                await self.greet(reader, writer)
            while not writer.is_closing():
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                await self.behave(reader, writer)
            await writer.wait_closed()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()


class Proxy(Wire):
    """A proxy that records the requests it gets and tunnels each CONNECT to one port on loopback."""

    def __init__(self, target_port: int, *, status: str = "200 Connection established") -> None:
        super().__init__(self._tunnel)
        self._target_port = target_port
        self._status = status

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {self._status}\r\n\r\n".encode())
        if not self._status.startswith("200"):
            writer.close()
            return
        there, back = await asyncio.open_connection("127.0.0.1", self._target_port)
        await asyncio.gather(_copy(reader, back), _copy(there, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()
