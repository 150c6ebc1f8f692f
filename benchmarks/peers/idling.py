"""An event loop that does nothing but watch the clock: how long the machine itself lets one stand still.

Takes a file for the numbers, which are written at the end. :func:`watch` serves beside other work as well.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

_EACH_SECONDS = 0.005
_LONG_SECONDS = 0.05
_WARM_UP_SECONDS = 60.0


@dataclass(slots=True)
class Stood:
    """How long the event loop stood still, in seconds: at most, and at which seconds since the start for long."""

    longest_seconds: float = 0.0
    long_ones: list[tuple[float, float]] = field(default_factory=list)

    def write(self, into: Path) -> None:
        """Write the numbers as JSON."""
        into.write_text(json.dumps(asdict(self)), encoding="utf-8")


async def watch(seen: Stood) -> None:
    """Look each 5 ms how long it took until the turn came again; the first minute is left out."""
    loop = asyncio.get_running_loop()
    began = before = loop.time()
    while True:
        await asyncio.sleep(_EACH_SECONDS)
        now = loop.time()
        stood = now - before - _EACH_SECONDS
        before = now
        if now - began >= _WARM_UP_SECONDS:
            seen.longest_seconds = max(seen.longest_seconds, stood)
            if stood > _LONG_SECONDS:
                seen.long_ones.append((round(now - began, 3), stood))


async def _idle(seen: Stood) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    watching = asyncio.create_task(watch(seen))
    await ended.wait()
    watching.cancel()
    await asyncio.wait((watching,))


def main() -> None:
    """Watch until SIGTERM."""
    seen = Stood()
    asyncio.run(_idle(seen))
    seen.write(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
