"""An account with an OAuth app, as the chart configures it, against the simulator."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from exporter.simulator import Simulator
from tests.support.chart.cases import case
from tests.support.chart.installation import installed
from tests.support.chart.rendering import NEWEST
from tests.support.running_exporter import running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.chart.rendering import Helm

VALUES = """
accounts:
  main:
    account_sid: {account_sid}
    base_url: {base_url}
    oauth: {{client_id: {client_id}, token_url: {token_url}}}
    credentials:
      existingSecret: {{name: twilio-oauth}}
state: {{type: none}}
config:
  polling: {{interval: 1s, unverified_interval: 1s}}
watchlist:
  factors:
    - name: one
      service_sid: {service_sid}
      identity: {identity}
      factor_sid: {factor_sid}
"""


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(seed=7) as running_simulator:
        yield running_simulator


@pytest.mark.slow
async def test_the_client_secret_of_a_secret_is_used_and_may_change(
    helm: Helm, simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.daemon.jobs.DISPATCH_SECONDS", 0.1)
    monkeypatch.setattr("exporter.daemon.jobs.WATCH_SECONDS", 0.1)
    path = install(helm, simulator, tmp_path)
    async with running(path) as exporter:
        await exporter.shows(lambda page: page.factor("verified", "one") == 1)
        assert simulator.oauth.issued == 1
        text = path.read_text()
        assert simulator.oauth.client_secret not in text
        assert "password" not in text
        simulator.oauth.client_secret = "another-made-up-secret"
        secret_file(path).write_text(simulator.oauth.client_secret)
        simulator.oauth.revoke()
        await exporter.shows(lambda _page: simulator.oauth.issued == 2)
        seen = (await exporter.scrape()).factor("last_success_timestamp_seconds", "one") or 0
        await exporter.shows(lambda page: (page.factor("last_success_timestamp_seconds", "one") or 0) > seen)


def install(helm: Helm, simulator: Simulator, root: Path) -> Path:
    """Return config.toml of a release, in a pod to which the Secret is mounted."""
    factor = simulator.add_factor()
    values = VALUES.format(
        account_sid=simulator.account_sid,
        base_url=simulator.base_url,
        client_id=simulator.oauth.client_id,
        token_url=simulator.token_url,
        service_sid=factor.service_sid,
        identity=factor.identity,
        factor_sid=factor.sid,
    )
    (root / "values.yaml").write_text(values)
    rendered = helm.template(root / "values.yaml", NEWEST)
    path, _environ = installed(case("oauth"), rendered, {}, root)
    secret_file(path).write_text(simulator.oauth.client_secret)
    path.write_text(path.read_text().replace('":10069"', '"127.0.0.1:0"'))
    return path


def secret_file(config: Path) -> Path:
    return config.parents[1] / "credentials" / "main"
