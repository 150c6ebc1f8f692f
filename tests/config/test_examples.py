"""Good and bad configurations, and what ``check`` prints for each; see the directory ``examples``.

An example is a directory with config.toml, files it names, environment variables in environ.txt, and what is
printed in expected.txt: errors or warnings, then the summary. ``mistakes`` has forty that people make, one each.
"""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

import pytest

from exporter.cli import check
from exporter.config import checks

EXAMPLES = Path(__file__).parent / "examples"


def examples(sort: str) -> list[str]:
    return sorted(path.name for path in (EXAMPLES / sort).iterdir())


def run_check(
    example: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str, str]:
    monkeypatch.chdir(example)
    monkeypatch.setattr(checks, "readable_by_all", lambda path: False)  # depends on where the repository is
    for name in os.environ:
        if "VERIFY" in name.upper() or name.upper() == "HTTPS_PROXY":
            monkeypatch.delenv(name)
    if (example / "environ.txt").exists():
        for line in (example / "environ.txt").read_text().splitlines():
            monkeypatch.setenv(*line.split("=", 1))
    parser = argparse.ArgumentParser()
    check.add_arguments(parser)
    status = check.run(parser.parse_args([]))
    out, err = capsys.readouterr()
    return status, out, err.replace(str(example), "HERE")


@pytest.mark.parametrize("name", examples("good"))
def test_good(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    example = EXAMPLES / "good" / name
    status, out, err = run_check(example, monkeypatch, capsys)
    assert err + out == (example / "expected.txt").read_text()
    assert status == 0
    assert all(line.startswith("warning: ") for line in messages(err))


@pytest.mark.parametrize("name", examples("bad"))
def test_bad(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    example = EXAMPLES / "bad" / name
    status, out, err = run_check(example, monkeypatch, capsys)
    assert err == (example / "expected.txt").read_text()
    assert (status, out) == (1, "")
    assert "made-up" not in err
    assert "hunter2" not in err


@pytest.mark.parametrize("name", examples("mistakes"))
def test_mistake(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Each is named for what it is, with its place, or the name of the variable, and what to do about it."""
    example = EXAMPLES / "mistakes" / name
    status, out, err = run_check(example, monkeypatch, capsys)
    assert err + out == (example / "expected.txt").read_text()
    assert status == (0 if out else 1)
    assert "made-up" not in err
    found = messages(err)
    assert found
    for line in found:
        assert re.match(r"(warning: )?(config\.toml|list\.csv|web\.yml):\d+:\d+: |(warning: )?[A-Z_]+: ", line), (
            line
        )
        assert re.search("; |, not ", line), "says what to do"
        assert "^" in err or re.match(r"(warning: )?[A-Z_]+: ", line)


def test_there_are_forty_mistakes() -> None:
    assert len(examples("mistakes")) == 40


def messages(err: str) -> list[str]:
    """Return the lines that are no excerpt."""
    return [line for line in err.splitlines() if not re.match(r" *\d* \| | *\|$", line)]
