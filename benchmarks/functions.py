"""Where the CPU time of a fetch goes, by function: py-spy samples an exporter that fetches at a steady rate.

What runs in C, such as uvloop, TLS and the parser, counts for the Python function that called it; the event loop's
own work counts for the function that runs the loop. py-spy must be allowed to attach to a process: as root, or with
``sysctl kernel.yama.ptrace_scope=0``.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.process import APART, running
from benchmarks.upstream import free_port, upstream
from benchmarks.watchlist import watchlist
from benchmarks.whole import Counted
from exporter.polling.schedule import FIRST_FETCH_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_SAMPLES_PER_SECOND = 400
_FRAME = re.compile(r"(?P<name>.+) \((?P<file>[^()]*?)(?::\d+)?\)")


@dataclass(frozen=True, slots=True)
class Functions:
    """The samples by the function at the top of the stack, and the CPU seconds per fetch of the whole process."""

    samples: int
    cpu_seconds_per_fetch: float
    own: Mapping[str, int]


def by_function(lines: Iterable[str]) -> Counter[str]:
    """Count the samples of py-spy's raw format by the innermost function, named ``function (module)``."""
    counted: Counter[str] = Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        frame = _FRAME.fullmatch(stack.rpartition(";")[2])
        if frame is not None:
            counted[f"{frame['name']} ({_module(frame['file'])})"] += int(count)
    return counted


def _module(file: str) -> str:
    """Return the file from its package on: ``exporter/polling/account.py``, ``asyncio/runners.py``."""
    for begin in ("site-packages/", "dist-packages/"):
        if begin in file:
            return file.rpartition(begin)[2]
    if "/exporter/" in file:
        return "exporter/" + file.rpartition("/exporter/")[2]
    return re.sub(r"^.*/python3\.\d+/", "", file)


async def measure(factors: int, rate: float, seconds: float, *, tree: Path | None = None) -> Functions:
    """Profile an exporter for ``seconds`` after the first fetches; ``tree`` is that of another revision."""
    pyspy = Path(sys.executable).with_name("py-spy")
    with tempfile.TemporaryDirectory(prefix="verify-factor-exporter-profile-") as name:
        folder = Path(name)
        with upstream(folder) as server:
            port, interval, raw = free_port(), factors / rate, folder / "raw"
            listed = watchlist(folder / "ours", server, factors=factors, interval_seconds=interval, port=port)
            command = (sys.executable, "-m", "exporter", "run", "--config.file", str(listed.config))
            with running(*command, port=port, folder=tree) as pid:
                await asyncio.sleep(min(interval, FIRST_FETCH_SECONDS) + 5)
                exporter = Counted(pid, port)
                await exporter.start()
                await asyncio.sleep(seconds / 2)  # what a fetch costs while nothing samples it
                cost = await exporter.cost()
                flags = ("--format", "raw", "--function", "--nonblocking", "--rate", str(_SAMPLES_PER_SECOND))
                began = time.monotonic()
                profiler = await asyncio.create_subprocess_exec(
                    *(str(pyspy), "record", *flags, "--duration", str(round(seconds))),
                    *("--output", str(raw), "--pid", str(pid)),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    **APART,
                )
                try:
                    _, errors = await profiler.communicate()
                finally:
                    if profiler.returncode is None:
                        profiler.kill()
                        await profiler.wait()
                if profiler.returncode or not raw.exists():
                    raise SystemExit(f"py-spy failed after {time.monotonic() - began:.0f} s: {errors.decode()}")
        own = by_function(raw.read_text(encoding="utf-8").splitlines())
    return Functions(own.total(), cost, dict(own.most_common()))


def main() -> None:
    """Print the functions with the most samples."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--factors", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=1_000 / 3, metavar="PER_SECOND")
    parser.add_argument("--seconds", type=float, default=60.0)
    arguments = parser.parse_args()
    of = asyncio.run(measure(arguments.factors, arguments.rate, arguments.seconds))
    print(f"{of.samples:,} samples, {of.cpu_seconds_per_fetch * 1e6:.0f} µs per fetch")
    for function, count in list(of.own.items())[:30]:
        print(f"{count / of.samples * of.cpu_seconds_per_fetch * 1e6:8.1f} µs  {function}")


if __name__ == "__main__":
    main()
