"""Each way for a file to be wrong: what a reload makes of it, what metrics and log say, and how it ends."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING
from unittest import mock

import pytest

from tests.support.proofs.fault_matrix_run import written_lines
from tests.support.proofs.file_matrix import FILE_ROWS, FileRow, file_table
from tests.support.proofs.reliability_page import ROOT, section
from tests.support.protected_exporter import (
    ACCOUNTS,
    HOUR_SECONDS,
    World,
    config_hash,
    see_protection,
    start,
    watched,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.support.scrape import Scrape

SUCCESSFUL = "twilio_verify_exporter_config_last_reload_successful"


@pytest.mark.slow
def test_every_file_is_handled_as_declared(tmp_path: Path) -> None:
    found = asyncio.run(faults_of_all(tmp_path))
    assert {name: faults for name, faults in found.items() if faults} == {}
    assert len(found) == len(FILE_ROWS) >= 70


async def faults_of_all(folder: Path) -> dict[str, list[str]]:
    """Let each row happen to the files of one exporter, one after the other; return what is not as declared."""
    with (
        mock.patch("exporter.daemon.jobs.DISPATCH_SECONDS", 0.1),
        mock.patch("exporter.daemon.jobs.WATCH_SECONDS", HOUR_SECONDS),
        written_lines() as lines,
    ):
        world = await start(folder)
        async with world.stack:
            before = await see_protection(world)
            return {row.name: [fault async for fault in faults(world, row, before, lines)] for row in FILE_ROWS}


async def faults(world: World, row: FileRow, before: Scrape, lines: Callable[[], list[str]]) -> AsyncIterator[str]:
    """Yield what is not as declared."""
    logged_before = len(lines())
    world.files.damage(*row.step)
    applied = await world.reload()
    log = lines()[logged_before:]
    page = await see_protection(world)
    if applied is bool(row.error):
        yield f"applied: {applied}"
    if page.value(SUCCESSFUL) != applied:
        yield "the metric says something else"
    if row.error:
        if watched(page) != watched(before) or config_hash(page) != config_hash(before):
            yield "what was running does not run"
        if sum('msg="configuration refused"' in line for line in log) != 1:
            yield f"the log says {log}"
        if not any('msg="configuration error"' in line and row.error in unquoted(line) for line in log):
            yield f"the log says {log}"
    elif {account for account, _ in watched(page)} != {*ACCOUNTS}:
        yield "an account is without factors"
    logged_before = len(lines())
    world.files.restore()
    if not await world.reload():
        yield "the right files are refused"
    if sum('msg="configuration reloaded"' in line for line in lines()[logged_before:]) != 1:
        yield f"afterwards the log says {lines()[logged_before:]}"
    page = await see_protection(world)
    if page.value(SUCCESSFUL) != 1 or watched(page) != watched(before) or config_hash(page) != config_hash(before):
        yield "it did not recover"


def unquoted(line: str) -> str:
    """Return a line of logfmt without the backslashes of quoted values."""
    return line.replace('\\"', '"')


def test_rows_have_names_of_their_own() -> None:
    assert max(Counter(row.name for row in FILE_ROWS).values()) == 1


def test_the_table_is_what_the_generator_writes() -> None:
    text = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    assert section(text, "file-matrix") == file_table(), "run: python -m tests.reliability"
