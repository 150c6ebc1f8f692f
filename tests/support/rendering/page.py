"""The page that renders boards: its npm packages, its bundle, and a server that serves it on loopback."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

SOURCE = Path(__file__).parent / "page"
INSTALL = "apt-get install nodejs npm"
_TIMEOUT_SECONDS = 600

_NPM = ("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")


class NotInstalledError(Exception):
    """The npm packages can't be installed; the message has npm's output."""


def packages(npm: str) -> Path:
    """Return the folder node_modules, from the user's cache folder: one per lock, so that it is installed once.

    Raises NotInstalledError, for example if the registry is not reachable.
    """
    lock = hashlib.sha256((SOURCE / "package-lock.json").read_bytes()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "verify-factor-exporter"
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    kept = cache / f"rendering-{lock}"
    with (cache / "rendering.lock").open("w") as one_at_a_time:
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        if not kept.exists():
            made = cache / f"{kept.name}.{os.getpid()}"
            made.mkdir()
            try:
                for name in ("package.json", "package-lock.json"):
                    shutil.copy(SOURCE / name, made)
                try:
                    _run(npm, *_NPM, cwd=made)
                except (AssertionError, subprocess.TimeoutExpired) as error:
                    raise NotInstalledError(str(error)) from error
                made.rename(kept)
            finally:
                shutil.rmtree(made, ignore_errors=True)
    return kept / "node_modules"


def bundle(node: str, modules: Path, folder: Path) -> Path:
    """Build the page into a folder, which it returns."""
    _run(node, str(SOURCE / "build.mjs"), str(modules), str(folder), cwd=SOURCE)
    return folder


def _run(*command: str, cwd: Path) -> None:
    done = subprocess.run(
        command,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


@contextlib.asynccontextmanager
async def served(bundled: Path, modules: Path, boards: Mapping[str, Mapping[str, Any]]) -> AsyncIterator[str]:
    """Serve the page and these boards by uid, which may change meanwhile; yield the URL."""

    async def shell(_request: web.Request) -> web.FileResponse:
        return web.FileResponse(SOURCE / "index.html")

    async def board(request: web.Request) -> web.Response:
        return web.json_response(boards[request.match_info["uid"]])

    application = web.Application()
    application.router.add_get("/d/{uid}", shell)
    application.router.add_get("/boards/{uid}.json", board)
    application.router.add_static("/bundle", bundled)
    application.router.add_static("/public/build", modules / "@grafana" / "ui" / "dist" / "public")
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()
