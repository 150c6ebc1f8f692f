"""Hot reload: a changed configuration is read and validated first, then applied as a whole or refused."""

from __future__ import annotations

import asyncio
import functools
import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from exporter.config import ConfigError, ErrorDetail, current_fingerprint, reload_errors
from exporter.config.garbage import without_collection
from exporter.logs.folding import FullLogger
from exporter.logs.output import fields
from exporter.polling.slices import in_slices, taken_apart
from exporter.threads import in_daemon_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
    from typing import Any

    from exporter.config import Config
    from exporter.polling.clock import Clock
    from exporter.polling.roster import Difference

log = FullLogger(logging.getLogger(__name__))

RETRY_SECONDS = 60.0
_LONGEST_WAIT_SECONDS = 4.0
"""Shorter than the time between two looks at the files, which would otherwise count as lost runs."""
_ERROR_LINES = 20


@dataclass(slots=True)
class ConfigStatus:
    """When the applied configuration was loaded, in wall seconds, and whether the last reload succeeded."""

    loaded_seconds: float
    successful: bool = True


class ContentWatch:
    """Decides whether files that are read again and again have new content worth loading.

    Content counts when two readings in a row agree, so that a file is not loaded while it is written. Refused
    content is tried again every minute, as its error may be in a file that it names. Times are seconds of one
    monotonic clock.
    """

    def __init__(self, applied: str) -> None:
        self._applied = applied
        self._seen = applied
        self._refused = ""
        self._refused_at = 0.0

    def changed(self, digest: str, now: float) -> bool:
        """Take the digest of what the files hold now; return whether to load them."""
        settled = digest == self._seen
        self._seen = digest
        if not settled:
            return False
        if digest == self._applied:  # restored after a refusal: load it, so that the refusal ends
            return bool(self._refused)
        return digest != self._refused or now - self._refused_at >= RETRY_SECONDS

    def applied(self, digest: str) -> None:
        """Note that this content is applied."""
        self._applied = digest
        self._refused = ""

    def retry(self) -> None:
        """Let refused content be tried again now: what it didn't fit has changed."""
        self._refused_at = -math.inf

    def refused(self, now: float) -> None:
        """Note that the content seen last was refused."""
        self._refused, self._refused_at = self._seen, now


class NewSources(Protocol):
    """Loads the URL sources that are new in a configuration."""

    async def complete(self, config: Config) -> Config:
        """Return a configuration with the answers of its new sources."""

    @property
    def new_problems(self) -> Iterable[ErrorDetail]:
        """What went wrong with them."""


class Reloader:
    """Reads the configuration again with ``load``, in a thread, and has ``apply`` apply a valid one.

    One reload runs at a time, and goes on where its caller no longer waits: half of a list is never left applied.
    Both may raise :class:`ConfigError` to refuse it, and then nothing has changed; so does what
    :func:`~exporter.config.reload_errors` finds. The result goes to ``status``. ``sources`` load the URL sources
    that are new in it.
    """

    def __init__(
        self,
        config: Config,
        *,
        load: Callable[[], Config],
        apply: Callable[[Config], Awaitable[Difference]],
        status: ConfigStatus,
        clock: Clock,
        sources: NewSources | None = None,
    ) -> None:
        self._config = config
        self._sources = sources
        self._load = load
        self._apply = apply
        self._status = status
        self._clock = clock
        self._watch = ContentWatch(config.fingerprint)
        self._lock = asyncio.Lock()
        self._logged_errors: list[str] = []
        self._slow: asyncio.Task[None] | None = None
        self._running: set[asyncio.Task[Difference]] = set()
        self._stopped = False

    async def reload_if_changed(self) -> None:
        """Reload where the content of a file changed; called regularly.

        A reload that waits for a URL source is left to itself after a few seconds.
        """
        config = self._config
        digest = await in_daemon_thread(functools.partial(current_fingerprint, config), name="config-watch")
        if self._slow is not None and not self._slow.done():
            return
        if config is not self._config or not self._watch.changed(digest, self._clock.steady()):
            return
        del config  # a reload frees it in slices
        log.debug("configuration files changed")
        self._slow = asyncio.ensure_future(self._reload_and_log())
        await asyncio.wait((self._slow,), timeout=_LONGEST_WAIT_SECONDS)
        if self._slow.done():
            self._slow.result()

    async def _reload_and_log(self) -> None:
        try:
            await self.reload(requested=False)
        except ConfigError:
            return  # logged

    async def stop(self) -> None:
        """End what is still running, and apply nothing from now on."""
        self._stopped = True
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _to_its_end(self, work: Coroutine[Any, Any, Difference]) -> Difference:
        """Return what a coroutine returns; it ends even if this call is cancelled, as when a client disconnects."""
        if self._stopped:
            work.close()
            raise _stopping()
        task = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        await asyncio.wait((task,))
        if task.cancelled():
            raise _stopping()
        return task.result()

    async def reload(self, *, requested: bool = True) -> Difference:
        """Read the configuration and apply it; raises ConfigError with every error where it is refused.

        The same errors as before are logged again only for a ``requested`` reload.
        """
        return await self._to_its_end(self._reload(requested=requested))

    async def _reload(self, *, requested: bool) -> Difference:
        async with self._lock:
            old = self._config
            try:
                config = await in_daemon_thread(self._load_or_locate, name="config-load")
                if self._sources is not None:
                    config = await self._sources.complete(config)
                self._check(config, () if self._sources is None else self._sources.new_problems)
                with without_collection():
                    difference = await self._apply(config)
            except ConfigError as error:
                self._status.successful = False
                self._watch.refused(self._clock.steady())
                self._log_errors(error, requested=requested)
                raise
            except Exception:
                self._status.successful = False
                raise
            self._config = config
            self._status.successful, self._status.loaded_seconds = True, self._clock.wall()
            self._watch.applied(config.fingerprint)
            self._logged_errors = []
        self._log_warnings(old, config)
        factors = [*old.factors]
        del old
        await in_slices(taken_apart(factors))
        log.info(
            "configuration reloaded",
            extra=fields(**difference._asdict(), config_sha256=config.sha256[:12]),
        )
        return difference

    def _load_or_locate(self) -> Config:
        """Load a configuration; raises ConfigError with the line and column of every error."""
        try:
            return self._load()
        except ConfigError as error:
            from exporter.config.lines import located  # noqa: PLC0415  # for refused configurations only

            raise located(error) from None

    async def change(self, make: Callable[[Config], Config]) -> Difference:
        """Make another configuration of the applied one, in a thread, and apply it; raises ConfigError.

        No file is read for it, so that it's no reload: whether the last one succeeded stays as it is.
        """
        return await self._to_its_end(self._change(make))

    async def _change(self, make: Callable[[Config], Config]) -> Difference:
        async with self._lock:
            old = self._config
            config = await in_daemon_thread(functools.partial(make, old), name="watchlist-load")
            self._check(config)
            with without_collection():
                difference = await self._apply(config)
            self._config = config
            self._watch.retry()
        self._log_warnings(old, config)
        factors = [*old.factors]
        del old
        await in_slices(taken_apart(factors))
        return difference

    def _check(self, config: Config, more: Iterable[ErrorDetail] = ()) -> None:
        if errors := reload_errors(self._config, config):
            raise ConfigError([*errors, *more])

    def _log_warnings(self, old: Config, new: Config) -> None:
        """Log the warnings that are new."""
        known = {str(warning) for warning in old.warnings}
        for warning in new.warnings:
            if str(warning) not in known:
                log.warning("configuration warning", extra=fields(warning=str(warning)))

    def _log_errors(self, error: ConfigError, *, requested: bool) -> None:
        errors = [str(detail) for detail in error.errors]
        if errors == self._logged_errors and not requested:
            return
        self._logged_errors = errors
        log.error("configuration refused", extra=fields(errors=len(errors)))
        log_config_errors(errors)


def _stopping() -> ConfigError:
    return ConfigError([ErrorDetail("configuration", "was not applied, because the exporter is stopping")])


def log_config_errors(errors: Sequence[str]) -> None:
    """Log the first errors of a configuration, and how many more there are."""
    for detail in errors[:_ERROR_LINES]:
        log.error("configuration error", extra=fields(error=detail))
    if len(errors) > _ERROR_LINES:
        log.error(
            "more configuration errors not logged",
            extra=fields(errors=len(errors) - _ERROR_LINES, hint="run the check command to list all"),
        )
