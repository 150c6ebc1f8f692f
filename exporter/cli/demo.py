"""``demo``: the simulator and the exporter in one process, on loopback, with factors that change."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.cli import BAD_USAGE
from exporter.cli.process import serve
from exporter.cli.simulate import write_config
from exporter.config import ConfigError, load
from exporter.daemon.daemon import Daemon
from exporter.daemon.parts import redactor_of
from exporter.logs.output import configure
from exporter.simulator import Simulator, demo_world
from exporter.web.server.sockets import ListenError

if TYPE_CHECKING:
    import argparse

    from exporter.cli.hangup import Hangup
    from exporter.config import Config
    from exporter.logs.output import LogOutput
    from exporter.simulator import SimulatedFactor

_LISTEN = ["127.0.0.1:10069"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument(
        "--web.listen-address",
        dest="listen",
        metavar="ADDRESS",
        action="append",
        help=f"address of the exporter to listen on (default: {_LISTEN[0]}); repeatable",
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT; return 0, or 64 after reporting why it could not start."""
    try:
        asyncio.run(_demo(arguments.listen or _LISTEN, arguments.hangup))
    except (ConfigError, ListenError) as error:
        print(f"verify-factor-exporter demo: {error}", file=sys.stderr)
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
            config = load(path, environ={}, flags={"web.listen_address": listen})
        output = configure(level="warning", style="logfmt", redact=redactor_of(config))
        await _run(simulator, config, output, {factor.sid: name for name, factor, _ in seeded}, hangup)
    finally:
        await simulator.stop()


async def _run(
    simulator: Simulator, config: Config, output: LogOutput, names: dict[str, str], hangup: Hangup
) -> None:
    daemon = Daemon(config, log_output=output)

    def started() -> None:
        url = daemon.server.addresses[0]
        print(f"metrics    {url}{config.settings.web.telemetry_path}")
        print(f"page       {url}/")
        print(f"simulator  {simulator.base_url}/")
        print("Some factors change over time; every change is printed here. Press Ctrl-C to stop.", flush=True)

    def report(factor: SimulatedFactor, old: str, new: str, _now: float) -> None:
        print(f"{time.strftime('%H:%M:%S')}  {names.get(factor.sid, factor.sid)}: {old} → {new}", flush=True)

    simulator.on_change.append(report)
    await serve(daemon, started, hangup)
