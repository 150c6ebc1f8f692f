from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    Program = Callable[..., str]


@pytest.fixture
def program() -> Program:
    """Return the path of a program that PyPI doesn't carry.

    Where it is missing the test skips and says how to get it; on CI, where it must be there, it fails.
    """

    def find(name: str, *, install: str) -> str:
        path = shutil.which(name)
        if path is not None:
            return path
        reason = f"{name} is not installed ({install})"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)

    return find


@pytest.fixture
def newer_program() -> Program:
    """Return the path that a variable names; a test that wants a newer version than the usual one skips without."""

    def find(variable: str) -> str:
        path = os.environ.get(variable, "")
        if not path:
            pytest.skip(f"{variable} names no program (a newer version, beside the one of the system)")
        assert os.access(path, os.X_OK), f"{variable}={path} can't be run"
        return path

    return find
