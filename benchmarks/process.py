"""Processes: run one for the length of a block; its CPU time and memory, as reported by the operating system."""

from __future__ import annotations

import contextlib
import ctypes
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

APART: Mapping[str, Any] = {"process_group": 0}


def cpu_seconds(pid: int, *, children: bool = False) -> float:
    """Return the CPU seconds (user and system) that a process and its threads have used so far.

    ``children`` adds its running child processes (nginx's worker).
    """
    total = _cpu_seconds(pid)
    if children:
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += sum(map(_cpu_seconds, map(int, (task / "children").read_text().split())))
    return total


def _cpu_seconds(pid: int) -> float:
    """Read the process's CPU-time clock: /proc has the same number in ticks of 10 ms."""
    clock = ctypes.c_int()
    if ctypes.CDLL(None).clock_getcpuclockid(pid, ctypes.byref(clock)):
        raise ProcessLookupError(f"there is no process {pid}")
    return time.clock_gettime(clock.value)


@contextlib.contextmanager
def running(*command: str, port: int | None = None, folder: Path | None = None) -> Iterator[int]:
    """Run a program until the end of the block; yield its pid once it listens on ``port``.

    It runs in ``folder``, from which ``python -m`` imports. Ctrl-C in a terminal doesn't reach it; the
    end of the block does.
    """
    null = subprocess.DEVNULL
    process = subprocess.Popen(command, cwd=folder, stdin=null, stdout=null, stderr=null, **APART)
    try:
        if port is not None:
            wait_for_port(port, process)
        yield process.pid
    finally:
        end(process)


def end(process: subprocess.Popen[bytes], *, patience_seconds: float = 20.0) -> None:
    """Terminate a process and wait for it; kill it if it is there after ``patience_seconds``, or on Ctrl-C."""
    try:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience_seconds)
    finally:
        process.kill()
        process.wait()


def memory_mb(pid: int) -> tuple[float, float]:
    """Return the current and the peak resident memory of a process in MB (10⁶ bytes)."""
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
    )
    now, most = (int(status[key].split()[0]) * 1024 / 1e6 for key in ("VmRSS", "VmHWM"))
    return now, most


def found(program: str, *, install: str) -> str:
    """Return the path of a program; raises SystemExit with the install command if it is missing."""
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if path is None:
        raise SystemExit(f"{program} is not installed: {install}")
    return path


def wait_for_port(port: int, process: subprocess.Popen[bytes], seconds: float = 120.0) -> None:
    """Wait until the process listens on this loopback port; raises SystemExit if it ends, and after ``seconds``."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise SystemExit(f"{process.args!r} doesn't listen on port {port}")
