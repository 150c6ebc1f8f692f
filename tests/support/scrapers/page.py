"""The configurations that docs/integrations.md shows."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "integrations.md"


def block(name: str) -> str:
    """Return the YAML block that begins with a comment with this name."""
    (found,) = re.findall(rf"```yaml\n(# {re.escape(name)}\n.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return str(found)


def blocks() -> list[str]:
    """Return all YAML blocks."""
    return re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
