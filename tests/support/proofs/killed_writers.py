"""Writers of a state file that are killed at any moment: what is read afterwards is whole.

``python -m tests.support.proofs.killed_writers --times 200`` prints what was seen as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from exporter.polling.snapshot import FactorSnapshot
from exporter.state import file as statefile
from exporter.state.file import StateFileError, read, remove_abandoned, write
from exporter.verify.outcome import Status
from exporter.watched import FactorKey

FACTORS = 300
_LATEST_SECONDS = 0.04


@dataclass
class Kills:
    """What was seen; ``faults`` is empty when every file was whole."""

    times: int = 0
    while_writing: int = 0
    generations: int = 0
    swept: int = 0
    faults: list[str] = field(default_factory=list)


def generation(number: int) -> list[tuple[FactorKey, FactorSnapshot]]:
    """Return what a file of this generation holds."""
    memory = FactorSnapshot(status=Status.VERIFIED, answered_seconds=1.7e9, failures=number)
    return [(FactorKey("main", "VA0", f"YF{n}"), memory) for n in range(FACTORS)]


def kill(path: Path, first: int, wait_seconds: float) -> None:
    """Let a process write one generation after the other, and kill it after so many seconds."""
    child = os.fork()
    if child == 0:
        try:
            number = first
            while True:
                write(path, 1.7e9, generation(number))
                number += 1
        finally:
            os._exit(1)
    time.sleep(wait_seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def kills(times: int, seed: int = 1) -> Kills:
    """Kill this many writers and check what each leaves."""
    rng, seen = random.Random(seed), Kills()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state"
        newest = 0
        write(path, 1.7e9, generation(newest))
        for _ in range(times):
            kill(path, newest + 1, rng.uniform(0.0, _LATEST_SECONDS))
            seen.times += 1
            seen.while_writing += len(list(path.parent.iterdir())) > 1
            seen.swept += remove_abandoned(path)
            if len(list(path.parent.iterdir())) != 1:
                seen.faults.append("something is left beside the file")
            try:
                remembered = read(path, time.time())
            except StateFileError as error:
                seen.faults.append(str(error))
                continue
            if remembered is None:
                seen.faults.append("the file is gone")
                continue
            found = {memory.failures for memory in remembered.snapshots.values()}
            if len(found) != 1 or len(remembered.snapshots) != FACTORS or min(found) < newest:
                seen.faults.append(f"generations {sorted(found)} after {newest}")
            newest = max(found)
        seen.generations = newest
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description="kill writers of a state file")
    parser.add_argument("--times", type=int, default=200)
    print(json.dumps(asdict(kills(parser.parse_args().times)), indent=2))


if __name__ == "__main__":
    assert statefile.VERSION == 1
    main()
