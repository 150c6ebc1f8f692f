"""Good and bad configurations, and what ``check`` prints for each; see the directory ``examples``.

An example is a directory with config.toml, files it names, environment variables in environ.txt, and what is
printed in expected.txt: errors or warnings, then the summary.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import pytest

from exporter.cli import check

EXAMPLES = Path(__file__).parent / "examples"


def examples(sort: str) -> list[str]:
    return sorted(path.name for path in (EXAMPLES / sort).iterdir())


def run_check(
    example: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str, str]:
    monkeypatch.chdir(example)
    for name in os.environ:
        if name.startswith("VERIFY_EXPORTER"):
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
    assert all(line.startswith("warning: ") for line in err.splitlines())


@pytest.mark.parametrize("name", examples("bad"))
def test_bad(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    example = EXAMPLES / "bad" / name
    status, out, err = run_check(example, monkeypatch, capsys)
    assert err == (example / "expected.txt").read_text()
    assert (status, out) == (1, "")
    assert "made-up" not in err
    assert "hunter2" not in err
