"""A steady load over real sockets, the exporter a process of its own; the benchmark itself runs longer.

How even the load is from second to second is tested in virtual time (tests/polling/test_hour.py): here it
depends on what else the machine does.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import PATIENCE_SECONDS, popen

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
FACTORS, INTERVAL_SECONDS, SECONDS = 1000, 10, 22


def test_a_thousand_factors_are_each_fetched_in_their_interval() -> None:
    flags = (f"--factors={FACTORS}", f"--interval={INTERVAL_SECONDS}", "--latency=0.05", f"--seconds={SECONDS}")
    command = (sys.executable, "-m", "benchmarks.steady", "--json", *flags)
    with popen(*command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        output, _ = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0
    steady = json.loads(output)
    assert steady["missed"] == 0, output
    assert steady["failures"] == 0, output
    fewest, most = steady["fetches_per_factor"]
    assert fewest >= 2, output
    assert most <= fewest + 2, output
    assert steady["lag"][1] < INTERVAL_SECONDS / 2, output
    assert steady["histogram_lag"][1] < INTERVAL_SECONDS / 2, output
    _, mean, _ = steady["requests_per_second"]
    assert abs(mean - FACTORS / INTERVAL_SECONDS) < 0.2 * mean, output
    assert steady["cpu_seconds_per_fetch"] < 0.01, output
