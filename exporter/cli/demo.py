"""``demo``: the simulator and the exporter in one process, on loopback, with factors that change."""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.cli import BAD_USAGE
from exporter.cli.help import Help
from exporter.cli.process import serve
from exporter.cli.simulate import write_config
from exporter.config import ConfigError, load
from exporter.daemon.daemon import Daemon
from exporter.daemon.parts import redactor_of
from exporter.logs.output import configure
from exporter.simulator import Simulator, demo_world
from exporter.web.server.sockets import ListenError

if TYPE_CHECKING:
    from exporter.cli.hangup import Hangup
    from exporter.config import Config
    from exporter.logs.output import LogOutput
    from exporter.simulator import SeededFactor, SimulatedFactor

_FLAG = "--web.listen-address"
_REST = """
[[entities]]
name = "payments-oncall"
service_sid = "{entity.service_sid}"
identity = "{entity.identity}"

[[services]]
name = "workforce"
service_sid = "{service.service_sid}"

[state]
file = "state.jsonl"
"""
_LISTEN = ["127.0.0.1:10069"]


HELP = Help(
    examples={
        "demo": "serve the metrics of made-up factors at http://127.0.0.1:10069/metrics",
        "demo --web.listen-address 127.0.0.1:10070": "use another port",
    },
    exit_statuses={0: "stopped by SIGTERM or SIGINT", BAD_USAGE: "bad usage, or an address it can't listen on"},
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument(
        _FLAG,
        dest="listen",
        metavar="ADDRESS",
        action="append",
        help=f"address of the exporter to listen on (default: {_LISTEN[0]}); repeatable",
    )
    parser.add_argument("--listen-variable", help=argparse.SUPPRESS)  # how the caller, such as make, names the flag


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT; return 0, or 64 after reporting why it could not start."""
    try:
        asyncio.run(_demo(arguments.listen or _LISTEN, arguments.hangup))
    except (ConfigError, ListenError) as error:
        text = str(error)
        if arguments.listen_variable:
            text = re.sub(rf"{re.escape(_FLAG)}(\[0\])?", f"{arguments.listen_variable}=HOST:PORT", text)
        print(f"verify-factor-exporter demo: {text}", file=sys.stderr)
        return BAD_USAGE
    return 0


async def _demo(listen: list[str], hangup: Hangup) -> None:
    simulator = Simulator()
    seeded = demo_world(simulator)
    await simulator.start()
    try:
        with tempfile.TemporaryDirectory(prefix="verify-factor-exporter-demo-") as folder:
            path = Path(folder) / "config.toml"
            write_config(path, simulator, seeded)
            with path.open("a", encoding="utf-8") as file:
                file.write(_also_watched(seeded))
            config = load(path, environ={}, flags={"web.listen_address": listen})
            output = configure(level="warning", style="logfmt", redact=redactor_of(config))
            await _run(simulator, config, output, {factor.sid: name for name, factor, _ in seeded}, hangup)
    finally:
        await simulator.stop()


def _also_watched(seeded: list[SeededFactor]) -> str:
    """Return the rest of the configuration: a state file, and an entity and a service without further factors."""
    first, last = seeded[0].factor, next(each.factor for each in seeded if each.name == "new-hire-totp")
    return _REST.format(entity=first, service=last)


async def _run(
    simulator: Simulator, config: Config, output: LogOutput, names: dict[str, str], hangup: Hangup
) -> None:
    daemon = Daemon(config, log_output=output)
    unread: list[BrokenPipeError] = []

    def say(text: str) -> None:
        try:
            print(text, flush=True)
        except BrokenPipeError as error:  # the daemon is stopped first, and the error raised then
            unread.append(error)
            daemon.request_stop()

    def started() -> None:
        url = daemon.server.addresses[0]
        say(
            f"metrics    {url}{config.settings.web.telemetry_path}\n"
            f"page       {url}/\n"
            f"simulator  {simulator.base_url}/\n"
            "Some factors change over time; every change is printed here. Press Ctrl-C to stop."
        )

    def report(factor: SimulatedFactor, old: str, new: str, _now: float) -> None:
        say(f"{time.strftime('%H:%M:%S')}  {names.get(factor.sid, factor.sid)}: {old} → {new}")

    simulator.on_change.append(report)
    await serve(daemon, started, hangup)
    if unread:
        raise unread[0]
