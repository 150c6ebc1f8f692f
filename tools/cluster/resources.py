"""Custom resource definitions from the Go modules of their projects."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tools.compatibility.debian import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Source:
    """A published module, and the files in it that define custom resources."""

    module: str
    version: str
    files: str


SOURCES = (
    Source(
        "github.com/prometheus-operator/prometheus-operator",
        "v0.85.0",
        "example/prometheus-operator-crd/*monitors.yaml",
    ),
    Source(
        "github.com/prometheus-operator/prometheus-operator",
        "v0.85.0",
        "example/prometheus-operator-crd/*prometheusrules.yaml",
    ),
    Source(
        "github.com/prometheus-operator/prometheus-operator",
        "v0.85.0",
        "example/prometheus-operator-crd/*scrapeconfigs.yaml",
    ),
    Source("sigs.k8s.io/gateway-api", "v1.6.3", "config/crd/standard/*httproutes.yaml"),
    Source("k8s.io/autoscaler/vertical-pod-autoscaler", "v1.8.1", "deploy/vpa-v1-crd-gen.yaml"),
    Source(
        "github.com/external-secrets/external-secrets",
        "v0.16.2",  # the last that serves both v1 and v1beta1
        "config/crds/bases/external-secrets.io_externalsecrets.yaml",
    ),
)


def definitions(sources: tuple[Source, ...], further: Path | None) -> Iterator[Path]:
    """Yield the files with definitions: of the modules and in a further folder. Raises ``UnavailableError``."""
    for source in sources:
        found = sorted(_downloaded(source).glob(source.files))
        if not found:
            raise UnavailableError(f"{source.module} {source.version} has no {source.files}")
        yield from found
    if further is not None:
        yield from sorted(further.glob("*.yaml"))


def _downloaded(source: Source) -> Path:
    command = ("go", "mod", "download", "-json", f"{source.module}@{source.version}")
    try:
        done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise UnavailableError("go is not installed") from error
    answer = json.loads(done.stdout or "{}")
    if "Dir" not in answer:
        raise UnavailableError(f"{source.module}: {answer.get('Error') or done.stderr.strip()}")
    return Path(answer["Dir"])
