"""When a client counts as stuck or silent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.polling.clients import ROTATION_SECONDS, SILENT_ATTEMPTS, SILENT_SECONDS, ClientHealth, RotationReason

if TYPE_CHECKING:
    from collections.abc import Iterable


def silent(attempts: int, seconds: float, *, begun: float = 1000.0) -> tuple[ClientHealth, float]:
    """Return a watch that heard of so many attempts without an answer over so long, and the moment of the last."""
    watch = ClientHealth()
    moments = [begun + seconds * number / (attempts - 1) for number in range(attempts)]
    for moment in moments:
        watch.heard(moment, answered=False)
    return watch, moments[-1]


def test_nothing_is_due_while_nothing_happens() -> None:
    watch = ClientHealth()
    assert watch.due(0.0, stuck=False, max_concurrency=4) is None
    assert watch.due(1e9, stuck=False, max_concurrency=4) is None


@pytest.mark.parametrize(
    ("attempts", "seconds", "concurrency", "expected"),
    [
        (10, 60.0, 4, RotationReason.SILENT),
        (9, 600.0, 4, None),
        (500, 59.9, 4, None),
        (11, 600.0, 6, None),
        (12, 600.0, 6, RotationReason.SILENT),
        (10, 60.0, 1, RotationReason.SILENT),
    ],
)
def test_silence_is_many_attempts_over_a_while(
    attempts: int, seconds: float, concurrency: int, expected: RotationReason | None
) -> None:
    watch, now = silent(attempts, seconds)
    assert watch.due(now, stuck=False, max_concurrency=concurrency) is expected


def test_one_answer_ends_the_silence() -> None:
    watch, now = silent(500, 600.0)
    watch.heard(now, answered=True)
    assert watch.due(now, stuck=False, max_concurrency=4) is None
    for _ in range(500):
        watch.heard(now + 30.0, answered=False)
    assert watch.due(now + 60.0, stuck=False, max_concurrency=4) is None
    assert watch.due(now + 90.0, stuck=False, max_concurrency=4) is RotationReason.SILENT


def test_a_stuck_request_is_enough() -> None:
    assert ClientHealth().due(0.0, stuck=True, max_concurrency=4) is RotationReason.STUCK


def test_at_most_one_rotation_in_five_minutes() -> None:
    watch = ClientHealth()
    watch.rotated(1000.0)
    for _ in range(500):
        watch.heard(1010.0, answered=False)
    assert watch.due(1299.9, stuck=True, max_concurrency=4) is None
    assert watch.due(1300.0, stuck=False, max_concurrency=4) is RotationReason.SILENT
    assert watch.due(1300.0, stuck=True, max_concurrency=4) is RotationReason.STUCK


def test_another_client_has_its_own_silence() -> None:
    watch, now = silent(500, 600.0)
    watch.renewed()
    assert watch.due(now, stuck=False, max_concurrency=4) is None
    assert watch.due(now, stuck=True, max_concurrency=4) is RotationReason.STUCK, "no rotation went before"


attempts = st.lists(st.tuples(st.floats(0.0, 40.0), st.booleans(), st.booleans()), max_size=120)


@given(attempts, st.integers(1, 20))
def test_any_sequence(sequence: Iterable[tuple[float, bool, bool]], concurrency: int) -> None:
    """What is due has a cause among the latest attempts, and rotations keep their distance."""
    watch, now = ClientHealth(), 1000.0
    run: list[float] = []
    rotations: list[float] = []
    for wait, answered, stuck in sequence:
        now += wait
        watch.heard(now, answered=answered)
        run = [] if answered else [*run, now]
        expected = watch.due(now, stuck=stuck, max_concurrency=concurrency)
        apart = not rotations or now - rotations[-1] >= ROTATION_SECONDS
        long = len(run) >= max(SILENT_ATTEMPTS, 2 * concurrency) and now - run[0] >= SILENT_SECONDS
        assert expected is (
            None if not apart else RotationReason.STUCK if stuck else RotationReason.SILENT if long else None
        )
        if expected is not None:
            watch.rotated(now)
            rotations.append(now)
            run = []
