"""An audit that could not run is never reported as passed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tools.supply_chain.audit import LOCK, SOURCES, Verdict, audit, judge
from tools.supply_chain.lock import LINUX, locked

if TYPE_CHECKING:
    from pathlib import Path

WANTED = {"httpx", "pydantic-core"}
HTTPX = {"name": "httpx", "version": "0.28.1", "vulns": []}
CORE = {"name": "pydantic_core", "version": "2.50.4", "vulns": []}
SKIPPED = {"name": "httpx", "skip_reason": "Dependency not found on PyPI and could not be audited: httpx (0.28.1)"}
FOUND = {"id": "PYSEC-2030-1", "aliases": ["CVE-2030-1"], "description": "…"}


def report(*entries: dict[str, Any]) -> str:
    return json.dumps({"dependencies": entries, "fixes": []})


def test_nothing_is_known() -> None:
    verdict, words = judge(report(HTTPX, CORE), "", WANTED)

    assert verdict is Verdict.CLEAN
    assert words == "no known vulnerabilities in the 2 packages of the lock"


@pytest.mark.parametrize(
    ("vulnerability", "hint"),
    [
        (FOUND | {"fix_versions": ["0.28.2", "0.29.0"]}, "fixed in 0.28.2, 0.29.0: make lock"),
        (FOUND | {"fix_versions": []}, "no fixed version yet"),
    ],
)
def test_something_is_known(vulnerability: dict[str, Any], hint: str) -> None:
    verdict, words = judge(report(HTTPX | {"vulns": [vulnerability]}), "", WANTED)

    assert verdict is Verdict.VULNERABLE
    assert words.splitlines() == ["VULNERABLE:", f"httpx 0.28.1: PYSEC-2030-1, {hint}"]


@pytest.mark.parametrize(
    ("said", "complaints", "reason"),
    [
        (report(SKIPPED, CORE), "", "1 of 2 packages, such as: Dependency not found on PyPI"),
        (report(CORE), "", "1 of 2 packages, such as: no answer for some"),
        (report(), "", "2 of 2 packages"),
        ("", "WARNING:…\nERROR:pip_audit._cli:Failed to connect", "ERROR:pip_audit._cli:Failed to connect"),
        ("<html>", "", "pip-audit had no output"),
        ("[]", "", "pip-audit had no output"),
    ],
)
def test_no_answer_is_not_a_good_one(said: str, complaints: str, reason: str) -> None:
    verdict, words = judge(said, complaints, WANTED)

    assert verdict is Verdict.NOT_AUDITED
    assert words.startswith("NOT AUDITED: ")
    assert reason in words


@pytest.mark.parametrize("source", SOURCES)
def test_an_error_of_pip_audit_is_reported(tmp_path: Path, source: str) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("httpx==0.28.1\n")
    verdict, words = audit(lock, source)

    assert verdict is Verdict.NOT_AUDITED
    assert "does not contain a hash" in words


def test_the_lock_names_what_pyproject_asks_for() -> None:
    packages = locked(LOCK, LINUX)

    assert {"aiohttp", "uvloop", "isal"} <= {package.name for package in packages}
    assert "colorama" not in {package.name for package in packages}, "it is for Windows alone"
    assert all(package.sha256 and package.required_by for package in packages)
