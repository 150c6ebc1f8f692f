"""A program that is missing is a skip with a reason, and on CI a failure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.fixtures import Program


def test_a_program_that_is_there(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "promlike"
    path.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert program("promlike", install="apt-get install promlike") == str(path)


@pytest.mark.parametrize(("on_ci", "ending"), [("true", "Failed"), ("", "Skipped")])
def test_a_program_that_is_missing(
    program: Program, monkeypatch: pytest.MonkeyPatch, on_ci: str, ending: str
) -> None:
    monkeypatch.setenv("CI", on_ci)
    with pytest.raises(BaseException, match=r"promlike is not installed \(apt-get install promlike\)") as ended:
        program("promlike", install="apt-get install promlike")

    assert ended.typename == ending


def test_a_newer_program_that_is_not_named(newer_program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    monkeypatch.delenv("PROMLIKE3", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"^PROMLIKE3 names no program"):
        newer_program("PROMLIKE3")
