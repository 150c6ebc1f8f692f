"""An idle event loop that measures its own stalls: those are due to the machine.

Takes a file, to which the results are written on exit, and how long not to measure first, in seconds (default 60).
:func:`watch` also works in a busy event loop.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

_SLEEP_SECONDS = 0.005
_LONG_SECONDS = 0.05
_WARM_UP_SECONDS = 60.0


@dataclass(slots=True)
class Stalls:
    """The longest stall of the event loop, and all long ones as (seconds since the start, duration in seconds)."""

    longest_seconds: float = 0.0
    long_ones: list[tuple[float, float]] = field(default_factory=list)

    def write(self, into: Path) -> None:
        """Write the numbers as JSON."""
        into.write_text(json.dumps(asdict(self)), encoding="utf-8")


async def watch(seen: Stalls, warm_up_seconds: float = _WARM_UP_SECONDS) -> None:
    """Sleep for 5 ms again and again and record how late every wake-up is, after the warm-up."""
    loop = asyncio.get_running_loop()
    began = before = loop.time()
    while True:
        await asyncio.sleep(_SLEEP_SECONDS)
        now = loop.time()
        stood = now - before - _SLEEP_SECONDS
        before = now
        if now - began >= warm_up_seconds:
            seen.longest_seconds = max(seen.longest_seconds, stood)
            if stood > _LONG_SECONDS:
                seen.long_ones.append((round(now - began, 3), stood))


async def _idle(seen: Stalls, into: Path, warm_up_seconds: float) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    watching = asyncio.create_task(watch(seen, warm_up_seconds))
    seen.write(into)  # tells that it has started
    await ended.wait()
    watching.cancel()
    await asyncio.wait((watching,))


def main() -> None:
    """Watch until SIGTERM."""
    seen, into = Stalls(), Path(sys.argv[1])
    asyncio.run(_idle(seen, into, float(sys.argv[2]) if len(sys.argv) > 2 else _WARM_UP_SECONDS))
    seen.write(into)


if __name__ == "__main__":
    main()
