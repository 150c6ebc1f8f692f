from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def log_level() -> Iterator[None]:
    """Let a test change log levels, and restore them after it."""
    root, ours = logging.getLogger(), logging.getLogger("exporter")
    before = root.level, ours.level
    yield
    root.setLevel(before[0])
    ours.setLevel(before[1])
