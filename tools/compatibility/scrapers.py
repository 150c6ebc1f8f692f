"""Get every scraper that can be had, run tests/external/test_scrapers.py against them, and write their numbers.

Usage: ``python -m tools.compatibility.scrapers``. Prometheus 3 and VictoriaMetrics come from Debian's suite sid,
unpacked and not installed; the OpenTelemetry Collector and the newest VictoriaMetrics are built from Go modules.
What can't be had is named, and its rows of docs/compatibility.md are left out. Exit status: that of the tests.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tools.compatibility.debian import Suite, UnavailableError
from tools.compatibility.page import PROJECT, SCRAPERS, write_table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SOURCES = PROJECT / "tools" / "scrapers"
VICTORIAMETRICS = "github.com/VictoriaMetrics/VictoriaMetrics"
COLLECTOR = "go.opentelemetry.io/collector/otelcol"
TESTS = ("tests/external/test_scrapers.py", "tests/external/test_integrations.py")


def of_debian(folder: Path) -> dict[str, str]:
    """Unpack Prometheus and VictoriaMetrics; return the variables that name them. Raises ``UnavailableError``."""
    suite = Suite("sid", folder / "sid")
    suite.update()
    suite.unpack("prometheus", "promtool", "victoria-metrics", dependencies=False)
    binaries = suite.root / "usr" / "bin"
    (archive,) = (folder / "sid" / "archives").glob("victoria-metrics_*.deb")
    return {
        "PROMETHEUS3": str(binaries / "prometheus"),
        "PROMTOOL3": str(binaries / "promtool"),
        "VICTORIAMETRICS_DEBIAN": str(binaries / "victoria-metrics"),
        "VMAGENT_DEBIAN": str(binaries / "vmagent"),
        "VICTORIAMETRICS_DEBIAN_VERSION": re.split(r"[_+]", archive.name)[1],
    }


def built_victoriametrics(folder: Path) -> dict[str, str]:
    """Build VictoriaMetrics and vmagent; return the variables that name them. Raises ``UnavailableError``."""
    programs = (f"{VICTORIAMETRICS}/app/victoria-metrics", f"{VICTORIAMETRICS}/app/vmagent")
    _built(SOURCES / "victoriametrics", folder, *programs)
    return {
        "VICTORIAMETRICS_BUILT": str(folder / "victoria-metrics"),
        "VMAGENT_BUILT": str(folder / "vmagent"),
        "VICTORIAMETRICS_BUILT_VERSION": module_version(SOURCES / "victoriametrics" / "go.mod", VICTORIAMETRICS),
    }


def built_collector(folder: Path) -> dict[str, str]:
    """Build the OpenTelemetry Collector; return the variables that name it. Raises ``UnavailableError``."""
    _built(SOURCES / "otelcol", folder, ".")
    version = module_version(SOURCES / "otelcol" / "go.mod", COLLECTOR)
    return {"OTELCOL": str(folder / "otelcol"), "OTELCOL_VERSION": version}


def module_version(go_mod: Path, module: str) -> str:
    """Return the version of a module that a go.mod requires, without its v."""
    found = re.search(rf"^\s*(?:require )?{re.escape(module)} v(\S+)", go_mod.read_text(), re.MULTILINE)
    assert found is not None, f"{go_mod} requires no {module}"
    return found[1]


def _built(module: Path, folder: Path, *packages: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    # Prometheus' tag: the clients of all clouds, which find targets, would take minutes to compile.
    command = ("go", "build", "-mod=readonly", "-tags", "remove_all_sd", "-o", f"{folder}/", *packages)
    began = time.monotonic()
    try:
        done = subprocess.run(command, cwd=module, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise UnavailableError("go is not installed; go.mod names the version") from error
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UnavailableError(f"go build: {last}")
    print(f"built {module.name} in {time.monotonic() - began:.0f} s", flush=True)


def gathered(folder: Path) -> dict[str, str]:
    """Return the variables that name all scrapers that can be had; say which can't."""
    steps: Mapping[str, Callable[[], dict[str, str]]] = {
        "Prometheus 3 and VictoriaMetrics of Debian sid": lambda: of_debian(folder),
        "VictoriaMetrics as built": lambda: built_victoriametrics(folder / "bin"),
        "the OpenTelemetry Collector": lambda: built_collector(folder / "bin"),
    }
    variables: dict[str, str] = {}
    for name, step in steps.items():
        try:
            variables |= step()
        except UnavailableError as error:
            print(f"not tried: {name}: {error}", file=sys.stderr)
    return variables


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=PROJECT / ".venv-scrapers")
    folder = parser.parse_args().folder
    variables = gathered(folder)
    report = folder / "report.jsonl"
    report.unlink(missing_ok=True)
    command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS)
    environment = os.environ | variables | {"SCRAPERS_REPORT": str(report)}
    status = subprocess.run(command, cwd=PROJECT, env=environment, check=False).returncode
    if report.exists():
        rows = [tuple(map(str, json.loads(line))) for line in report.read_text().splitlines()]
        write_table(SCRAPERS, rows)
        for row in rows:
            print(" | ".join(row))
    return status


if __name__ == "__main__":
    sys.exit(main())
