"""Forty writers killed at any moment; ``make soak`` kills two hundred."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def test_what_is_left_is_whole() -> None:
    command = [
        sys.executable,
        "-m",
        "tests.support.proofs.killed_writers",
        "--times",
        "40",
    ]  # forks: not from a process with threads
    seen = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)
    assert seen["faults"] == []
    assert seen["times"] == 40
    assert seen["while_writing"] == seen["swept"] >= 1
    assert seen["generations"] >= 1
