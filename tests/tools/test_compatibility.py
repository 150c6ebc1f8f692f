"""How interpreters are found, and how the tables of docs/compatibility.md are written."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tools.compatibility import debian, interpreters
from tools.compatibility.debian import Suite, UnavailableError
from tools.compatibility.interpreters import Interpreter, Result, counted, identified
from tools.compatibility.page import INTERPRETERS, rows, with_row, with_table

TEXT = """# Page

<!-- interpreters:begin -->

| Python | from | passed | failed | skipped |
|---|---|---|---|---|
| 3.9.1 | here | 1 | 0 | 0 |

<!-- interpreters:end -->

end
"""


def test_a_row_is_replaced_and_rows_are_sorted_by_number() -> None:
    text = with_row(TEXT, INTERPRETERS, ("3.10.2", "here", "5", "0", "0"), keys=2)
    text = with_row(text, INTERPRETERS, ("3.9.1", "here", "2", "1", "0"), keys=2)

    assert rows(text, INTERPRETERS) == [("3.9.1", "here", "2", "1", "0"), ("3.10.2", "here", "5", "0", "0")]
    assert with_table(text, INTERPRETERS, [("3.9.1", "here", "1", "0", "0")]) == TEXT
    assert text.startswith("# Page\n")
    assert text.endswith("\n\nend\n")


@pytest.mark.parametrize(
    ("output", "result"),
    [
        ("6036 passed in 10.50s (0:18:30)", Result(6036, 0, 0)),
        ("FAILED a\n3 failed, 6036 passed, 2 skipped, 1 error in 1110.80s (0:18:30)", Result(6036, 4, 2)),
        ("==== 2 failed, 1 passed, 9 deselected, 3 errors in 0.10s ====", Result(1, 5, 0)),
        ("Killed", Result(error="the tests did not finish")),
    ],
)
def test_the_numbers_of_a_run(output: str, result: Result) -> None:
    assert counted(f"...F..\n{output}\n") == result


def test_no_result_is_good_that_ran_nothing_or_failed() -> None:
    assert Result(3, 0, 1).good
    assert not Result(3, 1, 0).good
    assert not Result(0, 0, 5).good
    assert Result(error="the tests did not finish").cells() == ("the tests did not finish", "", "")


def test_an_interpreter_is_found_once_and_old_or_broken_ones_are_not(tmp_path: Path) -> None:
    broken, old = tmp_path / "python3.12", tmp_path / "python3.13"
    broken.write_text("#!/bin/sh\nexit 127\n")
    old.write_text("#!/bin/sh\necho 3.10.4 cpython /somewhere\n")
    for path in (broken, old):
        path.chmod(0o755)
    link = tmp_path / "python3.99"
    link.symlink_to(sys.executable)

    found = list(identified([broken, old, Path(sys.executable), link]))
    assert [one.version for one in found] == [sys.version.split()[0]]


@pytest.mark.parametrize(
    ("version", "wanted", "chosen"),
    [("3.14.10", [], True), ("3.14.10", ["3.14"], True), ("3.1.0", ["3.14"], False), ("3.14", ["3.14.2"], True)],
)
def test_versions_select_interpreters(version: str, wanted: list[str], chosen: bool) -> None:
    assert interpreters._wanted(version, wanted) is chosen
    assert Interpreter("3.14.10", "here", Path("/x")).minor == "3.14"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("debian.sources", "Types: deb\nURIs: http://example.com/debian-security http://example.com/debian\n"),
        (
            "main.list",
            "# deb http://no.example/debian x main\ndeb [signed-by=/k] http://example.com/debian sid main\n",
        ),
    ],
)
def test_the_mirror_is_the_one_of_this_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, text: str
) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d" / name).write_text(text)
    (tmp_path / "keyring").touch()
    monkeypatch.setattr(debian, "_SOURCES", tmp_path)
    monkeypatch.setattr(debian, "_KEYRING", tmp_path / "keyring")

    assert debian._mirror() == "http://example.com/debian"


def test_a_machine_without_a_mirror_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(debian, "_SOURCES", tmp_path)
    with pytest.raises(UnavailableError, match="no Debian mirror"):
        Suite("sid", tmp_path).update()
