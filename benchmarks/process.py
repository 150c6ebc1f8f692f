"""CPU time and memory of a process, as reported by the operating system."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


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
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / _TICKS


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
