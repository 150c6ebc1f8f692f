"""promtool accepts what the mixin evaluates to, and alerts fire as those of the files; mixtool lints it."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from grafana.rules.model import Settings
from grafana.rules.render import groups, optional_groups
from tests.support import mixin
from tests.support.mixin import with_each
from tests.support.rules import factor_cases
from tests.support.rules.cases import annotation_documents, firing_documents, readable, run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.fixtures import Program

pytestmark = pytest.mark.external

CONFIGURATIONS = {
    "default": "{}",
    "changed": """{
      exporterSelector: 'job="twilio", cluster="a"', droppedLabels: ['instance'], errorBudget: 0.0125,
      watchlistShrinkRatio: 0.5, slowEnrolmentFactor: 2.5, unusedPasskeys: true, watchdog: true,
    }""",
}


@pytest.fixture
def promtool(program: Program) -> str:
    return program("promtool", install="apt-get install prometheus")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, vendor: Path) -> dict[str, Path]:
    """Return a file with all rules of the mixin for each configuration."""
    folder = tmp_path_factory.mktemp("written")
    paths = {}
    for name, parts in with_each(CONFIGURATIONS, mixin.RULES, vendor).items():
        paths[name] = folder / f"{name}.json"
        paths[name].write_text(json.dumps({"groups": parts["rules"] + parts["alerts"]}), encoding="utf-8")
    return paths


def test_promtool_lints_the_rules(promtool: str, written: dict[str, Path]) -> None:
    found = subprocess.run(
        [promtool, "check", "rules", "--lint=all", "--lint-fatal", *map(str, written.values())],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (found.returncode, found.stderr) == (0, "")
    always = sum(len(group.rules) for group in groups(Settings()))
    optional = sum(len(group.rules) for group in optional_groups(Settings()))
    for count in (always, always + optional):
        assert f"SUCCESS: {count} rules found" in found.stdout


def test_alerts_fire_with_recording_rules_in_groups_of_their_own(
    promtool: str, written: dict[str, Path], tmp_path: Path
) -> None:
    """The cases of the alerts about factors, all of which read recorded series."""
    cases = readable(promtool, factor_cases.CASES)
    files = [written["default"]]
    order = [group["name"] for group in json.loads(files[0].read_text(encoding="utf-8"))["groups"]]
    for number, text in enumerate([*firing_documents(files, cases), *annotation_documents(files, cases)]):
        path = tmp_path / f"{number}.yaml"
        # Without an order, promtool evaluates the groups in a random one; the cases expect alerts to the minute.
        path.write_text(json.dumps({**json.loads(text), "group_eval_order": order}), encoding="utf-8")
        result = run(promtool, path)
        assert result.returncode == 0, result.stderr


def test_mixtool_lints_the_mixin(vendor: Path) -> None:
    mixtool = shutil.which("mixtool")
    if mixtool is None:
        pytest.skip("mixtool is not installed (go install github.com/monitoring-mixins/mixtool/cmd/mixtool@latest)")
    path = vendor / mixin.NAME
    found = subprocess.run(
        [mixtool, "lint", path.name], cwd=path.parent, capture_output=True, text=True, timeout=300, check=False
    )
    assert (found.returncode, found.stdout) == (0, ""), found.stderr
