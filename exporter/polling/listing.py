"""What the discoveries of entities and of services share: settings, reading all pages, and listings in parallel."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter.polling.schedule import FIRST_FETCH_SECONDS
from exporter.verify.answers import MAX_PAGES, is_not_found
from exporter.verify.outcome import FactorPage, Failure, Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from typing import Any, TypeAlias

    from exporter.polling.account import AccountPoller
    from exporter.polling.schedule import Schedule
    from exporter.verify.outcome import ListedFactor
    from exporter.watched import EntityKey, WatchedEntity

    Work: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class DiscoveryPolicy:
    """The settings of discovery; seconds."""

    interval_seconds: float = 900.0
    forget_after_seconds: float = 86400.0


@dataclass(frozen=True, slots=True)
class Listing:
    """The factors on the pages that were read, and why there are no more pages if the listing is incomplete.

    ``no_entity`` says that the failure is a 404 of Twilio: there is no such entity, or no longer.
    """

    factors: tuple[ListedFactor, ...]
    failure: Failure | None = None
    no_entity: bool = False


async def list_factors(account: AccountPoller, entity: WatchedEntity) -> Listing | None:
    """List the factors of an entity; ``None`` where polling stops."""
    found: tuple[ListedFactor, ...] = ()
    query: str | None = None
    read: set[str | None] = set()
    for _ in range(MAX_PAGES):
        page = await account.request_page(entity, query)
        if page is None:
            return None
        match page.result:
            case Failure() as failure:
                return Listing(found, failure, no_entity=is_not_found(page.code, page.twilio_code))
            case FactorPage(factors, next_query):
                found += factors
                read.add(query)
                query = next_query
        if query is None:
            return Listing(found)
        if query in read:
            break
    return Listing(found, endless(MAX_PAGES))


def endless(pages: int) -> Failure:
    """Return the failure of a listing that has no end."""
    return Failure(Reason.DECODE, f"the listing did not end after {pages} pages, or repeats a page")


class RefusedListings:
    """Listings that failed for refused credentials: they are repeated once the account's pause for that has ended.

    Without a pause, as where Twilio refuses one service only, they wait for their time like all others.
    """

    def __init__(self, accounts: Mapping[str, AccountPoller]) -> None:
        self._accounts = accounts
        self._ended: dict[EntityKey, int] = {}  # how many pauses had ended at the refusal

    def begin(self, key: EntityKey) -> None:
        """Take the start of a listing: how the previous one ended no longer counts."""
        self._ended.pop(key, None)

    def failed(self, key: EntityKey, failure: Failure) -> None:
        """Take the failure of a listing."""
        if failure.reason.refused:
            self._ended[key] = self._accounts[key.account].refusals_ended

    def repeat(self, schedule: Schedule[EntityKey], now: float, interval_seconds: float) -> None:
        """Make those due soon whose pause has ended since; steady seconds."""
        for key, ended in list(self._ended.items()):
            account = self._accounts.get(key.account)
            if account is not None and account.refusals_ended == ended:
                continue
            del self._ended[key]
            due = schedule.waiting(key)
            if account is not None and due is not None and due > now + FIRST_FETCH_SECONDS:
                schedule.add(key, now, interval_seconds, FIRST_FETCH_SECONDS)


class ListingQueue:
    """Runs listings of an account in the order in which they come, as many at once as its concurrency allows."""

    def __init__(self, account: AccountPoller) -> None:
        self.account = account
        self._waiting: deque[Work] = deque()
        self._running = 0
        self._ended = asyncio.Event()

    def offer(self, work: Work) -> None:
        """Run a listing when it is its turn; where polling stops, it is dropped."""
        self._waiting.append(work)
        self._start()

    async def room(self) -> None:
        """Wait until a listing could start at once."""
        while self._waiting or self._running >= self.account.throttle.limit:
            await self._one_ended()

    async def idle(self) -> None:
        """Wait until all listings have ended."""
        while self._waiting or self._running:
            await self._one_ended()

    async def _one_ended(self) -> None:
        self._ended.clear()
        await self._ended.wait()

    def _start(self) -> None:
        if self.account.stopping:
            self._waiting.clear()
        while self._waiting and self._running < self.account.throttle.limit:
            self._running += 1
            self.account.spawn(self._run(self._waiting.popleft()))

    async def _run(self, work: Work) -> None:
        try:
            await work()
        except asyncio.CancelledError:  # the loop ends
            self._waiting.clear()
            raise
        finally:
            self._running -= 1
            self._ended.set()
            self._start()
