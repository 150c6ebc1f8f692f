"""The exporter over the library's transport and the standard event loop: what it costs without the lean ones."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.cli.serving import serve
from exporter.config import load
from exporter.daemon import Daemon
from exporter.verify.library import library_transport

if TYPE_CHECKING:
    import httpx

    from exporter.config import AccountSettings


def _transport(account: AccountSettings) -> httpx.AsyncBaseTransport:
    import ssl  # noqa: PLC0415

    context = ssl.create_default_context(cafile=account.ca_file)
    return library_transport(max_connections=account.max_concurrency, context=context)


async def _run(path: Path) -> None:
    await serve(Daemon(load(path, environ={}, flags={}), transport=_transport))


def main() -> None:
    """Run the daemon of a configuration file."""
    logging.disable(logging.INFO)
    asyncio.run(_run(Path(sys.argv[1])))


if __name__ == "__main__":
    main()
