"""Check the locked packages for known vulnerabilities with pip-audit: ``python -m tools.supply_chain.audit``.

Exit status: 0 no known vulnerability, 1 vulnerable, 75 not every package was audited. pip-audit itself succeeds if
its source knows none of the packages, for example behind a mirror; this tool reports that as not audited.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from enum import IntEnum
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from tools.supply_chain.lock import LINUX, locked

LOCK = Path(__file__).parents[2] / "requirements.lock"
SOURCES = ("pypi", "osv")
_TIMEOUT_SECONDS = 300


class Verdict(IntEnum):
    """The result of an audit; its value is the exit status."""

    CLEAN = 0
    VULNERABLE = 1
    NOT_AUDITED = 75


def judge(report: str, stderr: str, wanted: set[str]) -> tuple[Verdict, str]:
    """Return the verdict on pip-audit's JSON report, and a message, given the packages that it must contain."""
    try:
        entries: list[dict[str, Any]] = json.loads(report)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = (stderr.strip().splitlines() or ["pip-audit had no output"])[-1]
        return Verdict.NOT_AUDITED, f"NOT AUDITED: {last}"
    known = [
        f"{entry['name']} {entry['version']}: {vulnerability['id']}, {_hint(vulnerability)}"
        for entry in entries
        for vulnerability in entry.get("vulns", ())
    ]
    if known:
        return Verdict.VULNERABLE, "\n".join(["VULNERABLE:", *known])
    answered = {canonicalize_name(entry["name"]) for entry in entries if "skip_reason" not in entry}
    if missing := wanted - answered:
        reason = next((entry["skip_reason"] for entry in entries if "skip_reason" in entry), "no answer for some")
        return Verdict.NOT_AUDITED, f"NOT AUDITED: {len(missing)} of {len(wanted)} packages, such as: {reason}"
    return Verdict.CLEAN, f"no known vulnerabilities in the {len(wanted)} packages of the lock"


def audit(lock: Path = LOCK, source: str = SOURCES[0]) -> tuple[Verdict, str]:
    """Run pip-audit on a lock, with the advisories of a source."""
    command = (
        "pip_audit",
        "--vulnerability-service",
        source,
        "--disable-pip",
        "--require-hashes",
        "--progress-spinner",
        "off",
        "--timeout",
        "15",
    )
    try:
        done = subprocess.run(
            [sys.executable, "-m", *command, "--format", "json", "--requirement", str(lock)],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Verdict.NOT_AUDITED, f"NOT AUDITED: no answer within {_TIMEOUT_SECONDS} s"
    return judge(done.stdout, done.stderr, {package.name for package in locked(lock, LINUX)})


def _hint(vulnerability: dict[str, Any]) -> str:
    fixed = ", ".join(vulnerability.get("fix_versions", ()))
    return f"fixed in {fixed}: make lock" if fixed else "no fixed version yet"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tools.supply_chain.audit", description=__doc__)
    parser.add_argument("--source", choices=SOURCES, default=SOURCES[0], help="of the advisories")
    verdict, message = audit(source=parser.parse_args().source)
    print(message, file=sys.stdout if verdict is Verdict.CLEAN else sys.stderr)
    sys.exit(verdict)
