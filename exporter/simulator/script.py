"""Scripts: timed changes of a factor's status."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum


class Action(StrEnum):
    """What a step does to a factor."""

    ENROL = "enrol"  # a new enrolment: unverified, created at that moment
    VERIFY = "verify"
    UNVERIFY = "unverify"
    ABANDON = "abandon"  # an abandoned enrolment: unverified, then deleted after lapse_seconds
    APPROVE = "approve"  # a challenge; of verified passkeys factors, the API shows when
    DELETE = "delete"
    RESTORE = "restore"  # with the status before the deletion


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a script, in seconds from the script's start.

    ``lapse_seconds`` is for ``abandon``: how long the unfinished enrolment exists before it is deleted.
    Verify deletes unverified factors 1 to 24 hours after creation:
    https://www.twilio.com/docs/api/errors/60318
    """

    at_seconds: float
    action: Action
    lapse_seconds: float = 3600.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "action", Action(self.action))
        for name, seconds in (("at_seconds", self.at_seconds), ("lapse_seconds", self.lapse_seconds)):
            if not 0 <= seconds < math.inf:
                raise ValueError(f"{name}: {seconds} is not a time (0 seconds or more)")


@dataclass(frozen=True, slots=True)
class Script:
    """Steps that run once or, with a period, repeatedly.

    Raises ``ValueError`` if the steps take longer than the period.
    """

    steps: tuple[Step, ...]
    period_seconds: float | None = None
    _timeline: tuple[Step, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        timeline = list(self.steps)
        timeline += [
            Step(step.at_seconds + step.lapse_seconds, Action.DELETE)
            for step in self.steps
            if step.action is Action.ABANDON
        ]
        timeline.sort(key=lambda step: step.at_seconds)
        if self.period_seconds is not None:
            last = timeline[-1].at_seconds if timeline else 0.0
            if not (0 < self.period_seconds < math.inf and last <= self.period_seconds):
                raise ValueError(
                    f"period_seconds: {self.period_seconds} is shorter than the steps, which take {last}"
                )
        object.__setattr__(self, "_timeline", tuple(timeline))

    def step(self, index: int) -> Step | None:
        """Return the step with this index, counted over all repetitions and timed from the start; else ``None``."""
        if not self._timeline:
            return None
        round_, place = divmod(index, len(self._timeline))
        step = self._timeline[place]
        if round_ == 0:
            return step
        if self.period_seconds is None:
            return None
        return Step(round_ * self.period_seconds + step.at_seconds, step.action)
