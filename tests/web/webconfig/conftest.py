from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import call, call_beside, untouched  # noqa: F401 - fixtures

from .certificates import Certificates

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates of one authority, made once."""
    return Certificates.make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def folder(tmp_path: Path, certificates: Certificates) -> Path:
    """A folder that holds the usual certificates."""
    certificates.copy_to(tmp_path)
    return tmp_path
