"""A day of polling in virtual time: the daemon's own parts over an API in memory that fails now and then.

``python -m tests.support.proofs.virtual_day`` prints what was seen as JSON; the defaults are the full size.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import math
import random
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from exporter.config import load
from exporter.daemon.daemon import Daemon
from exporter.polling.observer import Observer
from exporter.verify.outcome import Answer, ServiceAnswer, Status
from tests.support.config_files import write_config
from tests.support.scrape import Scrape
from tests.support.virtual_time import run_virtual, virtual_clock

if TYPE_CHECKING:
    from collections.abc import Container

    from exporter.config import Config
    from exporter.polling.clock import Clock
    from exporter.polling.ledger import Ledger
    from exporter.polling.record import FactorRecord, StatusChange
    from exporter.verify.outcome import Attempt, Outcome

SERVICES = tuple("VA" + digit * 32 for digit in "12345")
TIMEOUT_SECONDS = 10.0
LONGEST_FETCH_SECONDS = 3 * TIMEOUT_SECONDS + 3.0  # three attempts and the pauses between them
_TICK_SECONDS = 2.0
_TIME_TOLERANCE_SECONDS = 0.01
_VALID_SECONDS = 3 * 900.0  # the default of stale_after, times that of discovery_interval
_OUTAGE_SECONDS = 3600  # for so long a service is deleted
_OUTAGES_SECONDS = 3 * _OUTAGE_SECONDS  # from the beginning of one deletion to that of the next
_DATE = "2026-01-01T00:00:00Z"
_APPROVED = "2026-02-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class Day:
    """The size of a run: how many factors, for how long, and the share of requests that go wrong."""

    factors: int = 2000
    hours: float = 24.0
    warm_up_hours: float = 2.0
    faults: float = 0.05
    seed: int = 1


@dataclass(slots=True)
class Seen:
    """What came of it; ``faults`` is empty when all went well. Memory is resident, in bytes.

    ``services`` has how many samples said that a service exists ("1"), and that it doesn't ("0").
    """

    requests: int = 0
    fetches: int = 0
    retries: int = 0
    service_fetches: int = 0
    services: dict[str, int] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    missed: int = 0
    late_seconds: float = 0.0
    memory_warm: int = 0
    memory_end: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)

    @property
    def growth(self) -> float:
        """Growth of memory after the warm-up, as a share."""
        return self.memory_end / self.memory_warm - 1


class ApiInMemory(httpx.AsyncBaseTransport):
    """The Verify API behind httpx's transport interface: counts requests by operation and result.

    A service in ``deleted`` is not found, nor are its factors.
    """

    def __init__(self, rng: random.Random, faults: float) -> None:
        self.requests: Counter[tuple[str, str]] = Counter()
        self.verified: dict[str, bool] = {}
        self.deleted: set[str] = set()
        self._rng = rng
        self._faults = faults

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        _, _, _, service_sid, *path = request.url.path.split("/")
        operation, sid = ("fetch", path[-1]) if path else ("service", service_sid)
        fault = self._rng.choice(_FAULTS) if self._rng.random() < self._faults else None
        if fault == "timeout":
            self.requests[operation, "none"] += 1
            await asyncio.sleep(2 * TIMEOUT_SECONDS)
        await asyncio.sleep(self._rng.uniform(0.02, 0.3))
        if fault == "reset":
            self.requests[operation, "none"] += 1
            raise ConnectionResetError(104, "Connection reset by peer")
        if fault == "html":
            return self._answer(operation, 200, content=b"<html>")
        if isinstance(fault, int):
            return self._answer(operation, fault, json={"code": 20500, "status": fault})
        if service_sid in self.deleted or (path and sid not in self.verified):
            return self._answer(operation, 404, json={"code": 20404, "message": "not found", "status": 404})
        if not path:
            return self._answer(operation, 200, json={"sid": sid})
        status = "verified" if self.verified[sid] else "unverified"
        return self._answer(
            operation,
            200,
            json={
                "sid": sid,
                "status": status,
                **kind_of(sid),
                "date_created": _DATE,
                "date_updated": _DATE,
            },
        )

    def _answer(self, operation: str, code: int, **content: Any) -> httpx.Response:
        self.requests[operation, str(code)] += 1
        return httpx.Response(code, headers={"Twilio-Request-Id": "RQ" + "0" * 32}, **content)


_KINDS: tuple[dict[str, Any], ...] = (
    *({"factor_type": "push", "config": {"notification_platform": name}} for name in ("apn", "fcm", "none", "hms")),
    {"factor_type": "totp"},
    {"factor_type": "passkeys", "metadata": {"date_last_approved": _APPROVED}},
    {"factor_type": "passkeys", "metadata": None},
    {"factor_type": "a-later-type"},
    {},
)


def kind_of(sid: str) -> dict[str, Any]:
    """Return what the API says of this factor besides its status and dates."""
    return _KINDS[int(sid[-2:], 16) % len(_KINDS)]


_FAULTS = ("timeout", "reset", "html", 500, 502, 503, 503)


class Answers(Observer):
    """Keeps what the answers say, and a scrape must show.

    An enrolment ends when a factor is seen verified for the first time, right after it was seen unverified.
    ``since`` has the names of the factors whose status was seen to begin.
    """

    def __init__(self) -> None:
        self.enrolments: list[float] = []
        self.changes: Counter[tuple[str, str]] = Counter()
        self.since: set[str] = set()
        self._shown: dict[Any, Status] = {}
        self._last: dict[Any, Status] = {}
        self._verified: set[Any] = set()

    def fetched(self, record: FactorRecord, outcome: Outcome, change: StatusChange | None) -> None:
        """Take an answer."""
        if not isinstance(answer := outcome.result, Answer):
            return
        key, status = record.watched.key, answer.status
        shown, last = self._shown.get(key), self._last.get(key)
        if status is Status.VERIFIED:
            if shown is Status.UNVERIFIED and key not in self._verified:
                self.enrolments.append((record.answered_seconds or 0.0) - (answer.created_seconds or 0.0))
            self._verified.add(key)
        if last not in (None, status):
            self.changes[str(last), str(status)] += 1
        if shown is not status:
            (self.since.discard if last in (None, status) else self.since.add)(record.watched.name)
        self._shown[key] = self._last[key] = status

    def withdrawn(self, record: FactorRecord) -> None:
        """Forget an answer that became stale, but not what it was."""
        self._shown.pop(record.watched.key, None)
        self.since.discard(record.watched.name)


class Changes(Observer):
    """Notes when the status of a factor changed, and when it became stale."""

    def __init__(self) -> None:
        self.seen: dict[Any, list[tuple[float | None, Status | None]]] = {}

    def fetched(self, record: FactorRecord, outcome: Outcome, change: StatusChange | None) -> None:
        """Note another status."""
        seen = self.seen.setdefault(record.watched.key, [])
        if record.status is not (seen[-1][1] if seen else None):
            seen.append((record.status_since_seconds, record.status))

    def withdrawn(self, record: FactorRecord) -> None:
        """Note that there is none."""
        self.seen[record.watched.key].append((record.status_since_seconds, None))


class Existence(Observer):
    """Keeps what Fetch Service says, and whether a scrape must show it.

    A factor that is found shows that its service exists, until Fetch Service answers again.
    """

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self.fetches = 0
        self._ledger = ledger
        self._clock = clock
        self._exists: dict[str, tuple[bool, float]] = {}  # with the steady time of the answer, in seconds
        self._missing_since: dict[str, float] = {}

    def fetched(self, record: FactorRecord, outcome: Outcome, change: StatusChange | None) -> None:
        """Take an answer for a factor."""
        if not isinstance(outcome.result, Answer):
            return
        sid = record.watched.key.service_sid
        if outcome.result.status is Status.NOT_FOUND:
            self._missing_since.setdefault(sid, self._clock.steady())
        elif sid in self._exists:
            self._exists[sid] = True, self._exists[sid][1]
        self._none_missing(sid)

    def withdrawn(self, record: FactorRecord) -> None:
        """Take it that the factor is no longer known to be missing."""
        self._none_missing(record.watched.key.service_sid)

    def _none_missing(self, sid: str) -> None:
        if not self._ledger.missing(("main", sid)):
            self._missing_since.pop(sid, None)

    def service_fetched(self, account: str, service_sid: str, attempt: Attempt, before: bool | None) -> None:
        """Take an answer for a service."""
        self.fetches += 1
        if isinstance(attempt.result, ServiceAnswer):
            self._exists[service_sid] = attempt.result.exists, self._clock.steady()

    def allowed(self) -> dict[str, float]:
        """Return the value of each service of which anything was ever answered."""
        return {sid: float(exists) for sid, (exists, _) in self._exists.items()}

    def demanded(self) -> set[str]:
        """Return the services with missing factors that were fetched since, with an answer that is still valid."""
        now = self._clock.steady()
        return {
            sid
            for sid, since in self._missing_since.items()
            if sid in self._exists and since <= self._exists[sid][1] and now < self._exists[sid][1] + _VALID_SECONDS
        }

    def check(self, page: Scrape, seen: Seen) -> None:
        """See that a scrape shows what Fetch Service said, and nothing that it did not say."""
        shown = {s.labels["service_sid"]: s.value for s in page.samples("twilio_verify_service_exists")}
        if not shown.items() <= self.allowed().items():
            seen.faults.append(f"services: {shown} here, {self.allowed()} at the API")
        if lacking := self.demanded() - shown.keys():
            seen.faults.append(f"services with missing factors are not shown: {sorted(lacking)}")
        for value in shown.values():
            seen.services[f"{value:g}"] = seen.services.get(f"{value:g}", 0) + 1


class Witness:
    """Sees every fetch start, and that no factor goes without one for longer than its interval."""

    def __init__(self, daemon: Daemon, seen: Seen) -> None:
        self._engine = daemon.engine
        self._seen = seen
        self._fetched: dict[Any, tuple[float, float]] = {}
        self._started = daemon.engine.poller.accounts["main"]._start  # called when a due fetch takes its slot
        daemon.engine.poller.accounts["main"]._queue._start = self.start

    def start(self, key: Any, lag_seconds: float) -> None:
        now = self._engine.clock.steady()
        if key in self._fetched:
            before, interval = self._fetched[key]
            if now - before > max(interval, self._engine.ledger[key].interval_seconds) + LONGEST_FETCH_SECONDS:
                self._seen.missed += 1
        self._fetched[key] = now, self._engine.ledger[key].interval_seconds
        self._seen.late_seconds = max(self._seen.late_seconds, lag_seconds)
        self._started(key, lag_seconds)

    def end(self) -> None:
        """Count the factors that are no longer fetched."""
        now = self._engine.clock.steady()
        for record in self._engine.ledger:
            before, _ = self._fetched.get(record.watched.key, (0.0, 0.0))
            if now - before > record.interval_seconds + LONGEST_FETCH_SECONDS:
                self._seen.missed += 1


async def live_through(day: Day, config: Config, api: ApiInMemory, rng: random.Random) -> Seen:
    """Let the daemon poll for as long as the day says, statuses changing meanwhile."""
    loop, seen, began = asyncio.get_running_loop(), Seen(), time.monotonic()
    daemon = Daemon(config, transport=lambda _account: api, clock=virtual_clock(), rng=rng)
    witness, answers, changes = Witness(daemon, seen), Answers(), Changes()
    existence = Existence(daemon.engine.ledger, daemon.engine.clock)
    daemon.engine.observers.add(answers, changes, existence)
    daemon.engine.roster.list(config.factors)
    sids = [watched.key.factor_sid for watched in config.factors]
    for second in range(round(day.hours * 3600)):
        daemon.engine.poller.dispatch()
        daemon.engine.discover()
        if second % 10 == 0:
            daemon.engine.housekeeping()
            daemon.flush_log()
        if second % 20 == 0:
            sid = rng.choice(sids)
            if api.verified.pop(sid, None) is None or rng.random() < 0.8:
                api.verified[sid] = rng.random() < 0.8
        if second % _OUTAGES_SECONDS == _OUTAGE_SECONDS:
            api.deleted.add(rng.choice(SERVICES))
        if second % _OUTAGES_SECONDS == 2 * _OUTAGE_SECONDS:
            api.deleted.clear()
        if second % 900 == 0:
            page = Scrape(bytes(daemon.view.exposition(openmetrics=False)).decode())
            check(page, answers, seen)
            existence.check(page, seen)
        if second == round(day.warm_up_hours * 3600):
            seen.memory_warm = resident_bytes()
        await asyncio.sleep(max(0.0, second + 1 - loop.time()))
    seen.memory_end = resident_bytes()
    witness.end()
    while daemon.engine.poller.accounts["main"].busy:  # noqa: ASYNC110 - in virtual time: what is due comes to its end
        await asyncio.sleep(1)
    await daemon.engine.poller.drain(0)
    seen.service_fetches = existence.fetches
    compare(daemon, api, answers, seen)
    compare_history(daemon, changes, seen)
    seen.seconds = round(time.monotonic() - began, 1)
    return seen


def check(page: Scrape, answers: Answers, seen: Seen) -> None:
    """See that the aggregates of a scrape are those of its factors, and the factors those of the API."""
    counts = page.counts()
    for status, shown in (("verified", 1.0), ("unverified", 0.0)):
        if counts[status] != sum(s.value == shown for s in page.samples("twilio_verify_factor_verified")):
            seen.faults.append(f"{status} factors are miscounted")
    statuses = {
        sample.labels["factor"]: ("unverified", "verified")[int(sample.value)]
        for sample in page.samples("twilio_verify_factor_verified")
    }
    infos = page.samples("twilio_verify_factor_info")
    types = {sample.labels["factor"]: sample.labels["factor_type"] for sample in infos}
    for kind in ("push", "totp", "passkeys"):
        for status in ("verified", "unverified"):
            of_kind = sum(types[name] == kind for name, of in statuses.items() if of == status)
            if page.total("twilio_verify_factors_by_type", factor_type=kind, status=status) != of_kind:
                seen.faults.append(f"{status} {kind} factors are miscounted")
    for status, count in counts.items():
        if page.total("twilio_verify_factors_by_type", status=status) != count:
            seen.faults.append(f"{status} factors are miscounted by type")
    if page.total("twilio_verify_factor_fetch_failures_total") != page.total("twilio_verify_fetch_failures_total"):
        seen.faults.append("the failures of the factors are not those of their services")
    check_api(page, statuses, seen)
    since = page.samples("twilio_verify_factor_status_since_timestamp_seconds")
    if {sample.labels["factor"] for sample in since} != answers.since:
        seen.faults.append("not all seen changes of status have a time, or others do")


def check_api(page: Scrape, found: Container[str], seen: Seen) -> None:
    """See that a scrape shows what the API says of the factors that it found."""
    infos = page.samples("twilio_verify_factor_info")
    kinds = {s.labels["factor"]: kind_of(s.labels["factor_sid"]) for s in infos if s.labels["factor"] in found}
    platforms = Counter(kind["config"]["notification_platform"] for kind in kinds.values() if "config" in kind)
    platforms["other"] = platforms.pop("hms", 0)  # one that the exporter doesn't know
    for platform in ("apn", "fcm", "none", "other"):
        if page.total("twilio_verify_push_factors", notification_platform=platform) != platforms[platform]:
            seen.faults.append(f"push factors with the platform {platform} are miscounted")
    approved = page.samples("twilio_verify_factor_last_approved_timestamp_seconds")
    if {sample.labels["factor"] for sample in approved} != {name for name in kinds if kinds[name].get("metadata")}:
        seen.faults.append("not all approved passkeys have the time, or others do")
    if any(sample.value != datetime.fromisoformat(_APPROVED).timestamp() for sample in approved):
        seen.faults.append("the time of an approval is another one")


def compare(daemon: Daemon, api: ApiInMemory, answers: Answers, seen: Seen) -> None:
    """See that every counter equals what the API counted itself."""
    page = Scrape(bytes(daemon.view.exposition(openmetrics=False)).decode())
    check(page, answers, seen)
    counted = {
        (sample.labels["operation"], sample.labels["code"]): int(sample.value)
        for sample in page.samples("twilio_verify_api_requests_total")
        if sample.value
    }
    if counted != dict(api.requests):
        seen.faults.append(f"requests: {counted} here, {dict(api.requests)} at the API")
    enrolled = page.total("twilio_verify_enrolment_duration_seconds_count")
    if enrolled != len(answers.enrolments):
        seen.faults.append(f"{enrolled:g} enrolments here, {len(answers.enrolments)} seen")
    if not math.isclose(page.total("twilio_verify_enrolment_duration_seconds_sum"), sum(answers.enrolments)):
        seen.faults.append("the enrolments took a different time")
    changes = Counter[tuple[str, str]]()
    for sample in page.samples("twilio_verify_factor_status_changes_total"):
        changes[sample.labels["from"], sample.labels["to"]] += int(sample.value)
    if +changes != answers.changes:
        seen.faults.append(f"changes of status: {dict(+changes)} here, {dict(answers.changes)} seen")
    seen.requests = api.requests.total()
    seen.fetches = int(page.total("twilio_verify_fetches_total"))
    seen.retries = int(page.total("twilio_verify_api_retries_total"))
    seen.failures = {reason: int(count) for reason, count in page.failures().items()}
    if seen.fetches + seen.service_fetches + seen.retries != seen.requests:
        seen.faults.append(
            f"{seen.fetches} fetches, {seen.service_fetches} of services and {seen.retries} retries "
            f"are not {seen.requests} requests"
        )
    durations = page.total("twilio_verify_api_request_duration_seconds_count")
    if durations != seen.requests:
        seen.faults.append(f"{durations:g} durations of {seen.requests} requests")


def compare_history(daemon: Daemon, changes: Changes, seen: Seen) -> None:
    """See that the history has every change, in order and at its time."""
    ledger, now = daemon.engine.ledger, daemon.engine.clock.moment()
    wrong = 0
    for record in ledger:
        periods = [(of.start_seconds, of.status) for of in ledger.history.periods(record, now)]
        of_factor = changes.seen.get(record.watched.key, [])
        known = periods[1:] if periods[0][1] is None else periods
        wrong += [status for _, status in known] != [status for _, status in of_factor] or any(
            abs(time - (since or 0.0)) > _TIME_TOLERANCE_SECONDS
            for (time, _), (since, _) in zip(known, of_factor, strict=False)
        )
    if wrong:
        seen.faults.append(f"the status history of {wrong} factors is wrong")


def resident_bytes() -> int:
    """Return the process's resident memory, once what is garbage is gone."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096


def run(day: Day) -> Seen:
    """Live through a day and return what was seen."""
    rng = random.Random(day.seed)
    api = ApiInMemory(rng, day.faults)
    with tempfile.TemporaryDirectory() as folder:
        entries = [
            {
                "name": f"factor-{number}",
                "service_sid": SERVICES[number % len(SERVICES)],
                "identity": f"identity-{number:06d}",
                "factor_sid": f"YF{rng.getrandbits(128):032x}",
            }
            for number in range(day.factors)
        ]
        api.verified = {str(entry["factor_sid"]): rng.random() < 0.9 for entry in entries if rng.random() < 0.97}
        account = {
            "account_sid": "AC" + "0" * 32,
            "password": "made-up",
            "requests_per_second": 100,
            "max_concurrency": 16,
        }
        path = write_config(
            Path(folder) / "config.toml",
            {"main": account},
            entries,
            polling={"interval": "5m", "unverified_interval": "1m", "timeout": "10s", "shutdown_timeout": "8s"},
        )
        config = load(path, environ={}, flags={})
    return run_virtual(live_through(day, config, api, rng))


def main() -> None:
    usual = Day()
    parser = argparse.ArgumentParser(description="a day of polling in virtual time")
    parser.add_argument("--factors", type=int, default=usual.factors)
    parser.add_argument("--hours", type=float, default=usual.hours)
    parser.add_argument("--warm-up-hours", type=float, default=usual.warm_up_hours)
    arguments = parser.parse_args()
    seen = run(Day(arguments.factors, arguments.hours, arguments.warm_up_hours))
    print(json.dumps(asdict(seen) | {"growth": seen.growth}, indent=2))


if __name__ == "__main__":
    main()
