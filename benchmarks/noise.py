"""What else the machine did while something was measured: the stalls of an idle event loop, and stolen CPU time."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from benchmarks.process import running

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

_FIELDS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
_WARM_UP_SECONDS = 0.0
_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Noise:
    """The machine's noise during a measurement.

    ``stolen`` is the share of all cores' time that the hypervisor gave to other machines, ``busy`` the share that
    processes used, including the measured ones. The idle event loop shares the cores with what is measured.
    """

    longest_stall: float
    stalls_over_50_ms: int
    stolen: float
    busy: float


def shares(before: Sequence[int], after: Sequence[int]) -> tuple[float, float]:
    """Return the stolen and the busy share between two lists of the counters in the first line of /proc/stat."""
    grown = dict(zip(_FIELDS, (late - early for early, late in zip(before, after, strict=True)), strict=True))
    total = max(sum(grown.values()), 1)
    return grown["steal"] / total, 1 - (grown["idle"] + grown["iowait"] + grown["steal"]) / total


def counters(text: str) -> list[int]:
    """Return the counters of all cores together from the text of /proc/stat, without those of guests."""
    return [int(word) for word in text.splitlines()[0].split()[1 : 1 + len(_FIELDS)]]


def _wait_for(file: Path) -> None:
    """Wait until the idle loop has started: it then writes its file for the first time."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not file.exists():
        if time.monotonic() > deadline:
            raise SystemExit("the idle event loop did not start")
        time.sleep(0.01)


def beside(measure: Callable[[], T]) -> tuple[T, Noise]:
    """Return a measurement and the noise that was measured beside it."""
    stat = Path("/proc/stat")
    with tempfile.TemporaryDirectory(prefix="verify-factor-exporter-noise-") as name:
        file = Path(name) / "idle.json"
        with running(sys.executable, "-m", "benchmarks.peers.idling", str(file), str(_WARM_UP_SECONDS)):
            _wait_for(file)
            before = counters(stat.read_text(encoding="ascii"))
            measured = measure()
            after = counters(stat.read_text(encoding="ascii"))
        stalls: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    stolen, busy = shares(before, after)
    return measured, Noise(stalls["longest_seconds"], len(stalls["long_ones"]), stolen, busy)
