"""Run the demo with Prometheus and Alertmanager on loopback, and print every notification (``make stack``).

Uses the programs installed on this machine and the repository's scrape configuration, rules and routes.
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
from urllib.parse import urlsplit

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
from tools.stack.push import pushing, title_of
from tools.stack.receiver import receiving
from tools.stack.shortened import job_of, receivers_at, scraping, shortened_routes, shortened_rules

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from tools.stack.receiver import Notification

GRAFANA = Path(__file__).parents[2] / "grafana"
RULES = GRAFANA / "rules" / "verify-factor-exporter.rules.yaml"
_SCRAPES = GRAFANA / "prometheus" / "prometheus.yaml"
_ROUTES = GRAFANA / "alertmanager" / "alertmanager.yaml"
_INFO = "twilio_verify_factor_info"
_LAST_VERIFIED = "twilio_verify_factor_last_verified_timestamp_seconds"
_SIMULATOR = "simulator "
_EXAMPLE = "payments-oncall-push"  # a factor of the demo that does not change by itself
_ALERT_PAGES = (
    "/alerts",
    "/classic/alerts",
    "/api/v1/alerts",
)  # Debian's Prometheus has only the classic pages, or none
_FACTORS_SECONDS = 60.0
_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Options:
    """The ports (a free one is used if a port is taken), the factor by which waits are shortened, and the topic."""

    exporter: int
    prometheus: int
    alertmanager: int
    times: float
    push: str = ""


@dataclass(frozen=True, slots=True)
class Stack:
    """The URLs of the running programs, and the SID of the example factor."""

    exporter: str
    simulator: str
    alerts: str
    alertmanager: str
    factor_sid: str


def main(arguments: list[str] | None = None) -> int:
    """Run until SIGINT or SIGTERM and return 0; return 1 if a program is missing or exits, after reporting it."""
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
        help="divide the waits of alerts and notifications by this number (default: %(default)g)",
    )
    parser.add_argument(
        "--push",
        default="",
        metavar="URL",
        help="also push every notification to a topic of ntfy, for example https://ntfy.sh/NAME",
    )
    given = parser.parse_args(arguments)
    if given.times < 1:
        parser.error(f"--times: {given.times:g} is below 1")
    if given.push and urlsplit(given.push).scheme not in {"http", "https"}:
        parser.error("--push: not an http:// or https:// URL")
    return Options(given.exporter, given.prometheus, given.alertmanager, given.times, given.push)


def _found(*tools: Tool) -> list[str]:
    """Return the paths of the programs; raises ProgramError with an install command for each missing one."""
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
        receiver.on_notification.append(
            lambda notification: print("\n".join(_notification(notification)), flush=True)
        )
        if options.push:
            push = await parts.enter_async_context(pushing(options.push))
            receiver.on_notification.append(push)
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
        print("\n".join(_instructions(stack, options.times)), flush=True)
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
    original = _SCRAPES.read_text(encoding="utf-8")
    config = folder / "prometheus.yaml"
    config.write_text(
        scraping(
            original,
            targets={job_of(original): [target]},
            alertmanager=pager,
            rules=rules,
            every="1s" if times > 1 else "30s",
        ),
        encoding="utf-8",
    )
    return config


async def _first_page(url: str, paths: Iterable[str]) -> str:
    """Return the URL of the first of these pages that exists, or the root."""
    async with aiohttp.ClientSession(url) as session:
        for path in paths:
            async with session.get(path) as answer:
                if answer.status == 200:
                    return url + path
    return f"{url}/"


async def _factor_sid(url: str) -> str:
    """Return the SID of the example factor once the exporter has seen it verified, so that it can regress."""
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
            await asyncio.sleep(_POLL_SECONDS)
    raise ProgramError(f"the exporter at {url} has not seen {_EXAMPLE} verified after {_FACTORS_SECONDS:g} s")


async def _first_to_end(programs: Iterable[Program]) -> None:
    """Wait until a program exits by itself, and raise that as an error."""
    endings = [asyncio.create_task(program.ended()) for program in programs]
    try:
        done, _ = await asyncio.wait(endings, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for ending in endings:
            ending.cancel()
    raise next(iter(done)).result()


def _instructions(stack: Stack, times: float) -> Iterable[str]:
    yield f"status page   {stack.exporter}/"
    yield f"metrics       {stack.exporter}/metrics"
    yield f"prometheus    {stack.alerts}"
    yield f"alertmanager  {stack.alertmanager}/"
    yield f"simulator     {stack.simulator}/"
    yield f"(If Alertmanager has no web pages, as in Debian: amtool --alertmanager.url={stack.alertmanager} alert)"
    yield ""
    if times > 1:
        yield f"Waits of alerts and notifications are divided by {times:g} (--times), except for symptoms"
        yield "(stale data, failed fetches), which wait for the alert about their cause. Notifications appear here."
    else:
        yield "Alerts and notifications wait as long as configured. Notifications appear here."
    yield "The demo's factors change by themselves; docs/simulator.md describes more experiments."
    yield ""
    factor = f"{stack.simulator}/simulator/factors/{stack.factor_sid}"
    yield f"Make {_EXAMPLE} unverified, which pages the team payments, and verified again:"
    yield f"""  curl -X PUT -d '{{"status": "unverified"}}' {factor}"""
    yield f"""  curl -X PUT -d '{{"status": "verified"}}' {factor}"""
    yield "Take the API down, which pages once after about five minutes (the range of the query), and up again:"
    yield f"""  curl -X POST -d '{{"kind": "status", "status": 503}}' {stack.simulator}/simulator/faults"""
    yield f"  curl -X DELETE {stack.simulator}/simulator/faults"
    yield ""
    yield "Press Ctrl-C to stop."


def _notification(notification: Notification) -> Iterable[str]:
    clock = time.strftime("%H:%M:%S", time.localtime(notification.at_seconds))
    yield f"{clock}  {notification.receiver}: {title_of(notification)}"
    if notification.firing:
        annotations = notification.alerts[0]["annotations"]
        yield f"          {annotations['description']}"
        yield f"          {annotations['runbook_url']}"


if __name__ == "__main__":
    sys.exit(main())
