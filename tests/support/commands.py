"""Runs command lines in this process."""

from __future__ import annotations

from dataclasses import dataclass

from exporter.cli import main


@dataclass(frozen=True, slots=True)
class Ran:
    """Exit status and output of a command."""

    status: int
    out: str
    err: str


def status_of(*words: str) -> int:
    """Run a command line and return its exit status."""
    try:
        return main(words)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else -1
