"""Fixtures: Helm 4."""

from __future__ import annotations

import pytest

from tests.support.chart.rendering import Helm
from tools.cluster.programs import HELM_4, unpacked


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Return Helm 4."""
    home = tmp_path_factory.mktemp("helm")
    return Helm(unpacked(HELM_4, "helm", home), home)
