"""Fixtures: Helm from the PyPI package that contains it, and cached renderings of the chart."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import pytest

from tests.support.chart.rendering import Helm
from tools.cluster.programs import HELM_3, HELM_4, MissingError, unpacked

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.chart.cases import Case
    from tests.support.chart.rendering import Rendered

    Rendering = Callable[[Case, str], Rendered]

__all__ = ["helm", "helm_3", "kubectl", "rendering"]  # pytest finds fixtures by their names here


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Return Helm 4."""
    home = tmp_path_factory.mktemp("helm")
    return Helm(unpacked(HELM_4, "helm", home), home)


@pytest.fixture(scope="session")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of kubectl."""
    return unpacked(HELM_4, "kubectl", tmp_path_factory.mktemp("kubectl"))


@pytest.fixture(scope="session")
def helm_3(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Return Helm 3."""
    home = tmp_path_factory.mktemp("helm-3")
    try:
        return Helm(unpacked(HELM_3, "helm", home), home)
    except MissingError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def rendering(helm: Helm) -> Rendering:
    """Return a function that renders a fixture for a Kubernetes version, with a cache."""

    @functools.cache
    def render(case: Case, kubernetes: str) -> Rendered:
        return helm.template(case.values, kubernetes)

    return render
