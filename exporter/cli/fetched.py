"""What ``fetch`` found out, and how it is printed: as a table, as JSON, and as expositions.

Apart from the command because nothing here sends a request; ``init`` shares what could not be listed.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

from exporter.cli import INTERRUPTED
from exporter.cli.table import aligned, counted
from exporter.config.values import format_duration
from exporter.daemon.parts import factor_samples
from exporter.exposition import catalogue
from exporter.exposition.catalogue import FACTOR_FAMILIES, Family, MetricType
from exporter.exposition.factors import FactorCollector
from exporter.polling.record import STATUSES
from exporter.polling.roster import name_may_be_found

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from exporter.config import Config
    from exporter.daemon.engine import Discovered, Engine
    from exporter.polling.record import FactorRecord
    from exporter.web.views import FactorView

ALL_VERIFIED, SOME_NOT_VERIFIED, SOME_UNDETERMINED = 0, 1, 2

_MINUTE_SECONDS = 60


class OutputFormat(StrEnum):
    """The formats of the output."""

    TABLE = "table"
    JSON = "json"
    OPENMETRICS = "openmetrics"
    PROMETHEUS = "prometheus"


class Shown(StrEnum):
    """What the table shows as the status of a factor, and ``--status`` selects."""

    NOT_FOUND = "not_found"
    UNVERIFIED = "unverified"
    UNDETERMINED = "undetermined"
    VERIFIED = "verified"
    PAUSED = "paused"


def shown_status(of: FactorView) -> Shown:
    """Return the status of a factor after its fetch."""
    if of.paused:
        return Shown.PAUSED
    return Shown(of.status) if of.up else Shown.UNDETERMINED


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

    @property
    def verb(self) -> str:
        """What was not done with it."""
        return "loaded" if self.kind == "watchlist" else "listed"

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


def described(failures: Iterable[NotListed]) -> Iterator[tuple[NotListed, str]]:
    """Yield what could not be listed, with the reason and what to do; once for the entities of a service."""
    alike: dict[tuple[str, ...], list[NotListed]] = {}
    for failed in failures:
        key = failed.account, failed.service_sid, failed.kind, failed.entry, failed.detail
        alike.setdefault(key, []).append(failed)
    for first, *more in alike.values():
        what = f'{first.kind} "{first.name}"' if not more else counted(1 + len(more), first.kind)
        yield first, f"{what} not {first.verb}: {first.message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What was fetched, problems first; ``views`` are those of ``records``.

    ``undetermined`` are names of factors that may be in what could not be listed. ``engine`` has what is known of
    accounts and listings. After Ctrl-C (``interrupted``), only factors that were fetched before are there;
    ``wanted`` is the number of factors to fetch, ``None`` if the interruption came before that was known.
    """

    config: Config
    engine: Engine | None
    records: Sequence[FactorRecord]
    views: Sequence[FactorView]
    failures: Sequence[NotListed]
    undetermined: Sequence[str]
    named: bool
    seconds: float
    wanted: int | None = None
    interrupted: bool = False

    def exit_status(self) -> int:
        """Return the exit status; paused factors count if they were ``named``."""
        if self.interrupted:
            return INTERRUPTED
        statuses = {shown_status(of) for of in self.views} - (set() if self.named else {Shown.PAUSED})
        if not statuses or self.failures or self.undetermined or statuses & {Shown.UNDETERMINED, Shown.PAUSED}:
            return SOME_UNDETERMINED
        return ALL_VERIFIED if statuses == {Shown.VERIFIED} else SOME_NOT_VERIFIED

    def selected(self, statuses: Collection[Shown]) -> list[tuple[FactorRecord, FactorView]]:
        """Return the factors with one of these statuses; all of them without statuses."""
        pairs = zip(self.records, self.views, strict=True)
        return [(record, of) for record, of in pairs if not statuses or shown_status(of) in statuses]

    def counts(self) -> dict[Shown, int]:
        """Return the number of factors by status, in the order of their urgency."""
        found = Counter(map(shown_status, self.views))
        return {status: found[status] for status in Shown}

    def reasons(self) -> dict[str, int]:
        """Return the number of failed fetches by reason."""
        failed = (of for of in self.views if shown_status(of) is Shown.UNDETERMINED)
        return dict(Counter(of.last_failure_reason for of in failed if of.last_failure_reason))

    def summary(self, shown: int) -> str:
        """Return the line below the table; ``shown`` is the number of factors in it."""
        total = len(self.views)
        what = counted(total, "factor") if shown == total else f"{shown:,} of {counted(total, 'factor')} shown"
        counts = {status: f"{number:,} {status}" for status, number in self.counts().items() if number}
        if Shown.UNDETERMINED in counts:
            counts[Shown.UNDETERMINED] += f" ({self._failures()})"
        kinds = Counter((failed.kind, failed.verb) for failed in self.failures)
        lacking = [f"{counted(number, kind)} not {verb}" for (kind, verb), number in kinds.items()]
        parts = filter(None, (", ".join(counts.values()), ", ".join(lacking)))
        return ": ".join(filter(None, (f"{what} in {_duration(self.seconds)}", "; ".join(parts))))

    def _failures(self) -> str:
        """Return why factors are undetermined, in words."""
        reasons = self.reasons()
        unsent = self.counts()[Shown.UNDETERMINED] - sum(reasons.values())
        words = [f"{number:,} {reason}" for reason, number in reasons.items()]
        return ", ".join([*words, f"{unsent:,} not fetched"] if unsent else words)

    def as_json(self, statuses: Collection[Shown]) -> dict[str, Any]:
        """Return the JSON document; its summary counts the factors that ``statuses`` leave out, too."""
        return {
            "factors": [of.as_json() for _, of in self.selected(statuses)],
            "failures": [failed.as_json() for failed in self.failures],
            "summary": {
                "factors": len(self.views),
                **self.counts(),
                "failures": self.reasons(),
                "not_listed": len(self.failures),
                "duration_seconds": round(self.seconds, 3),
            },
            "interrupted": self.interrupted,
        }


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < _MINUTE_SECONDS else format_duration(round(seconds))


def write(fetched: Fetched, output: OutputFormat, statuses: Collection[Shown]) -> None:
    """Print the factors with these statuses, or all of them, in one piece.

    What people need beside it goes to standard error: the summary below a table, an interruption, and what could
    not be listed if the output doesn't show it.
    """
    chosen = fetched.selected(statuses)
    nothing = not fetched.interrupted and not fetched.failures and all(of.paused for of in fetched.views)
    if nothing:
        print("nothing to fetch", file=sys.stderr)
    in_table = not statuses or Shown.UNDETERMINED in statuses
    if output is not OutputFormat.JSON and not (output is OutputFormat.TABLE and in_table):
        for failed, text in described(fetched.failures):
            print(f"{failed.account}: {text}" if failed.account else text, file=sys.stderr)
    match output:
        case OutputFormat.JSON:
            sys.stdout.write(json.dumps(fetched.as_json(statuses), indent=2) + "\n")
        case OutputFormat.OPENMETRICS:
            _write_utf8(generate_openmetrics(_registry(fetched, chosen)))  # type: ignore[no-untyped-call]  # the library is untyped
        case OutputFormat.PROMETHEUS:
            _write_utf8(generate_latest(_registry(fetched, chosen, textfile=True)))
        case OutputFormat.TABLE:
            lines = _table([of for _, of in chosen], fetched.failures if in_table else ())
            sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()
    if fetched.interrupted:
        print(f"interrupted: {_progress(fetched)}; this output is incomplete", file=sys.stderr)
    if output is OutputFormat.TABLE and not nothing:
        print(fetched.summary(len(chosen)), file=sys.stderr)


def _write_utf8(exposition: bytes) -> None:
    """Write an exposition, which is UTF-8 whatever the encoding of standard output is."""
    sys.stdout.flush()
    sys.stdout.buffer.write(exposition)


def _progress(fetched: Fetched) -> str:
    if fetched.wanted is None:
        return "not everything was listed yet"
    return f"{len(fetched.views):,} of {counted(fetched.wanted, 'factor')} fetched"


# The table


def _table(views: Iterable[FactorView], failures: Iterable[NotListed]) -> Iterable[str]:
    rows: list[tuple[str, ...]] = [
        ("FACTOR", "ACCOUNT", "STATUS", "TYPE", "DURATION", "HTTP", "CODE", "REQUEST ID", "DETAILS")
    ]
    for failed, details in described(failures):
        name = _printable(f"{failed.entry}-*") if failed.entry else "*"
        rows.append((name, failed.account, Shown.UNDETERMINED, *[""] * 5, details))
    for of in views:
        seconds = of.last_fetch_duration_seconds
        duration = "" if seconds is None else f"{seconds * 1000:.0f} ms"
        evidence = (
            str(value or "")
            for value in (of.last_fetch_http_status, of.last_fetch_twilio_code, of.last_fetch_request_id)
        )
        name, status = _printable(of.factor), shown_status(of)
        rows.append((name, of.account, status, of.factor_type, duration, *evidence, _details(of, status)))
    return aligned(rows)


def _details(of: FactorView, status: Shown) -> str:
    """Return why a factor was not simply fetched."""
    match status:
        case Shown.PAUSED:
            return "not fetched: paused in the watchlist"
        case Shown.UNDETERMINED if of.last_failure is None:
            return "not fetched: the account's credentials were refused"
        case Shown.UNDETERMINED:
            return f"{of.last_failure}; {of.hint}"
    return ""


def _printable(name: str) -> str:
    return "".join(character if character.isprintable() else "�" for character in name)


# The expositions

NOT_IN_TEXTFILES = frozenset(
    {
        catalogue.FACTOR_LAST_VERIFIED,
        catalogue.FACTOR_STATUS_SINCE,
        catalogue.FACTOR_INTERVAL,
        *(family for family in FACTOR_FAMILIES if family.kind is not MetricType.GAUGE),
    }
)
"""What takes a running exporter to know: counters, what earlier fetches said, and the schedule."""


class _RunGauges(Collector):
    """The gauges of accounts, listings and watchlist URLs that one run knows."""

    def __init__(self, fetched: Fetched, engine: Engine) -> None:
        self._fetched = fetched
        self._engine = engine

    def describe(self) -> Iterable[Metric]:
        """Return nothing, so that registering doesn't collect."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Yield the gauges; the number of factors only if all were fetched."""
        engine, fetched = self._engine, self._fetched
        counts = {} if fetched.named or fetched.interrupted else engine.ledger.counts
        accounts = engine.poller.accounts
        yield _metric(
            catalogue.FACTORS,
            [((*service, status), of.get(status, 0)) for service, of in counts.items() for status in STATUSES],
        )
        yield _metric(catalogue.ENTITY_LAST_LISTED, engine.discovery.last_listed().items())
        valid = [((name,), account.credentials_valid) for name, account in accounts.items()]
        yield _metric(catalogue.CREDENTIALS_VALID, [(name, known) for name, known in valid if known is not None])
        config = fetched.config
        loaded = [of.name for of in config.http if of.name in config.answers or of.name in config.refused]
        yield _metric(catalogue.SOURCE_UP, [((name,), name not in config.refused) for name in loaded])


def _metric(family: Family, samples: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    metric = Metric(family.name, family.help, family.kind)
    for values, value in samples:
        metric.add_sample(family.name, dict(zip(family.labels, values, strict=True)), float(value))
    return metric


def _registry(
    fetched: Fetched, chosen: Iterable[tuple[FactorRecord, FactorView]], *, textfile: bool = False
) -> CollectorRegistry:
    """Return a registry of these factors; of a ``textfile``, with what else the run knows, all of them gauges."""
    registry = CollectorRegistry()
    records = [record for record, _ in chosen]
    samples = factor_samples(fetched.config, NOT_IN_TEXTFILES if textfile else ())
    registry.register(FactorCollector(samples, lambda: records))
    if textfile and fetched.engine is not None:
        registry.register(_RunGauges(fetched, fetched.engine))
    return registry
