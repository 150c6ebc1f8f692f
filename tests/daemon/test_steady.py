"""A steady load over real sockets, the exporter a process of its own; the benchmark itself runs longer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.daemon.conftest import STEADY

if TYPE_CHECKING:
    import subprocess

PATIENCE_SECONDS = 60.0
TICK_SECONDS = 1.0


def test_a_thousand_factors_are_each_fetched_in_time(steady_process: subprocess.Popen[str]) -> None:
    told, _ = steady_process.communicate(timeout=PATIENCE_SECONDS)
    assert steady_process.returncode == 0
    steady = json.loads(told)
    assert steady["missed"] == 0, told
    assert steady["failures"] == 0, told
    fewest, most = steady["looks"]
    assert fewest >= 2, told
    assert most <= 3, told
    assert steady["lag"][1] < 1.5, told
    assert steady["histogram_lag"][1] < 2 * TICK_SECONDS, told
    least, mean, greatest = steady["calls_per_second"]
    assert abs(mean - STEADY["factors"] / STEADY["interval"]) < 0.1 * mean, told
    assert greatest <= 2 * mean, told
    assert least >= mean / 2, told
    assert steady["cpu_seconds_a_fetch"] < 0.01, told
