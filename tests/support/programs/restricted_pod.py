"""Running a container under Kubernetes' *restricted* profile, with kernel features only."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Self

import aiohttp

from tests.support.processes import PATIENCE_SECONDS, output_of, spawned
from tests.support.running_exporter import Site, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.programs.buildah import Image


# A read-only file system without a shell, and the program as the first process.
_SCRIPT = """\
set -eu
root=$1 folder=$2 inside=$3
shift 3
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --bind "$folder" "$root$inside"
mount -o remount,bind,ro "$root$inside"
for shell in bash dash; do mount --bind /dev/null "$root/usr/bin/$shell"; done
mount -o remount,bind,ro "$root"
exec chroot "$root" "$@"
"""


class Pod(Site):
    """A running container; ``pid`` is its first process on this machine."""

    def __init__(
        self, session: aiohttp.ClientSession, url: str, image: Image, process: asyncio.subprocess.Process, log: Path
    ) -> None:
        super().__init__(session, url)
        self.image = image
        self.pid = 0
        self._process = process
        self._log = log

    @classmethod
    @contextlib.asynccontextmanager
    async def run(cls, image: Image, root: Path, folder: Path, *, url: str, log: Path) -> AsyncIterator[Self]:
        """Run an image's command on its file tree, with a folder of this machine as working directory."""
        config = image.config
        command = _confined(image, [*config["Entrypoint"], *config["Cmd"]])
        with log.open("wb") as output:
            async with (
                spawned(
                    *("unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", _SCRIPT, "pod"),
                    *(str(root), str(folder), config["WorkingDir"], *command),
                    stdout=output,
                    stderr=output,
                ) as started,
                aiohttp.ClientSession() as session,
            ):
                pod = cls(session, url, image, started, log)
                await pod._starts()
                yield pod

    @property
    def process_status(self) -> dict[str, str]:
        """The status of the process in the kernel: /proc/PID/status."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}

    @property
    def root(self) -> Path:
        """The container's file tree as seen by its process."""
        return Path(f"/proc/{self.pid}/root")

    async def execute(self, argv: list[str]) -> tuple[int | None, str]:
        """Run another command in the container, like a container engine; return its exit status and output."""
        status, output, _ = await output_of(
            *("nsenter", "--target", str(self.pid), "--mount", "--pid", "--root"),
            *_confined(self.image, argv),
            stderr=asyncio.subprocess.STDOUT,
        )
        return status, output.decode().strip()

    async def terminate(self) -> int | None:
        """Send SIGTERM and return the exit status."""
        os.kill(self.pid, signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._process.wait()
        return self._process.returncode

    async def _starts(self) -> None:
        """Wait until the program responds, and store its pid."""

        async def answers() -> bool:
            assert self._process.returncode is None, self._log.read_text() or "it ended without a word"
            try:
                return await self.status("/-/healthy") == 200
            except aiohttp.ClientError:
                return False

        await until(answers, bool)
        self.pid = _child(self._process.pid)


def _child(pid: int) -> int:
    """Return the only child of a process."""
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


def _confined(image: Image, argv: list[str]) -> list[str]:
    """Return a command with the image's user, environment and working directory, without any capability."""
    user, _, group = image.config["User"].partition(":")
    return [
        *("/usr/bin/env", "--ignore-environment", f"--chdir={image.config['WorkingDir']}", *image.config["Env"]),
        *("/usr/bin/setpriv", "--reuid", user, "--regid", group, "--clear-groups"),
        *("--inh-caps=-all", "--bounding-set=-all", "--no-new-privs", "--", *argv),
    ]
