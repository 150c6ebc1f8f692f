"""Due keys, apart from abandoned places; the state machines of schedule and ledger test the rest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.polling.calendar import Calendar

Key = tuple[str]

KEYS: list[Key] = [(name,) for name in "abcdef"]


class Owner:
    """Keeps the times of a calendar's keys, as its owner has to."""

    def __init__(self) -> None:
        self.due: dict[Key, float] = {}
        self.calendar: Calendar[Key] = Calendar(self.due.get)

    def put(self, key: Key, due: float) -> None:
        self.due[key] = due
        self.calendar.put(key, due)

    def take(self, now: float) -> list[tuple[Key, float]]:
        return [(key, self.due.pop(key)) for key, _ in self.calendar.take(now)]


TIMES = st.floats(0, 10) | st.sampled_from([0.0, 1.0, 1.5, 2.0, 2.999999])


@given(st.lists(st.tuples(st.sampled_from(KEYS), TIMES | st.none()), max_size=30), st.lists(TIMES, max_size=5))
def test_what_is_due_comes_once_and_in_order(moves: list[tuple[Key, float | None]], moments: list[float]) -> None:
    owner = Owner()
    for key, due in moves:
        if due is None:
            owner.due.pop(key, None)
        else:
            owner.put(key, due)
    for now in (*sorted(moments), 11.0):
        expected = sorted((due, key) for key, due in owner.due.items() if due <= now)
        assert owner.take(now) == [(key, due) for due, key in expected]
    assert owner.due == {}
    assert owner.calendar.places == 0


def test_nothing_is_lost_where_the_one_who_asks_stops_half_way() -> None:
    owner = Owner()
    for place, key in enumerate(KEYS):
        owner.put(key, 1 + place / 10)

    def stumble() -> None:
        for key, _ in owner.calendar.take(5.0):
            del owner.due[key]
            if key == KEYS[2]:
                raise RuntimeError

    with pytest.raises(RuntimeError):
        stumble()
    assert [key for key, _ in owner.take(5.0)] == KEYS[3:]


def test_one_that_is_put_off_while_others_are_taken_waits_for_its_new_time() -> None:
    owner = Owner()
    for key in KEYS[:3]:
        owner.put(key, 1.25)
    taken = []
    for key, _ in owner.calendar.take(1.5):
        taken.append(key)
        del owner.due[key]
        if key == KEYS[0]:
            owner.put(KEYS[1], 1.75)  # in the same second
            owner.put(KEYS[0], 9.0)
    assert taken == [KEYS[0], KEYS[2]]
    assert owner.take(1.5) == []
    assert owner.take(1.75) == [(KEYS[1], 1.75)]
    assert owner.take(9.0) == [(KEYS[0], 9.0)]


def test_a_calendar_rebuilt_during_an_iteration_loses_nothing() -> None:
    owner = Owner()
    for key in KEYS:
        owner.put(key, 1.0)
    taken = []
    for key, _ in owner.calendar.take(1.0):
        taken.append(key)
        del owner.due[key]
        owner.calendar.rebuild(owner.due)
    assert taken == KEYS
    assert owner.take(2.0) == []
