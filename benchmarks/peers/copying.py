"""The lower bound of a scrape: a server that copies the bytes of a file in memory and writes the copy.

Takes the file and a port. Uses the same event loop as the exporter.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path

from exporter.cli.process import run_to_end


async def _serve(body: bytes, port: int) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(head)
            writer.write(bytearray(body))
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


def main() -> None:
    """Serve until SIGTERM."""
    file, port = sys.argv[1:]
    run_to_end(_serve(Path(file).read_bytes(), int(port)))


if __name__ == "__main__":
    main()
