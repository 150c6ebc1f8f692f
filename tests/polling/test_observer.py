"""The tee that passes polling events to several observers."""

from __future__ import annotations

from exporter.polling.observer import EVENTS, Observer, Tee


class Noted(Observer):
    """Notes two of the events, with its name."""

    def __init__(self, name: str, notes: list[tuple[str, str, object]]) -> None:
        self._name = name
        self._notes = notes

    def retried(self, account: str) -> None:
        self._notes.append((self._name, "retried", account))

    def started(self, lag_seconds: float) -> None:
        self._notes.append((self._name, "started", lag_seconds))


class Retries(Noted):
    """Notes retries only."""

    started = Observer.started


def test_every_observer_gets_an_event_in_the_order_it_was_added() -> None:
    notes: list[tuple[str, str, object]] = []
    tee = Tee()
    tee.retried("before anybody observes")
    tee.add(Noted("first", notes), Retries("second", notes))
    tee.add(Noted("third", notes))
    tee.retried("main")
    tee.started(0.5)
    assert notes == [
        ("first", "retried", "main"),
        ("second", "retried", "main"),
        ("third", "retried", "main"),
        ("first", "started", 0.5),
        ("third", "started", 0.5),
    ]


def test_a_tee_passes_on_every_event() -> None:
    received: list[tuple[str, tuple[object, ...]]] = []

    class Every(Observer):
        """Overrides every event."""

    for event in EVENTS:
        setattr(Every, event, lambda _self, *values, event=event: received.append((event, values)))
    tee = Tee()
    tee.add(Every())
    for event in EVENTS:
        getattr(tee, event)("a value")
    assert received == [(event, ("a value",)) for event in EVENTS]


def test_an_observer_ignores_what_it_does_not_override() -> None:
    observer = Observer()
    for event in EVENTS:
        count = getattr(Observer, event).__code__.co_argcount - 1
        assert getattr(observer, event)(*range(count)) is None
