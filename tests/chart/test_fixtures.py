"""Valid fixtures render the expected objects; invalid ones are refused with the expected message."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helm.generate import CHART
from tests.support.chart.cases import INVALID, VALID, Case, case
from tests.support.chart.rendering import NEWEST

if TYPE_CHECKING:
    from tests.chart.conftest import Rendering
    from tests.support.chart.rendering import Helm, Manifest

DASHBOARDS = sorted(path.stem for path in (CHART / "files" / "dashboards").glob("*.json"))


@pytest.mark.parametrize("fixture", VALID, ids=str)
def test_valid_values_render_the_expected_objects(fixture: Case, rendering: Rendering) -> None:
    rendered = rendering(fixture, NEWEST)
    expected = fixture.expected
    names = [f"{item['kind']}/{item['metadata']['name']}" for item in rendered.objects]
    workload = rendered.workload["metadata"]["name"]
    dashboards = [f"{expected['dashboards']}/{workload}-{name}" for name in DASHBOARDS if "dashboards" in expected]
    assert sorted(names) == sorted([*expected["objects"], *dashboards])
    assert [text for text in expected.get("contains", []) if text not in rendered.text] == []
    assert [text for text in expected.get("lacks", []) if text in rendered.text] == []


@pytest.mark.parametrize("fixture", VALID, ids=str)
def test_every_object_has_the_standard_labels_and_namespace(fixture: Case, rendering: Rendering) -> None:
    for item in rendering(fixture, NEWEST).objects:
        if item["metadata"]["name"].endswith(("-extra", "-text")):
            continue  # the user's own
        assert item["metadata"].get("namespace") or item["kind"].startswith("Cluster"), item["kind"]
        assert item["metadata"]["labels"].keys() >= {
            "app.kubernetes.io/name",
            "app.kubernetes.io/instance",
            "app.kubernetes.io/version",
            "app.kubernetes.io/managed-by",
            "helm.sh/chart",
        }


@pytest.mark.slow
@pytest.mark.parametrize("fixture", INVALID, ids=str)
def test_invalid_values_are_refused_with_place_and_hint(fixture: Case, helm: Helm) -> None:
    done = helm.try_template(fixture.values)
    assert done.returncode != 0
    assert done.stdout == ""
    assert fixture.message
    assert [line for line in fixture.message if line not in done.stderr] == [], done.stderr
    assert "made-up-secret" not in done.stderr
    assert "someone" not in done.stderr


@pytest.mark.parametrize("fixture", VALID, ids=str)
def test_helm_lint_passes(fixture: Case, helm: Helm) -> None:
    done = helm.run("lint", "--strict", CHART, "--values", fixture.values)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout
    assert "[INFO]" not in done.stdout


@pytest.mark.parametrize("fixture", VALID, ids=str)
def test_helm_3_renders_the_same(fixture: Case, rendering: Rendering, helm_3: Helm) -> None:
    def by_name(objects: tuple[Manifest, ...]) -> dict[tuple[str, str], Manifest]:
        return {(item["kind"], item["metadata"]["name"]): item for item in objects}

    assert by_name(helm_3.template(fixture.values).objects) == by_name(rendering(fixture, NEWEST).objects)


@pytest.mark.slow
def test_helm_3_refuses_the_same(helm_3: Helm) -> None:
    assert [str(fixture) for fixture in INVALID if helm_3.try_template(fixture.values).returncode == 0] == []


def test_an_older_kubernetes_is_refused(helm: Helm) -> None:
    done = helm.try_template(case("smallest").values, "1.24.17")
    assert done.returncode != 0
    assert "requires kubeVersion: >=1.25.0-0" in done.stderr
