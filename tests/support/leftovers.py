"""A pytest plugin: the run fails when a test leaves a process behind.

Each worker marks its environment, which its children inherit, and searches for the mark at the end.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

VARIABLE = "VERIFY_TESTS_SESSION"
_GRACE_SECONDS = 3.0  # for processes that were killed, and are still to disappear


def marked(mark: str) -> dict[int, str]:
    """Return the command lines of this machine's processes with this mark, by process ID; this process is not one.

    A process that has ended and was not waited for (a zombie) has no environment, so it is not listed.
    """
    found = {}
    entry = f"{VARIABLE}={mark}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if entry in (folder / "environ").read_bytes().split(b"\0") and int(folder.name) != os.getpid():
                found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        except OSError:  # it ended meanwhile, or is another user's
            continue
    return found


def left_behind(mark: str, *, grace_seconds: float = _GRACE_SECONDS) -> list[str]:
    """Return what ``marked`` finds once the grace period is over, and kill it."""
    latest = time.monotonic() + grace_seconds
    while (found := marked(mark)) and time.monotonic() < latest:
        time.sleep(0.05)
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return [f"{pid}: {command}" for pid, command in found.items()]


@pytest.fixture(scope="session", autouse=True)
def _no_process_is_left() -> Iterator[None]:
    mark, before = str(uuid.uuid4()), os.environ.get(VARIABLE)
    os.environ[VARIABLE] = mark
    yield
    if before is None:
        del os.environ[VARIABLE]
    else:
        os.environ[VARIABLE] = before
    left = left_behind(mark)
    if left:
        pytest.fail("tests left processes behind:\n" + "\n".join(left), pytrace=False)
