"""``plan``: estimate what a configuration costs, without running it."""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter.cli import BAD_USAGE
from exporter.cli.config_file import add_config_arguments, load_config
from exporter.cli.table import aligned
from exporter.config import ConfigError
from exporter.config.values import format_duration
from exporter.daemon.jobs import DISPATCH_SECONDS
from exporter.exposition.factors import FactorExposition, FactorSamples, shown_families
from exporter.exposition.pieces import Snapshot
from exporter.polling.backoff import longest_fetch_seconds
from exporter.polling.clock import Moment
from exporter.polling.ledger import Ledger, LedgerPolicy
from exporter.polling.poller import next_stretch
from exporter.polling.throttle import ASSUMED_LATENCY_SECONDS, budget
from exporter.verify.outcome import Answer, Outcome, Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from exporter.config import Config
    from exporter.watched import WatchedFactor

WITHIN_BUDGET, OVER_BUDGET = 0, 1
_NOW = Moment(1.7953979497e9, 0.0)  # any time with as many digits as the present


@dataclass(frozen=True, slots=True)
class AccountPlan:
    """The demand of one account's factors; rates are requests per second."""

    name: str
    factors: int
    steady: float
    worst: float
    budget: float
    longest_interval_seconds: float

    @property
    def stretch(self) -> float:
        """The stretch of the intervals when all factors are verified."""
        return next_stretch(1.0, self.steady / self.budget)


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


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f'"{text}" is not a number of seconds above 0')
    return seconds


def run(arguments: argparse.Namespace) -> int:
    """Print the plan; return 0, or 1 if an account is over its budget even with all factors verified."""
    try:
        config = load_config(arguments)
    except ConfigError as error:
        for detail in error.errors:
            print(detail, file=sys.stderr)
        return BAD_USAGE
    plans = account_plans(config, arguments.latency)
    sys.stdout.writelines(f"{line}\n" for line in _report(config, plans, arguments.latency))
    return OVER_BUDGET if any(plan.steady > plan.budget for plan in plans) else WITHIN_BUDGET


def account_plans(config: Config, latency_seconds: float) -> list[AccountPlan]:
    """Return each account's budget, and its demand with all factors verified and with all newly not verified."""
    polling = config.settings.polling
    plans: list[AccountPlan] = []
    for name, account in config.settings.accounts.items():
        polled = [watched for watched in config.factors if watched.key.account == name and not watched.paused]
        intervals = [watched.interval_seconds for watched in polled]
        shortest = [min(interval, polling.unverified_interval) for interval in intervals]
        entities = [entity.key for entity in config.entities if entity.key.account == name]
        services = {watched.key.service_sid for watched in polled} | {key.service_sid for key in entities}
        listings = len(entities) / polling.discovery_interval
        in_doubt = len(services) / polling.discovery_interval  # while a factor of each is missing
        plans.append(
            AccountPlan(
                name=name,
                factors=len(polled),
                steady=listings + sum(1 / interval for interval in intervals),
                worst=listings + in_doubt + sum(1 / interval for interval in shortest),
                budget=budget(account.requests_per_second, account.max_concurrency, latency_seconds),
                longest_interval_seconds=max(intervals, default=0.0),
            )
        )
    return plans


def exposition_size(config: Config) -> tuple[int, int]:
    """Return the number of series and of bytes that the factors add to a scrape, with all of them verified."""
    ledger = Ledger(LedgerPolicy())
    exposition = FactorExposition(FactorSamples(shown_families(config.settings.metrics.factor_families)))
    answer = Outcome(Answer(Status.VERIFIED, 1.7953979e9, 1.7953979e9, "passkeys", "YE" + "0" * 32), 0.123456)
    for watched in config.factors:
        record = ledger.watch(watched)
        if not watched.paused:
            ledger.apply(watched.key, answer, _NOW)
        exposition.update(record)
    page = Snapshot(exposition.columns(openmetrics=False))
    series = sum(line.startswith(b"twilio") for piece in page for line in piece.splitlines())
    return series, page.size()


def _report(config: Config, plans: Sequence[AccountPlan], latency_seconds: float) -> Iterable[str]:
    polling = config.settings.polling
    rows: list[tuple[str, ...]] = [("ACCOUNT", "FACTORS", "STEADY", "WORST", "BUDGET", "")]
    for plan in plans:
        verdict = "within budget"
        if plan.steady > plan.budget:
            verdict = f"over budget: intervals are stretched by a factor of {plan.stretch:.2f}"
        elif plan.worst > plan.budget:
            verdict = "within budget; over budget, with stretched intervals, in the worst case"
        rates = (f"{rate:.2f}/s" for rate in (plan.steady, plan.worst, plan.budget))
        rows.append((plan.name, f"{plan.factors:,}", *rates, verdict))
    yield from aligned(rows)
    yield ""
    if config.entities:
        every = format_duration(polling.discovery_interval)
        yield f"entities:           {len(config.entities):,}, listed every {every}; their factors are not included"
        yield ""
    yield "STEADY: all factors verified. WORST: all newly unverified or newly missing. BUDGET: the smaller of"
    yield f"requests_per_second and what max_concurrency allows at {latency_seconds:g} s per request (--latency)."
    yield ""
    series, size = exposition_size(config)
    yield f"factor series:      {series:,} in {_services(config.factors)}"
    yield f"bytes per scrape:   {size:,} for the factors, before compression"
    slowest = max((plan.longest_interval_seconds * plan.stretch for plan in plans), default=0.0)
    if slowest:
        soon = slowest + DISPATCH_SECONDS + latency_seconds
        late = slowest + DISPATCH_SECONDS + longest_fetch_seconds(polling.max_attempts, polling.timeout)
        yield f"change visible in:  at most {_rounded(soon)} if the first attempt succeeds,"
        yield f"                    at most {_rounded(late)} if a fetch needs all its attempts"


def _services(factors: Iterable[WatchedFactor]) -> str:
    services = Counter((watched.key.account, watched.key.service_sid) for watched in factors)
    return f"{len(services)} service" if len(services) == 1 else f"{len(services)} services"


def _rounded(seconds: float) -> str:
    return format_duration(float(math.ceil(seconds)))
