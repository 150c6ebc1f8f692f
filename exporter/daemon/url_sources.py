"""Keeps the watchlists behind URLs up to date: when each is loaded, and what becomes of its answers."""

from __future__ import annotations

import functools
import hashlib
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from exporter.config import ConfigError, ErrorDetail, SourceAnswer, SourceFailure, with_answers
from exporter.config.watchlist import source_place
from exporter.daemon.url_source import NotModified, SourceTransports, load_source, load_sources
from exporter.logs.folding import FullLogger
from exporter.logs.output import fields
from exporter.threads import in_daemon_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
    from typing import Any

    from exporter.config import Config, HttpSource
    from exporter.config.last_good import LastGoodReader
    from exporter.daemon.url_source import SourceResult, Transport
    from exporter.polling.clock import Clock
    from exporter.polling.roster import Difference

    Change = Callable[[Callable[[Config], Config]], Awaitable[Difference]]
    """Makes another configuration of the applied one in a thread and applies it; raises ConfigError."""

log = FullLogger(logging.getLogger(__name__))

_LONGEST_WAIT_SECONDS = 30.0
"""How long a start or a reload waits for a URL, if its timeout is longer."""
_ERRORS_SHOWN = 5
_MOST_KINDS = 100
"""The kinds of failures that are logged before the next success."""


async def with_first_answers(
    config: Config, *, last_good: LastGoodReader | None = None, transport: Transport | None = None
) -> Config:
    """Load every URL source of a configuration once, as a start does; raises ConfigError.

    A source that can't be used is replaced by its last good entries, or adds nothing.
    """
    if not config.http:
        return config
    answers = await load_sources(config.http, transport=transport, longest_seconds=_LONGEST_WAIT_SECONDS)
    return await in_daemon_thread(
        lambda: with_answers(config, answers, last_good=last_good, start=True), name="watchlist-load"
    )


class _Refused(NamedTuple):
    """An answer that was refused, by its digest, with the configuration that it didn't fit."""

    sha256: str
    config: Config
    errors: Sequence[ErrorDetail]


@dataclass(slots=True)
class SourceStatus:
    """What is known of a source: when it's due, whether its last load succeeded, and if not, why.

    ``up`` is ``None`` before the first load has ended. ``refused`` is the answer that was refused last.
    ``secret_problem`` is why its secret's file can't be used. ``logged`` are the failures logged since the last
    success.
    """

    source: HttpSource
    due: float
    up: bool | None = None
    last_success_seconds: float | None = None
    problems: tuple[str, ...] = ()
    refused: _Refused | None = None
    secret_problem: str | None = None
    logged: set[str] = field(default_factory=set)
    loading: bool = False


class UrlSources:
    """Loads every URL source at its interval, one request at a time for each, and applies what changed.

    ``change`` applies an answer, ``spawn`` runs a coroutine in the background. ``last_good`` is used only while the
    last good watchlist stands in for the watchlist files. The interval of a source begins at a hash of its name and
    the shard, so that several sources and several exporters don't ask at the same moment.
    """

    def __init__(
        self,
        config: Config,
        *,
        change: Change,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        clock: Clock,
        last_good: LastGoodReader,
        transport: Transport | None = None,
    ) -> None:
        self._config = config
        self._change = change
        self._spawn = spawn
        self._clock = clock
        self._last_good = last_good
        self._transport = transport or SourceTransports()
        self._statuses: dict[str, SourceStatus] = {}
        self._found: dict[str, tuple[ErrorDetail, ...]] = {}
        self._loaded = {name for name, answer in config.answers.items() if answer.saved is None}
        self.applied(config)

    @property
    def statuses(self) -> Mapping[str, SourceStatus]:
        """The status of each source, by name."""
        return self._statuses

    def applied(self, config: Config) -> None:
        """Note that a configuration is applied: begin its new sources, and keep what is known of the others."""
        self._config = config
        before, self._statuses = self._statuses, {}
        for source in config.http:
            known = before.get(source.name)
            if known is not None and known.source == source:
                known.source = source  # its secret may be in another file's place
                self._statuses[source.name] = known
            else:
                self._statuses[source.name] = self._begin(config, source, before)
        self._found, self._loaded = {}, set()

    def _begin(self, config: Config, source: HttpSource, before: Mapping[str, SourceStatus]) -> SourceStatus:
        """Return the status of a source that a start or a reload has loaded, or that is due now.

        One whose URL stays the same, with another name or other settings, goes on from what is known ``before``.
        """
        now = self._clock.steady()
        status = SourceStatus(source, now)
        known = [before[source.name]] if source.name in before else []
        known += [of for name, of in before.items() if all(name != other.name for other in config.http)]
        if (same := next((of for of in known if of.source.url == source.url), None)) is not None:
            status.up, status.last_success_seconds = same.up, same.last_success_seconds
            status.problems, status.logged = same.problems, same.logged
        if problems := config.refused.get(source.name) or self._found.get(source.name):
            self._plan(status, now)
            self._failed(status, problems)
        elif source.name in self._loaded:
            self._plan(status, now)
            status.up, status.last_success_seconds = True, self._clock.wall()
        return status

    def _plan(self, status: SourceStatus, now: float) -> None:
        interval = status.source.refresh_interval_seconds
        shard = self._config.shard
        digest = hashlib.blake2b(f"{status.source.name}\0{shard.ordinal}".encode(), digest_size=8).digest()
        phase = int.from_bytes(digest) / 2**64 * interval
        status.due = now + max(interval - (now - phase) % interval, 0.001)  # never now, by rounding

    # Loading

    def refresh_soon(self) -> None:
        """Make every source due now: a reload was requested."""
        now = self._clock.steady()
        for status in self._statuses.values():
            status.due = min(status.due, now)

    def dispatch(self) -> None:
        """Start the loads that are due; called every second."""
        now = self._clock.steady()
        for status in self._statuses.values():
            if now >= status.due and not status.loading:
                status.loading = True
                self._plan(status, now)
                self._spawn(self._refresh(status))

    async def _refresh(self, status: SourceStatus) -> None:
        """Load a source, and apply its answer if it changed."""
        source = status.source
        try:
            current = self._config.answers.get(source.name)
            usable = current is not None and current.saved is None and current.url == source.url
            etag = current.etag if current is not None and usable else ""
            result = await load_source(source, etag=etag, transport=self._transport)
            self._log_secret(status)
            await self._take(status, result)
        except Exception as error:
            log.exception("watchlist source not applied", extra=fields(source=source.name))
            problem = f"could not be applied, because of an unexpected error ({type(error).__name__})"
            self._failed(status, [ErrorDetail(source.place, problem)])
        finally:
            status.loading = False

    def _log_secret(self, status: SourceStatus) -> None:
        source = status.source
        if (secret := source.secret) is None or secret.problem == status.secret_problem:
            return
        status.secret_problem = secret.problem
        if secret.problem is not None:
            log.error(
                "secret of watchlist source not read and previous one kept",
                extra=fields(source=source.name, file=secret.path, problem=secret.problem),
            )

    async def _take(self, status: SourceStatus, result: SourceResult) -> None:
        source = status.source
        if self._statuses.get(source.name) is not status:
            return  # a reload dropped the source meanwhile, or changed its URL
        if isinstance(result, SourceFailure):
            self._failed(status, [ErrorDetail(source.place, result.problem, result.hint)])
            return
        current = self._config.answers.get(source.name)
        if isinstance(result, NotModified) or (
            current is not None and current.saved is None and current.sha256 == result.sha256
        ):
            self._succeeded(status)
            return
        refused = status.refused
        if refused is not None and refused.sha256 == result.sha256 and refused.config is self._config:
            self._failed(status, refused.errors)  # what was wrong with it still is
            return
        try:
            difference = await self._change(functools.partial(self._changed, source.name, result))
        except ConfigError as error:
            if self._statuses.get(source.name) is status:
                status.refused = _Refused(result.sha256, self._config, error.errors)
                self._failed(status, error.errors)
            return
        self._succeeded(status)
        log.info(
            "watchlist source changed",
            extra=fields(source=source.name, **difference._asdict(), config_sha256=self._config.sha256[:12]),
        )

    def _changed(self, name: str, answer: SourceAnswer, config: Config) -> Config:
        if all((of.name, of.url) != (name, answer.url) for of in config.http):  # a reload came first
            raise ConfigError([ErrorDetail(source_place(name), "is no longer configured with this URL")])
        return with_answers(config, {name: answer}, last_good=self._last_good)

    # Results

    def _succeeded(self, status: SourceStatus) -> None:
        if status.problems:
            log.info("watchlist source recovered", extra=fields(source=status.source.name))
        status.up, status.last_success_seconds = True, self._clock.wall()
        status.problems, status.refused = (), None
        status.logged.clear()

    def _failed(self, status: SourceStatus, errors: Sequence[ErrorDetail]) -> None:
        """Note a failure, and log it if it is of a new kind since the last success."""
        status.up = False
        status.problems = tuple(map(described, errors))
        kind = status.problems[0]
        if kind in status.logged or len(status.logged) >= _MOST_KINDS:
            return
        status.logged.add(kind)
        name = status.source.name
        answer = self._config.answers.get(name)
        log.error(
            "watchlist source failed",
            extra=fields(
                source=name,
                entries=0 if answer is None else self._config.source_entries.get(name, 0),
                errors=len(errors),
                error="\n".join(status.problems[:_ERRORS_SHOWN]),
            ),
        )

    # Reloads

    async def complete(self, config: Config) -> Config:
        """Load the sources that are new in a configuration, or have another URL; return it with their answers.

        What goes wrong is known to :attr:`new_problems`: such a source keeps the answer of its old URL, or adds
        nothing.
        """
        self._found, self._loaded = {}, set()
        new = [of for of in config.http if of.name not in config.answers or config.answers[of.name].url != of.url]
        new = [of for of in new if not self._is_known(of)]
        results = await load_sources(new, transport=self._transport, longest_seconds=_LONGEST_WAIT_SECONDS)
        for name, result in results.items():
            if isinstance(result, SourceFailure):
                place = next(of.place for of in new if of.name == name)
                self._found[name] = (ErrorDetail(place, result.problem, result.hint),)
                continue
            try:
                config = await in_daemon_thread(
                    functools.partial(self._changed, name, result, config), name="watchlist-load"
                )
                self._loaded.add(name)
            except ConfigError as error:
                self._found[name] = error.errors
        return config

    def _is_known(self, source: HttpSource) -> bool:
        known = self._statuses.get(source.name)
        return known is not None and known.source == source

    @property
    def new_problems(self) -> Iterable[ErrorDetail]:
        """What went wrong with the new sources of the configuration completed last."""
        return [error for errors in self._found.values() for error in errors]


def described(error: ErrorDetail) -> str:
    """Return an error with the name of its entry."""
    place = f'{error.place} of "{error.name}"' if error.name else error.place
    return f"{place}: {error.problem}; {error.hint}" if error.hint else f"{place}: {error.problem}"
