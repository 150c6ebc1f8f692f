"""The long proofs at full size: ``python -m tests.soak [NAME…]``, all of them by default.

Their numbers go to docs/reliability.json, and from there into docs/reliability.md. Fails where a proof does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from exporter.logs.output import Redactor, configure
from tests.support.proofs import socket_soak as sockets
from tests.support.proofs import virtual_day as day
from tests.support.proofs.reliability_page import ROOT, write_section
from tests.support.proofs.reload_storm import storm
from tests.support.proofs.soak_report import NUMBERS, soak_table

if TYPE_CHECKING:
    from collections.abc import Callable


def a_day() -> dict[str, Any]:
    """Live through a day in virtual time."""
    asked = day.Day()
    seen = day.run(asked)
    return {"asked": asdict(asked), "seen": asdict(seen) | {"growth": seen.growth}}


def real_sockets() -> dict[str, Any]:
    """Poll for twenty minutes over real sockets."""
    asked = sockets.Load()
    seen = asyncio.run(sockets.run(asked))
    return {"asked": asdict(asked), "seen": asdict(seen) | {"growth": seen.growth}}


def reloads() -> dict[str, Any]:
    """Reload ten thousand times under load."""
    return {"seen": asdict(asyncio.run(storm(10_000)))}


def kills() -> dict[str, Any]:
    """Kill two hundred writers of a state file."""
    command = [sys.executable, "-m", "tests.support.proofs.killed_writers", "--times", "200"]
    return {"seen": json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)}


def a_service() -> dict[str, Any]:
    """Watch a large service within its account's budget, and its factors listed one by one, for comparison."""
    return _run_large_service() | {"listed": _run_large_service("--listed", "--hours", "0.5")["seen"]}


def a_service_over_budget() -> dict[str, Any]:
    """Watch a large service with a budget that is too small for its factors."""
    return _run_large_service("--rate", "20", "--hours", "4")


def _run_large_service(*flags: str) -> dict[str, Any]:
    """Run that proof in a process of its own, because it measures memory."""
    command = [sys.executable, "-m", "tests.support.proofs.large_service", *flags]
    found: dict[str, Any] = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)
    return found


PROOFS: dict[str, Callable[[], dict[str, Any]]] = {
    "day": a_day,
    "sockets": real_sockets,
    "reloads": reloads,
    "kills": kills,
    "service": a_service,
    "service_over_budget": a_service_over_budget,
}


def holds(seen: dict[str, Any]) -> bool:
    """Return whether what was seen is what is promised."""
    return (
        not seen["faults"]
        and (not seen.get("late_fetches") or seen["stretch"] > 1)
        and not seen.get("missed")
        and not seen.get("log_lines_dropped")
        and seen.get("growth", 0.0) < 0.02
        and not any(seen.get("leaked", {}).values())
    )


def logged(proof: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Run a proof that logs as the daemon does, in the background, and count its lines."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as file:
        output = configure(level="info", style="logfmt", redact=Redactor(), stream=file, background=True)
        found = proof()
        output.close(60)
        file.seek(0)
        found["seen"] |= {"log_lines": sum(1 for _ in file), "log_lines_dropped": output.lines_dropped}
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="the long proofs at full size")
    parser.add_argument("proofs", nargs="*", choices=[*PROOFS, []], help="which of them (default: all)")
    numbers = json.loads(NUMBERS.read_text(encoding="utf-8")) if NUMBERS.exists() else {}
    failed = []
    for name in parser.parse_args().proofs or PROOFS:
        print(f"{name} …", file=sys.stderr, flush=True)
        found = logged(PROOFS[name])
        print(json.dumps(found, indent=2), flush=True)
        if not holds(found["seen"]):
            failed.append(name)
            continue
        numbers[name] = found | {"date": datetime.now(UTC).date().isoformat()}
        NUMBERS.write_text(json.dumps(numbers, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        write_section("soak", soak_table(numbers))
    if failed:
        print(f"does not hold: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
