from __future__ import annotations

import pytest

VERSIONS = ("the system's", "3")


@pytest.fixture(params=VERSIONS)
def promtool(request: pytest.FixtureRequest) -> str:
    """Return the path of promtool, once per installed version."""
    if request.param == "3":
        newer: str = request.getfixturevalue("newer_program")("PROMTOOL3")
        return newer
    default: str = request.getfixturevalue("program")("promtool", install="apt-get install prometheus")
    return default
