"""Hot reload: a new configuration is read beside the old one, and takes its place only when it is whole."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from exporter.config import ConfigError, current_fingerprint
from exporter.logs.output import fields
from exporter.threads import in_daemon_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.config import Config
    from exporter.daemon.engine import Engine
    from exporter.polling.roster import Difference

log = logging.getLogger(__name__)

RETRY_SECONDS = 60.0
_ERROR_LINES = 20


class ContentWatch:
    """Tells when files that are looked at again and again have a new content that is worth reading.

    A content is taken when two looks in a row agree on it, so that a file isn't read while it is written. One
    that was refused is tried again each minute, as its detail may lie in a file that is named in it. Times are
    seconds of one monotonic clock.
    """

    def __init__(self, in_force: str) -> None:
        self._in_force = in_force
        self._seen = in_force
        self._refused = ""
        self._refused_at = 0.0

    def look(self, digest: str, now: float) -> bool:
        """Take what the files hold now; return whether to read them."""
        steady = digest == self._seen
        self._seen = digest
        if not steady:
            return False
        if digest == self._in_force:  # put back after a refusal: read it, so that the refusal is over
            return bool(self._refused)
        return digest != self._refused or now - self._refused_at >= RETRY_SECONDS

    def taken(self, digest: str) -> None:
        """Note that this content is in force."""
        self._in_force = digest
        self._refused = ""

    def refused(self, now: float) -> None:
        """Note that the content seen last was refused."""
        self._refused, self._refused_at = self._seen, now


class Reloader:
    """Reads the configuration anew with ``load``, in a thread, and hands it to the engine when it is good.

    Both may raise :class:`ConfigError` to refuse it, and then nothing has changed.
    """

    def __init__(self, engine: Engine, load: Callable[[], Config]) -> None:
        self._engine = engine
        self._load = load
        self._watch = ContentWatch(engine.config.fingerprint)
        self._one = asyncio.Lock()
        self._told: list[str] = []

    async def look(self) -> None:
        """Reload where a file's content changed; called now and then."""
        config = self._engine.config
        digest = await in_daemon_thread(lambda: current_fingerprint(config), name="config-watch")
        if config is self._engine.config and self._watch.look(digest, self._engine.clock.steady()):
            log.debug("the content of the configuration changed")
            try:
                await self.reload(asked=False)
            except ConfigError:
                return  # told

    async def reload(self, *, asked: bool = True) -> Difference:
        """Read the configuration and put it in force; raises ConfigError with every detail where it is refused.

        Not ``asked`` for, a refusal for the same errors as before is not logged again.
        """
        engine = self._engine
        async with self._one:
            known = {str(warning) for warning in engine.config.warnings}
            try:
                config = await in_daemon_thread(self._load, name="config-load")
                difference = engine.adopt(config)
            except ConfigError as error:
                engine.config_good = False
                self._watch.refused(engine.clock.steady())
                self._tell(error, asked=asked)
                raise
            engine.config_good, engine.config_loaded_seconds = True, engine.clock.wall()
            self._watch.taken(config.fingerprint)
            self._told = []
        for warning in config.warnings:
            if str(warning) not in known:
                log.warning("%s", warning)
        log.info(
            "configuration reloaded",
            extra=fields(**difference._asdict(), config_sha256=config.sha256[:12]),
        )
        return difference

    def _tell(self, error: ConfigError, *, asked: bool) -> None:
        errors = [str(detail) for detail in error.errors]
        if errors == self._told and not asked:
            return
        self._told = errors
        log.error("configuration refused: the one in force stays", extra=fields(errors=len(errors)))
        for detail in errors[:_ERROR_LINES]:
            log.error("%s", detail)
        if len(errors) > _ERROR_LINES:
            log.error("and %d more; the command check tells them all", len(errors) - _ERROR_LINES)
