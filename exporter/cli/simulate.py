"""``simulate``: the embedded Verify API simulator on its own."""

from __future__ import annotations

import asyncio
import errno
import json
import math
import os
import random
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.cli import BAD_USAGE
from exporter.cli.help import Help
from exporter.simulator import FaultError, Simulator, small_world
from exporter.simulator.faultspec import fault_from_text

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from exporter.simulator import Fault, SeededFactor

_CONFIG = """\
# Written by `verify-factor-exporter simulate`, for its generated account and factors, with short intervals.
# Valid while that simulator runs.

[polling]
interval = "10s"
unverified_interval = "5s"
not_found_interval = "15s"

[accounts.main]
account_sid = {account_sid}
{credentials}
base_url = {base_url}
"""

_USER = """\
username = {username}
password = {password}"""

_APP = """\
oauth = {{ client_id = {client_id}, client_secret = {client_secret}, token_url = {token_url} }}"""

_FACTOR = """
[[factors]]
name = {name}
service_sid = {service_sid}
identity = {identity}
factor_sid = {factor_sid}
labels = {{ {labels} }}
"""


_SERVICE = """
[[services]]
name = "simulated"
service_sid = {service_sid}
"""


def write_config(
    path: Path,
    simulator: Simulator,
    seeded: Iterable[SeededFactor],
    *,
    by_service: bool = False,
    oauth: bool = False,
) -> None:
    """Write a configuration for a running simulator, readable by its owner only; raises OSError.

    It lists the seeded factors, or with ``by_service`` their services. With ``oauth`` the account has the OAuth app
    instead of user name and password.
    """
    credentials = (_APP if oauth else _USER).format(
        username=_quoted(simulator.username),
        password=_quoted(simulator.password),
        client_id=_quoted(simulator.oauth.client_id),
        client_secret=_quoted(simulator.oauth.client_secret),
        token_url=_quoted(simulator.token_url),
    )
    text = _CONFIG.format(
        account_sid=_quoted(simulator.account_sid),
        credentials=credentials,
        base_url=_quoted(simulator.base_url),
    )
    if by_service:
        found = dict.fromkeys(factor.service_sid for _, factor, _ in seeded)
        text += "".join(_SERVICE.format(service_sid=_quoted(sid)) for sid in found)
        seeded = ()
    for name, factor, labels in seeded:
        text += _FACTOR.format(
            name=_quoted(name),
            service_sid=_quoted(factor.service_sid),
            identity=_quoted(factor.identity),
            factor_sid=_quoted(factor.sid),
            labels=", ".join(f"{label} = {_quoted(value)}" for label, value in labels.items()),
        )
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(text)


def _quoted(text: str) -> str:
    """Return a TOML basic string; JSON's escapes are TOML's."""
    return json.dumps(text, ensure_ascii=True)


_MOST_FACTORS = 200_000


class _UsageError(Exception):
    """An invalid flag; the message names it and says what it accepts."""


@dataclass(frozen=True, slots=True)
class _Options:
    host: str
    port: int
    factors: int
    entities: int | None
    seed: int
    latency_seconds: float
    faults: tuple[Fault, ...]
    config_out: Path | None
    config_services: bool
    oauth: bool


HELP = Help(
    examples={
        "simulate --config-out simulated.toml": "write a configuration; then, in another terminal: "
        "run --config.file simulated.toml",
        "simulate --factors 1000 --latency 0.2": "1,000 factors, and slow answers",
        "simulate --fault status:status=429,retry_after=5,share=0.1": "answer a tenth of the requests with a 429",
    },
    exit_statuses={0: "stopped by SIGTERM or SIGINT"},
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags; ``run`` validates the values, with better messages than argparse."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", default="0", help="port to listen on; 0 selects a free port (default: %(default)s)"
    )
    parser.add_argument(
        "--factors",
        default="6",
        metavar="N",
        help="number of factors; the first six cover all states (default: %(default)s)",
    )
    parser.add_argument(
        "--entities",
        default=None,
        metavar="N",
        help="number of entities, to which the factors belong in turn (default: one per factor)",
    )
    parser.add_argument(
        "--seed",
        default="0",
        metavar="N",
        help="seed of the generated SIDs, password, names and statuses (default: %(default)s)",
    )
    parser.add_argument(
        "--latency", default="0", metavar="SECONDS", help="added latency of every request (default: %(default)s)"
    )
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="KIND[:key=value,…]",
        help="inject a fault from the start, such as status:status=429,retry_after=5,share=0.1; repeatable",
    )
    parser.add_argument(
        "--oauth",
        action="store_true",
        help="print, and write to --config-out, the OAuth app instead of user name and password",
    )
    parser.add_argument("--config-out", metavar="FILE", help="write a configuration file for `run` (mode 0600)")
    parser.add_argument("--force", action="store_true", help="let --config-out replace an existing file")
    parser.add_argument(
        "--config-services",
        action="store_true",
        help="list the service in that file, as [[services]], instead of every factor",
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM and return the exit status: 0, or 64 after one line on stderr."""
    try:
        options = _read(arguments)
        asyncio.run(_serve(options))
    except _UsageError as refused:
        print(f"verify-factor-exporter simulate: {refused}", file=sys.stderr)
        return BAD_USAGE
    return 0


def _read(arguments: argparse.Namespace) -> _Options:
    try:
        latency_seconds = float(arguments.latency)
    except ValueError:
        latency_seconds = math.nan
    if not 0 <= latency_seconds < math.inf:
        raise _UsageError(f'--latency: "{arguments.latency}" is not a number of seconds (0 or more)')
    if arguments.config_services and not arguments.config_out:
        raise _UsageError("--config-services has no effect without --config-out; add it")
    if arguments.config_out and os.path.lexists(arguments.config_out) and not arguments.force:
        raise _UsageError(
            f"--config-out {arguments.config_out}: exists; choose another file, or replace it with --force"
        )
    faults = []
    for text in arguments.fault:
        try:
            faults.append(fault_from_text(text))
        except FaultError as refused:
            raise _UsageError(f"--fault {text}: {refused}") from None
    return _Options(
        host=arguments.host,
        port=_integer("--port", arguments.port, 0, 65535),
        factors=_integer("--factors", arguments.factors, 1, _MOST_FACTORS),
        entities=None
        if arguments.entities is None
        else _integer("--entities", arguments.entities, 1, _MOST_FACTORS),
        seed=_integer("--seed", arguments.seed, 0, 2**63 - 1),
        latency_seconds=latency_seconds,
        faults=tuple(faults),
        config_out=Path(arguments.config_out) if arguments.config_out else None,
        oauth=arguments.oauth,
        config_services=arguments.config_services,
    )


def _integer(flag: str, text: str, least: int, most: int) -> int:
    value = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1
    if not least <= value <= most:
        raise _UsageError(f'{flag}: "{text}" is not a whole number from {least} to {most}')
    return value


async def _serve(options: _Options) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    simulator = Simulator(seed=options.seed, latency_seconds=options.latency_seconds)
    rng = random.Random(options.seed)  # noqa: S311  generated values, no secrets
    seeded = small_world(simulator, options.factors, rng, entities=options.entities)
    for fault in options.faults:
        simulator.faults.add(fault)
    try:
        await simulator.start(options.host, options.port)
    except (OSError, UnicodeError) as refused:
        raise _UsageError(
            f"cannot listen on {options.host} port {options.port}: {_reason(refused)}; "
            "choose another --host or --port"
        ) from None
    try:
        if options.config_out is not None:
            try:
                services, oauth = options.config_services, options.oauth
                write_config(options.config_out, simulator, seeded, by_service=services, oauth=oauth)
            except OSError as refused:
                raise _UsageError(f"--config-out {options.config_out}: {refused.strerror}") from None
        print("\n".join(_lines(simulator, seeded, oauth=options.oauth)), flush=True)
        await ended.wait()
    finally:
        await simulator.stop()


def _reason(refused: OSError | UnicodeError) -> str:
    """Return the system's reason why an address is not available, without asyncio's wrapping."""
    if isinstance(refused, OSError):
        # Newer Pythons raise an error without a number if none of a name's addresses is one of this machine's.
        number = errno.EADDRNOTAVAIL if refused.errno is None else refused.errno
        return os.strerror(number) if number > 0 else refused.strerror or str(refused)
    return "not a host name"


def _lines(simulator: Simulator, seeded: Iterable[SeededFactor], *, oauth: bool = False) -> Iterable[str]:
    url, app = simulator.base_url, simulator.oauth
    secret = f"password={simulator.password}"
    if oauth:
        secret = f"client_id={app.client_id} client_secret={app.client_secret} token_url={simulator.token_url}"
    yield f"Verify API simulator listening on {url} (endpoints: {url}/); press Ctrl-C to stop"
    for _, factor, _ in seeded:
        line = (
            f"base_url={url} account_sid={factor.account_sid} {secret} "
            f"service_sid={factor.service_sid} identity={factor.identity} factor_sid={factor.sid}"
        )
        if not oauth and simulator.username != factor.account_sid:
            line += f" username={simulator.username}"
        yield line
