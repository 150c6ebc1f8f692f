"""``plan``: estimate what a configuration costs, without running it."""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any

from exporter.cli import BAD_USAGE
from exporter.cli.config_file import add_config_arguments, load_config
from exporter.cli.costs import account_plans, assume, proposal, with_found
from exporter.cli.findings import write_refused
from exporter.cli.help import CONFIGURATION, REQUESTS, Help
from exporter.cli.table import aligned, counted
from exporter.config import ConfigError
from exporter.config.values import format_duration
from exporter.exposition.factors import FactorExposition, FactorSamples, escape_label_value, shown_families
from exporter.exposition.pieces import Snapshot
from exporter.polling.backoff import longest_fetch_seconds
from exporter.polling.clock import Moment
from exporter.polling.ledger import Ledger, LedgerPolicy
from exporter.polling.poller import DISPATCH_SECONDS
from exporter.polling.throttle import ASSUMED_LATENCY_SECONDS
from exporter.verify.outcome import Answer, Outcome, Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from exporter.cli.costs import AccountPlan, Assumptions, Proposal
    from exporter.config import Config
    from exporter.watched import WatchedFactor, WatchedService

WITHIN_BUDGET, OVER_BUDGET = 0, 1  # also if --live could not find out everything
_MOST = 1_000_000
_LABEL_CHARACTERS = 18
_NOW = Moment(1.7953979497e9, 0.0)  # any time with as many digits as the present
_ANSWER = Outcome(
    Answer(Status.VERIFIED, 1.7953979e9, 1.7953979e9, "passkeys", "YE" + "0" * 32, 1.7953979e9), 0.123456
)


HELP = Help(
    examples={
        "plan": "compare the requests that config.toml needs with the budget of each account",
        "plan --entities 1000 --factors-per-entity 2": "the same, with 1,000 entities in every [[services]] entry",
        "plan --live --output json": "count the entities by requests, and print JSON for scripts",
    },
    exit_statuses={0: "within budget", 1: "over budget with all factors verified, or --live could not count all"},
    variables=CONFIGURATION | REQUESTS,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    add_config_arguments(parser)
    parser.add_argument(
        "--latency",
        type=_seconds,
        default=ASSUMED_LATENCY_SECONDS,
        metavar="SECONDS",
        help="expected duration of one request (default: %(default)s)",
    )
    parser.add_argument(
        "--entities",
        type=_count,
        metavar="N",
        help="expected number of entities of every [[services]] entry (default: services are left out)",
    )
    parser.add_argument(
        "--live",
        action="store_true",
        help="send requests to load the watchlist URLs and, unless --entities is given, to count the entities of "
        "every [[services]] entry",
    )
    parser.add_argument(
        "--factors-per-entity",
        type=_count,
        default=1,
        metavar="N",
        help="expected number of factors of every entity (default: %(default)s)",
    )
    parser.add_argument(
        "--output", choices=("text", "json"), default="text", help="output format (default: %(default)s)"
    )


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f'"{text}" is not a number of seconds above 0')
    return seconds


def _count(text: str) -> int:
    if not text.isdecimal() or not 0 <= int(text) <= _MOST:
        raise argparse.ArgumentTypeError(f'"{text}" is not a whole number from 0 to {_MOST:,}')
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    """Print the plan; return 0, or 1 if an account is over its budget even with all factors verified.

    The status is also 1 if ``--live`` could not find out everything; what that is goes to standard error.
    """
    try:
        config = load_config(arguments)
        assumptions = assume(config, arguments.entities, arguments.factors_per_entity)
        failed: list[str] = []
        if arguments.live:
            from exporter.cli.counting import find_out  # noqa: PLC0415  # what sends requests takes long to import

            config, counts, failed = asyncio.run(find_out(config, count=arguments.entities is None))
            assumptions = replace(assumptions, entities={**assumptions.entities, **counts})
    except ConfigError as error:
        write_refused(error)
        return BAD_USAGE
    for text in failed:
        print(text, file=sys.stderr)
    report = Report(config, assumptions, arguments.latency, live=arguments.live, incomplete=bool(failed))
    if arguments.output == "json":
        print(json.dumps(report.as_json(), indent=2))
    else:
        sys.stdout.writelines(f"{line}\n" for line in report.lines())
    return report.exit_status


def exposition_size(config: Config) -> tuple[int, int]:
    """Return the number of series and of bytes that verified factors add to a scrape, at most.

    Of the factors whose lines are equally long, only one is rendered.
    """
    samples = FactorSamples(shown_families(config.settings.metrics.factor_families))
    ledger = Ledger(LedgerPolicy())
    series, size = 0, Snapshot(FactorExposition(samples).columns(openmetrics=False)).size()
    for watched, count in _equally_long(config.factors):
        record = ledger.watch(watched)
        if not watched.paused:
            ledger.apply(watched.key, _ANSWER, _NOW)
            record.status_change_seen = True
        exposition = FactorExposition(samples)
        exposition.update(record)
        page = b"".join(Snapshot(exposition.columns(openmetrics=False)))
        lines = [line for line in page.splitlines(keepends=True) if not line.startswith(b"#")]
        series += count * len(lines)
        size += count * sum(len(line) for line in lines)
    return series, size


def _equally_long(factors: Iterable[WatchedFactor]) -> list[tuple[WatchedFactor, int]]:
    """Return one of the factors for each length of their lines, and how many have that length."""
    lengths: dict[tuple[tuple[str, str], ...], tuple[int, ...]] = {}
    found: dict[tuple[object, ...], list[Any]] = {}
    for watched in factors:
        labels = lengths.get(watched.labels)
        if labels is None:
            shown = [(name, value) for name, value in watched.labels if value]
            labels = lengths[watched.labels] = (len(shown), sum(map(_length, chain.from_iterable(shown))))
        kind = (watched.paused, watched.interval_seconds, len(watched.key.account), _length(watched.name), *labels)
        found.setdefault(kind, [watched, 0])[1] += 1
    return [(watched, count) for watched, count in found.values()]


def _length(text: str) -> int:
    return len(escape_label_value(text).encode())


class Report:
    """What a configuration costs under assumptions, as text and as JSON.

    ``live`` says that requests were sent, ``incomplete`` that something could not be found out by them.
    """

    def __init__(
        self,
        config: Config,
        assumptions: Assumptions,
        latency_seconds: float,
        *,
        live: bool = False,
        incomplete: bool = False,
    ) -> None:
        self._config = config
        self._live = live
        self._incomplete = incomplete
        self._assumptions = assumptions
        self._latency_seconds = latency_seconds
        whole = with_found(config, assumptions)
        self._plans = account_plans(whole, assumptions, latency_seconds)
        self._proposals = {
            plan.name: proposal(whole, plan, latency_seconds) for plan in self._plans if plan.over_budget
        }
        self._services = len({watched.key[:2] for watched in whole.factors})
        self._series, self._bytes = exposition_size(whole)

    @property
    def exit_status(self) -> int:
        """The command's exit status."""
        return OVER_BUDGET if self._proposals or self._incomplete else WITHIN_BUDGET

    def _seconds_to_see(self) -> tuple[float, float] | None:
        """Return the seconds until a change is visible, with one attempt and with all attempts of a fetch."""
        slowest = max((plan.longest_interval_seconds * plan.stretch for plan in self._plans), default=0.0)
        if not slowest:
            return None
        polling = self._config.settings.polling
        longest = longest_fetch_seconds(polling.max_attempts, polling.timeout)
        return slowest + DISPATCH_SECONDS + self._latency_seconds, slowest + DISPATCH_SECONDS + longest

    def as_json(self) -> dict[str, Any]:
        """Return the plan as a JSON object; rates are requests per second."""
        seen = self._seconds_to_see()
        return {
            "latency_seconds": self._latency_seconds,
            "factors_per_entity": self._assumptions.factors_per_entity,
            "accounts": [self._account_as_json(plan) for plan in self._plans],
            "watchlist_urls": [
                {"name": source.name, "entries": self._config.source_entries.get(source.name)}
                for source in self._config.http
            ],
            "factor_series": self._series,
            "bytes_per_scrape": self._bytes,
            "change_visible_seconds": None if seen is None else {"first_attempt": seen[0], "all_attempts": seen[1]},
            "exit_status": self.exit_status,
        }

    def _account_as_json(self, plan: AccountPlan) -> dict[str, Any]:
        fits = self._proposals.get(plan.name)
        return {
            "account": plan.name,
            "factors": plan.factors,
            "found_factors": plan.found,
            "steady": plan.steady,
            "worst": plan.worst,
            "budget": plan.budget,
            "over_budget": plan.over_budget,
            "stretch": plan.stretch,
            "fetches": plan.fetches,
            "listings": {
                "requests": plan.listing_requests,
                "rate": plan.listings,
                "wanted_rate": plan.wanted_listings,
                "seconds": plan.listing_seconds,
            },
            "entities": sum(entity.key.account == plan.name for entity in self._config.entities),
            "services": [self._service_as_json(of) for of in self._config.services if of.key.account == plan.name],
            "fits_with": None
            if fits is None
            else {
                "interval_factor": fits.factor,
                "interval_seconds": fits.interval_seconds,
                "requests_per_second": fits.requests_per_second,
                "max_concurrency": fits.max_concurrency,
            },
        }

    def _service_as_json(self, service: WatchedService) -> dict[str, Any]:
        count = self._assumptions.entities.get(service.key)
        return {
            "name": service.name,
            "service_sid": service.key.service_sid,
            "entities": None if count is None else count.own,
            "counted": count is not None and count.counted,
            "truncated": None if count is None else count.truncated,
        }

    def lines(self) -> Iterator[str]:
        """Yield the plan as lines of text."""
        rows: list[tuple[str, ...]] = [("ACCOUNT", "FACTORS", "STEADY", "WORST", "BUDGET", "")]
        for plan in self._plans:
            verdict = "within budget"
            if plan.over_budget:
                verdict = f"over budget: intervals are stretched by a factor of {plan.stretch:.2f}"
            elif plan.worst > plan.budget:
                verdict = "within budget; over budget, with stretched intervals, in the worst case"
            rates = (f"{rate:.2f}/s" for rate in (plan.steady, plan.worst, plan.budget))
            rows.append((plan.name, f"{plan.factors:,}", *rates, verdict))
        yield from aligned(rows)
        yield ""
        proposals = [self._proposed(name, fits) for name, fits in self._proposals.items()]
        if proposals:
            yield from (*proposals, "")
        yield "STEADY: all factors verified. WORST: all newly unverified or newly missing. BUDGET: the smaller of"
        latency = f"{self._latency_seconds:g} s per request (--latency)"
        yield f"requests_per_second and what max_concurrency allows at {latency}."
        yield ""
        details = list(self._listed())
        details.append(("factor series:", f"{self._series:,} in {counted(self._services, 'service')}"))
        details.append(("bytes per scrape:", f"{self._bytes:,} for the factors, before compression"))
        if (seen := self._seconds_to_see()) is not None:
            details.append(("change visible in:", f"at most {_rounded(seen[0])} if the first attempt succeeds,"))
            details.append(("", f"at most {_rounded(seen[1])} if a fetch needs all its attempts"))
        width = max(_LABEL_CHARACTERS, *(len(label) for label, _ in details))
        yield from (f"{label:<{width}}  {text}" for label, text in details)

    def _proposed(self, name: str, fits: Proposal) -> str:
        """Return what would bring an account within its budget, as the keys to set."""
        polling, account = self._config.settings.polling, self._config.settings.accounts[name]
        own = {watched.interval_seconds for watched in self._config.factors if watched.key.account == name}
        interval = f'polling.interval = "{format_duration(fits.interval_seconds)}"'
        if own - {polling.interval}:
            interval = f"{interval}, and the factors' own intervals {fits.factor:g} times as long"
        rates = []
        if fits.requests_per_second > account.requests_per_second:
            rates.append(f"requests_per_second = {fits.requests_per_second:g}")
        if fits.max_concurrency > account.max_concurrency:
            rates.append(f"max_concurrency = {fits.max_concurrency}")
        return f"{name} fits its budget with {interval}; or with {' and '.join(rates)}, if Twilio allows that"

    def _listed(self) -> Iterator[tuple[str, str]]:
        """Yield what listings find and cost, by account; nothing if there is nothing to list."""
        per_entity = self._assumptions.factors_per_entity
        for source in self._config.http:
            entries = self._config.source_entries.get(source.name)
            if entries is not None:
                yield f"watchlist {source.name}:", counted(entries, "entry")
            else:
                reason = "it could not be loaded" if self._live else "load it with --live"
                yield f"watchlist {source.name}:", f"left out; {reason}"
        for plan in self._plans:
            entities = sum(entity.key.account == plan.name for entity in self._config.entities)
            if entities:
                factors = counted(entities * per_entity, "factor")
                yield f"entities of {plan.name}:", f"{entities:,}, with {factors} (--factors-per-entity)"
            for service in self._config.services:
                if service.key.account == plan.name:
                    yield f"service {service.name}:", self._service(service)
            if plan.listing_requests:
                yield f"listings of {plan.name}:", self._listings(plan)

    def _service(self, service: WatchedService) -> str:
        count = self._assumptions.entities.get(service.key)
        if count is None:
            if self._live:
                return "left out; its entities could not be counted"
            return "left out; count its entities with --live, or give their number with --entities"
        factors = counted(count.own * self._assumptions.factors_per_entity, "factor")
        own = counted(count.own, "entity")
        if count.truncated:
            own = f"{own} (max_entities = {service.max_entities})"
        return f"{own}, with {factors} (--factors-per-entity)"

    def _listings(self, plan: AccountPlan) -> str:
        interval, requests = plan.discovery_interval_seconds, counted(plan.listing_requests, "request")
        text = f"{requests} in {_rounded(plan.listing_seconds)}, {plan.listings:.2f}/s"
        if plan.listing_seconds > interval:
            text = f"{text}: longer than polling.discovery_interval ({format_duration(interval)}), so that"
            text = f"{text} fetches keep to their intervals"
        return text


def _rounded(seconds: float) -> str:
    return format_duration(float(math.ceil(seconds)))
