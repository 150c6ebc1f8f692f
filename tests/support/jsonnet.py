"""Evaluation by go-jsonnet, which is also in the tools that users of mixins have."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

# In a process of its own: the library brings along the threads and signal handlers of a Go program.
_PROGRAM = """
import sys, _gojsonnet
try:
    print(_gojsonnet.evaluate_snippet("snippet", sys.stdin.read(), jpathdir=sys.argv[1:]))
except RuntimeError as error:
    sys.exit(str(error))
"""


class JsonnetError(Exception):
    """An evaluation failed; the message is jsonnet's."""


def evaluated(snippet: str, *folders: Path) -> Any:
    """Return the value of a snippet that imports from these folders; raises JsonnetError."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *map(str, folders)],
        input=snippet,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode:
        raise JsonnetError(done.stderr)
    return json.loads(done.stdout)
