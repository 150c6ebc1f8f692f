"""What the tests of this folder share."""

from __future__ import annotations

import os

import pytest
import trustme

from exporter.watched import FactorKey, WatchedFactor
from tests.support import transport_attempts as attempts
from tests.support.requests import FACTOR_SID, IDENTITY, SERVICE_SID
from tests.support.transport_attempts import Authority


@pytest.fixture
def watched() -> WatchedFactor:
    return WatchedFactor(
        key=FactorKey("main", SERVICE_SID, FACTOR_SID),
        name="payments-oncall-push",
        identity=IDENTITY,
        interval_seconds=300.0,
    )


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture(params=["default", "aiohttp"])
def each_transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test with each of the two transports."""
    monkeypatch.setattr(attempts, "made", request.param)
    return str(request.param)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    ca = trustme.CA()
    file = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.cert_pem.write_to_path(str(file))
    return Authority(ca, file)
