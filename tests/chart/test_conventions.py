"""What users of other charts expect: examples in values.yaml, templates in labels, and common values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
import yaml
from yamllint import linter
from yamllint.config import YamlLintConfig

from helm import values
from helm.generate import CHART
from tests.support.chart import custom_resources, kubernetes_schema
from tests.support.chart.cases import case
from tests.support.chart.rendering import NAMESPACE, NEWEST, RELEASE

if TYPE_CHECKING:
    from tests.chart.conftest import Rendering
    from tests.support.chart.rendering import Helm, Rendered

LINT = YamlLintConfig(file=str(Path(__file__).parent / "chart-testing-lint.yaml"))
LINTED = sorted([*CHART.glob("*.yaml"), *CHART.glob("ci/*.yaml")])
SECTIONS = values.read((CHART / "values.yaml").read_text(encoding="utf-8"))
EXAMPLES = [
    leaf for section in SECTIONS for value in section.values for leaf in value.leaves() if leaf.example
]  # fmt: skip
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))


def render(helm: Helm, folder: Path, more: dict[str, Any], fixture: str = "smallest") -> Rendered:
    """Render a fixture with more values, and check what Kubernetes has schemas for."""
    path = folder / "more.yaml"
    path.write_text(json.dumps(more), encoding="utf-8")
    rendered = helm.template(case(fixture).values, NEWEST, "--values", str(path))
    for item in rendered.objects:
        if item["kind"] in custom_resources.MODELS:
            assert custom_resources.round_trip(item) == item
        else:
            assert kubernetes_schema.errors(item, NEWEST) == [], item["kind"]
    return rendered


@pytest.mark.parametrize("path", LINTED, ids=lambda path: path.name)
def test_chart_testing_finds_nothing_to_lint(path: Path) -> None:
    problems = linter.run(path.read_text(encoding="utf-8"), LINT, str(path))
    assert [f"{path.name}:{problem.line}: {problem.desc}" for problem in problems] == []


def test_the_linter_finds_something() -> None:
    assert [problem.rule for problem in linter.run("a:  {b: 1 }\n#c\n", LINT)] == ["colons", "braces", "comments"]


@pytest.mark.parametrize("value", EXAMPLES, ids=lambda value: ".".join(value.path))
def test_examples_in_values_yaml_render(value: values.Value, helm: Helm, tmp_path: Path) -> None:
    example: Any = yaml.safe_load(value.example)
    for name in reversed(value.path):
        example = {name: example}
    assert [error.message for error in jsonschema.Draft7Validator(SCHEMA).iter_errors(example)] == []
    assert render(helm, tmp_path, example).workload


def test_accounts_and_watchlist_have_examples() -> None:
    assert {".".join(value.path) for value in EXAMPLES} >= {
        "accounts", "watchlist.factors", "watchlist.entities", "watchlist.services", "watchlist.http",
        "watchlist.existingSecrets",
    }  # fmt: skip


def test_labels_and_annotations_may_contain_templates(rendering: Rendering) -> None:
    rendered = rendering(case("everything"), NEWEST)
    for item in rendered.objects:
        if not item["metadata"]["name"].endswith(("-extra", "-text")):
            assert item["metadata"]["annotations"]["example.com/release"] == RELEASE
    pod = rendered.workload["spec"]["template"]["metadata"]
    assert pod["annotations"]["example.com/release"] == RELEASE
    assert pod["labels"]["example.com/shard"] == f"{NAMESPACE}-0"
    assert "example.com/shard" not in rendered.workload["spec"]["selector"]["matchLabels"]


def test_every_label_and_annotation_of_an_object_may_contain_templates(helm: Helm, tmp_path: Path) -> None:
    own = {
        "labels": {"example.com/a": "{{ .Release.Name }}"},
        "annotations": {"example.com/a": "{{ .Chart.Name }}"},
    }
    more = {
        "service": own,
        "serviceAccount": {"annotations": own["annotations"]},
        "monitor": own | {"type": "PodMonitor"},
        "rules": own | {"enabled": True},
        "dashboards": own | {"type": "ConfigMap"},
        "podLabels": own["labels"],
        "podAnnotations": own["annotations"],
    }
    rendered = render(helm, tmp_path, more)
    found = [rendered.workload["spec"]["template"]["metadata"]]
    found += [item["metadata"] for item in rendered.of_kind("Service", "PodMonitor", "PrometheusRule")]
    found += [item["metadata"] for item in rendered.of_kind("ConfigMap") if "config.toml" not in item["data"]]
    assert len(found) > 4
    assert {item["labels"]["example.com/a"] for item in found} == {RELEASE}
    assert {item["annotations"]["example.com/a"] for item in found} == {"verify-factor-exporter"}
    assert rendered.one("ServiceAccount")["metadata"]["annotations"]["example.com/a"] == "verify-factor-exporter"


def test_pull_secrets_of_a_parent_chart_are_used_together_with_the_releases(rendering: Rendering) -> None:
    for pod in rendering(case("everything"), NEWEST).pods:
        assert pod["spec"]["imagePullSecrets"] == [{"name": "registry"}, {"name": "mirror"}]


def test_variables_and_hooks_reach_the_container(rendering: Rendering) -> None:
    container = rendering(case("everything"), NEWEST).workload["spec"]["template"]["spec"]["containers"][0]
    assert container["envFrom"] == [{"secretRef": {"name": "more", "optional": True}}]
    assert container["lifecycle"] == {"postStart": {"httpGet": {"path": "/-/healthy", "port": "metrics"}}}


@pytest.mark.parametrize(
    ("more", "policy"),
    [
        ({}, None),
        ({"hostNetwork": True}, "ClusterFirstWithHostNet"),
        ({"hostNetwork": True, "dnsPolicy": "Default"}, "Default"),
    ],
)
def test_the_network_of_the_node(more: dict[str, Any], policy: str | None, helm: Helm, tmp_path: Path) -> None:
    pod = render(helm, tmp_path, more).workload["spec"]["template"]["spec"]
    assert pod.get("hostNetwork") is more.get("hostNetwork")
    assert pod.get("dnsPolicy") == policy


def test_addresses_of_the_service(helm: Helm, tmp_path: Path) -> None:
    web = {"config": {"existingSecret": "web"}}
    rendered = render(helm, tmp_path, {"service": {"type": "NodePort", "nodePort": 30069}, "web": web})
    metrics, health = rendered.one("Service")["spec"]["ports"]
    assert metrics["nodePort"] == 30069
    assert "nodePort" not in health
    assert "clusterIP" not in rendered.one("Service")["spec"]
    for address in ("None", "10.96.0.69"):
        rendered = render(helm, tmp_path, {"service": {"clusterIP": address}})
        assert rendered.one("Service")["spec"]["clusterIP"] == address


@pytest.mark.parametrize("kind", ["ServiceMonitor", "PodMonitor", "ScrapeConfig"])
def test_monitors_have_protocols_and_labels(kind: str, helm: Helm, tmp_path: Path) -> None:
    more: dict[str, Any] = {"type": kind, "scrapeProtocols": ["PrometheusProto"], "honorLabels": True}
    if kind != "ScrapeConfig":
        more["targetLabels"] = ["team"]
    spec = render(helm, tmp_path, {"monitor": more}).one(kind)["spec"]
    assert spec["scrapeProtocols"] == ["PrometheusProto"]
    (endpoint,) = spec.get("endpoints") or spec.get("podMetricsEndpoints") or [spec]
    assert endpoint["honorLabels"] is True
    key = {"ServiceMonitor": "targetLabels", "PodMonitor": "podTargetLabels"}.get(kind)
    assert key is None or spec[key] == ["team"]
    assert (
        render(helm, tmp_path, {"monitor": {"type": kind}})
        .one(kind)["spec"]
        .keys()
        .isdisjoint({"scrapeProtocols", "targetLabels", "podTargetLabels"})
    )


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"monitor": {"type": "ScrapeConfig", "targetLabels": ["a"]}}, "set monitor.relabelings instead"),
        ({"service": {"nodePort": 30069}}, "set service.type=NodePort or remove it"),
        (
            {"service": {"clusterIP": "None", "type": "NodePort"}},
            "None requires service.type=ClusterIP, not NodePort",
        ),
    ],
)
def test_values_without_effect_are_refused(more: dict[str, Any], message: str, helm: Helm, tmp_path: Path) -> None:
    path = tmp_path / "more.yaml"
    path.write_text(json.dumps(more), encoding="utf-8")
    done = helm.try_template(case("smallest").values, NEWEST, "--values", str(path))
    assert done.returncode != 0
    assert message in done.stderr
