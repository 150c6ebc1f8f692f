"""Command lines, run as the process would run them."""

from __future__ import annotations

from dataclasses import dataclass

from exporter.cli import main


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command left behind."""

    status: int
    out: str
    err: str


def status_of(*words: str) -> int:
    """Run a command line as the process would and return its exit status."""
    try:
        return main(words)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else -1
