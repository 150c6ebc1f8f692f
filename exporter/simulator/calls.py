"""The simulator's own request counts and log, to compare with the metrics of a client."""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from types import TracebackType

    from exporter.simulator.target import Endpoint, Target


class ReceivedRequest(NamedTuple):
    """One finished request: Unix time of arrival, and the status sent (``none``: incomplete response)."""

    time: float
    operation: Endpoint
    factor_sid: str
    code: str


class CallCounts:
    """Exact counts of all requests; a request without a complete response has the code ``none``.

    ``total`` and ``by_factor`` count requests on arrival, ``by_code`` (operation, code) and ``log`` when they end.
    The log keeps the last ``log_size`` requests.
    """

    def __init__(self, log_size: int = 1000) -> None:
        self.total = 0
        self.by_code: Counter[tuple[str, str]] = Counter()
        self.by_factor: Counter[str] = Counter()
        self.in_flight = 0
        self.max_in_flight = 0
        self.log: deque[ReceivedRequest] = deque(maxlen=log_size)

    def begin(self, target: Target, arrived: float) -> OpenCall:
        """Count an arriving request; the returned context manager is open while it is in flight."""
        self.total += 1
        if target.factor_sid:
            self.by_factor[target.factor_sid] += 1
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        return OpenCall(self, target, arrived)

    def by_operation(self) -> dict[str, dict[str, int]]:
        """Return the finished requests as {operation: {code: count}}."""
        table: dict[str, dict[str, int]] = {}
        for (operation, code), count in sorted(self.by_code.items()):
            table.setdefault(operation, {})[code] = count
        return table

    def clear(self) -> None:
        """Reset all counts and the log; requests in flight stay counted as such."""
        self.total = 0
        self.by_code.clear()
        self.by_factor.clear()
        self.log.clear()
        self.max_in_flight = self.in_flight


class OpenCall:
    """A request in flight until the context is left; without a call of :meth:`ended` its code is ``none``."""

    __slots__ = ("_arrived", "_counts", "_over", "_target")

    def __init__(self, counts: CallCounts, target: Target, arrived: float) -> None:
        self._counts = counts
        self._target = target
        self._arrived = arrived
        self._over = False

    def ended(self, code: str) -> None:
        """Record the code of the response; later calls are ignored."""
        if not self._over:
            self._over = True
            operation = self._target.operation
            self._counts.by_code[operation.value, code] += 1
            self._counts.log.append(ReceivedRequest(self._arrived, operation, self._target.factor_sid, code))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended("none")
        self._counts.in_flight -= 1
