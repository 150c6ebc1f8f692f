"""The exporter with a transport and an event loop of choice, to measure what the default ones save.

Takes a configuration file, ``http1`` or ``aiohttp``, and ``uvloop`` or ``asyncio``.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.cli.process import freeze_gc, run_to_end, serve
from exporter.config import load
from exporter.daemon.daemon import Daemon
from exporter.daemon.parts import default_transport
from exporter.verify.transports import aiohttp_transport

if TYPE_CHECKING:
    import httpx

    from exporter.config import AccountSettings


def _aiohttp(account: AccountSettings) -> httpx.AsyncBaseTransport:
    context = ssl.create_default_context(cafile=account.ca_file)
    return aiohttp_transport(max_connections=account.max_concurrency, context=context)


async def _run(path: Path, transport: str) -> None:
    makers = {"http1": default_transport, "aiohttp": _aiohttp}
    await serve(Daemon(load(path, environ={}, flags={}), transport=makers[transport]), freeze_gc)


def main() -> None:
    """Run the daemon until SIGTERM."""
    logging.disable(logging.INFO)
    path, transport, loop = sys.argv[1:]
    {"uvloop": run_to_end, "asyncio": asyncio.run}[loop](_run(Path(path), transport))


if __name__ == "__main__":
    main()
