"""Start-up time: until the first scrape of ten factors, compared with importing the libraries; and with many.

All programs run from bytecode, like those of installed packages and of the container image.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from benchmarks.process import APART, end
from benchmarks.report import table
from benchmarks.upstream import free_port, upstream
from benchmarks.watchlist import watchlist

LIBRARIES = (
    "aiohttp.web, apscheduler.schedulers.asyncio, bcrypt, httptools, httpx, httpx_aiohttp, isal, jinja2, "
    "prometheus_client, prometheus_client.openmetrics.exposition, pydantic_settings, uvloop, yaml"
)
_COMMANDS = ", ".join(f"exporter.cli.{name}" for name in ("run", "check", "plan", "healthcheck", "version"))
_PATIENCE_SECONDS = 120.0


def _with_bytecode(folder: Path, tree: Path | None) -> dict[str, str]:
    """Write the bytecode of libraries and commands to a folder; return the environment of programs that use it."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environ = {**kept, "PYTHONPYCACHEPREFIX": str(folder)}
    subprocess.run((sys.executable, "-c", f"import {LIBRARIES}, {_COMMANDS}"), cwd=tree, check=True, env=environ)
    return environ


def _until_it_ends(environ: dict[str, str], *command: str, tree: Path | None = None, check: bool = False) -> float:
    began = time.perf_counter()
    # `healthcheck` finds no exporter; its run time is what is measured.
    subprocess.run((sys.executable, *command), cwd=tree, check=check, capture_output=True, env=environ)
    return time.perf_counter() - began


def _first_scrape(environ: dict[str, str], config: Path, port: int, tree: Path | None = None) -> float:
    began = time.perf_counter()
    process = subprocess.Popen(
        (sys.executable, "-m", "exporter", "run", "--config.file", str(config)),
        cwd=tree,
        env=environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **APART,
    )
    try:
        while True:
            try:
                with urllib.request.urlopen(
                    f"http://127.0.0.1:{port}/metrics", timeout=_PATIENCE_SECONDS
                ) as answer:
                    answer.read()
                return time.perf_counter() - began
            except OSError:
                if time.perf_counter() - began > _PATIENCE_SECONDS or process.poll() is not None:
                    raise SystemExit("the exporter did not start") from None
                time.sleep(0.002)
    finally:
        end(process)


def measure(rounds: int, tree: Path | None = None) -> dict[str, list[float]]:
    """Return the seconds of every command, by round; ``tree`` is the source tree of another revision to measure."""
    times: dict[str, list[float]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="verify-factor-exporter-start-") as name,
        upstream(Path(name)) as server,
    ):
        environ = _with_bytecode(Path(name) / "bytecode", tree)
        port = free_port()
        listed = watchlist(Path(name) / "ours", server, factors=10, interval_seconds=300, port=port)
        healthcheck = ("-m", "exporter", "healthcheck", "--url", "http://127.0.0.1:1")
        for _ in range(rounds):
            for what, seconds in (
                ("import the libraries", _until_it_ends(environ, "-c", f"import {LIBRARIES}")),
                ("first scrape of ten factors", _first_scrape(environ, listed.config, port, tree)),
                ("version", _until_it_ends(environ, "-m", "exporter", "version", tree=tree)),
                ("healthcheck", _until_it_ends(environ, *healthcheck, tree=tree)),
                ("python -c pass", _until_it_ends(environ, "-c", "pass")),
            ):
                times.setdefault(what, []).append(seconds)
    return times


def measure_many(factors: int, rounds: int, tree: Path | None = None) -> dict[str, list[float]]:
    """Return the seconds that commands take with a CSV file of this many factors, by round."""
    times: dict[str, list[float]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="verify-factor-exporter-start-") as name,
        upstream(Path(name)) as server,
    ):
        environ = _with_bytecode(Path(name) / "bytecode", tree)
        port = free_port()
        listed = watchlist(Path(name) / "ours", server, factors=factors, interval_seconds=300, port=port)
        flags = ("--config.file", str(listed.config))
        for _ in range(rounds):
            for what, seconds in (
                (f"first scrape of {factors:,} factors", _first_scrape(environ, listed.config, port, tree)),
                ("check", _until_it_ends(environ, "-m", "exporter", "check", *flags, tree=tree, check=True)),
                ("plan", _until_it_ends(environ, "-m", "exporter", "plan", *flags, tree=tree, check=True)),
            ):
                times.setdefault(what, []).append(seconds)
    return times


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--factors", type=int, default=100_000, help="factors of the second table")
    arguments = parser.parse_args()
    rounds, factors = arguments.rounds, arguments.factors
    print(table(f"Start-up, wall time, {rounds} rounds", "ms", measure(rounds)))
    print(table(f"{factors:,} factors, wall time, {rounds} rounds", "ms", measure_many(factors, rounds)))


if __name__ == "__main__":
    main()
