"""Every board as Grafana's libraries render it, over a real Prometheus, in five situations.

To look at one yourself: ``python -m tests.support.rendering overview api-down --picture /tmp/board.png``.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.dashboards.files import boards
from tests.support.programs.chromium import INSTALL as CHROMIUM
from tests.support.programs.chromium import browser
from tests.support.rendering.boards import Look, lived, shown
from tests.support.rendering.checks import CHECKS, variables_of
from tests.support.rendering.faulty import FAULTS, faulty
from tests.support.rendering.page import INSTALL as NODE
from tests.support.rendering.page import NotInstalledError, bundle, packages, served
from tests.support.rendering.situations import Situation

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.support.fixtures import Program
    from tests.support.rendering.boards import ShownBoard

pytestmark = pytest.mark.external

PROMETHEUS = "apt-get install prometheus"


async def seen(program: Program, folder: Path, situation: Situation) -> list[ShownBoard]:
    """Return what all boards, and the faulty one, show in a situation."""
    _promtool, prometheus = (program(name, install=PROMETHEUS) for name in ("promtool", "prometheus"))
    node, npm = (program(name, install=NODE) for name in ("node", "npm"))
    chromium = program("chromium", install=CHROMIUM)
    of_uid: dict[str, Mapping[str, Any]] = {board["uid"]: board for board in (*boards(), faulty())}

    def build() -> tuple[Path, Path]:
        try:
            modules = packages(npm)
        except NotInstalledError as error:
            if os.environ.get("CI") == "true":
                raise
            pytest.skip(f"the npm packages can't be installed: {error}")
        return bundle(node, modules, folder / "page"), modules

    async with lived(situation, folder / "history", prometheus) as source:
        page, modules = await asyncio.to_thread(build)
        async with served(page, modules, of_uid) as url, browser(chromium) as opened:
            return [
                await shown(opened, url, board, situation, source, Look(variables=variables_of(uid, situation)))
                for uid, board in of_uid.items()
            ]


@pytest.mark.parametrize("situation", list(Situation))
async def test_the_boards_show_what_is_known(program: Program, tmp_path: Path, situation: Situation) -> None:
    *all_boards, wrong = await seen(program, tmp_path, situation)

    for name, check in CHECKS.items():
        found = [f"{board.uid}: {fault}" for board in all_boards for fault in check(board, situation)]
        assert found == [], f"{name}: {check.__doc__}"
    # Each check notices its fault.
    for name, fault in FAULTS.get(situation, {}).items():
        found = list(CHECKS[name](wrong, situation))
        assert any(fault in one for one in found), f"{name} does not find {fault!r}: {found}"
