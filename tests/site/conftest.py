"""The site as ``make site`` builds it, and as it is published with two versions."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.processes import PATIENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(sys.executable).parent


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder and logs nothing."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  its name in the standard library
        """Log nothing."""


def ran(folder: Path, *command: str, **environ: str) -> subprocess.CompletedProcess[bytes]:
    """Run a program of the environment in a folder."""
    path = f"{PROGRAMS}:{os.environ['PATH']}"
    return subprocess.run(
        command,
        cwd=folder,
        env={"PATH": path, "PYTHONPATH": str(folder), "HOME": str(folder), "NO_MKDOCS_2_WARNING": "1", **environ},
        capture_output=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def run(folder: Path, *command: str, **environ: str) -> bytes:
    """Run a program of the environment in a folder, and return what it writes to standard output."""
    ended = ran(folder, *command, PYTHONPATH=str(ROOT), **environ)
    assert ended.returncode == 0, (ended.stdout + ended.stderr).decode()
    return ended.stdout


def build(project: Path, site: Path) -> subprocess.CompletedProcess[bytes]:
    """Build the site of a project. Not quietly: warnings that are not printed are no errors."""
    return ran(project, "mkdocs", "build", SITE_DIR=str(site))


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with the site; the build fails for a link to nowhere and for a page outside the menu."""
    site = tmp_path_factory.mktemp("site")
    ended = build(ROOT, site)
    assert ended.returncode == 0, ended.stderr.decode()
    return site


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with the versions 0.1 and 0.2 of the site, as they are on the branch gh-pages."""
    folder = tmp_path_factory.mktemp("versions")
    (folder / "published").mkdir()
    who = {f"GIT_{who}_{what}": "a@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environ = {**who, "SITE_DIR": str(folder / "built"), "SITE_REVISION": "v0.2.0"}
    config = ("--config-file", str(ROOT / "mkdocs.yml"))
    run(folder, "git", "init", "--quiet")
    run(folder, "git", "commit", "--quiet", "--allow-empty", "--message", "start", **environ)
    for version in ("0.1", "0.2"):
        run(folder, "mike", "deploy", *config, "--update-aliases", version, "latest", **environ)
    run(folder, "mike", "set-default", *config, "latest", **environ)
    archive = run(folder, "git", "archive", "gh-pages")
    subprocess.run(["tar", "-x", "-C", folder / "published"], input=archive, timeout=PATIENCE_SECONDS, check=True)
    return folder / "published"


@pytest.fixture(scope="session")
def address(published: Path) -> Iterator[str]:
    """Serve the site with its versions, and return its address without a slash at the end."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(published)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
