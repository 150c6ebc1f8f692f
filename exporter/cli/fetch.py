"""``fetch``: fetch every factor once and print its status."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import math
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from exporter.cli import BAD_USAGE, INTERRUPTED
from exporter.cli.config_file import add_config_arguments, load_config
from exporter.cli.fetched import Fetched, OutputFormat, Shown, not_listed, not_loaded, write
from exporter.cli.findings import write_refused
from exporter.cli.help import CONFIGURATION, REQUESTS, Help
from exporter.cli.named import UnknownNamesError, by_name, needed_for, unlisted
from exporter.cli.progress import progress_bar, write_above
from exporter.cli.table import counted
from exporter.config import ConfigError
from exporter.config.errors import did_you_mean, quote
from exporter.daemon.engine import Engine
from exporter.daemon.parts import Confidential
from exporter.daemon.url_sources import with_first_answers
from exporter.logs.events import EventLog
from exporter.logs.output import configure
from exporter.polling.clock import Clock
from exporter.polling.observer import Observer
from exporter.web.history import History
from exporter.web.views import urgency, view

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from exporter.cli.fetched import NotListed
    from exporter.cli.progress import Bar
    from exporter.config import Config
    from exporter.polling.record import FactorRecord
    from exporter.watched import WatchedFactor, WatchedService

_SHORTEST_REPORTED_SECONDS = 0.5


HELP = Help(
    examples={
        "fetch": "fetch every factor and print a table",
        "fetch payments-oncall-push ops-oncall-1a2b3c4d": "fetch these factors only",
        "fetch --status unverified,not_found --output json": "print those that can't be used, for scripts",
        "fetch --output prometheus --exit-zero > factors.new": "for the textfile collector of node_exporter, once "
        "it is renamed to factors.prom",
    },
    exit_statuses={
        0: "every factor is verified; with --exit-zero, also instead of 1 and 2",
        1: "some factors are unverified or not found",
        2: "some could not be determined or listed, or there is nothing to fetch",
        130: "interrupted by Ctrl-C; what was fetched until then is printed",
    },
    variables=CONFIGURATION | REQUESTS,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    add_config_arguments(parser)
    parser.add_argument(
        "names",
        metavar="NAME",
        nargs="*",
        help="names of the factors to fetch, listed ones or found in an entity or a service (default: all)",
    )
    parser.add_argument(
        "--output",
        choices=[*map(str, OutputFormat)],
        default=str(OutputFormat.TABLE),
        help="output format; prometheus is for the textfile collector of node_exporter (default: %(default)s)",
    )
    parser.add_argument(
        "--status",
        dest="statuses",
        metavar="STATUS",
        action="extend",
        type=_statuses,
        default=[],
        help=f"show only factors with this status; repeatable, or several with commas: {', '.join(Shown)}. "
        "The exit status stays that of all factors",
    )
    parser.add_argument(
        "--exit-zero",
        action="store_true",
        help="exit with status 0 instead of 1 or 2, whatever the status of the factors",
    )


def _statuses(text: str) -> list[Shown]:
    """Return the statuses that an argument lists."""
    words = [word.strip() for word in text.split(",")]
    for word in words:
        if word not in [*Shown]:
            hint = did_you_mean(word, Shown)
            problem = f"{quote(word)} is not one of {', '.join(Shown)}"
            raise argparse.ArgumentTypeError(f"{problem}; {hint}" if hint else problem)
    return [Shown(word) for word in words]


def run(arguments: argparse.Namespace) -> int:
    """Print every factor; return 0 if all are verified, 1 if some are not, 2 if a status could not be determined.

    First, watchlist URLs are loaded, and watched entities and services listed; with names, only what is needed to
    find them. The status is also 2 if something can't be listed, or if there is nothing to fetch. Paused factors
    are shown but not fetched; if named on the command line, they count as undetermined. The status doesn't depend
    on the filter. After Ctrl-C it is 130, and the factors that were fetched before are printed.
    """
    try:
        config = load_config(arguments)
    except ConfigError as error:
        write_refused(error)
        return BAD_USAGE
    confidential = Confidential(config)
    configure(level="error", style="logfmt", redact=confidential.redactor)
    names = tuple(dict.fromkeys(arguments.names))
    try:
        fetched = asyncio.run(_find_and_fetch(config, confidential, names))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return BAD_USAGE
    except UnknownNamesError as error:
        for name, hint in error.hints.items():
            text = f'no watched factor is named "{name}"{f"; {hint}" if hint else ""}'
            print(confidential.redactor(text), file=sys.stderr)  # somebody may have given an identity
        return BAD_USAGE
    for name in fetched.undetermined:
        text = f'no factor named "{name}" was found, but not everything could be listed'
        print(confidential.redactor(text), file=sys.stderr)
    write(fetched, OutputFormat(arguments.output), frozenset(arguments.statuses))
    status = fetched.exit_status()
    return 0 if arguments.exit_zero and status != INTERRUPTED else status


class Search(Observer):
    """Looks for the named factors in what is watched, so that listings can end as soon as all are found.

    ``found`` counts all factors. It also warns about a service of which not all entities are watched.
    """

    def __init__(self, names: Collection[str]) -> None:
        self.found = 0
        self._left = set(names)
        self._named = bool(names)

    def watched(self, record: FactorRecord) -> None:
        """Note that a factor was found, under the name that is shown, or under its long name."""
        self.found += 1
        if self._left:
            watched = record.watched
            self._left.discard(watched.name)
            self._left -= {name for name in self._left if name.endswith(watched.key.factor_sid)}

    def ended(self) -> bool:
        """Return whether there are names, and a factor was found for each."""
        return self._named and not self._left

    def service_listed(self, service: WatchedService, entities: int, truncated: bool, failed: int) -> None:
        """Warn about the entities beyond the maximum."""
        if truncated:
            text = f'service "{service.name}" has more than {service.max_entities:,} entities (max_entities)'
            write_above(f"warning: {service.key.account}: {text}; the rest is not watched")


async def _find_and_fetch(config: Config, confidential: Confidential, names: Collection[str]) -> Fetched:
    """Load the watchlist URLs, unless all names are in files, then list and fetch; raises UnknownNamesError.

    Ctrl-C, which cancels this, ends it with what was fetched before.
    """
    clock = Clock()
    run = _FetchRun(config, names, clock, clock.steady())
    with contextlib.suppress(asyncio.CancelledError):
        if not names or unlisted(config, names):
            run.config = await with_first_answers(config)
            confidential.add(run.config)
        for warning in run.config.warnings:
            print(f"warning: {warning}", file=sys.stderr)
        run.failures = not_loaded(run.config)
        run.config = needed_for(run.config, names, complete=not run.failures)
        await run.list_and_fetch(confidential)
    return run.result()


@dataclass(slots=True)
class _FetchRun:
    """One run of the command: what it has found so far; ``began`` is in steady seconds."""

    config: Config
    names: Collection[str]
    clock: Clock
    began: float
    engine: Engine | None = None
    history: History = field(init=False)
    failures: list[NotListed] = field(default_factory=list)
    undetermined: list[str] = field(default_factory=list)
    wanted: int | None = None
    complete: bool = False

    def __post_init__(self) -> None:
        self.history = History(self.clock.wall())

    async def list_and_fetch(self, confidential: Confidential) -> None:
        """List, select the named factors, and fetch; raises UnknownNamesError."""
        config, names = self.config, self.names
        engine = self.engine = Engine(config, confidential=confidential, clock=self.clock, one_shot=True)
        events = EventLog(engine.clock.steady, service_size=engine.service_size, stretch=engine.stretch)
        search = Search(names)
        engine.observers.add(self.history, events, search)
        pauses = Pauses()

        def show(bar: Bar, total: int, left: int) -> None:
            bar.update(total - left - bar.n)
            pauses.report(engine)

        lists = len(config.entities) + len(config.services)

        def show_listings(bar: Bar, left: int) -> None:
            bar.set_postfix_str(counted(search.found, "factor"), refresh=False)  # a service takes many requests
            show(bar, lists, left)

        try:
            with _bar(lists, "listing") as bar:
                discovered = await engine.discover_once(functools.partial(show_listings, bar), search.ended)
            self.failures += not_listed(config, discovered)
            chosen = discovered.factors
            if names:
                known = by_name(discovered.factors, engine.roster.found)
                chosen, self.undetermined = choose(names, known, self.failures)
        except BaseException:
            await engine.stop_now()
            raise
        self.wanted = sum(not watched.paused for watched in chosen)
        with _bar(self.wanted, "factor") as bar:
            await engine.fetch_once(chosen, functools.partial(show, bar, self.wanted))
        self.complete = True

    def result(self) -> Fetched:
        """Return what was fetched; of an interrupted run, only the factors whose fetch had ended."""
        records = [] if self.engine is None else sorted(self.engine.ledger, key=urgency)
        if not self.complete:
            listing = self.wanted is None and self.names  # not known which ones are meant
            records = [] if listing else [record for record in records if record.last_seconds is not None]
        return Fetched(
            config=self.config,
            engine=self.engine,
            records=records,
            views=[view(record, self.history.latest(record.watched.key)) for record in records],
            failures=self.failures,
            undetermined=self.undetermined,
            named=bool(self.names),
            seconds=self.clock.steady() - self.began,
            wanted=self.wanted,
            interrupted=not self.complete,
        )


def choose(
    names: Collection[str], factors: Mapping[str, Sequence[WatchedFactor]], failures: Sequence[NotListed]
) -> tuple[tuple[WatchedFactor, ...], list[str]]:
    """Return the factors of these names, and the names that may be in what was not listed.

    Raises UnknownNamesError for the others that no factor has.
    """
    missing = [name for name in names if name not in factors]
    undetermined = [name for name in missing if any(failed.may_hold(name) for failed in failures)]
    if unknown := [name for name in missing if name not in undetermined]:
        raise UnknownNamesError({name: did_you_mean(name, factors) for name in unknown})
    chosen = {watched.key: watched for name in names for watched in factors.get(name, ())}
    return tuple(chosen.values()), undetermined


def _bar(total: int, unit: str) -> Bar:
    """Return a progress bar; it is shown on a terminal if there is something to count."""
    return progress_bar(total, unit, hidden=not total, miniters=0)


class Pauses:
    """Reports every pause after a 429 once, even if it is extended; very short pauses are not reported."""

    def __init__(self) -> None:
        self._reported_until: dict[str, float] = {}

    def report(self, engine: Engine) -> None:
        """Print the new pauses of an engine's accounts, above a progress bar."""
        until = {name: account.throttle.paused_until for name, account in engine.poller.accounts.items()}
        for line in self.begun(engine.clock.steady(), until):
            write_above(line)

    def begun(self, now: float, paused_until: Mapping[str, float]) -> Iterator[str]:
        """Yield a line for every account with a new pause since the previous call; times are steady seconds."""
        for name, until in paused_until.items():
            if now < self._reported_until.get(name, -math.inf):
                self._reported_until[name] = until
            elif until - now >= _SHORTEST_REPORTED_SECONDS:
                self._reported_until[name] = until
                yield f"{name}: rate limited by the API (HTTP 429); waiting {math.ceil(until - now)} s"
