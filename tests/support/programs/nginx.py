"""An nginx that serves a server block of this project's examples."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
from typing import TYPE_CHECKING

from tests.support.processes import spawned
from tests.support.running_exporter import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.fixtures import Program

INSTALL = "apt-get install nginx"
_MAIN = """\
daemon off;
{user}
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
  access_log {folder}/access.log;
  {temporary}
{server}
}}
"""
_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@contextlib.asynccontextmanager
async def nginx(program: Program, folder: Path, server: str, port: int) -> AsyncIterator[None]:
    """Run nginx with a server block that listens on a port of loopback; ``access.log`` is in the folder."""
    config, log = folder / "nginx.conf", folder / "error.log"
    config.write_text(
        _MAIN.format(
            user="user root;" if os.geteuid() == 0 else "",
            folder=folder,
            temporary=" ".join(f"{name}_temp_path {folder}/{name};" for name in _TEMPORARY),
            server=server,
        )
    )
    binary = program(shutil.which("nginx") or "/usr/sbin/nginx", install=INSTALL)  # not on every user's path
    command = (binary, "-p", str(folder), "-e", "stderr", "-c", str(config))
    with log.open("wb") as stream:
        async with spawned(*command, stdout=stream, stderr=stream) as started:

            async def listens() -> bool:
                assert started.returncode is None, log.read_text()
                return await _connects(port)

            await until(listens, bool)
            yield


async def _connects(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port, family=socket.AF_INET)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True
