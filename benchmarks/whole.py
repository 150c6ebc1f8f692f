"""CPU of a fetch, whole processes side by side: the daemon, its peers, and the floors.

All ask the same nginx over TLS. The paced ones run in the same seconds, at the rate that 100,000 factors ask at an
interval of 5 minutes; those that go as fast as they can have each second turn to themselves.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

from benchmarks.process import cpu_seconds, found, memory_mb
from benchmarks.report import table
from benchmarks.upstream import PASSWORD, USERNAME, free_port, upstream, wait_for_port
from benchmarks.watchlist import watchlist

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.upstream import Upstream
    from benchmarks.watchlist import Watchlist

OURS = "verify-factor-exporter"
BLACKBOX = "blackbox_exporter, a probe"
CONCURRENCY = 16
_FETCHES = re.compile(r"^(?:twilio_verify_)?fetches_total(?:\{[^}]*\})? ([0-9.e+]+)$", re.MULTILINE)
_FAILURES = re.compile(r"^(?:twilio_verify_)?factor_fetch_failures_total\{[^}]*\} (?!0.0$)", re.MULTILINE)
_BLACKBOX = """\
modules:
  verify:
    prober: http
    timeout: 10s
    http:
      valid_status_codes: [200, 404]
      follow_redirects: false
      fail_if_body_not_matches_regexp: ['"status":"verified"']
      basic_auth: {{username: "{username}", password: "{password}"}}
      tls_config: {{ca_file: "{ca_file}"}}
"""


@contextlib.contextmanager
def running(*command: str, port: int | None = None) -> Iterator[int]:
    """Run a program until the end of the block; yield its pid."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        if port is not None:
            wait_for_port(port)
        yield process.pid
    finally:
        process.terminate()
        process.wait(20)


async def _fetches(port: int) -> float:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as answer:
        text = await answer.text()
    if _FAILURES.search(text):
        raise SystemExit("a fetch failed: nothing was measured")
    return sum(float(found[1]) for found in _FETCHES.finditer(text))


async def _probe(port: int, targets: Sequence[str], rate: float, seconds: float) -> int:
    """Ask blackbox_exporter for targets at this rate; return how many it probed, and all with success."""
    probed = 0
    slots = asyncio.Semaphore(CONCURRENCY)
    async with aiohttp.ClientSession() as session:

        async def probe(target: str) -> None:
            nonlocal probed
            async with (
                slots,
                session.get(
                    f"http://127.0.0.1:{port}/probe", params={"module": "verify", "target": target}
                ) as answer,
            ):
                if "\nprobe_success 1\n" not in await answer.text():
                    raise SystemExit("blackbox_exporter: a probe failed")
                probed += 1

        began, tasks = time.monotonic(), []
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            tasks.append(asyncio.create_task(probe(targets[number % len(targets)])))
        await asyncio.gather(*tasks)
    return probed


class _Counted:
    """An exporter that counts its own fetches, and what it costs a fetch between two looks."""

    def __init__(self, pid: int, port: int) -> None:
        self._pid, self._port = pid, port

    async def look(self) -> None:
        """Begin to measure."""
        self._cpu, self._done = cpu_seconds(self._pid), await _fetches(self._port)

    async def cost(self) -> float:
        """Return the CPU seconds of a fetch since the last look."""
        done = await _fetches(self._port) - self._done
        return (cpu_seconds(self._pid) - self._cpu) / done


async def _paced(
    ours: _Counted,
    library: _Counted,
    blackbox: tuple[int, int],
    targets: Sequence[str],
    rate: float,
    seconds: float,
) -> dict[str, float]:
    pid, port = blackbox
    await ours.look()
    await library.look()
    before = cpu_seconds(pid)
    began = time.monotonic()
    probed = await _probe(port, targets, rate, seconds)
    of_blackbox = (cpu_seconds(pid) - before) / probed
    await asyncio.sleep(max(0.0, began + seconds - time.monotonic()))
    return {
        OURS: await ours.cost(),
        "the same over the library's transport, on asyncio's loop": await library.cost(),
        BLACKBOX: of_blackbox,
    }


async def _plain(server: Upstream, listed: Watchlist, seconds: float) -> float:
    port = free_port()
    with running(
        *(sys.executable, "-m", "benchmarks.peers.plain", str(listed.factors), server.base_url),
        *(str(server.ca_file), USERNAME, PASSWORD, str(port), "0"),
        port=port,
    ) as pid:
        await asyncio.sleep(1)
        plain = _Counted(pid, port)
        await plain.look()
        await asyncio.sleep(seconds)
        return await plain.cost()


def _raw(server: Upstream, paths: Path, requests: int) -> float:
    command = (sys.executable, "-m", "benchmarks.peers.raw", str(server.port), str(server.ca_file), str(paths))
    done = subprocess.run((*command, str(requests), str(CONCURRENCY)), check=True, capture_output=True, text=True)
    return float(done.stdout)


def _wrk(server: Upstream, path: str, seconds: float) -> float:
    wrk = found("wrk", install="apt-get install wrk")
    process = subprocess.Popen(
        (wrk, "-t1", f"-c{CONCURRENCY}", f"-d{max(1, round(seconds))}s", server.base_url + path),
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        told = process.stdout.read() if process.stdout else ""
        _, status, spent = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    counted = re.search(r"(\d+) requests in", told)
    if counted is None or "Non-2xx" in told:
        raise SystemExit(f"wrk: {told}")
    return (spent.ru_utime + spent.ru_stime) / int(counted[1])


async def measure(factors: int, rounds: int, seconds: float, rate: float) -> dict[str, object]:
    """Return the CPU seconds a fetch of each, by round, and what the daemon holds in memory."""
    with tempfile.TemporaryDirectory(prefix="verify-factor-exporter-bench-") as name:
        folder = Path(name)
        with upstream(folder) as server:
            interval = factors / rate
            ports = {"ours": free_port(), "library": free_port(), "blackbox": free_port()}
            lists = {
                name: watchlist(folder / name, server, factors=factors, interval_seconds=interval, port=ports[name])
                for name in ("ours", "library")
            }
            module, paths = folder / "blackbox.yaml", folder / "paths"
            module.write_text(_BLACKBOX.format(username=USERNAME, password=PASSWORD, ca_file=server.ca_file))
            paths.write_text("\n".join(lists["ours"].paths))
            targets = [server.base_url + path for path in lists["ours"].paths]
            config = {name: str(lists[name].config) for name in lists}
            blackbox = found("prometheus-blackbox-exporter", install="apt-get install prometheus-blackbox-exporter")
            with (
                running(
                    sys.executable, "-m", "exporter", "run", "--config.file", config["ours"], port=ports["ours"]
                ) as ours,
                running(
                    sys.executable, "-m", "benchmarks.peers.library", config["library"], port=ports["library"]
                ) as library,
                running(
                    blackbox,
                    f"--config.file={module}",
                    f"--web.listen-address=127.0.0.1:{ports['blackbox']}",
                    "--log.level=error",
                    port=ports["blackbox"],
                ) as peer,
            ):
                await asyncio.sleep(min(interval, 30.0) + 3)
                times: dict[str, list[float]] = {}
                for _ in range(rounds):
                    spent = await _paced(
                        _Counted(ours, ports["ours"]),
                        _Counted(library, ports["library"]),
                        (peer, ports["blackbox"]),
                        targets,
                        rate,
                        seconds,
                    )
                    spent["a plain exporter: requests in a loop"] = await _plain(server, lists["ours"], seconds / 2)
                    spent["floor: asyncio's streams, nothing done with the answer"] = await asyncio.to_thread(
                        _raw, server, paths, 4_000
                    )
                    spent["floor: wrk"] = await asyncio.to_thread(_wrk, server, lists["ours"].paths[0], seconds / 4)
                    for key, value in spent.items():
                        times.setdefault(key, []).append(value)
                memory = {"ours": memory_mb(ours)[0], "blackbox": memory_mb(peer)[0]}
    return {"seconds": times, "memory_mb": memory}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--factors", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--rate", type=float, default=333.0, help="fetches a second of each paced one")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    result = asyncio.run(measure(arguments.factors, arguments.rounds, arguments.seconds, arguments.rate))
    times = result["seconds"]
    assert isinstance(times, dict)
    print(table(f"CPU a fetch, TLS, {arguments.factors:,} factors, {arguments.rounds} rounds", "µs", times))
    print(f"  memory: {result['memory_mb']}")
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
