from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.simulator import Action, Script, Step

steps = st.lists(
    st.builds(
        Step,
        st.floats(0, 1000),
        st.sampled_from(list(Action)),
        st.floats(0, 1000),
    ),
    max_size=6,
).map(tuple)


def taken(script: Script, count: int) -> list[tuple[float, Action]]:
    found = [script.step(index) for index in range(count)]
    return [(step.at_seconds, step.action) for step in found if step is not None]


def test_steps_run_in_order_of_time_and_end() -> None:
    script = Script((Step(20, Action.UNVERIFY), Step(5, Action.VERIFY)))

    assert taken(script, 10) == [(5, Action.VERIFY), (20, Action.UNVERIFY)]


def test_a_period_repeats_the_steps() -> None:
    script = Script((Step(30, Action.UNVERIFY), Step(45, Action.VERIFY)), period_seconds=45)

    assert taken(script, 4) == [
        (30, Action.UNVERIFY),
        (45, Action.VERIFY),
        (75, Action.UNVERIFY),
        (90, Action.VERIFY),
    ]


def test_an_abandoned_enrolment_is_deleted_after_its_lapse() -> None:
    script = Script((Step(10, Action.ABANDON, lapse_seconds=90),))

    assert taken(script, 3) == [(10, Action.ABANDON), (100, Action.DELETE)]


def test_a_script_without_steps_does_nothing() -> None:
    assert Script((), period_seconds=10).step(0) is None


def test_actions_may_be_named_by_text() -> None:
    assert Step(1, "verify").action is Action.VERIFY  # type: ignore[arg-type]  # the name of an action is taken for it


@pytest.mark.parametrize("seconds", [-1, math.inf, math.nan])
def test_a_step_refuses_what_is_no_time(seconds: float) -> None:
    with pytest.raises(ValueError, match=r"^at_seconds: .* is not a time"):
        Step(seconds, Action.VERIFY)
    with pytest.raises(ValueError, match=r"^lapse_seconds: .* is not a time"):
        Step(0, Action.ABANDON, seconds)


@pytest.mark.parametrize("period", [0, -1, 9.9, math.inf, math.nan])
def test_a_period_shorter_than_the_steps_is_refused(period: float) -> None:
    with pytest.raises(ValueError, match=r"^period_seconds: .* is shorter than the steps, which take 10"):
        Script((Step(10, Action.VERIFY),), period)


@given(steps)
def test_once_means_each_step_once_and_time_never_runs_back(steps: tuple[Step, ...]) -> None:
    script = Script(steps)
    found = taken(script, 50)

    abandoned = sum(step.action is Action.ABANDON for step in steps)
    assert len(found) == len(steps) + abandoned
    assert [at for at, _ in found] == sorted(at for at, _ in found)


@given(steps.filter(bool), st.integers(2, 5))
def test_each_round_is_the_first_one_shifted(steps: tuple[Step, ...], rounds: int) -> None:
    first = taken(Script(steps), 50)
    found = taken(Script(steps, 4000.0), len(first) * rounds)

    assert found == [
        (4000.0 * round_ + at if round_ else at, action) for round_ in range(rounds) for at, action in first
    ]
