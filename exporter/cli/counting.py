"""Finds out for ``plan --live`` what watchlist URLs list, and by List Entities how many entities services have.

Apart from the command because it sends requests: within each account's rate limit and concurrency, with retries.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from exporter.cli.costs import EntityCount
from exporter.daemon.engine import Engine
from exporter.daemon.parts import Confidential
from exporter.daemon.url_sources import with_first_answers
from exporter.logs.output import configure
from exporter.polling.listing import endless
from exporter.polling.observer import Observer
from exporter.verify.outcome import EntityPage, Failure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.config import Config
    from exporter.watched import ServiceKey, WatchedService

_POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Uncounted:
    """A service whose entities could not be counted, and why."""

    service: WatchedService
    failure: Failure

    def __str__(self) -> str:
        key = self.service.key
        place = f'{key.account}: service "{self.service.name}" ({key.service_sid})'
        detail = self.failure.detail or self.failure.reason.replace("_", " ")
        return f"{place}: not counted: {detail}; {self.failure.hint}"


class _Refusals(Observer):
    """Collects the accounts whose credentials were refused, and why."""

    def __init__(self) -> None:
        self.failures: dict[str, Failure] = {}

    def credentials_refused(self, account: str, failure: Failure) -> None:
        """Keep why an account was paused."""
        self.failures[account] = failure


async def find_out(config: Config, *, count: bool) -> tuple[Config, Mapping[ServiceKey, EntityCount], list[str]]:
    """Return the configuration with its URL sources, how many entities services have, and what failed.

    The entities are counted only if ``count`` is set. Raises ConfigError.
    """
    confidential = Confidential(config)
    configure(level="error", style="logfmt", redact=confidential.redactor)
    config = await with_first_answers(config)
    confidential.add(config)
    failed = [str(error) for errors in config.refused.values() for error in errors]
    if not count or not config.services:
        return config, {}, failed
    counts, uncounted = await count_entities(config, confidential)
    return config, counts, failed + [str(of) for of in uncounted]


async def count_entities(
    config: Config, confidential: Confidential
) -> tuple[dict[ServiceKey, EntityCount], list[Uncounted]]:
    """Return how many entities each ``[[services]]`` entry has, up to its ``max_entities``, and what failed.

    Raises ConfigError if the proxy or the certificates of an account can't be used.
    """
    engine = Engine(replace(config, factors=(), entities=()), confidential=confidential, one_shot=True)
    accounts = engine.poller.accounts
    refusals = _Refusals()
    engine.observers.add(refusals)
    tasks = {service: asyncio.ensure_future(_count(engine, service)) for service in config.services}
    try:
        while waiting := [
            task
            for service, task in tasks.items()
            if not task.done() and service.key.account not in refusals.failures
        ]:
            for account in accounts.values():
                account.dispatch()
            await asyncio.wait(waiting, timeout=_POLL_SECONDS)
    finally:
        for task in tasks.values():
            task.cancel()
        await engine.stop_now()
    counts: dict[ServiceKey, EntityCount] = {}
    failed: list[Uncounted] = []
    for service, task in tasks.items():
        result = task.result() if task.done() and not task.cancelled() else None
        if isinstance(result, EntityCount):
            counts[service.key] = result
        else:
            failed.append(Uncounted(service, result or refusals.failures[service.key.account]))
    return counts, failed


async def _count(engine: Engine, service: WatchedService) -> EntityCount | Failure | None:
    """Count a service's entities; ``None`` where polling stops."""
    account, shard = engine.poller.accounts[service.key.account], engine.config.shard
    total = own = 0
    query: str | None = None
    read: set[str | None] = set()
    while query not in read and len(read) <= service.max_entities:
        attempt = await account.request_entities(service.key.service_sid, query)
        page = None if attempt is None else attempt.result
        if not isinstance(page, EntityPage):
            return page if isinstance(page, Failure) else None
        room = service.max_entities - total
        own += sum(shard.holds(*service.key, entity.identity) for entity in page.entities[:room])
        total += len(page.entities[:room])
        truncated = len(page.entities) > room
        if truncated or page.next_query is None:
            return EntityCount(total, own, counted=True, truncated=truncated)
        read.add(query)
        query = page.next_query
    return endless(len(read))
