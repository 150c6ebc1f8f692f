"""What an account is asked for, and what a series of attempts at it brought."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from exporter.verify.outcome import Outcome, Page

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from exporter.polling.clients import FactorClient
    from exporter.polling.ledger import FactorRecord
    from exporter.verify.outcome import Attempt, Operation


@dataclass(frozen=True, slots=True)
class Call:
    """One thing to ask for: its name in the counters, the request, and the factor it is about, if any."""

    operation: Operation
    send: Callable[[FactorClient], Coroutine[Any, Any, Attempt]]
    about: FactorRecord | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """The last attempt of a series, and what the series took; see :class:`exporter.verify.outcome.Outcome`."""

    attempt: Attempt
    duration_seconds: float
    attempts: int
    alone: bool = False

    def outcome(self) -> Outcome:
        """Return the outcome of a fetch."""
        if isinstance(self.attempt.result, Page):
            raise TypeError("a page is no outcome of a fetch")
        return Outcome(
            result=self.attempt.result,
            duration_seconds=self.duration_seconds,
            attempts=self.attempts,
            code=self.attempt.code,
            request_id=self.attempt.request_id,
            alone=self.alone,
        )
