"""What an account requests from the API: a factor, a page of a listing, or a service, with the attempts it took."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from exporter.verify.outcome import Attempt, Failure, Operation, Reason

if TYPE_CHECKING:
    import asyncio

    from exporter.polling.record import FactorRecord
    from exporter.verify.outcome import Outcome
    from exporter.watched import WatchedEntity, WatchedFactor

    ApiRequest: TypeAlias = "FactorFetch | ListingPage | EntitiesPage | ServiceFetch"


@dataclass(slots=True, eq=False, kw_only=True)
class _Request:
    """What all requests have in common, from start to end.

    The first attempt is not made after ``start_by`` (steady seconds). An ``urgent`` request has a single attempt,
    and is sent during a pause, too. ``ended`` is for those who wait for the end; then ``attempt`` is the last
    attempt, ``None`` where polling stopped or the answer was dropped. ``token_generation`` is that of the access
    token which the last attempt used; one that ``lacks_token`` sent nothing.
    """

    operation: ClassVar[Operation]
    of_listing: ClassVar[bool] = False

    start_by: float = math.inf
    urgent: bool = False
    ended: asyncio.Future[None] | None = None
    attempts: int = 0
    duration_seconds: float = 0.0
    alone: bool = False
    token_generation: int = 0
    lacks_token: bool = False
    attempt: Attempt | None = None

    # For the watchdog in exporter.polling.clients: the task that makes the attempts, and the attempt in flight.
    task: asyncio.Task[None] = field(init=False)
    began_steady: float = 0.0
    began_suspended: float = 0.0
    late: bool = False
    given_up: bool = False

    def give_up(self) -> None:
        """Cancel the attempt in flight, which counts as timed out."""
        self.given_up = True
        self.task.cancel()

    def timed_out(self, now_steady: float) -> Attempt:
        """Return the attempt that was given up, as a failure."""
        failure = Failure(Reason.TIMEOUT, "no complete answer in time; the request did not end and was cancelled")
        return Attempt(failure, round(now_steady - self.began_steady, 6))


@dataclass(slots=True, eq=False)
class FactorFetch(_Request):
    """A fetch of one factor, with what was watched when it began; ``outcome`` is ``None`` while there is none.

    ``scheduled_steady`` is when it began (steady seconds), ``None`` for one on demand.
    """

    operation = Operation.FETCH

    record: FactorRecord
    watched: WatchedFactor
    scheduled_steady: float | None = None
    outcome: Outcome | None = None


@dataclass(slots=True, eq=False)
class ListingPage(_Request):
    """One page of an entity's factors: the first one, or the one with the paging parameters ``query``."""

    operation = Operation.LIST
    of_listing = True

    entity: WatchedEntity
    query: str | None = field(default=None, repr=False)


@dataclass(slots=True, eq=False)
class EntitiesPage(_Request):
    """One page of a service's entities: the first one, or the one with the paging parameters ``query``."""

    operation = Operation.LIST_ENTITIES
    of_listing = True

    service_sid: str
    query: str | None = field(default=None, repr=False)


@dataclass(slots=True, eq=False)
class ServiceFetch(_Request):
    """A service, to learn whether it exists."""

    operation = Operation.SERVICE

    service_sid: str
