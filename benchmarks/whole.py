"""CPU time per fetch of whole processes: the exporter, other programs, and lower bounds.

All send requests to the same nginx over TLS. Those that follow a schedule run at the same time, at the rate of
100,000 factors with an interval of 5 minutes; those at full speed run one after another. Where Go is installed, a
poller in Go is one of the former. json_exporter is measured if the environment names its program, JSON_EXPORTER.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp

from benchmarks.process import cpu_seconds, found, memory_mb, running
from benchmarks.report import table
from benchmarks.upstream import PASSWORD, USERNAME, free_port, upstream
from benchmarks.watchlist import watchlist
from exporter.polling.schedule import FIRST_FETCH_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from benchmarks.upstream import Upstream
    from benchmarks.watchlist import Watchlist

OURS = "verify-factor-exporter"
GO_POLLER = "a poller in Go, on keep-alive connections"
JSON_EXPORTER = "json_exporter (one probe)"
_GO_FOLDER = Path(__file__).with_name("peers") / "poller-go"
_COMPOSED = ("-m", "benchmarks.peers.composed", "{config}")
_DAEMONS = {
    OURS: ("-m", "exporter", "run", "--config.file", "{config}"),
    "the same with asyncio's event loop": (*_COMPOSED, "http1", "asyncio"),
    "the same with httpx-aiohttp's transport": (*_COMPOSED, "aiohttp", "uvloop"),
}
BLACKBOX = "blackbox_exporter (one probe)"
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
_JSON = """\
modules:
  verify:
    metrics:
      - {{name: factor, type: object, path: '{{$}}', labels: {{status: '{{ .status }}'}}, values: {{exists: 1}}}}
    http_client_config:
      basic_auth: {{username: "{username}", password: "{password}"}}
      tls_config: {{ca_file: "{ca_file}"}}
"""


@dataclass(frozen=True, slots=True)
class Prober:
    """A running exporter that fetches on a scrape of ``/probe``, and what a response to a good fetch contains."""

    name: str
    pid: int
    port: int
    good: str


@dataclass(frozen=True, slots=True)
class Whole:
    """The results: CPU seconds per fetch by round, and resident memory at the end in MB (10⁶ bytes)."""

    factors: int
    rate: float
    seconds: Mapping[str, Sequence[float]]
    memory_mb: float
    blackbox_memory_mb: float
    go_memory_mb: float | None = None
    json_exporter_memory_mb: float | None = None


async def _fetches(port: int) -> float:
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as answer:
        text = await answer.text()
    if _FAILURES.search(text):
        raise SystemExit("a fetch failed; nothing was measured")
    return sum(float(found[1]) for found in _FETCHES.finditer(text))


async def _probe(prober: Prober, targets: Sequence[str], rate: float, seconds: float) -> float:
    """Probe targets at this rate; return the CPU seconds per probe. A failed probe raises SystemExit."""
    before = cpu_seconds(prober.pid)
    probed = 0
    slots = asyncio.Semaphore(CONCURRENCY)
    async with aiohttp.ClientSession() as session:

        async def probe(target: str) -> None:
            nonlocal probed
            async with (
                slots,
                session.get(
                    f"http://127.0.0.1:{prober.port}/probe", params={"module": "verify", "target": target}
                ) as answer,
            ):
                if prober.good not in await answer.text():
                    raise SystemExit(f"{prober.name}: a probe failed")
                probed += 1

        began, tasks = time.monotonic(), []
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            tasks.append(asyncio.create_task(probe(targets[number % len(targets)])))
        await asyncio.gather(*tasks)
    return (cpu_seconds(prober.pid) - before) / probed


class Counted:
    """A running program that counts its fetches; measures its CPU time per fetch."""

    def __init__(self, pid: int, port: int) -> None:
        self.pid, self._port = pid, port

    async def start(self) -> None:
        """Start to measure."""
        self._done = await _fetches(self._port)
        self._cpu = cpu_seconds(self.pid)  # in this order, here and below, so that the scrapes are not measured

    async def cost(self) -> float:
        """Return the CPU seconds per fetch since :meth:`start`."""
        spent = cpu_seconds(self.pid) - self._cpu
        return spent / (await _fetches(self._port) - self._done)

    async def openmetrics(self) -> None:
        """Scrape in the OpenMetrics format."""
        headers = {"Accept": "application/openmetrics-text; version=1.0.0"}
        url = f"http://127.0.0.1:{self._port}/metrics"
        async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
            await answer.read()


async def _paced(
    daemons: Mapping[str, Counted], prober: Prober, targets: Sequence[str], rate: float, seconds: float
) -> dict[str, float]:
    """Return the CPU seconds per fetch and per probe, measured at the same time."""
    for daemon in daemons.values():
        await daemon.start()
    began = time.monotonic()
    of_probes = await _probe(prober, targets, rate, seconds)
    await asyncio.sleep(max(0.0, began + seconds - time.monotonic()))
    return {**{name: await daemon.cost() for name, daemon in daemons.items()}, prober.name: of_probes}


async def _plain(server: Upstream, listed: Watchlist, seconds: float) -> float:
    port = free_port()
    with running(
        *(sys.executable, "-m", "benchmarks.peers.plain", str(listed.factors), server.base_url),
        *(str(server.ca_file), USERNAME, PASSWORD, str(port), "0"),
        port=port,
    ) as pid:
        await asyncio.sleep(1)
        plain = Counted(pid, port)
        await plain.start()
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
        output = process.stdout.read() if process.stdout else ""
        _, status, spent = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    counted = re.search(r"(\d+) requests in", output)
    if counted is None or "Non-2xx" in output:
        raise SystemExit(f"wrk: {output}")
    return (spent.ru_utime + spent.ru_stime) / int(counted[1])


@contextlib.contextmanager
def go_poller(server: Upstream, listed: Watchlist, interval: float) -> Iterator[Counted | None]:
    """Build and run the poller in Go until the end of the block; yield nothing where Go is missing or can't build.

    Go takes the poller's modules from its cache, or loads them.
    """
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin:/usr/lib/go/bin")
    if go is None:
        print(f"{GO_POLLER}: not measured, Go is not installed: apt-get install golang", flush=True)
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="verify-factor-exporter-go-") as folder:
        program, port = Path(folder) / "poller", free_port()
        built = subprocess.run((go, "build", "-buildvcs=false", "-o", program, "."), cwd=_GO_FOLDER, check=False)
        if built.returncode:
            print(f"{GO_POLLER}: not measured, {_GO_FOLDER} can't be built", flush=True)
            yield None
            return
        command = (str(program), str(listed.factors), server.base_url, str(server.ca_file), USERNAME, PASSWORD)
        with running(*command, str(port), str(interval), port=port) as pid:
            yield Counted(pid, port)


@contextlib.contextmanager
def _blackbox(server: Upstream, folder: Path) -> Iterator[Prober]:
    program = found("prometheus-blackbox-exporter", install="apt-get install prometheus-blackbox-exporter")
    module, port = folder / "blackbox.yaml", free_port()
    module.write_text(_BLACKBOX.format(username=USERNAME, password=PASSWORD, ca_file=server.ca_file))
    flags = (f"--config.file={module}", f"--web.listen-address=127.0.0.1:{port}", "--log.level=error")
    with running(program, *flags, port=port) as pid:
        yield Prober(BLACKBOX, pid, port, "\nprobe_success 1\n")


@contextlib.contextmanager
def _json_exporter(server: Upstream, folder: Path) -> Iterator[Prober | None]:
    program = os.environ.get("JSON_EXPORTER")
    if not program:
        print(f"{JSON_EXPORTER}: not measured, JSON_EXPORTER doesn't name its program", flush=True)
        yield None
        return
    module, port = folder / "json.yaml", free_port()
    module.write_text(_JSON.format(username=USERNAME, password=PASSWORD, ca_file=server.ca_file))
    flags = (f"--config.file={module}", f"--web.listen-address=127.0.0.1:{port}", "--log.level=error")
    with running(program, *flags, port=port) as pid:
        yield Prober(JSON_EXPORTER, pid, port, 'factor_exists{status="verified"} 1')


async def measure(factors: int, rounds: int, seconds: float, rate: float) -> Whole:
    """Return the CPU seconds per fetch of every program, by round."""
    times: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="verify-factor-exporter-bench-")))
        server = stack.enter_context(upstream(folder))
        interval = factors / rate
        daemons: dict[str, Counted] = {}
        for number, (name, command) in enumerate(_DAEMONS.items()):
            port = free_port()
            listed = watchlist(folder / str(number), server, factors=factors, interval_seconds=interval, port=port)
            started = (word.format(config=listed.config) for word in command)
            daemons[name] = Counted(stack.enter_context(running(sys.executable, *started, port=port)), port)
        poller = stack.enter_context(go_poller(server, listed, interval))
        if poller is not None:
            daemons[GO_POLLER] = poller
        blackbox = stack.enter_context(_blackbox(server, folder))
        json_exporter = stack.enter_context(_json_exporter(server, folder))
        paths = folder / "paths"
        paths.write_text("\n".join(listed.paths))
        targets = [server.base_url + path for path in listed.paths]
        await asyncio.sleep(min(interval, FIRST_FETCH_SECONDS) + 3)
        for _ in range(rounds):
            spent = await _paced(daemons, blackbox, targets, rate, seconds)
            if json_exporter is not None:  # not together with blackbox_exporter: two cores don't hold both
                spent[JSON_EXPORTER] = await _probe(json_exporter, targets, rate, seconds / 2)
            spent["a simple exporter: requests in a loop"] = await _plain(server, listed, seconds / 2)
            spent["lower bound: asyncio streams, answer discarded"] = await asyncio.to_thread(
                _raw, server, paths, 4_000
            )
            spent["lower bound: wrk"] = await asyncio.to_thread(_wrk, server, listed.paths[0], seconds / 4)
            for key, value in spent.items():
                times.setdefault(key, []).append(value)
        await daemons[OURS].openmetrics()
        return Whole(
            factors=factors,
            rate=rate,
            seconds=times,
            memory_mb=memory_mb(daemons[OURS].pid)[0],
            blackbox_memory_mb=memory_mb(blackbox.pid)[0],
            go_memory_mb=None if poller is None else memory_mb(poller.pid)[0],
            json_exporter_memory_mb=None if json_exporter is None else memory_mb(json_exporter.pid)[0],
        )


@dataclass(frozen=True, slots=True)
class SideBySide:
    """CPU seconds per fetch by round, and resident memory at the end in MB, of exporters that ran together."""

    seconds: Mapping[str, Sequence[float]]
    memory_mb: Mapping[str, float]


async def side_by_side(
    trees: Mapping[str, Path], factors: int, rounds: int, seconds: float, rate: float
) -> SideBySide:
    """Measure the exporters of several source trees at the same time, beside the poller in Go if there is one."""
    times: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="verify-factor-exporter-bench-")))
        server = stack.enter_context(upstream(folder))
        interval = factors / rate
        daemons: dict[str, Counted] = {}
        for number, (name, tree) in enumerate(trees.items()):
            port = free_port()
            listed = watchlist(folder / str(number), server, factors=factors, interval_seconds=interval, port=port)
            command = (sys.executable, "-m", "exporter", "run", "--config.file", str(listed.config))
            daemons[name] = Counted(stack.enter_context(running(*command, port=port, folder=tree)), port)
        poller = stack.enter_context(go_poller(server, listed, interval))
        if poller is not None:
            daemons[GO_POLLER] = poller
        await asyncio.sleep(min(interval, FIRST_FETCH_SECONDS) + 3)
        for _ in range(rounds):
            for daemon in daemons.values():
                await daemon.start()
            await asyncio.sleep(seconds)
            for name, daemon in daemons.items():
                times.setdefault(name, []).append(await daemon.cost())
        for name in trees:
            await daemons[name].openmetrics()
        memory = {name: memory_mb(daemon.pid)[0] for name, daemon in daemons.items()}
    return SideBySide(times, memory)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--factors", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--rate", type=float, default=333.0, help="fetches per second of every scheduled program")
    arguments = parser.parse_args()
    whole = asyncio.run(measure(arguments.factors, arguments.rounds, arguments.seconds, arguments.rate))
    print(
        table(f"CPU per fetch, TLS, {arguments.factors:,} factors, {arguments.rounds} rounds", "µs", whole.seconds)
    )
    print(f"  memory: {whole.memory_mb:.1f} MB; blackbox_exporter {whole.blackbox_memory_mb:.1f} MB")


if __name__ == "__main__":
    main()
