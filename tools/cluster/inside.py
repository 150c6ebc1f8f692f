"""What ``python -m tools.cluster`` runs once everything is built: the cluster and the trials, in namespaces or not.

Usage: ``python -m tools.cluster.inside PLAN``; the results are written beside the plan.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.cluster import fixtures
from tools.cluster.control_plane import control_plane
from tools.cluster.node import node, prepare_namespaces
from tools.cluster.programs import Programs
from tools.cluster.releases import Client
from tools.cluster.trials import Versions, try_values, try_without_pods
from tools.cluster.world import simulated_account

if TYPE_CHECKING:
    from collections.abc import Iterable

_VOLUMES = 24
_CLASS = "local"


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that was found and built for a run; paths are absolute."""

    folder: str
    programs: str
    kubectl: str
    helm_4: str
    helm_3: str
    group: str
    images: list[str]
    image: str
    definitions: list[str]
    new_chart: str
    old_chart: str
    old_values: str
    values: list[str]
    fixtures: list[str]

    @property
    def with_node(self) -> bool:
        """Whether pods run."""
        return bool(self.group)


def main() -> int:
    (path,) = map(Path, sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    plan = Plan(**json.loads(path.read_text(encoding="utf-8")))
    folder = Path(plan.folder)
    programs = Programs(Path(plan.programs))
    if plan.with_node:
        prepare_namespaces()
    with contextlib.ExitStack() as stack:
        plane = stack.enter_context(control_plane(programs, folder, Path(plan.kubectl), scheduler=plan.with_node))
        client, client_3 = (
            Client(Path(plan.kubectl), Path(helm), plane.kubeconfig("admin"), folder / "home")
            for helm in (plan.helm_4, plan.helm_3)
        )
        client.kubectl("version")
        _define(client, plan.definitions)
        if plan.with_node:
            kubectl = (plan.kubectl, "--kubeconfig", str(plane.kubeconfig("admin")))
            stack.enter_context(node(programs, plane, list(map(Path, plan.images)), plan.group, kubectl))
            client.apply(*_storage(folder / "volumes"))
        print(f"Kubernetes {plane.version} runs, {'with' if plan.with_node else 'without'} a node", flush=True)
        trials = list(_trials(plan, client))
        if plan.with_node:
            client.kubectl("cordon", "node")
        installed = {values: list(_fixture(plan, values, client, client_3)) for values in plan.fixtures}
    results = {
        "kubernetes": plane.version,
        "trials": [dataclasses.asdict(trial) for trial in trials],
        "fixtures": {
            Path(values).parent.name: [dataclasses.asdict(one) for one in runs]
            for values, runs in installed.items()
        },
    }
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    return 0


def _trials(plan: Plan, client: Client) -> Iterable[Any]:
    versions = Versions(Path(plan.new_chart), Path(plan.old_chart), Path(plan.old_values))
    account = simulated_account()
    attempt = try_values if plan.with_node else try_without_pods
    for values in plan.values:
        yield attempt(client, versions, Path(values), account, plan.image, Path(plan.folder))


def _fixture(plan: Plan, values: str, *clients: Client) -> Iterable[fixtures.Installed]:
    for number, client in enumerate(clients):
        name = f"{Path(values).parent.name}-{number}"
        done = fixtures.install(client, Path(plan.new_chart), Path(values), name)
        print(f"fixture {name}: {done.objects} objects, {done.pods} of {done.wanted_pods} pods", flush=True)
        for problem in done.problems:
            print(f"  {problem}", flush=True)
        yield done


def _define(client: Client, definitions: list[str]) -> None:
    for path in definitions:
        client.kubectl("apply", "--server-side", "-f", path)
    if definitions:
        client.kubectl("wait", "--for=condition=Established", "customresourcedefinitions", "--all", "--timeout=60s")


def _storage(folder: Path) -> Iterable[dict[str, Any]]:
    """Yield a default StorageClass and local volumes for it: there is no provisioner."""
    yield {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": _CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "Immediate",
    }
    for number in range(_VOLUMES):
        place = folder / str(number)
        place.mkdir(parents=True)
        on_node = {"key": "kubernetes.io/hostname", "operator": "In", "values": ["node"]}
        yield {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"volume-{number}"},
            "spec": {
                "capacity": {"storage": "1Gi"},
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": _CLASS,
                "persistentVolumeReclaimPolicy": "Retain",
                "local": {"path": str(place)},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [on_node]}]}},
            },
        }


if __name__ == "__main__":
    sys.exit(main())
