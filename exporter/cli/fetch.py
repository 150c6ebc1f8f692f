"""``fetch``: fetch every factor once and print its status."""

from __future__ import annotations

import asyncio
import json
import math
import sys
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest
from tqdm import tqdm

from exporter.cli import BAD_USAGE
from exporter.cli.config_file import add_config_arguments, load_config
from exporter.cli.table import aligned
from exporter.config import ConfigError
from exporter.config.errors import did_you_mean
from exporter.daemon.engine import Engine
from exporter.daemon.parts import factor_samples, redactor_of
from exporter.exposition.factors import FactorCollector
from exporter.logs.events import EventLog
from exporter.logs.output import configure
from exporter.verify.outcome import Status
from exporter.web.history import History
from exporter.web.views import FactorView, urgency, view

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from exporter.config import Config
    from exporter.watched import WatchedFactor

_SHORTEST_REPORTED_SECONDS = 0.5

ALL_VERIFIED, SOME_NOT_VERIFIED, SOME_UNDETERMINED = 0, 1, 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    add_config_arguments(parser)
    parser.add_argument("names", metavar="NAME", nargs="*", help="names of the factors to fetch (default: all)")
    parser.add_argument(
        "--output",
        choices=("table", "json", "openmetrics"),
        default="table",
        help="output format (default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print every factor; return 0 if all are verified, 1 if some are not, 2 if a status could not be determined.

    Paused factors are shown but not fetched; if named on the command line, they count as undetermined.
    """
    try:
        config = load_config(arguments)
    except ConfigError as error:
        for detail in error.errors:
            print(detail, file=sys.stderr)
        return BAD_USAGE
    for warning in config.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if config.entities and not arguments.names:
        print(
            "warning: only factors listed in the watchlist are fetched, not those of watched entities",
            file=sys.stderr,
        )
    chosen, unknown = _choose(config, arguments.names)
    for name in unknown:
        hint = did_you_mean(name, {watched.name for watched in config.factors})
        print(f'no watched factor is named "{name}"{f"; {hint}" if hint else ""}', file=sys.stderr)
    if unknown:
        return BAD_USAGE
    configure(level="error", style="logfmt", redact=redactor_of(config))
    try:
        views = asyncio.run(_fetch(config, chosen, arguments.output))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return BAD_USAGE
    return _status(shown for shown in views if arguments.names or not shown.paused)


def _choose(config: Config, names: Sequence[str]) -> tuple[list[WatchedFactor], list[str]]:
    wanted = set(names)
    chosen = [watched for watched in config.factors if not wanted or watched.name in wanted]
    known = {watched.name for watched in chosen}
    return chosen, [name for name in dict.fromkeys(names) if name not in known]


async def _fetch(config: Config, chosen: Sequence[WatchedFactor], output: str) -> list[FactorView]:
    engine = Engine(config, one_shot=True)
    history = History(engine.clock.wall())
    events = EventLog(engine.clock.steady, service_size=engine.service_size, stretch=engine.stretch)
    engine.observers.add(history, events)
    pauses = Pauses()
    polled = sum(not watched.paused for watched in chosen)
    with tqdm(total=polled, unit="factor", leave=False, disable=None, file=sys.stderr) as bar:

        def show(left: int) -> None:
            bar.update(polled - left - bar.n)
            until = {name: account.throttle.paused_until for name, account in engine.poller.accounts.items()}
            for line in pauses.begun(engine.clock.steady(), until):
                tqdm.write(line, file=sys.stderr)

        await engine.fetch_once(chosen, show)
    views = [view(record, history.latest(record.watched.key)) for record in sorted(engine.ledger, key=urgency)]
    match output:
        case "json":
            print(json.dumps([shown.as_json() for shown in views], indent=2))
        case "openmetrics":
            registry = CollectorRegistry()
            registry.register(FactorCollector(factor_samples(config), lambda: engine.ledger))
            render: Callable[[CollectorRegistry], bytes] = generate_latest
            sys.stdout.write(render(registry).decode())
        case _:
            sys.stdout.writelines(_table(views))
    return views


class Pauses:
    """Reports every pause after a 429 once, even if it is extended; very short pauses are not reported."""

    def __init__(self) -> None:
        self._reported_until: dict[str, float] = {}

    def begun(self, now: float, paused_until: Mapping[str, float]) -> Iterator[str]:
        """Yield a line for every account with a new pause since the previous call; times are steady seconds."""
        for name, until in paused_until.items():
            if now < self._reported_until.get(name, -math.inf):
                self._reported_until[name] = until
            elif until - now >= _SHORTEST_REPORTED_SECONDS:
                self._reported_until[name] = until
                yield f"{name}: rate limited by the API (HTTP 429); waiting {math.ceil(until - now)} s"


def _status(views: Iterable[FactorView]) -> int:
    status = ALL_VERIFIED
    for shown in views:
        if shown.up is not True:
            return SOME_UNDETERMINED
        if shown.status != Status.VERIFIED:
            status = SOME_NOT_VERIFIED
    return status


def _table(views: Sequence[FactorView]) -> Iterable[str]:
    rows: list[tuple[str, ...]] = [
        ("FACTOR", "ACCOUNT", "STATUS", "TYPE", "DURATION", "HTTP", "CODE", "REQUEST ID", "DETAILS")
    ]
    for shown in views:
        duration = (
            ""
            if shown.last_fetch_duration_seconds is None
            else f"{shown.last_fetch_duration_seconds * 1000:.0f} ms"
        )
        status, details = _state(shown)
        evidence = (
            str(value or "")
            for value in (shown.last_fetch_http_status, shown.last_fetch_twilio_code, shown.last_fetch_request_id)
        )
        rows.append(
            (_printable(shown.factor), shown.account, status, shown.factor_type, duration, *evidence, details)
        )
    return (f"{line}\n" for line in aligned(rows))


def _state(shown: FactorView) -> tuple[str, str]:
    """Return a factor's status in one word, and details if it is not simply fetched."""
    if shown.paused:
        return "paused", "not fetched: paused in the watchlist"
    if shown.up:
        return shown.status, ""
    if shown.last_failure is None:
        return "undetermined", "not fetched: the account's credentials were refused"
    return "undetermined", f"{shown.last_failure}; {shown.hint}"


def _printable(name: str) -> str:
    return "".join(character if character.isprintable() else "�" for character in name)
