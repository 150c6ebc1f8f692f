"""``fetch``: fetch every factor once and print its status."""

from __future__ import annotations

import asyncio
import functools
import json
import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest
from tqdm import tqdm

from exporter.cli import BAD_USAGE
from exporter.cli.config_file import add_config_arguments, load_config
from exporter.cli.named import UnknownNamesError, choose, needed_for
from exporter.cli.table import aligned
from exporter.config import ConfigError
from exporter.daemon.engine import Engine
from exporter.daemon.parts import Confidential, factor_samples
from exporter.exposition.factors import FactorCollector
from exporter.logs.events import EventLog
from exporter.logs.output import configure
from exporter.verify.outcome import Status
from exporter.web.history import History
from exporter.web.views import FactorView, urgency, view

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from exporter.config import Config
    from exporter.daemon.engine import FailedListing

_SHORTEST_REPORTED_SECONDS = 0.5

ALL_VERIFIED, SOME_NOT_VERIFIED, SOME_UNDETERMINED = 0, 1, 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    add_config_arguments(parser)
    parser.add_argument(
        "names",
        metavar="NAME",
        nargs="*",
        help="names of the factors to fetch, listed ones or found in watched entities (default: all)",
    )
    parser.add_argument(
        "--output",
        choices=("table", "json", "openmetrics"),
        default="table",
        help="output format (default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print every factor; return 0 if all are verified, 1 if some are not, 2 if a status could not be determined.

    Watched entities are listed first, with names only those in which the named factors may be found. The status is
    also 2 if an entity can't be listed, or if there is nothing to fetch. Paused factors are shown but not fetched;
    if named on the command line, they count as undetermined.
    """
    try:
        config = load_config(arguments)
    except ConfigError as error:
        for detail in error.errors:
            print(detail, file=sys.stderr)
        return BAD_USAGE
    for warning in config.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    confidential = Confidential(config)
    configure(level="error", style="logfmt", redact=confidential.redactor)
    names = tuple(dict.fromkeys(arguments.names))
    try:
        fetched = asyncio.run(_fetch(needed_for(config, names), confidential, names, arguments.output))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return BAD_USAGE
    except UnknownNamesError as error:
        for name, hint in error.hints.items():
            print(f'no watched factor is named "{name}"{f"; {hint}" if hint else ""}', file=sys.stderr)
        return BAD_USAGE
    return fetched.exit_status(named=bool(names))


@dataclass(frozen=True, slots=True)
class Fetched:
    """What was fetched; ``undetermined`` are names of factors that may be in an entity that was not listed."""

    views: Sequence[FactorView]
    failures: Sequence[FailedListing]
    undetermined: Sequence[str]

    def exit_status(self, *, named: bool) -> int:
        """Return the exit status; paused factors count if they were ``named``."""
        counted = [shown for shown in self.views if named or not shown.paused]
        if not counted or self.failures or self.undetermined or any(shown.up is not True for shown in counted):
            return SOME_UNDETERMINED
        return ALL_VERIFIED if all(of.status == Status.VERIFIED for of in counted) else SOME_NOT_VERIFIED


async def _fetch(config: Config, confidential: Confidential, names: Collection[str], output: str) -> Fetched:
    engine = Engine(config, confidential=confidential, one_shot=True)
    history = History(engine.clock.wall())
    events = EventLog(engine.clock.steady, service_size=engine.service_size, stretch=engine.stretch)
    engine.observers.add(history, events)
    pauses = Pauses()

    def show(bar: tqdm[Any], total: int, left: int) -> None:
        bar.update(total - left - bar.n)
        until = {name: account.throttle.paused_until for name, account in engine.poller.accounts.items()}
        for line in pauses.begun(engine.clock.steady(), until):
            tqdm.write(line, file=sys.stderr)

    try:
        entities = len(config.entities)
        with _bar(entities, "listing") as bar:
            discovered = await engine.discover_once(functools.partial(show, bar, entities))
        chosen, undetermined = choose(names, discovered, engine.roster.found)
    except BaseException:
        await engine.stop_now()
        raise
    polled = sum(not watched.paused for watched in chosen)
    with _bar(polled, "factor") as bar:
        await engine.fetch_once(chosen, functools.partial(show, bar, polled))
    records = sorted(engine.ledger, key=urgency)
    views = [view(record, history.latest(record.watched.key)) for record in records]
    fetched = Fetched(views, discovered.failures, undetermined)
    _write(fetched, output, FactorCollector(factor_samples(config), lambda: records))
    return fetched


def _bar(total: int, unit: str) -> tqdm[Any]:
    """Return a progress bar; it is shown on a terminal if there is something to count."""
    return tqdm(total=total, unit=unit, leave=False, disable=None if total else True, file=sys.stderr)


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


def _write(fetched: Fetched, output: str, collector: FactorCollector) -> None:
    for name in fetched.undetermined:
        print(f'no factor named "{name}" was found, but its entity was not listed completely', file=sys.stderr)
    if not fetched.failures and all(shown.paused for shown in fetched.views):
        print("nothing to fetch", file=sys.stderr)
    match output:
        case "json":
            document = {
                "factors": [shown.as_json() for shown in fetched.views],
                "failures": [_as_json(failed) for failed in fetched.failures],
            }
            print(json.dumps(document, indent=2))
        case "openmetrics":
            for failed in fetched.failures:
                print(f'{failed.account}: entity "{failed.entity}": {_reason(failed)}', file=sys.stderr)
            registry = CollectorRegistry()
            registry.register(collector)
            render: Callable[[CollectorRegistry], bytes] = generate_latest
            sys.stdout.write(render(registry).decode())
        case _:
            sys.stdout.writelines(_table(fetched))


def _reason(failed: FailedListing) -> str:
    """Return why a listing failed, and what to do."""
    return f"{_detail(failed)}; {failed.failure.hint}"


def _detail(failed: FailedListing) -> str:
    return failed.failure.detail or failed.failure.reason.replace("_", " ")


def _as_json(failed: FailedListing) -> dict[str, str]:
    return {
        "kind": "entity",
        "account": failed.account,
        "service_sid": failed.service_sid,
        "name": failed.entity,
        "reason": failed.failure.reason,
        "detail": _detail(failed),
        "hint": failed.failure.hint,
    }


def _table(fetched: Fetched) -> Iterable[str]:
    rows: list[tuple[str, ...]] = [
        ("FACTOR", "ACCOUNT", "STATUS", "TYPE", "DURATION", "HTTP", "CODE", "REQUEST ID", "DETAILS")
    ]
    for failed in fetched.failures:
        name, details = _printable(f"{failed.entity}-*"), f"listing of the entity: {_reason(failed)}"
        rows.append((name, failed.account, "undetermined", *[""] * 5, details))
    for shown in fetched.views:
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
