"""Running Helm and reading its output."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from helm.generate import CHART

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RELEASE = "verify-factor-exporter"
NAMESPACE = "monitoring"
OLDEST, NEWEST = "1.25.0", "1.37.0"

Manifest = dict[str, Any]


class KubernetesLoader(yaml.CSafeLoader):
    """Reads plain scalars as the YAML library of Kubernetes and Helm does, beyond YAML 1.1: `1e3`, `0o17` and `y`.

    Dates stay dates, which are not strings either: other tools that read manifests take them for such.
    """

    bool_values = yaml.CSafeLoader.bool_values | {"y": True, "n": False}


KubernetesLoader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^[yYnN]$"), list("yYnN"))
KubernetesLoader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile("^[-+]?0o[0-7]+$"), list("-+0"))
KubernetesLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)


@dataclass(frozen=True, slots=True)
class Rendered:
    """The chart rendered with some values."""

    text: str
    objects: tuple[Manifest, ...]

    def of_kind(self, *kinds: str) -> list[Manifest]:
        """Return the objects of these kinds."""
        return [item for item in self.objects if item["kind"] in kinds]

    def one(self, *kinds: str) -> Manifest:
        """Return the only object of these kinds."""
        (found,) = self.of_kind(*kinds)
        return found

    @property
    def workload(self) -> Manifest:
        """The Deployment or the StatefulSet."""
        return self.one("Deployment", "StatefulSet")

    @property
    def pods(self) -> Iterator[Manifest]:
        """All pods with metadata and spec: the exporter's and the test's."""
        yield self.workload["spec"]["template"]
        yield from self.of_kind("Pod")

    @property
    def config(self) -> str:
        """The exporter's config.toml."""
        return str(
            next(item["data"] for item in self.of_kind("ConfigMap") if "config.toml" in item["data"])["config.toml"]
        )


class Helm:
    """The helm program, with its own home and without the user's settings."""

    def __init__(self, program: Path, home: Path) -> None:
        self._program = program
        self._environ = {"HOME": str(home), "PATH": os.environ["PATH"], "HELM_NO_PLUGINS": "1"}

    def run(self, *arguments: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run helm; the caller checks the exit status."""
        return subprocess.run(
            [self._program, *arguments],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env=self._environ | environ,
        )

    def template(
        self,
        values: Path,
        kubernetes: str = NEWEST,
        *flags: str,
        chart: Path = CHART,
        release: str = RELEASE,
        namespace: str = NAMESPACE,
    ) -> Rendered:
        """Render the chart; fails the test if Helm does."""
        done = self.try_template(values, kubernetes, *flags, chart=chart, release=release, namespace=namespace)
        assert done.returncode == 0, done.stderr
        return Rendered(done.stdout, tuple(filter(None, yaml.load_all(done.stdout, KubernetesLoader))))

    def notes(self, values: Path, *flags: str | Path) -> str:
        """Return the notes that Helm prints after an installation; fails the test if Helm does."""
        done = self.run(
            *("install", RELEASE, CHART, "--dry-run=client", "--namespace", NAMESPACE, "--values", values), *flags
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.partition("\nNOTES:\n")[2]

    def try_template(
        self,
        values: Path,
        kubernetes: str = NEWEST,
        *flags: str,
        chart: Path = CHART,
        release: str = RELEASE,
        namespace: str = NAMESPACE,
    ) -> subprocess.CompletedProcess[str]:
        """Render the chart."""
        return self.run(
            "template",
            release,
            chart,
            "--namespace",
            namespace,
            "--values",
            values,
            "--kube-version",
            kubernetes,
            *flags,
        )
