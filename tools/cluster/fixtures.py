"""Installing the chart's fixtures without running their pods: does the API server take and keep every object?"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tools.cluster.objects import drift, refused_pods
from tools.cluster.processes import ClusterError
from tools.cluster.releases import documents

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tools.cluster.objects import Manifest
    from tools.cluster.releases import Client

_RELEASE = "fixture"
_PODS_SECONDS = 60.0
_POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Installed:
    """What became of a fixture: number of objects, pods out of those wanted, and differences from the rendered."""

    name: str
    objects: int
    wanted_pods: int
    pods: int
    problems: tuple[str, ...]

    @property
    def good(self) -> bool:
        """Whether every object is kept as rendered and every pod was admitted."""
        return not self.problems and self.pods == self.wanted_pods


def install(client: Client, chart: Path, values: Path, name: str) -> Installed:
    """Install a fixture into a namespace of its own under *restricted*, compare, and remove it."""
    try:
        return _install(client, chart, values, name)
    except ClusterError as error:
        return Installed(name, 0, 0, 0, (str(error),))


def _install(client: Client, chart: Path, values: Path, name: str) -> Installed:
    namespace = f"fixture-{name}"
    words = (chart, "--namespace", namespace, "--values", values)
    rendered = client.helm("template", _RELEASE, *words)
    if not rendered.good:
        return Installed(name, 0, 0, 0, (rendered.reason,))
    for place in namespaces(documents(rendered.out)) | {namespace}:
        client.create_namespace(place)
    client.apply(*classes(documents(rendered.out)))
    done = client.helm("install", _RELEASE, *words, "--timeout=60s")
    if not done.good:
        client.helm("uninstall", _RELEASE, "--namespace", namespace)
        return Installed(name, 0, 0, 0, (done.reason,))
    manifest = client.helm("get", "manifest", _RELEASE, "--namespace", namespace).out
    items = documents(manifest)
    problems = drift(items, client.live(manifest, namespace), namespace)
    warnings = [line for line in done.error.splitlines() if "violate" in line.lower() or "unknown field" in line]
    wanted, pods = wanted_pods(items), 0
    for place in {
        item["metadata"].get("namespace", namespace) for item in items if "template" in item.get("spec", {})
    }:
        latest = time.monotonic() + _PODS_SECONDS
        while True:
            pods = len(client.items("pods", place, f"--selector=app.kubernetes.io/instance={_RELEASE}"))
            refused = refused_pods(client.items("events", place))
            if pods >= wanted or refused or time.monotonic() > latest:
                problems += refused
                break
            time.sleep(_POLL_SECONDS)
    removed = client.helm("uninstall", _RELEASE, "--namespace", namespace, "--timeout=60s")
    if not removed.good:
        problems.append(removed.reason)
    client.try_kubectl("delete", "namespace", namespace, "--wait=false")
    return Installed(name, len(items), wanted, pods, (*problems, *warnings))


def namespaces(items: list[Manifest]) -> set[str]:
    """Return the namespaces that objects name."""
    return {item["metadata"]["namespace"] for item in items if item["metadata"].get("namespace")}


def classes(items: list[Manifest]) -> Iterator[Manifest]:
    """Yield the classes that pod templates name, other than the system's; without them, no pod is admitted."""
    kinds: dict[str, Manifest] = {
        "runtimeClassName": {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "handler": "runc"},
        "priorityClassName": {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "value": 1000},
    }
    for item in items:
        pod = item.get("spec", {}).get("template", {}).get("spec", {})
        for key, kind in kinds.items():
            if key in pod and not pod[key].startswith("system-"):
                yield kind | {"metadata": {"name": pod[key]}}


def wanted_pods(items: list[Manifest]) -> int:
    """Return how many pods the Deployments and StatefulSets want."""
    return sum(
        int(item["spec"].get("replicas", 1)) for item in items if item["kind"] in {"Deployment", "StatefulSet"}
    )
