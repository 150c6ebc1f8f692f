"""Rendered objects are valid for the oldest and newest Kubernetes, and for the "restricted" profile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.chart import custom_resources, kubernetes_schema, pod_security
from tests.support.chart.cases import VALID, Case, case
from tests.support.chart.rendering import NEWEST, OLDEST
from tests.support.chart.sidecar import containers

if TYPE_CHECKING:
    from tests.chart.conftest import Rendering

LARGEST_OBJECT_BYTES = 1_048_576


@pytest.mark.parametrize("kubernetes", [OLDEST, NEWEST])
@pytest.mark.parametrize("fixture", VALID, ids=str)
def test_objects_match_the_schemas(fixture: Case, kubernetes: str, rendering: Rendering) -> None:
    rendered = rendering(fixture, kubernetes)
    own = [item for item in rendered.objects if item["kind"] not in custom_resources.MODELS]
    assert len(own) >= 4
    for item in own:
        assert kubernetes_schema.errors(item, kubernetes) == [], item["kind"]


@pytest.mark.parametrize("fixture", VALID, ids=str)
def test_lists_have_no_duplicate_keys(fixture: Case, rendering: Rendering) -> None:
    for item in rendering(fixture, NEWEST).objects:
        if item["kind"] not in custom_resources.MODELS:
            assert kubernetes_schema.duplicates(item, NEWEST) == []


def test_duplicate_keys_are_detected(rendering: Rendering) -> None:
    workload = rendering(case("smallest"), NEWEST).workload
    twice = [{"name": "TZ", "value": "UTC"}, {"name": "TZ", "value": "CET"}]
    container = workload["spec"]["template"]["spec"]["containers"][0] | {"env": twice}
    pod = workload["spec"]["template"] | {
        "spec": workload["spec"]["template"]["spec"] | {"containers": [container]}
    }
    changed = workload | {"spec": workload["spec"] | {"template": pod}}
    places = ["Deployment.spec.template.spec.containers[0].env: ('TZ',)"]
    assert kubernetes_schema.duplicates(changed, NEWEST) == places
    assert kubernetes_schema.duplicates(changed, OLDEST) == places


@pytest.mark.parametrize("fixture", VALID, ids=str)
def test_custom_resources_match_their_models(fixture: Case, rendering: Rendering) -> None:
    for item in rendering(fixture, NEWEST).of_kind(*custom_resources.MODELS):
        assert custom_resources.round_trip(item) == item


def test_every_custom_resource_is_in_a_fixture(rendering: Rendering) -> None:
    kinds = {item["kind"] for fixture in VALID for item in rendering(fixture, NEWEST).objects}
    assert custom_resources.MODELS.keys() <= kinds


@pytest.mark.parametrize("fixture", VALID, ids=str)
def test_pods_meet_the_restricted_profile(fixture: Case, rendering: Rendering) -> None:
    for pod in rendering(fixture, NEWEST).pods:
        assert pod_security.violations(pod) == []
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert pod["spec"]["enableServiceLinks"] is False
        own = [item for item in pod["spec"]["containers"] if item["name"] in {"exporter", "healthcheck"}]
        own += containers(pod)
        assert own
        assert all(item["securityContext"]["readOnlyRootFilesystem"] for item in own)


def test_violations_of_the_profile_are_detected() -> None:
    pod = {
        "spec": {
            "hostNetwork": True,
            "volumes": [{"name": "docker", "hostPath": {"path": "/run"}}],
            "containers": [{"name": "a", "ports": [{"hostPort": 1}], "securityContext": {"privileged": True}}],
        }
    }
    assert pod_security.violations(pod) == [
        "spec.hostNetwork",
        "volumes.docker",
        "a.privileged",
        "a.allowPrivilegeEscalation",
        "a.capabilities.drop",
        "a.runAsNonRoot",
        "a.seccompProfile",
        "a.hostPort",
    ]


@pytest.mark.parametrize("fixture", VALID, ids=str)
def test_only_the_sidecar_has_permissions(fixture: Case, rendering: Rendering) -> None:
    rendered = rendering(fixture, NEWEST)
    pod = rendered.workload["spec"]["template"]
    found = containers(pod)
    roles = rendered.of_kind("Role", "ClusterRole")
    assert bool(roles) == bool(found)
    assert [item["name"] for item in found] == (["watchlist-init", "watchlist-sidecar"] if roles else [])
    with_token = {"sidecar-token"} & {volume["name"] for volume in pod["spec"]["volumes"]}
    assert bool(with_token) == bool(found)
    every = [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
    holders = [item for item in every if with_token & {place["name"] for place in item.get("volumeMounts", [])}]
    assert holders == found, "no other container has the token"


@pytest.mark.parametrize(
    ("name", "kind", "namespaces", "resources", "verbs"),
    [
        ("self-service", "Role", ["payments", "ops"], ["secrets"], ["list", "watch"]),
        ("self-service-everywhere", "ClusterRole", [None], ["secrets", "configmaps"], ["list"]),
    ],
)
def test_the_sidecar_may_do_what_it_does_and_nothing_else(
    name: str, kind: str, namespaces: list[str | None], resources: list[str], verbs: list[str], rendering: Rendering
) -> None:
    rendered = rendering(case(name), NEWEST)
    roles, bindings = rendered.of_kind(kind), rendered.of_kind(f"{kind}Binding")
    rule = {"apiGroups": [""], "resources": resources, "verbs": verbs}
    assert [item["metadata"].get("namespace") for item in roles] == namespaces
    assert [item["rules"] for item in roles] == [[rule]] * len(namespaces)
    account = rendered.one("ServiceAccount")["metadata"]
    for role, binding in zip(roles, bindings, strict=True):
        assert binding["metadata"] == role["metadata"]
        assert binding["roleRef"] == {
            "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role["metadata"]["name"]
        }  # fmt: skip
        assert binding["subjects"] == [
            {"kind": "ServiceAccount", "name": account["name"], "namespace": account["namespace"]}
        ]


@pytest.mark.parametrize("fixture", VALID, ids=str)
def test_objects_are_small_enough_for_etcd(fixture: Case, rendering: Rendering) -> None:
    for item in rendering(fixture, NEWEST).objects:
        assert len(str(item).encode()) < LARGEST_OBJECT_BYTES
