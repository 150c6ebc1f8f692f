"""The command ``run`` with a clock beside it: how long the event loop stood still, at most and how often.

Takes a configuration file and a file for the numbers, which are written at the end.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import benchmarks.shipped  # noqa: F401 - first
from exporter.cli.loop import give_back_memory, run_to_end, settle_memory
from exporter.cli.serving import serve
from exporter.config import load
from exporter.daemon import Daemon

if TYPE_CHECKING:
    from exporter.config import Config

_EACH_SECONDS = 0.005
_LONG_SECONDS = 0.05
_WARM_UP_SECONDS = 60.0


async def _tick(seen: dict[str, float]) -> None:
    loop = asyncio.get_running_loop()
    began = before = loop.time()
    while True:
        await asyncio.sleep(_EACH_SECONDS)
        now = loop.time()
        stood = now - before - _EACH_SECONDS
        before = now
        if now - began >= _WARM_UP_SECONDS:
            seen["longest_seconds"] = max(seen["longest_seconds"], stood)
            seen["over_50_ms"] += stood > _LONG_SECONDS


async def _run(config: Config, seen: dict[str, float], again: functools.partial[Config]) -> None:
    ticking = asyncio.create_task(_tick(seen))
    await serve(Daemon(config, load=again, tidy=give_back_memory), settle_memory)
    ticking.cancel()
    await asyncio.wait((ticking,))


def main() -> None:
    """Run the daemon of a configuration file until SIGTERM."""
    logging.disable(logging.INFO)
    path, into = map(Path, sys.argv[1:])
    again = functools.partial(load, path, environ={}, flags={})
    seen = {"longest_seconds": 0.0, "over_50_ms": 0.0}
    run_to_end(_run(again(), seen, again))
    into.write_text(json.dumps(seen), encoding="utf-8")


if __name__ == "__main__":
    main()
