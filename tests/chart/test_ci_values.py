"""The values in the chart's ci folder: complete, valid, linted, and the examples of the documentation."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from helm.generate import CHART, HERE
from tests.support.chart import custom_resources, kubernetes_schema, pod_security
from tests.support.chart.rendering import NEWEST, OLDEST

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.chart.rendering import Helm

FILES = sorted((CHART / "ci").iterdir())
PAGE = (HERE.parent / "docs" / "kubernetes.md").read_text(encoding="utf-8")


def within(part: Any, whole: Any) -> bool:
    """Return whether a document contains another one: all of its keys, with the same values."""
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(name in whole and within(value, whole[name]) for name, value in part.items())
    return bool(part == whole)


def test_chart_testing_finds_the_files() -> None:
    assert len(FILES) >= 5
    assert [path.name for path in FILES if not path.name.endswith("-values.yaml")] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_values_install_on_every_kubernetes(path: Path, helm: Helm, helm_3: Helm) -> None:
    assert helm.run("lint", "--strict", CHART, "--values", path).returncode == 0
    for version in (OLDEST, NEWEST):
        rendered = helm.template(path, version)
        for item in rendered.objects:
            if item["kind"] in custom_resources.MODELS:
                assert custom_resources.round_trip(item) == item
            else:
                assert kubernetes_schema.errors(item, version) == [], item["kind"]
        assert [pod_security.violations(pod) for pod in rendered.pods] == [[]] * len(list(rendered.pods))
    assert sorted(helm_3.template(path).objects, key=str) == sorted(rendered.objects, key=str)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_example_before_its_link_is_part_of_the_file(path: Path) -> None:
    before, link, _ = PAGE.partition(f"[ci/{path.name}](../helm/verify-factor-exporter/ci/{path.name})")
    assert link
    example = re.findall(r"(?ms)^ *```yaml\n(.*?)^ *```$", before)[-1]
    assert within(yaml.safe_load(example), yaml.safe_load(path.read_text(encoding="utf-8")))


def test_the_first_example_is_the_whole_file() -> None:
    example = re.findall(r"(?ms)^   ```yaml\n(.*?)^   ```$", PAGE)[0]
    assert yaml.safe_load(example) == yaml.safe_load((CHART / "ci" / "minimal-values.yaml").read_text("utf-8"))
