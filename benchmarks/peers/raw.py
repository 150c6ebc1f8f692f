"""The lower bound in Python: asyncio streams over TLS that send requests and discard the answers."""

from __future__ import annotations

import asyncio
import ssl
import sys
import time
from base64 import b64encode


async def _request(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, paths: list[str], left: list[int]
) -> None:
    credentials = b64encode(b"u:p").decode()
    while left[0] > 0:
        left[0] -= 1
        path = paths[left[0] % len(paths)]
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {credentials}\r\n\r\n".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)


async def _run(port: int, ca_file: str, paths_file: str, requests: int, concurrency: int) -> None:
    with open(paths_file, encoding="utf-8") as file:  # noqa: ASYNC230, PTH123 - before anything is measured
        paths = file.read().split()
    context = ssl.create_default_context(cafile=ca_file)
    opened = [
        await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
        for _ in range(concurrency)
    ]
    warm, left = [concurrency * 4], [requests]
    await asyncio.gather(*(_request(*streams, paths, warm) for streams in opened))
    began = time.process_time()
    await asyncio.gather(*(_request(*streams, paths, left) for streams in opened))
    print((time.process_time() - began) / requests)
    for _, writer in opened:
        writer.close()


def main() -> None:
    """Print the CPU seconds per request."""
    port, ca_file, paths_file, requests, concurrency = sys.argv[1:]
    asyncio.run(_run(int(port), ca_file, paths_file, int(requests), int(concurrency)))


if __name__ == "__main__":
    main()
