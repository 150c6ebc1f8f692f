"""Watchlists behind URLs, as the chart configures them, against servers that require their secrets."""

from __future__ import annotations

import base64
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from exporter.simulator import Simulator
from tests.support.chart.cases import case
from tests.support.chart.installation import installed
from tests.support.chart.rendering import NEWEST
from tests.support.config_files import entry
from tests.support.list_server import JSON, ListServer, document, head
from tests.support.running_exporter import running

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator

    from tests.support.chart.rendering import Helm

# The Secrets are those of the fixture "http".
VALUES = """
accounts:
  main:
    account_sid: {account_sid}
    username: {username}
    base_url: {base_url}
    credentials:
      existingSecret: {{name: twilio}}
state: {{type: none}}
config:
  polling: {{interval: 1s, unverified_interval: 1s}}
watchlist:
  http:
    - name: identity-service
      url: {tokens}
      refresh_interval: 1s
      timeout: 60s
      credentials:
        existingSecret: {{name: identity-service, key: bearer}}
    - name: lists
      url: {passwords}
      refresh_interval: 1s
      timeout: 60s
      username: reader
      credentials:
        existingSecret: {{name: lists}}
"""
UP = "twilio_verify_exporter_watchlist_source_up"


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(seed=7) as running_simulator:
        yield running_simulator


@pytest.mark.slow
async def test_urls_are_loaded_with_the_secrets_of_secrets_which_may_change(
    helm: Helm, simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.daemon.jobs.DISPATCH_SECONDS", 0.1)
    async with ListServer() as tokens, ListServer() as passwords:
        config = install(helm, simulator, tokens, passwords, tmp_path)
        token, password = secret_files(config)
        token.write_text("made-up-token")
        password.write_text("made-up-pass")
        basic = base64.b64encode(b"reader:made-up-pass").decode()
        requires(tokens, "Bearer made-up-token", entry("one", simulator.add_factor()))
        requires(passwords, f"Basic {basic}", entry("two", simulator.add_factor()))
        async with running(config) as exporter:
            await exporter.shows(lambda page: [page.factor("verified", name) for name in ("one", "two")] == [1, 1])

            requires(tokens, "Bearer next-token", entry("three", simulator.add_factor()))
            page = await exporter.shows(lambda page: page.value(UP, source="identity-service") == 0)
            assert page.factor("verified", "one") == 1
            assert page.value(UP, source="lists") == 1
            token.write_text("next-token")
            page = await exporter.shows(lambda page: page.factor("verified", "three") == 1)
            assert page.factor("verified", "one") is None
            assert page.factor("verified", "two") == 1
            assert page.value(UP, source="identity-service") == 1


def requires(server: ListServer, authorization: str, factor: dict[str, object]) -> None:
    """List a factor to requests with this header, and answer 401 to all others."""
    body = document([factor])

    async def behave(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if f"\r\nauthorization: {authorization}\r\n" in server.requests[-1]:
            writer.write(head("200 OK", f"Content-Type: {JSON}", f"Content-Length: {len(body)}") + body)
        else:
            writer.write(head("401 Unauthorized", "Content-Length: 0"))
        await writer.drain()

    server.behave = behave


def install(helm: Helm, simulator: Simulator, tokens: ListServer, passwords: ListServer, root: Path) -> Path:
    """Return config.toml of a release, in a pod to which the Secrets are mounted."""
    values = VALUES.format(
        account_sid=simulator.account_sid,
        username=simulator.username,
        base_url=simulator.base_url,
        tokens=tokens.url,
        passwords=passwords.url,
    )
    (root / "values.yaml").write_text(values)
    rendered = helm.template(root / "values.yaml", NEWEST)
    path, _environ = installed(case("http"), rendered, {}, root)
    (path.parents[1] / "credentials" / "main").write_text(simulator.password)
    path.write_text(path.read_text().replace('":10069"', '"127.0.0.1:0"'))
    return path


def secret_files(config: Path) -> tuple[Path, Path]:
    """Return the files with the token and the password, where the exporter reads them."""
    tokens, passwords = tomllib.loads(config.read_text())["watchlist"]["http"]
    files = [Path(name) for name in (tokens["bearer_token_file"], passwords["password_file"])]
    assert [file.read_text() for file in files] == ["another-made-up-secret"] * 2, "the kubelet mounted them"
    return files[0], files[1]
