"""Measure what the dashboards cost: ``python -m benchmarks.boards`` (needs Prometheus and promtool; some minutes).

A Prometheus with six hours of samples of all factors answers the queries that Grafana sends when it opens each
dashboard at 1440 pixels: those of variables, panels and annotations, but not those of collapsed rows and of
annotations that are off. The states of factors are there as the rules record them; with ``--without-rules``, not.

Dashboards of several folders, such as those of an earlier commit (``git archive``), are measured alternately on the
same Prometheus. On a busy machine, compare its CPU time rather than the time of the queries.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import platform
import re
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.rules import exposition
from exporter.exposition.catalogue import FACTOR_EXISTS, FACTOR_INTERVAL, FACTOR_LAST_SUCCESS, FACTOR_VERIFIED
from grafana.boards.__main__ import FOLDER
from grafana.rules.factors import STATE, FactorState
from grafana.rules.model import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# Grafana's steps: each with the intervals below which it is used (grafana-data, rangeutil.ts, roundInterval).
_STEPS = (
    *((1.5, 1), (3.5, 2), (7.5, 5), (12.5, 10), (17.5, 15), (25, 20), (45, 30), (90, 60), (210, 120), (450, 300)),
    *((750, 600), (1050, 900), (1500, 1200), (2700, 1800), (5400, 3600), (9000, 7200), (16200, 10800)),
)
_UNITS = {"s": 1, "m": 60, "h": 3600}
# The width in pixels of a dashboard on a screen of 1440, without margins.
WIDTH = 1392
# Queries read these over the time range; of other families, only the newest samples and those of the beginning.
_DENSE = {family.name for family in (FACTOR_VERIFIED, FACTOR_EXISTS, FACTOR_INTERVAL, FACTOR_LAST_SUCCESS)}
_SPARSE_SECONDS = 240
_BEFORE_SECONDS = 600
_VARIABLE = re.compile(r"\$(?:\{(?P<braced>\w+)(?::(?P<format>\w+))?\}|(?P<plain>\w+))")
_MOST_WAIT_SECONDS = 120
_FACTOR = "factor-000000"


class Range(NamedTuple):
    """A time range and the interval of its samples, in seconds."""

    end: int
    seconds: int
    scrape: int


@dataclass(frozen=True, slots=True)
class Request:
    """A request that Grafana sends to Prometheus."""

    place: str
    path: str
    parameters: tuple[tuple[str, str], ...]


def step_seconds(range_seconds: float, points: float, least_seconds: float) -> int:
    """Return the step of a query over a range, as Grafana calculates it."""
    wanted = max(range_seconds / points, least_seconds)
    return next(step for limit, step in _STEPS if wanted < limit)


def panel_step_seconds(panel: Mapping[str, Any], range_seconds: float, scrape_seconds: float) -> int:
    """Return the step of a panel's queries."""
    interval = panel.get("interval")
    least = int(interval[:-1]) * _UNITS[interval[-1]] if interval else scrape_seconds
    points = panel.get("maxDataPoints") or WIDTH * panel["gridPos"]["w"] / 24
    return step_seconds(range_seconds, points, least)


def requests(board: Mapping[str, Any], of: Range, *, recorded: bool) -> Iterator[Request]:
    """Yield the requests of a dashboard when it is opened, in the order of the file."""
    variables = {item["name"]: item for item in board["templating"]["list"]}

    def filled(text: str, step: int) -> str:
        own = {
            "__rate_interval": f"{max(step + of.scrape, 4 * of.scrape)}s",
            "__interval_ms": str(step * 1000),
            "__interval": f"{step}s",
            "__range": f"{of.seconds}s",
            "__from": str((of.end - of.seconds) * 1000),
            "__to": str(of.end * 1000),
        }
        known = text if recorded else text.replace(STATE, "not_recorded")
        return _VARIABLE.sub(
            lambda found: own.get(found[0].strip("${}")) or _value(variables, found, recorded), known
        )

    def ranged(place: str, text: str, step: int) -> Request:
        start, end = ((when // step) * step for when in (of.end - of.seconds, of.end))
        span = (("start", str(start)), ("end", str(end)), ("step", str(step)))
        return Request(place, "query_range", (("query", filled(text, step)), *span))

    for name, item in variables.items():
        if item["type"] == "query":
            series, label = re.fullmatch(r"label_values\((.+), *(\w+)\)", item["query"]["query"]).groups()  # type: ignore[union-attr]  # every variable is such a query
            span = (("start", str(of.end - of.seconds)), ("end", str(of.end)))
            yield Request(
                f"variable {name}", f"label/{label}/values", (("match[]", filled(series, of.scrape)), *span)
            )
    for event in board["annotations"]["list"]:
        if event["enable"]:
            yield ranged(f"annotation {event['name']}", event["expr"], 60)
    for panel in board["panels"]:
        for query in panel.get("targets", ()):
            place = f"{panel['title']} {query['refId']}"
            step = panel_step_seconds(panel, of.seconds, of.scrape)
            if query.get("instant"):
                yield Request(place, "query", (("query", filled(query["expr"], step)), ("time", str(of.end))))
            else:
                yield ranged(place, query["expr"], step)


def _value(variables: Mapping[str, Mapping[str, Any]], found: re.Match[str], recorded: bool) -> str:
    """Return the selected value of a variable as Grafana writes it into a query."""
    name = found["braced"] or found["plain"]
    variable = variables[name]
    if name == "recorded":
        return Settings().job if recorded else "()"
    if variable["type"] == "custom":
        return str(variable["current"]["value"])
    if variable.get("includeAll"):
        return str(variable["allValue"])
    return f'"{_FACTOR}"' if found["format"] == "doublequote" else _FACTOR


def samples(factors: int, services: int, of: Range) -> Iterator[str]:
    """Yield the samples of a time range, in the text format of OpenMetrics."""
    target = f'job="{Settings().job}"'
    every = range(of.end - of.seconds - _BEFORE_SECONDS, of.end + 1, of.scrape)
    sparse = range(every.start, every.stop, _SPARSE_SECONDS)
    states: dict[str, int] = {}
    for line in exposition(factors, services).decode().splitlines():
        if line.startswith("#") or "{" not in line:
            continue
        name, _, rest = line.partition("{")
        labels, _, value = rest.rpartition("} ")
        if name == FACTOR_INTERVAL.name:
            states.setdefault(labels, FactorState.UNKNOWN)
        elif name == FACTOR_VERIFIED.name:
            states[labels] = FactorState.VERIFIED if float(value) else FactorState.UNVERIFIED
        elif name == FACTOR_EXISTS.name and not float(value):
            states[labels] = FactorState.NOT_FOUND
        start = f'{name}{{{target},instance="127.0.0.1:10069",{labels}}} '
        moving = name == FACTOR_LAST_SUCCESS.name
        times = every if name in _DENSE else sparse
        yield "".join(f"{start}{when - 30 if moving else value} {when}\n" for when in times)
    for labels, state in states.items():
        start = f"{STATE}{{{target},{labels}}} {state:d} "
        yield "".join(f"{start}{when}\n" for when in every)
    yield "# EOF\n"


@contextlib.contextmanager
def prometheus(binary: str, promtool: str, text: Iterator[str]) -> Iterator[str]:
    """Run a Prometheus with these samples; the value is its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (folder / "samples.txt").open("w", encoding="utf-8") as file:
            file.writelines(text)
        subprocess.run(
            [promtool, "tsdb", "create-blocks-from", "openmetrics", "samples.txt", "tsdb"],
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        (folder / "samples.txt").unlink()
        (folder / "prometheus.yml").write_text("global: {}\n", encoding="utf-8")
        process = subprocess.Popen(
            [
                binary,
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/tsdb",
                f"--web.listen-address=127.0.0.1:{port}",
                "--log.level=error",
            ]
        )
        try:
            _await(f"http://127.0.0.1:{port}")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=_MOST_WAIT_SECONDS)


def _await(url: str) -> None:
    until = time.monotonic() + _MOST_WAIT_SECONDS
    while time.monotonic() < until:
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            urllib.request.urlopen(f"{url}/-/ready", timeout=10).close()  # noqa: S310  loopback
            return
        time.sleep(0.2)
    raise SystemExit("Prometheus does not answer; nothing was measured")


def measure(url: str, request: Request) -> float:
    """Return the seconds until the last byte of the response; exits if Prometheus refuses the request."""
    form = urllib.parse.urlencode(request.parameters)
    get = request.path.startswith("label/")
    address = f"{url}/api/v1/{request.path}"
    began = time.perf_counter()
    try:
        with urllib.request.urlopen(  # noqa: S310  loopback
            f"{address}?{form}" if get else address, None if get else form.encode(), timeout=_MOST_WAIT_SECONDS
        ) as answer:
            answer.read()
    except urllib.error.HTTPError as error:
        raise SystemExit(f"{request.place}: {error.read().decode()}\n{dict(request.parameters)}") from error
    return time.perf_counter() - began


def _cpu_seconds(url: str) -> float:
    """Return the CPU time that Prometheus has used."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=_MOST_WAIT_SECONDS) as answer:  # noqa: S310  loopback
        found = re.search(r"^process_cpu_seconds_total (\S+)$", answer.read().decode(), re.MULTILINE)
    return float(found[1]) if found else math.nan


def report(url: str, folders: Sequence[Path], of: Range, rounds: int, *, recorded: bool) -> None:
    """Print what each dashboard of each folder costs."""
    boards = [
        (folder, json.loads(path.read_text(encoding="utf-8")))
        for folder in folders
        for path in sorted(folder.glob("*.json"))
    ]
    asked = [list(requests(board, of, recorded=recorded)) for _, board in boards]
    costs: list[list[list[float]]] = [[[] for _ in each] for each in asked]
    cpu: list[list[float]] = [[] for _ in asked]
    for _ in range(rounds):
        for each, seen, used in zip(asked, costs, cpu, strict=True):
            before = _cpu_seconds(url)
            for request, found in zip(each, seen, strict=True):
                found.append(measure(url, request))
            used.append(_cpu_seconds(url) - before)
    for number, (folder, board) in enumerate(boards):
        if not number or boards[number - 1][0] != folder:
            print(folder)
        medians = [statistics.median(found) for found in costs[number]]
        slowest, seconds = max(zip(asked[number], medians, strict=True), key=lambda pair: pair[1])
        print(
            f"  {board['uid']:<24} {len(medians):3} queries {sum(medians):7.2f} s"
            f"  {statistics.median(cpu[number]):7.2f} s of CPU   slowest: {slowest.place}, {seconds:.2f} s"
        )


def main() -> None:
    """Print the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--factors", type=int, default=2_000)
    parser.add_argument("--services", type=int, default=20)
    parser.add_argument("--hours", type=float, default=6.0)
    parser.add_argument("--scrape-interval", type=int, default=60, metavar="SECONDS")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--without-rules", action="store_true", help="the rules record no states of factors")
    parser.add_argument(
        "--boards",
        type=Path,
        action="append",
        metavar="FOLDER",
        help="a folder with dashboards; repeat it to compare folders, such as that of an earlier commit first",
    )
    parser.add_argument("--prometheus", default=shutil.which("prometheus") or "prometheus")
    parser.add_argument("--promtool", default=shutil.which("promtool") or "promtool")
    given = parser.parse_args()
    version = subprocess.run(
        [given.prometheus, "--version"], capture_output=True, text=True, timeout=60, check=True
    )
    end = int(time.time()) // 60 * 60
    of = Range(end, int(given.hours * 3600), given.scrape_interval)
    with prometheus(given.prometheus, given.promtool, samples(given.factors, given.services, of)) as url:
        print(
            f"{given.factors:,} factors, {given.hours:g} hours of samples every {given.scrape_interval} s, "
            f"{(version.stdout or version.stderr).splitlines()[0].split(' (')[0]}, {platform.machine()}; "
            f"sums of the medians of {given.rounds} rounds:"
        )
        report(url, given.boards or [FOLDER], of, given.rounds, recorded=not given.without_rules)


if __name__ == "__main__":
    main()
