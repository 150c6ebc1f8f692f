"""The events of polling, and whoever gets them: polling itself counts, renders and logs nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from exporter.polling.clients import RotationReason
    from exporter.polling.record import FactorRecord, StatusChange
    from exporter.verify.outcome import Attempt, Failure, Operation, Outcome
    from exporter.watched import WatchedEntity, WatchedService


class Observer:
    """Gets every event in the order it happens; ignores those that its class doesn't override."""

    def config_applied(
        self,
        accounts: Collection[str],
        services: Collection[tuple[str, str]],
        entities: Collection[tuple[str, str, str]],
        walked: Collection[tuple[str, str]] = (),
    ) -> None:
        """A configuration was applied: these accounts, services and entities are watched from now on.

        A service is (account, service SID), an entity is (account, service SID, name). Services that are watched as
        a whole are in ``walked``, and among the entities by their name.
        """

    def watched(self, record: FactorRecord) -> None:
        """A factor is watched from now on."""

    def revised(self, record: FactorRecord) -> None:
        """A watched factor's name, labels, interval, pause or entity changed."""

    def forgotten(self, record: FactorRecord) -> None:
        """A factor is no longer watched."""

    def attempted(self, account: str, operation: Operation, attempt: Attempt) -> None:
        """A request ended."""

    def retried(self, account: str) -> None:
        """A fetch starts another attempt."""

    def started(self, lag_seconds: float) -> None:
        """A due fetch started, this late."""

    def fetched(self, record: FactorRecord, outcome: Outcome, change: StatusChange | None) -> None:
        """A fetch ended, and the ledger has its outcome."""

    def withdrawn(self, record: FactorRecord) -> None:
        """A status became stale."""

    def interval_changed(self, record: FactorRecord) -> None:
        """The interval in effect changed without a fetch."""

    def listed(self, entity: WatchedEntity, found: int) -> None:
        """A listing of an entity's factors ended with all of them."""

    def listing_failed(self, entity: WatchedEntity, failure: Failure) -> None:
        """A listing of an entity's factors failed."""

    def entity_forgotten(self, entity: WatchedEntity) -> None:
        """An entity is no longer watched; its factors were forgotten before."""

    def service_listed(self, service: WatchedService, entities: int, truncated: bool, failed: int) -> None:
        """A walk ended with all entities that this shard watches, or is ``truncated``; some listings ``failed``."""

    def service_listing_failed(self, service: WatchedService, entity: str, failure: Failure) -> None:
        """A listing of a service's entities failed, or of one entity's factors.

        ``entity`` is the name of the service, or of that entity.
        """

    def service_forgotten(self, service: WatchedService) -> None:
        """A service is no longer watched; its factors were forgotten before."""

    def service_fetched(self, account: str, service_sid: str, attempt: Attempt, before: bool | None) -> None:
        """A service in doubt was fetched; ``before`` is whether it existed at the last answer, if that is known."""

    def credentials_refused(self, account: str, failure: Failure) -> None:
        """Refused credentials are confirmed, and the account pauses."""

    def credentials_accepted(self, account: str) -> None:
        """A pause for refused credentials ended."""

    def token_not_renewed(self, account: str, failure: Failure) -> None:
        """A request for an access token failed while the present token can still be used."""

    def rate_limited(self, account: str, pause_seconds: float, concurrency_limit: int) -> None:
        """A 429 pauses the account."""

    def over_budget(self, account: str, stretch: float, demand: float, budget: float) -> None:
        """An account's intervals are stretched by another factor; 1 means not any longer."""

    def client_rotated(self, account: str, why: RotationReason) -> None:
        """A stuck or silent client was replaced by a fresh one."""


EVENTS = tuple(name for name in vars(Observer) if not name.startswith("_"))


class Tee(Observer):
    """Passes each event to those of its observers whose class overrides it, in the order they were added."""

    def __init__(self) -> None:
        self._observers: list[Observer] = []

    def add(self, *observers: Observer) -> None:
        """Pass events to these observers too, after the others."""
        self._observers += observers
        for event in EVENTS:
            receivers = [
                getattr(observer, event)
                for observer in self._observers
                if getattr(type(observer), event) is not getattr(Observer, event)
            ]
            setattr(self, event, receivers[0] if len(receivers) == 1 else _to_each(tuple(receivers)))


def _to_each(receivers: tuple[Callable[..., None], ...]) -> Callable[..., None]:
    def pass_on(*event: object) -> None:
        for receive in receivers:
            receive(*event)

    return pass_on
