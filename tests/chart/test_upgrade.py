"""Upgrades keep names, selectors and other immutable fields."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from helm.generate import CHART
from tests.support.chart.cases import FIXTURES, Case, case
from tests.support.chart.rendering import NEWEST

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chart.conftest import Rendering
    from tests.support.chart.rendering import Helm, Manifest, Rendered

LOCKED = [case("everything"), case("sharded"), case("web-config"), case("external-secret"), case("development"),
          case("self-service-everywhere")]  # fmt: skip


def immutable_fields(rendered: Rendered) -> dict[str, Any]:
    """Return the fields of each object that must not change between versions, by kind and name."""
    return {
        f"{item['apiVersion']}/{item['kind']}/{item['metadata']['name']}": dict(_immutable(item))
        for item in sorted(rendered.objects, key=lambda item: (item["kind"], item["metadata"]["name"]))
    }


def _immutable(item: Manifest) -> list[tuple[str, Any]]:
    spec = item.get("spec", {})
    names = ("selector", "serviceName", "podManagementPolicy", "volumeClaimTemplates", "clusterIP", "jobName")
    kept = [(name, spec[name]) for name in names if name in spec]
    if item["kind"] == "Service":
        kept.append(("ports", [port["name"] for port in spec["ports"]]))
    if "template" in spec:
        volumes = spec["template"]["spec"]["volumes"]
        kept.append(("volumes", [volume["name"] for volume in volumes]))
    if "roleRef" in item:
        kept.append(("roleRef", item["roleRef"]))
    if item["kind"] in {"Secret", "ConfigMap"}:
        kept.append(("keys", sorted(item.get("data", {}))))
    return kept


@pytest.mark.parametrize("fixture", LOCKED, ids=str)
def test_names_and_selectors_never_change(fixture: Case, rendering: Rendering) -> None:
    golden = yaml.safe_load((FIXTURES / "upgrade" / f"{fixture}.yaml").read_text(encoding="utf-8"))
    assert immutable_fields(rendering(fixture, NEWEST)) == golden


@pytest.mark.parametrize("fixture", [case("everything"), case("sharded")], ids=str)
def test_a_new_chart_version_restarts_nothing(
    fixture: Case, rendering: Rendering, helm: Helm, tmp_path: Path
) -> None:
    shutil.copytree(CHART, tmp_path / "chart")
    metadata = tmp_path / "chart" / "Chart.yaml"
    text, changed = re.subn(r"(?m)^version: .*$", "version: 99.0.0", metadata.read_text(encoding="utf-8"))
    assert changed == 1
    metadata.write_text(text, encoding="utf-8")
    old, new = rendering(fixture, NEWEST), helm.template(fixture.values, chart=tmp_path / "chart")
    assert immutable_fields(new) == immutable_fields(old)
    assert new.workload["spec"] == old.workload["spec"]
    assert new.workload["metadata"]["labels"]["helm.sh/chart"] == "verify-factor-exporter-99.0.0"


MORE_TO_WATCH = """
watchlist:
  entities:
    - name: ops-oncall
      service_sid: VA00000000000000000000000000000001
      identity: 00000000-0000-4000-8000-000000000009
"""


def restarts(helm: Helm, folder: Path, change: str) -> bool:
    """Return whether a change of values changes the pod template."""
    more = folder / "more.yaml"
    more.write_text(change, encoding="utf-8")
    fixture = case("smallest").values
    old, new = helm.template(fixture), helm.template(fixture, NEWEST, "--values", str(more))
    assert old.text != new.text
    return bool(old.workload["spec"]["template"] != new.workload["spec"]["template"])


@pytest.mark.parametrize(
    "change",
    [
        "config: {polling: {interval: 1m}, log: {level: debug}, watchlist: {allow_empty: true}}",
        "accounts: {main: {username: SK00000000000000000000000000000001, max_concurrency: 2}}",
        MORE_TO_WATCH,
        "watchlist: {services: [{name: consumer, service_sid: VA00000000000000000000000000000001}]}",
        "watchlist: {http: [{name: list, url: https://example.com}]}",
        "monitor: {type: ServiceMonitor}",
    ],
)
def test_reloadable_settings_restart_nothing(helm: Helm, tmp_path: Path, change: str) -> None:
    assert not restarts(helm, tmp_path, change)


@pytest.mark.parametrize(
    "change",
    [
        "config: {web: {telemetry_path: /verify}}",
        "config: {web: {enable_lifecycle: true}}",
        "config: {web: {enable_probe: true}}",
        "config: {metrics: {identity: plain}}",
        "web: {port: 9000}",
        "state: {type: none}",
        "web: {config: {existingSecret: web}}",
        "watchlist: {sidecar: {enabled: true}}",
    ],
)
def test_start_up_settings_restart_the_pod(helm: Helm, tmp_path: Path, change: str) -> None:
    assert restarts(helm, tmp_path, change)


def test_more_shards_restart_every_shard(helm: Helm, rendering: Rendering) -> None:
    old = rendering(case("sharded"), NEWEST)
    new = helm.template(case("sharded").values, NEWEST, "--set", "replicaCount=4")
    assert old.workload["spec"]["template"] != new.workload["spec"]["template"]
