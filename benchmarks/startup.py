"""Start-up time: until the first scrape of ten factors, compared with importing the libraries."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from benchmarks.report import table
from benchmarks.upstream import free_port, upstream
from benchmarks.watchlist import watchlist

LIBRARIES = (
    "aiohttp.web, apscheduler.schedulers.asyncio, bcrypt, httptools, httpx, httpx_aiohttp, isal, jinja2, "
    "prometheus_client, prometheus_client.openmetrics.exposition, pydantic_settings, uvloop, yaml"
)
_PATIENCE_SECONDS = 30.0


def _until_it_ends(*command: str) -> float:
    began = time.perf_counter()
    # `healthcheck` finds no exporter; its run time is what is measured.
    subprocess.run((sys.executable, *command), check=False, capture_output=True)
    return time.perf_counter() - began


def _first_scrape(config: Path, port: int) -> float:
    began = time.perf_counter()
    process = subprocess.Popen(
        (sys.executable, "-m", "exporter", "run", "--config.file", str(config)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                    answer.read()
                return time.perf_counter() - began
            except urllib.error.URLError:
                if time.perf_counter() - began > _PATIENCE_SECONDS or process.poll() is not None:
                    raise SystemExit("the exporter did not start") from None
                time.sleep(0.002)
    finally:
        process.terminate()
        process.wait(20)


def measure(rounds: int) -> dict[str, list[float]]:
    """Return the seconds of every command, by round."""
    times: dict[str, list[float]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="verify-factor-exporter-start-") as name,
        upstream(Path(name)) as server,
    ):
        port = free_port()
        listed = watchlist(Path(name) / "ours", server, factors=10, interval_seconds=300, port=port)
        for _ in range(rounds):
            for what, seconds in (
                ("import the libraries", _until_it_ends("-c", f"import {LIBRARIES}")),
                ("first scrape of ten factors", _first_scrape(listed.config, port)),
                ("version", _until_it_ends("-m", "exporter", "version")),
                ("healthcheck", _until_it_ends("-m", "exporter", "healthcheck", "--url", "http://127.0.0.1:1")),
                ("python -c pass", _until_it_ends("-c", "pass")),
            ):
                times.setdefault(what, []).append(seconds)
    return times


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    print(table(f"Start-up, wall time, {rounds} rounds", "ms", measure(rounds)))


if __name__ == "__main__":
    main()
