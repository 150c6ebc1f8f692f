"""What the tests of the pages in a browser share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.programs.chromium import INSTALL, browser

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser

    from tests.support.fixtures import Program


@pytest.fixture
async def opened(program: Program) -> AsyncIterator[Browser]:
    """Run a browser."""
    async with browser(program("chromium", install=INSTALL)) as running:
        yield running
