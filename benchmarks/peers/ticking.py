"""The command ``run``, with the stalls of its event loop measured.

Takes a configuration file and a file to which the results are written on exit.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import benchmarks.runtime_only  # noqa: F401 - first
from benchmarks.peers.idling import Stalls, watch
from exporter.cli.process import freeze_gc, run_to_end, serve, trim_memory
from exporter.config import load
from exporter.daemon.daemon import Daemon

if TYPE_CHECKING:
    from exporter.config import Config


async def _run(config: Config, seen: Stalls, again: functools.partial[Config]) -> None:
    ticking = asyncio.create_task(watch(seen))
    await serve(Daemon(config, load=again, trim=trim_memory), freeze_gc)
    ticking.cancel()
    await asyncio.wait((ticking,))


def main() -> None:
    """Run the exporter until SIGTERM."""
    logging.disable(logging.INFO)
    path, into = map(Path, sys.argv[1:])
    again = functools.partial(load, path, environ={}, flags={})
    seen = Stalls()
    run_to_end(_run(again(), seen, again))
    seen.write(into)


if __name__ == "__main__":
    main()
