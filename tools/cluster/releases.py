"""Running Helm and kubectl against a cluster."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from tests.support.chart.rendering import KubernetesLoader
from tools.cluster.processes import ClusterError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tools.cluster.objects import Manifest

RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}


@dataclass(frozen=True, slots=True)
class Output:
    """What a program printed, and whether it succeeded."""

    good: bool
    out: str
    error: str

    @property
    def reason(self) -> str:
        """The error in one line."""
        return " ".join((self.error or self.out).split())


@dataclass(frozen=True, slots=True)
class Client:
    """kubectl and a Helm of a cluster."""

    kubectl_path: Path
    helm_path: Path
    kubeconfig: Path
    home: Path

    def helm(self, *words: str | Path) -> Output:
        """Run helm."""
        return self._run(self.helm_path, words, None)

    def kubectl(self, *words: str | Path, text: str | None = None) -> str:
        """Run kubectl with a text on its input, and return its output. Raises ``ClusterError``."""
        done = self._run(self.kubectl_path, words, text)
        if not done.good:
            raise ClusterError(f"kubectl {' '.join(map(str, words))}: {done.reason}")
        return done.out

    def try_kubectl(self, *words: str | Path) -> Output:
        """Run kubectl; the caller looks whether it succeeded."""
        return self._run(self.kubectl_path, words, None)

    def apply(self, *items: Manifest) -> None:
        """Create or change objects. Raises ``ClusterError``."""
        if items:
            self.kubectl("apply", "--server-side", "-f", "-", text=yaml.safe_dump_all(items))

    def create_namespace(self, name: str) -> None:
        """Create a namespace that enforces the *restricted* Pod Security Standard."""
        metadata = {"name": name, "labels": RESTRICTED}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})

    def create_secret(
        self, namespace: str, name: str, files: Mapping[str, str], labels: Mapping[str, str] | None = None
    ) -> None:
        """Create or replace a Secret."""
        metadata = {"name": name, "namespace": namespace, "labels": dict(labels or {})}
        self.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": dict(files)})

    def items(self, kinds: str, namespace: str, *words: str) -> list[Manifest]:
        """Return the objects of these kinds."""
        text = self.kubectl("get", kinds, "--namespace", namespace, "--output=json", *words)
        return list(json.loads(text)["items"])

    def live(self, manifest: str, namespace: str) -> list[Manifest]:
        """Return the objects of a manifest as the API server keeps them, without those that are not there."""
        by_place: dict[str, list[Manifest]] = {}
        for item in documents(manifest):
            by_place.setdefault(item["metadata"].get("namespace") or namespace, []).append(item)
        found: list[Manifest] = []
        for place, items in by_place.items():
            command = ("get", "--namespace", place, "--ignore-not-found", "--output=json", "-f", "-")
            text = self.kubectl(*command, text=yaml.safe_dump_all(items))
            if text.strip():
                answer: dict[str, Any] = json.loads(text)
                found += answer["items"] if answer["kind"] == "List" else [answer]
        return found

    def _run(self, program: Path, words: Sequence[str | Path], text: str | None) -> Output:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "KUBECONFIG": str(self.kubeconfig),
            "HELM_NO_PLUGINS": "1",
        }
        done = subprocess.run(
            (program, *words), input=text or "", capture_output=True, text=True, check=False, env=environment
        )
        return Output(done.returncode == 0, done.stdout, done.stderr)


def documents(manifest: str) -> list[Manifest]:
    """Return the objects of a rendered manifest."""
    return [item for item in yaml.load_all(manifest, KubernetesLoader) if item]
