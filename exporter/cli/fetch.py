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
from exporter.cli.named import UnknownNamesError, by_name, needed_for, unlisted
from exporter.cli.table import aligned, counted
from exporter.config import ConfigError
from exporter.config.errors import did_you_mean
from exporter.daemon.engine import Engine
from exporter.daemon.parts import Confidential, factor_samples
from exporter.daemon.url_sources import with_first_answers
from exporter.exposition.factors import FactorCollector
from exporter.logs.events import EventLog
from exporter.logs.output import configure
from exporter.polling.observer import Observer
from exporter.polling.roster import name_may_be_found
from exporter.verify.outcome import Status
from exporter.web.history import History
from exporter.web.views import FactorView, urgency, view

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from exporter.config import Config
    from exporter.daemon.engine import Discovered
    from exporter.polling.record import FactorRecord
    from exporter.watched import WatchedFactor, WatchedService

_SHORTEST_REPORTED_SECONDS = 0.5

ALL_VERIFIED, SOME_NOT_VERIFIED, SOME_UNDETERMINED = 0, 1, 2


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
        choices=("table", "json", "openmetrics"),
        default="table",
        help="output format (default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print every factor; return 0 if all are verified, 1 if some are not, 2 if a status could not be determined.

    First, watchlist URLs are loaded, and watched entities and services listed; with names, only what is needed to
    find them. The status is also 2 if something can't be listed, or if there is nothing to fetch. Paused factors
    are shown but not fetched; if named on the command line, they count as undetermined.
    """
    try:
        config = load_config(arguments)
    except ConfigError as error:
        for detail in error.errors:
            print(detail, file=sys.stderr)
        return BAD_USAGE
    confidential = Confidential(config)
    configure(level="error", style="logfmt", redact=confidential.redactor)
    names = tuple(dict.fromkeys(arguments.names))
    try:
        fetched, collector = asyncio.run(_find_and_fetch(config, confidential, names))
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
    _write(fetched, arguments.output, collector)
    return fetched.exit_status(named=bool(names))


@dataclass(frozen=True, slots=True)
class NotListed:
    """An entity, a service or a watchlist URL that could not be listed completely: why, and what to do.

    Its factors are named after ``entry``, which is not its ``name`` for an entity of a service, and which is empty
    for a watchlist. A watchlist has no account, no service and no reason.
    """

    kind: str
    name: str
    detail: str
    hint: str
    entry: str = ""
    account: str = ""
    service_sid: str = ""
    reason: str = ""

    @property
    def message(self) -> str:
        """Why, and what to do, in one line."""
        return "; ".join(filter(None, (self.detail, self.hint)))

    def may_hold(self, name: str) -> bool:
        """Return whether a factor of this name may be in it."""
        return self.kind == "watchlist" or name_may_be_found(name, self.entry)

    def as_json(self) -> dict[str, str | None]:
        """Return the JSON object of the output."""
        return {
            "kind": self.kind,
            "account": self.account or None,
            "service_sid": self.service_sid or None,
            "name": self.name,
            "reason": self.reason or None,
            "detail": self.detail,
            "hint": self.hint or None,
        }


def not_loaded(config: Config) -> list[NotListed]:
    """Return the watchlist URLs that could not be used."""
    failures: list[NotListed] = []
    for name, errors in config.refused.items():
        first, *more = errors
        place = f'{first.place} of "{first.name}"' if first.name else first.place
        problem = f"{place}: {first.problem}"
        detail = f"{problem} (and {counted(len(more), 'other error')})" if more else problem
        failures.append(NotListed("watchlist", name, detail, first.hint))
    return failures


def not_listed(config: Config, discovered: Discovered) -> list[NotListed]:
    """Return the entities and services that could not be listed completely."""
    services = {(*service.key, service.name) for service in config.services}
    return [
        NotListed(
            kind="service" if (of.account, of.service_sid, of.entity) in services else "entity",
            name=of.entity,
            detail=of.failure.detail or of.failure.reason.replace("_", " "),
            hint=of.failure.hint,
            entry=of.entry,
            account=of.account,
            service_sid=of.service_sid,
            reason=of.failure.reason,
        )
        for of in discovered.failures
    ]


@dataclass(frozen=True, slots=True)
class Fetched:
    """What was fetched; ``undetermined`` are names of factors that may be in what could not be listed."""

    views: Sequence[FactorView]
    failures: Sequence[NotListed]
    undetermined: Sequence[str]

    def exit_status(self, *, named: bool) -> int:
        """Return the exit status; paused factors count if they were ``named``."""
        counted = [shown for shown in self.views if named or not shown.paused]
        if not counted or self.failures or self.undetermined or any(shown.up is not True for shown in counted):
            return SOME_UNDETERMINED
        return ALL_VERIFIED if all(of.status == Status.VERIFIED for of in counted) else SOME_NOT_VERIFIED


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
            tqdm.write(f"warning: {service.key.account}: {text}; the rest is not watched", file=sys.stderr)


async def _find_and_fetch(
    config: Config, confidential: Confidential, names: Collection[str]
) -> tuple[Fetched, FactorCollector]:
    """Load the watchlist URLs, unless all names are in files, then list and fetch; raises UnknownNamesError."""
    if not names or unlisted(config, names):
        config = await with_first_answers(config)
        confidential.add(config)
    for warning in config.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    failures = not_loaded(config)
    return await _fetch(needed_for(config, names, complete=not failures), confidential, names, failures)


async def _fetch(
    config: Config, confidential: Confidential, names: Collection[str], failures: Sequence[NotListed]
) -> tuple[Fetched, FactorCollector]:
    engine = Engine(config, confidential=confidential, one_shot=True)
    history = History(engine.clock.wall())
    events = EventLog(engine.clock.steady, service_size=engine.service_size, stretch=engine.stretch)
    search = Search(names)
    engine.observers.add(history, events, search)
    pauses = Pauses()

    def show(bar: tqdm[Any], total: int, left: int) -> None:
        bar.update(total - left - bar.n)
        until = {name: account.throttle.paused_until for name, account in engine.poller.accounts.items()}
        for line in pauses.begun(engine.clock.steady(), until):
            tqdm.write(line, file=sys.stderr)

    lists = len(config.entities) + len(config.services)

    def show_listings(bar: tqdm[Any], left: int) -> None:
        bar.set_postfix_str(counted(search.found, "factor"), refresh=False)  # a service takes many requests
        show(bar, lists, left)

    try:
        with _bar(lists, "listing") as bar:
            discovered = await engine.discover_once(functools.partial(show_listings, bar), search.ended)
        failures = [*failures, *not_listed(config, discovered)]
        chosen, undetermined = discovered.factors, list[str]()
        if names:
            chosen, undetermined = choose(names, by_name(discovered.factors, engine.roster.found), failures)
    except BaseException:
        await engine.stop_now()
        raise
    polled = sum(not watched.paused for watched in chosen)
    with _bar(polled, "factor") as bar:
        await engine.fetch_once(chosen, functools.partial(show, bar, polled))
    records = sorted(engine.ledger, key=urgency)
    views = [view(record, history.latest(record.watched.key)) for record in records]
    return Fetched(views, failures, undetermined), FactorCollector(factor_samples(config), lambda: records)


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


def _bar(total: int, unit: str) -> tqdm[Any]:
    """Return a progress bar; it is shown on a terminal if there is something to count."""
    hidden = None if total else True  # None: shown on a terminal only
    return tqdm(total=total, unit=unit, leave=False, disable=hidden, file=sys.stderr, miniters=0)


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
    if not fetched.failures and all(shown.paused for shown in fetched.views):
        print("nothing to fetch", file=sys.stderr)
    match output:
        case "json":
            document = {
                "factors": [shown.as_json() for shown in fetched.views],
                "failures": [failed.as_json() for failed in fetched.failures],
            }
            print(json.dumps(document, indent=2))
        case "openmetrics":
            for failed, text in _described(fetched.failures):
                print(f"{failed.account}: {text}" if failed.account else text, file=sys.stderr)
            registry = CollectorRegistry()
            registry.register(collector)
            render: Callable[[CollectorRegistry], bytes] = generate_latest
            sys.stdout.write(render(registry).decode())
        case _:
            sys.stdout.writelines(_table(fetched))


def _described(failures: Iterable[NotListed]) -> Iterator[tuple[NotListed, str]]:
    """Yield what could not be listed, with the reason and what to do; once for the entities of a service."""
    alike: dict[tuple[str, ...], list[NotListed]] = {}
    for failed in failures:
        key = failed.account, failed.service_sid, failed.kind, failed.entry, failed.detail
        alike.setdefault(key, []).append(failed)
    for first, *more in alike.values():
        what = f'{first.kind} "{first.name}"' if not more else counted(1 + len(more), first.kind)
        yield first, f"{what} not {'loaded' if first.kind == 'watchlist' else 'listed'}: {first.message}"


def _table(fetched: Fetched) -> Iterable[str]:
    rows: list[tuple[str, ...]] = [
        ("FACTOR", "ACCOUNT", "STATUS", "TYPE", "DURATION", "HTTP", "CODE", "REQUEST ID", "DETAILS")
    ]
    for failed, details in _described(fetched.failures):
        name = _printable(f"{failed.entry}-*") if failed.entry else "*"
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
