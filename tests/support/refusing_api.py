"""An API that refuses credentials."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.verify.outcome import Reason, Status
from tests.support.factors import factors, key
from tests.support.polling_harness import PollingHarness, Reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.watched import FactorKey, WatchedFactor

REFUSALS = (Reason.AUTH, Reason.FORBIDDEN)


def refuse(*refused: FactorKey, reason: Reason = Reason.FORBIDDEN) -> Callable[[WatchedFactor], Reply]:
    """Return a rule that refuses these factors, or all of them if none is named."""
    return lambda watched: Reply(reason if not refused or watched.key in refused else Status.VERIFIED)


async def paused_harness(count: int = 10, *, reason: Reason = Reason.AUTH, services: int = 1) -> PollingHarness:
    """Return polling whose account was just paused for its credentials."""
    env = PollingHarness(factors(count, services=services, interval=60.0))
    env.client.rule = refuse(reason=reason)
    env.offer(key(0))
    await env.until(lambda: env.account.credentials_valid is False)
    return env
