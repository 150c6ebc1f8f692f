"""``version``."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

import pytest

from exporter import __version__
from exporter.cli import version

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.commands import Ran


def test_it_prints_version_python_and_platform(call: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version, "__revision__", "")
    ran = call("version")

    assert (ran.status, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        f"verify-factor-exporter {__version__}",
        f"Python {platform.python_version()}",
        platform.platform(),
    ]


def test_it_prints_the_revision_of_the_build(call: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(version, "__revision__", "0123abc")

    assert call("version").out.startswith(f"verify-factor-exporter {__version__} (0123abc)\n")


@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_the_flags_print_the_same(call: Callable[..., Ran], flag: str) -> None:
    assert call(flag) == call("version")
