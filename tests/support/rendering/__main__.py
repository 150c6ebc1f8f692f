"""Open boards in situations, print what is wrong with them, and take pictures.

``python -m tests.support.rendering BOARD SITUATION [--picture FILE.png] [--width 1920] [--theme light]``, where
BOARD is overview, factor, exporter or all, and SITUATION is one of the five or all.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.dashboards.files import FOLDER
from tests.support.pictures import reduce_colours
from tests.support.programs.chromium import browser
from tests.support.rendering.boards import Look, lived, shown
from tests.support.rendering.checks import CHECKS, FAULTY, variables_of
from tests.support.rendering.faulty import faulty
from tests.support.rendering.page import bundle, packages, served
from tests.support.rendering.situations import Situation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.rendering.boards import ShownBoard

BOARDS = {name: f"twilio-verify-{name}" for name in ("overview", "factor", "exporter")}


def needed(name: str) -> str:
    """Return the path of a program; exits if it is missing."""
    path = shutil.which(name)
    if path is None:
        sys.exit(f"{name} is not installed (apt-get install nodejs npm chromium prometheus)")
    return path


async def run(options: argparse.Namespace) -> int:
    """Open every board in every situation that was asked for, and return how many faults were found."""
    boards: dict[str, Mapping[str, Any]] = {FAULTY: faulty()} | {
        uid: json.loads((options.boards / f"{uid}.json").read_text(encoding="utf-8")) for uid in BOARDS.values()
    }
    chosen = list(BOARDS.values()) if options.board == "all" else [BOARDS.get(options.board, options.board)]
    situations = list(Situation) if options.situation == "all" else [Situation(options.situation)]
    modules, faults = packages(needed("npm")), 0
    with tempfile.TemporaryDirectory() as built:
        page = bundle(needed("node"), modules, Path(built))
        async with served(page, modules, boards) as url, browser(needed("chromium")) as opened:
            for situation in situations:
                async with lived(situation, options.data / situation, needed("prometheus")) as source:
                    for uid, width, theme in itertools.product(chosen, options.width, options.theme):
                        variables = variables_of(uid, situation) | dict(options.var)
                        look = Look(width, theme, not options.picture, variables)
                        place = {"board": uid, "situation": situation, "width": width, "theme": theme}
                        picture = Path(options.picture.format(**place)) if options.picture else None
                        board = await shown(opened, url, boards[uid], situation, source, look, picture)
                        faults += _report(board, situation, f"{uid} {situation} {width} {theme}")
                        if picture:
                            await asyncio.to_thread(reduce_colours, picture)
    return faults


def _report(board: ShownBoard, situation: Situation, place: str) -> int:
    found = [(name, fault) for name, check in CHECKS.items() for fault in check(board, situation)]
    for name, fault in found:
        print(f"{place}: {name}: {fault}", flush=True)
    return len(found)


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.rendering", description=__doc__)
    parser.add_argument("board", choices=[*BOARDS, FAULTY, "all"])
    parser.add_argument("situation", choices=[*Situation, "all"])
    parser.add_argument(
        "--picture", help="may contain {board}, {situation}, {width} and {theme}; rows as they open"
    )
    parser.add_argument("--width", type=int, nargs="+", default=[1440])
    parser.add_argument("--theme", nargs="+", choices=["dark", "light"], default=["dark"])
    parser.add_argument("--boards", type=Path, default=FOLDER, help="folder with the boards' JSON")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(tempfile.gettempdir()) / "verify-factor-rendering",
        help="folder for the histories, which are reused: remove it after a change of the exporter or the rules",
    )
    parser.add_argument("--var", type=lambda text: text.split("=", 1), nargs="*", default=[], metavar="NAME=VALUE")
    return parser


def main() -> None:
    options = arguments().parse_args()
    faults = asyncio.run(run(options))
    print(f"{faults} faults")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
