"""Evaluation time of the rules in a real Prometheus.

The target is this process, which serves fixed bytes, so that it competes with Prometheus as little as possible.
Every round evaluates each group once; the times are those that Prometheus reports. Several rules files are measured
side by side, each in a Prometheus of its own, so that other load on the machine slows all of them alike.
"""

from __future__ import annotations

import argparse
import contextlib
import http.server
import json
import platform
import shutil
import socket
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest

from exporter.exposition.catalogue import FETCH_FAILURES, FETCHES
from exporter.exposition.counted import Counted, Counter
from exporter.exposition.factors import FactorCollector, FactorSamples
from exporter.polling.clock import Moment
from exporter.polling.ledger import Ledger, LedgerPolicy
from exporter.verify.outcome import Answer, Outcome, Reason, Status
from exporter.watched import FactorKey, WatchedFactor
from grafana.rules.model import Settings
from grafana.rules.render import RULES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    # Per group, the durations of its evaluations in seconds.
    Durations = dict[str, list[float]]

RULES_FILE = Path(__file__).parents[1] / "grafana" / "rules" / RULES
SCRAPE_SECONDS = 15
MOST_WAIT_SECONDS = 120


def exposition(factors: int, services: int) -> bytes:
    """Return a scrape of this many factors, a few of which are unverified or missing."""
    ledger = Ledger(LedgerPolicy())
    now = time.time()
    for number in range(factors):
        key = FactorKey("main", f"VA{number % services:032x}", f"YF{number:032x}")
        labels = (("team", f"team-{number % 20}"),) if number % 2 else ()
        watched = WatchedFactor(key, f"factor-{number:06d}", f"identity-{number:06d}", 300.0, labels=labels)
        ledger.watch(watched)
        ledger.apply(key, Outcome(Answer(Status.VERIFIED, now - 1e6, now - 1e6, "push"), 0.2), Moment(now, now))
        if number % 50 == 0:
            ledger.apply(
                key, Outcome(Answer(Status.UNVERIFIED, now - 1e6, now - 1e6, "push"), 0.2), Moment(now, now)
            )
        elif number % 100 == 1:
            ledger.apply(key, Outcome(Answer(Status.NOT_FOUND), 0.2), Moment(now, now))
    registry = CollectorRegistry()
    registry.register(FactorCollector(FactorSamples(), lambda: ledger))
    fetches, failures = Counted(FETCHES, Counter), Counted(FETCH_FAILURES, Counter)
    registry.register(fetches)
    registry.register(failures)
    for account, service in {(record.watched.key.account, record.watched.key.service_sid) for record in ledger}:
        fetches.labels(account, service).inc(1000)
        for reason in Reason:
            failures.labels(account, service, reason).inc()
    return generate_latest(registry)


class _Server(http.server.ThreadingHTTPServer):
    body = b""


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, _Server)
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_arguments: object) -> None:
        """Log nothing."""


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
    return port


def _text(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - loopback
            body: bytes = answer.read()
            return body.decode()
    except (urllib.error.URLError, ConnectionError):
        return ""


def _groups(url: str) -> dict[str, tuple[str, float]]:
    """Return the last evaluation and its duration in seconds, by name of the group."""
    text = _text(f"{url}/api/v1/rules")
    if not text:
        return {}
    groups = json.loads(text)["data"]["groups"]
    return {group["name"]: (group["lastEvaluation"], group["evaluationTime"]) for group in groups}


def measure(
    binary: str, body: bytes, rules: Sequence[Path], rounds: int, warm_up_seconds: float
) -> list[Durations]:
    """Return the durations of the evaluations with each rules file, measured after the warm-up."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.body = body
    threading.Thread(target=server.serve_forever, daemon=True).start()
    target = f"127.0.0.1:{server.server_address[1]}"
    try:
        with contextlib.ExitStack() as stack:
            urls = [stack.enter_context(_prometheus(binary, target, path)) for path in rules]
            return _watch(urls, rounds, warm_up_seconds)
    finally:
        server.shutdown()


@contextlib.contextmanager
def _prometheus(binary: str, target: str, rules: Path) -> Iterator[str]:
    """Run a Prometheus that scrapes a target and evaluates a rules file; the value is its URL."""
    port = _free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "prometheus.yml"
        config.write_text(
            f"global: {{scrape_interval: {SCRAPE_SECONDS}s, evaluation_interval: {SCRAPE_SECONDS}s}}\n"
            f"rule_files: [{json.dumps(str(rules.resolve()))}]\n"
            f"scrape_configs: [{{job_name: {Settings().job}, static_configs: [{{targets: [{target!r}]}}]}}]\n",
            encoding="utf-8",
        )
        process = subprocess.Popen(
            [
                binary,
                f"--config.file={config}",
                f"--storage.tsdb.path={folder}/tsdb",
                f"--web.listen-address=127.0.0.1:{port}",
                "--log.level=error",
            ],
        )
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=MOST_WAIT_SECONDS)


def _watch(urls: Sequence[str], rounds: int, warm_up_seconds: float) -> list[Durations]:
    began = time.monotonic()
    while not all(_groups(url) for url in urls):
        if time.monotonic() - began > MOST_WAIT_SECONDS:
            raise SystemExit("Prometheus does not answer; nothing was measured")
        time.sleep(1)
    time.sleep(warm_up_seconds)
    seconds: list[Durations] = [{} for _ in urls]
    seen: dict[tuple[str, str], str] = {}
    ends = time.monotonic() + rounds * SCRAPE_SECONDS + MOST_WAIT_SECONDS
    while min((len(each) for of in seconds for each in of.values()), default=0) < rounds:
        if time.monotonic() > ends:
            raise SystemExit("the groups were not evaluated in time; nothing was measured")
        for url, of in zip(urls, seconds, strict=True):
            for name, (last, took) in _groups(url).items():
                if seen.get((url, name)) != last:
                    seen[url, name] = last
                    of.setdefault(name, []).append(took)
        time.sleep(1)
    return seconds


def main() -> None:
    """Print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--factors", type=int, default=10_000)
    parser.add_argument("--services", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument(
        "--warm-up",
        type=float,
        default=660.0,
        metavar="SECONDS",
        help="time to collect the history that the rules read",
    )
    parser.add_argument(
        "--rules",
        type=Path,
        action="append",
        metavar="FILE",
        help="a rules file; repeat it to compare files, such as that of an earlier commit first",
    )
    parser.add_argument("--prometheus", default=shutil.which("prometheus") or "prometheus")
    given = parser.parse_args()
    version = subprocess.run(
        [given.prometheus, "--version"], capture_output=True, text=True, timeout=60, check=True
    )
    body = exposition(given.factors, given.services)
    rules = given.rules or [RULES_FILE]
    measured = measure(given.prometheus, body, rules, given.rounds, given.warm_up)
    name_and_version = (version.stdout or version.stderr).splitlines()[0].split(" (")[0]
    print(
        f"{given.factors:,} factors, {len(body) / 1e6:.1f} MB per scrape, {name_and_version}, {platform.machine()}"
    )
    print(f"median (slowest) of {given.rounds} evaluations after {given.warm_up / 60:.0f} minutes:")
    for path, seconds in zip(rules, measured, strict=True):
        print(path)
        for name, each in seconds.items():
            median = statistics.median(each)
            first = measured[0].get(name)
            ratio = f"  {median / statistics.median(first):.2f} of the first file" if first else ""
            print(f"  {name:<26} {median * 1e3:8.0f} ms  ({max(each) * 1e3:.0f} ms){ratio}")


if __name__ == "__main__":
    main()
