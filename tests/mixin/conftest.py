"""The mixin as jsonnet-bundler installs it: its folder alone, somewhere below vendor/."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from grafana.jsonnet.__main__ import FOLDER

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def vendor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with nothing but the mixin's folder."""
    folder = tmp_path_factory.mktemp("vendor")
    shutil.copytree(FOLDER, folder / "verify-factor-exporter-mixin")
    return folder
