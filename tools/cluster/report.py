"""The tables of docs/compatibility.md that a run of ``make cluster`` writes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tools.cluster.fixtures import Installed
    from tools.cluster.trials import Trial
    from tools.compatibility.page import Row

STEPS = (
    "installed",
    "helm test",
    "a wrong key fails the test",
    "reloaded",
    "upgraded",
    "rolled back",
    "removed",
)
_CELL_CHARACTERS = 120


def trial_row(trial: Trial) -> Row:
    """Return the row of a values file; a step that was not reached has a dash."""
    return (f"`{trial.name}`", str(trial.pods), *(cell(trial.results.get(step, "–")) for step in STEPS))


def fixture_row(name: str, runs: Iterable[Installed]) -> Row:
    """Return the row of a fixture: objects, pods, and for each Helm whether all is kept as rendered."""
    results = list(runs)
    pods = f"{min(one.pods for one in results)} of {results[0].wanted_pods}"
    kept = ("yes" if not one.problems else cell("; ".join(one.problems)) for one in results)
    return (f"`{name}`", str(results[0].objects), pods, *kept)


def cell(text: str) -> str:
    """Return a text as the cell of a table: one line, short, without what ends a cell."""
    line = " ".join(text.split()).replace("|", "/")
    return line if len(line) <= _CELL_CHARACTERS else f"{line[: _CELL_CHARACTERS - 1]}…"


def version_in(text: str) -> str:
    """Return the version in what a program prints about itself, without the parts that a distribution adds."""
    found = re.search(r"\bv?(\d+\.\d+\.\d+)", text)
    return found[1] if found else "unknown"
