"""``make stack``: simulator, exporter, Prometheus and Alertmanager on loopback, and each page in your terminal.

All comes from this machine's packages and from the files that are shipped: scrape configuration, rules, routes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from tools.stack.programs import (
    ALERTMANAGER,
    LOOPBACK,
    PROMETHEUS,
    Program,
    ProgramError,
    Tool,
    alertmanager,
    port_or_free,
    prometheus,
    running,
)
from tools.stack.receiver import receiving
from tools.stack.shortened import job_of, receivers_at, scraping, shortened_routes, shortened_rules

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from tools.stack.receiver import Page

GRAFANA = Path(__file__).parents[2] / "grafana"
RULES = GRAFANA / "rules" / "verify-factor-exporter.rules.yaml"
_SCRAPES = GRAFANA / "prometheus" / "prometheus.yaml"
_ROUTES = GRAFANA / "alertmanager" / "alertmanager.yaml"
_INFO = "twilio_verify_factor_info"
_LAST_VERIFIED = "twilio_verify_factor_last_verified_timestamp_seconds"
_SIMULATOR = "simulator "
_EXAMPLE = "payments-oncall-push"  # of the demo, steady until somebody changes it
_ALERT_PAGES = ("/alerts", "/classic/alerts", "/api/v1/alerts")  # Debian's Prometheus has the old pages, or none
_FACTORS_SECONDS = 60.0
_LOOK_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Options:
    """Where the parts listen (a free port where one is taken), and how many times shorter all waits are."""

    exporter: int
    prometheus: int
    alertmanager: int
    times: float


@dataclass(frozen=True, slots=True)
class Stack:
    """The parts as they run, by their addresses, and the SID of a factor to play with."""

    exporter: str
    simulator: str
    alerts: str
    alertmanager: str
    factor_sid: str


def main(arguments: list[str] | None = None) -> int:
    """Run until SIGINT or SIGTERM and return 0; 1 after telling what is missing or has ended."""
    options = _read(arguments)
    try:
        binaries = _found(PROMETHEUS, ALERTMANAGER)
        asyncio.run(_run(binaries, options))
    except ProgramError as error:
        print(f"stack: {error}", file=sys.stderr)
        return 1
    return 0


def _read(arguments: list[str] | None) -> Options:
    parser = argparse.ArgumentParser(prog="python -m tools.stack", description=__doc__)
    for name, port in (("exporter", 10069), ("prometheus", 9090), ("alertmanager", 9093)):
        parser.add_argument(f"--{name}", type=int, default=port, metavar="PORT", help="(default: %(default)s)")
    parser.add_argument(
        "--times",
        type=float,
        default=20.0,
        metavar="N",
        help="alerts and messages wait this many times shorter than shipped; 1 as shipped (default: %(default)g)",
    )
    given = parser.parse_args(arguments)
    if given.times < 1:
        parser.error(f"--times: {given.times:g} is below 1")
    return Options(given.exporter, given.prometheus, given.alertmanager, given.times)


def _found(*tools: Tool) -> list[str]:
    """Return the paths of the programs; the error names all that are missing, each with its install line."""
    paths, missing = [], []
    for tool in tools:
        try:
            paths.append(tool.find())
        except ProgramError as error:
            missing.append(str(error))
    if missing:
        raise ProgramError("\n       ".join(missing))
    return paths


async def _run(binaries: list[str], options: Options) -> None:
    interrupted = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupted.set)
    with tempfile.TemporaryDirectory(prefix="verify-factor-exporter-stack-") as folder:
        serving = asyncio.create_task(_serve(Path(folder), binaries, options))
        waiting = asyncio.create_task(interrupted.wait())
        await asyncio.wait((serving, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving
    print("stopped", flush=True)


async def _serve(folder: Path, binaries: list[str], options: Options) -> None:
    async with receiving() as receiver, contextlib.AsyncExitStack() as parts:
        receiver.on_page.append(lambda page: print("\n".join(_words(page)), flush=True))
        routes = folder / "alertmanager.yaml"
        text = shortened_routes(_ROUTES.read_text(encoding="utf-8"), options.times, outlast_queries=True)
        routes.write_text(receivers_at(text, _ROUTES.parent, receiver.url), encoding="utf-8")
        demo = await parts.enter_async_context(_demo(options.exporter))
        pager = await parts.enter_async_context(
            alertmanager(binaries[1], routes, folder / "alertmanager", options.alertmanager)
        )
        scrapes = _prometheus_files(folder, demo.address, pager.address, options.times)
        delay = f"{max(1, round(60 / options.times))}s"
        server = await parts.enter_async_context(
            prometheus(binaries[0], scrapes, folder / "prometheus", options.prometheus, resend_delay=delay)
        )
        simulator = next(line.split()[1] for line in demo.log if line.startswith(_SIMULATOR)).rstrip("/")
        alerts = await _first_page(server.url, _ALERT_PAGES)
        stack = Stack(demo.url, simulator, alerts, pager.url, await _factor_sid(demo.url))
        print("\n".join(_told(stack, options.times)), flush=True)
        await _first_to_end((demo, pager, server))


@contextlib.asynccontextmanager
async def _demo(port: int) -> AsyncIterator[Program]:
    address = f"{LOOPBACK}:{port_or_free(port)}"
    command = (sys.executable, "-u", "-m", "exporter", "demo", "--web.listen-address", address)
    async with running("exporter", command, f"http://{address}", "/-/healthy") as program:
        yield program


def _prometheus_files(folder: Path, target: str, pager: str, times: float) -> Path:
    rules = folder / RULES.name
    text = RULES.read_text(encoding="utf-8")
    rules.write_text(shortened_rules(text, times) if times > 1 else text, encoding="utf-8")
    shipped = _SCRAPES.read_text(encoding="utf-8")
    config = folder / "prometheus.yaml"
    config.write_text(
        scraping(
            shipped,
            targets={job_of(shipped): [target]},
            alertmanager=pager,
            rules=rules,
            every="1s" if times > 1 else "30s",
        ),
        encoding="utf-8",
    )
    return config


async def _first_page(url: str, paths: Iterable[str]) -> str:
    """Return the address of the first of these pages that is there, else the root."""
    async with aiohttp.ClientSession(url) as session:
        for path in paths:
            async with session.get(path) as answer:
                if answer.status == 200:
                    return url + path
    return f"{url}/"


async def _factor_sid(url: str) -> str:
    """Return the SID of the factor to play with, once the exporter has seen it verified: then it can fall back."""
    loop = asyncio.get_running_loop()
    latest = loop.time() + _FACTORS_SECONDS
    async with aiohttp.ClientSession(url) as session:
        while loop.time() < latest:
            async with session.get("/metrics") as answer:
                families = text_string_to_metric_families(await answer.text())
            labels = {
                sample.name: sample.labels
                for family in families
                for sample in family.samples
                if sample.labels.get("factor") == _EXAMPLE
            }
            if _LAST_VERIFIED in labels:
                return labels[_INFO]["factor_sid"]
            await asyncio.sleep(_LOOK_SECONDS)
    raise ProgramError(f"the exporter at {url} has not seen {_EXAMPLE} verified after {_FACTORS_SECONDS:g} s")


async def _first_to_end(programs: Iterable[Program]) -> None:
    """Wait until one of the programs ends by itself, and raise that."""
    endings = [asyncio.create_task(program.ended()) for program in programs]
    try:
        done, _ = await asyncio.wait(endings, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for ending in endings:
            ending.cancel()
    raise next(iter(done)).result()


def _told(stack: Stack, times: float) -> Iterable[str]:
    yield f"status page   {stack.exporter}/"
    yield f"metrics       {stack.exporter}/metrics"
    yield f"prometheus    {stack.alerts}"
    yield f"alertmanager  {stack.alertmanager}/"
    yield f"simulator     {stack.simulator}/"
    yield f"(Where that has no pages, as Debian's: amtool --alertmanager.url={stack.alertmanager} alert)"
    yield ""
    if times > 1:
        yield f"Alerts and messages wait {times:g} times shorter than shipped (--times), but for signs that wait"
        yield "for an alert on their cause: stale data, failing calls. Each page is told here."
    else:
        yield "Alerts and messages wait as long as is shipped. Each page is told here."
    yield "Factors of the demo change by themselves; docs/simulator.md has more to try."
    yield ""
    factor = f"{stack.simulator}/simulator/factors/{stack.factor_sid}"
    yield f"{_EXAMPLE} falls back to unverified, which pages the team payments, and is verified again:"
    yield f"""  curl -X PUT -d '{{"status": "unverified"}}' {factor}"""
    yield f"""  curl -X PUT -d '{{"status": "verified"}}' {factor}"""
    yield "The API is down, which is one page (after some five minutes: so far does its query look back), and up:"
    yield f"""  curl -X POST -d '{{"kind": "status", "status": 503}}' {stack.simulator}/simulator/faults"""
    yield f"  curl -X DELETE {stack.simulator}/simulator/faults"
    yield ""
    yield "Ctrl-C ends it all."


def _words(page: Page) -> Iterable[str]:
    labels = page.message["commonLabels"]
    clock = time.strftime("%H:%M:%S", time.localtime(page.at_seconds))
    count = f", {len(page.alerts)} alerts" if len(page.alerts) > 1 else ""
    what = labels.get("severity", "") if page.firing else "resolved"
    yield f"{clock}  {page.receiver}: {what} {page.alertname} {labels.get('factor', '')}".rstrip() + count
    if page.firing:
        annotations = page.alerts[0]["annotations"]
        yield f"          {annotations['description']}"
        yield f"          {annotations['runbook_url']}"


if __name__ == "__main__":
    sys.exit(main())
