"""The dashboards for another type of data source: every reference names it, and nothing else differs."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from grafana.boards import __main__ as generator
from grafana.boards.__main__ import BOARDS
from grafana.boards.board import render
from grafana.boards.source import PROMETHEUS
from tests.support.dashboards.files import FOLDER, PATHS, targets, variables

if TYPE_CHECKING:
    from collections.abc import Iterator

PLUGIN = "victoriametrics-metrics-datasource"
PAGE = (Path(__file__).parents[2] / "docs" / "dashboards.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("## Another type of data source")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"```sh\n(.*?)```", SECTION, re.DOTALL)


def references(tree: Any) -> Iterator[Any]:
    """Yield every reference to a data source, wherever it is."""
    match tree:
        case dict():
            for key, value in tree.items():
                if key == "datasource":
                    yield value
                yield from references(value)
        case list():
            for value in tree:
                yield from references(value)


@pytest.fixture
def generated(tmp_path: Path) -> Path:
    """Return a folder with the dashboards for another type."""
    generator.main(["--output", str(tmp_path / "generated"), "--datasource-type", PLUGIN])
    return tmp_path / "generated"


@pytest.mark.parametrize("name", [board.file_name for board in BOARDS])
def test_every_reference_has_the_type(generated: Path, name: str) -> None:
    tree = json.loads((generated / name).read_text(encoding="utf-8"))
    found = list(references(tree))
    queries = list(targets(tree))
    assert len(found) > len(queries) > 0
    assert [item for item in found if item != {"type": PLUGIN, "uid": "${datasource}"}] == []
    assert variables(tree)["datasource"]["query"] == PLUGIN


@pytest.mark.parametrize("text", ["", "Victoria Metrics", "https://grafana.example.com", "${type}"])
def test_what_is_no_plugin_is_refused_and_nothing_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    with pytest.raises(SystemExit):
        generator.main(["--output", str(tmp_path / "generated"), "--datasource-type", text])
    assert f'"{text}" is not a plugin id, such as prometheus' in capsys.readouterr().err
    assert not (tmp_path / "generated").exists()


@pytest.mark.parametrize("name", [board.file_name for board in BOARDS])
def test_nothing_else_differs(generated: Path, name: str) -> None:
    before = (FOLDER / name).read_text(encoding="utf-8").splitlines()
    after = (generated / name).read_text(encoding="utf-8").splitlines()
    differing = {(one.strip(), other.strip()) for one, other in zip(before, after, strict=True) if one != other}
    assert differing == {
        (f'"type": "{PROMETHEUS}",', f'"type": "{PLUGIN}",'),
        (f'"query": "{PROMETHEUS}",', f'"query": "{PLUGIN}",'),
    }


def test_the_default_is_prometheus() -> None:
    assert {board.file_name: render(board, PROMETHEUS) for board in BOARDS} == {
        path.name: path.read_text(encoding="utf-8") for path in PATHS
    }


def test_the_documented_commands_do_it(tmp_path: Path, generated: Path) -> None:
    generate, replace = (shlex.split(block) for block in BLOCKS)
    assert generate[:3] == ["python", "-m", "grafana.boards"]
    generator.main([str(tmp_path / "documented") if word == "FOLDER" else word for word in generate[3:]])
    assert replace.pop() == "*.json"
    for path in PATHS:
        copy = tmp_path / path.name
        copy.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
        subprocess.run([*replace, str(copy)], check=True, timeout=60)
    for name in (path.name for path in PATHS):
        expected = (generated / name).read_text(encoding="utf-8")
        assert (tmp_path / "documented" / name).read_text(encoding="utf-8") == expected
        assert (tmp_path / name).read_text(encoding="utf-8") == expected
