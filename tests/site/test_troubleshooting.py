"""The commands of docs/troubleshooting.md, run as they are printed, show what the page says that they show."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from exporter.exposition.catalogue import CATALOGUE
from exporter.simulator import Fault, FaultKind, Simulator
from tests.support.config_files import account_of, entry, write_config
from tests.support.processes import output_of
from tests.support.running_exporter import running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.running_exporter import Exporter

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
EXPORTER = "http://localhost:10069"
FACTOR = "payments-oncall-push"

pytestmark = pytest.mark.slow

NOT_FOUND = "Everything is not found"
UNKNOWN = "Everything is unknown"
FORBIDDEN = "403"
UNSCRAPED = "Nothing is scraped"
UNEXPECTED = "A page that I didn't expect"


def section(title: str) -> str:
    """Return a section of the page."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def commands(title: str) -> list[str]:
    """Return the commands of a section, in order."""
    return re.findall(r"^```sh\n(.*?)^```$", section(title), re.MULTILINE | re.DOTALL)


def quoted(title: str, words: str) -> str:
    """Return words, after asserting that a section has them in code."""
    assert f"`{words}`" in section(title), words
    return words


class Trouble:
    """A simulator, an exporter that watches three of its factors, and a shell beside its configuration."""

    def __init__(self, simulator: Simulator, folder: Path, exporter: Exporter) -> None:
        self.simulator = simulator
        self.exporter = exporter
        self._folder = folder

    async def run(self, command: str) -> str:
        """Run a command of the page in a shell, and return what it prints."""
        environ = {"PATH": f"{self._folder / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
        _, out, err = await output_of(
            "sh", "-c", command.replace(EXPORTER, self.exporter.url), cwd=self._folder, env=environ
        )
        assert b"Traceback" not in err
        return (out + err).decode()

    async def until_paused(self) -> None:
        """Wait until the account is paused."""
        await self.exporter.shows(lambda scrape: scrape.value("twilio_verify_api_paused") == 1)

    async def first(self, title: str, number: int = 0) -> str:
        """Run a command of a section."""
        return await self.run(commands(title)[number])


@pytest.fixture
async def trouble(tmp_path: Path) -> AsyncIterator[Trouble]:
    """Run both; the exporter has seen its factors verified."""
    program = tmp_path / "bin" / "verify-factor-exporter"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m exporter "$@"\n')
    program.chmod(0o755)
    async with Simulator(seed=5) as simulator:
        names = (FACTOR, "billing-admin-totp", "support-lead-passkey")
        factors = [entry(name, simulator.add_factor(status="verified")) for name in names]
        config = write_config(tmp_path / "config.toml", {"main": account_of(simulator)}, factors)
        async with running(config) as exporter:
            await exporter.shows(lambda scrape: scrape.value("twilio_verify_factors", status="verified") == 3)
            yield Trouble(simulator, tmp_path, exporter)


def test_every_command_of_the_page_is_run_here() -> None:
    titles = re.findall(r"^## (.+)$", PAGE, re.MULTILINE)
    assert {title: len(commands(title)) for title in titles if commands(title)} == {
        NOT_FOUND: 1,
        UNKNOWN: 2,
        FORBIDDEN: 2,
        UNSCRAPED: 1,
        UNEXPECTED: 1,
    }


async def test_a_deleted_service_is_told_from_deleted_factors(trouble: Trouble) -> None:
    (factor, *_) = trouble.simulator.factors.values()
    trouble.simulator.delete_service(factor.service_sid)
    assert quoted(NOT_FOUND, "this account has no such service") in await trouble.first(NOT_FOUND)

    trouble.simulator.restore_service(factor.service_sid)
    for deleted in list(trouble.simulator.factors.values()):
        trouble.simulator.delete(deleted.sid)
    printed = await trouble.first(NOT_FOUND)
    assert quoted(NOT_FOUND, "the service exists, but the factor does not exist") in printed


@pytest.mark.parametrize(
    ("fault", "shown"),
    [
        (Fault(FaultKind.STATUS, status=503), "HTTP 503"),
        (Fault(FaultKind.CLOSE_BEFORE_HEADERS), "1 connect"),
    ],
)
async def test_a_fetch_says_why_a_status_is_unknown(trouble: Trouble, fault: Fault, shown: str) -> None:
    trouble.simulator.faults.add(fault)
    printed = await trouble.first(UNKNOWN, 1)
    assert quoted(UNKNOWN, "undetermined") in printed
    assert shown in printed


async def test_the_accounts_say_that_credentials_are_refused(trouble: Trouble) -> None:
    trouble.simulator.password = "another"
    await trouble.until_paused()
    assert quoted(UNKNOWN, '"paused_for": "credentials"') in await trouble.first(UNKNOWN)


async def test_the_accounts_say_that_the_rate_is_limited(trouble: Trouble) -> None:
    trouble.simulator.faults.add(Fault(FaultKind.STATUS, status=429, retry_after=200))
    await trouble.until_paused()
    assert quoted(UNKNOWN, '"paused_for": "rate_limited"') in await trouble.first(UNKNOWN)


async def test_a_refused_request_names_its_permission(trouble: Trouble) -> None:
    trouble.simulator.faults.add(Fault(FaultKind.STATUS, status=403))
    printed = await trouble.first(FORBIDDEN)
    assert quoted(FORBIDDEN, "main: permissions") in printed
    assert "give the API key or the OAuth app the permission /twilio/verify/factor/read" in printed
    await trouble.until_paused()
    quoted(FORBIDDEN, "account paused for refused credentials")


async def test_a_403_for_one_factor_pauses_nothing_and_one_of_a_proxy_is_another_reason(trouble: Trouble) -> None:
    (first, second, *_) = trouble.simulator.factors.values()
    trouble.simulator.faults.add(Fault(FaultKind.STATUS, status=403, factor_sid=first.sid))
    trouble.simulator.faults.add(Fault(FaultKind.HTML, status=403, factor_sid=second.sid))
    failures = "twilio_verify_fetch_failures_total"
    await trouble.exporter.shows(
        lambda scrape: scrape.total(failures, reason="forbidden") and scrape.total(failures, reason="decode")
    )
    assert (await trouble.exporter.scrape()).value("twilio_verify_api_paused") == 0


async def test_a_disabled_path_says_so(trouble: Trouble) -> None:
    printed = await trouble.first(FORBIDDEN, 1)
    assert f"```text\n{printed.rstrip()}\n```\n" in section(FORBIDDEN)


async def test_the_exporter_is_healthy_or_does_not_respond(trouble: Trouble) -> None:
    healthy, _, counts = (await trouble.first(UNSCRAPED)).partition("\n")
    assert healthy == "healthy"
    assert all(line.startswith("twilio_verify_factors{") for line in counts.splitlines())
    assert 'status="verified"} 3.0' in counts
    nobody = await trouble.run("verify-factor-exporter healthcheck --url http://127.0.0.1:1")
    assert quoted(UNSCRAPED, "no exporter responds there") in nobody


async def test_the_change_behind_a_page_is_shown_with_its_response(trouble: Trouble) -> None:
    (factor, *_) = trouble.simulator.factors.values()
    trouble.simulator.set_status(factor.sid, "unverified")
    await trouble.exporter.shows(lambda scrape: scrape.factor("verified", FACTOR) == 0)
    (shown,) = json.loads(await trouble.first(UNEXPECTED))["factors"]
    named = re.findall(r"`(status|last_change_[a-z_]+)`", section(UNEXPECTED))
    assert len(named) == 7
    assert {name: shown[name] for name in named} == {
        "status": "unverified",
        "last_change_from": "verified",
        "last_change_to": "unverified",
        "last_change_seconds": shown["last_change_seconds"],
        "last_change_http_status": 200,
        "last_change_twilio_code": None,
        "last_change_request_id": shown["last_change_request_id"],
    }
    assert shown["last_change_seconds"] > 0
    assert shown["last_change_request_id"].startswith("RQ")
    assert factor.identity not in str(shown)


def test_metrics_and_log_messages_exist() -> None:
    metrics = set(re.findall(r"`(twilio_verify_[a-z_]*[a-z])`", PAGE))
    assert metrics <= {family.name for family in CATALOGUE}
    logs = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "exporter").rglob("*.py"))
    for message in ("most factors of a service not found", "account paused for refused credentials", "listening"):
        assert f"`{message}`" in PAGE
        assert f'"{message}' in logs
    assert "`this address requires TLS`" in PAGE
    assert "this address requires TLS" in logs
