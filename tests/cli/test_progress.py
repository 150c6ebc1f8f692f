"""A progress bar starts no process, which tqdm's default lock would since Python 3.14."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "exporter"
SHOW = """
from tqdm.std import TqdmDefaultWriteLock
from exporter.cli.progress import progress_bar, write_above
write_above("a line")
with progress_bar(2, "factor") as bar:
    bar.update(1)
    write_above("another line")
print(hasattr(TqdmDefaultWriteLock, "mp_lock"))
"""


def test_no_lock_between_processes_is_created() -> None:
    done = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True, check=True)

    assert done.stdout == "False\n"
    assert done.stderr.splitlines() == ["a line", "another line"]


def test_nothing_else_imports_tqdm() -> None:
    importing = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if re.search(r"^\s*(?:from|import) tqdm\b", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert importing == {"cli/progress.py"}
