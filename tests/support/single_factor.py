"""A ledger with one factor, for tests that follow it through time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.polling.clock import Moment
from exporter.polling.ledger import Ledger, LedgerPolicy
from exporter.verify.outcome import Answer, Outcome, Reason, Status
from tests.support.factors import SERVICES, factor, outcome
from tests.support.virtual_time import START

if TYPE_CHECKING:
    from exporter.polling.record import StatusChange


class Watched:
    """A ledger with one factor and a clock that the test moves."""

    def __init__(self, policy: LedgerPolicy | None = None, interval: float = 300.0) -> None:
        self.ledger = Ledger(policy or LedgerPolicy())
        self.record = self.ledger.watch(factor(1, interval=interval))
        self.key = self.record.watched.key
        self.now = START
        self.wall_step = 0.0

    @property
    def moment(self) -> Moment:
        return Moment(self.now + self.wall_step, self.now)

    def take(self, result: Outcome | Status | Reason | Answer, *, after: float = 0.0) -> StatusChange | None:
        self.now += after
        taken = result if isinstance(result, Outcome) else outcome(result)
        return self.ledger.apply(self.key, taken, self.moment)

    def expire(self, *, after: float) -> bool:
        self.now += after
        return self.ledger.expire(self.now) == [self.key]

    def counted(self) -> str:
        (status,) = [status for status, count in self.ledger.counts["main", SERVICES[0]].items() if count]
        return status
