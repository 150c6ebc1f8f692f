"""The bill of materials is well formed, complete, and the same each time."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement

from exporter import __version__
from tools.supply_chain.lock import LINUX, locked
from tools.supply_chain.sbom import PROJECT, sbom


@pytest.fixture(scope="module")
def bill() -> dict[str, Any]:
    bill: dict[str, Any] = json.loads(sbom())
    return bill


@pytest.mark.slow
def test_it_follows_the_schema() -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(sbom()) is None


def test_two_are_the_same_bytes() -> None:
    written = subprocess.run(
        [sys.executable, "-m", "tools.supply_chain.sbom"], cwd=PROJECT, capture_output=True, text=True, check=True
    )

    assert written.stdout == sbom()
    assert not re.search(r"20\d\d-\d\d-\d\dT", written.stdout), "it contains a time"


def test_it_describes_the_exporter(bill: dict[str, Any]) -> None:
    component = bill["metadata"]["component"]

    assert (component["name"], component["version"]) == ("verify-factor-exporter", __version__)
    assert component["licenses"] == [{"license": {"id": "Apache-2.0"}}]


def test_it_asks_for_what_pyproject_asks_for(bill: dict[str, Any]) -> None:
    declared = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {component["bom-ref"]: component["name"] for component in bill["components"]}
    (root,) = (entry for entry in bill["dependencies"] if entry["ref"] == "verify-factor-exporter")

    assert {names[reference] for reference in root["dependsOn"]} == {Requirement(line).name for line in declared}


def test_every_component_is_required_by_another(bill: dict[str, Any]) -> None:
    edges = {entry["ref"]: entry.get("dependsOn", []) for entry in bill["dependencies"]}
    reached: set[str] = set()
    to_visit = ["verify-factor-exporter"]
    while to_visit:
        reference = to_visit.pop()
        if reference not in reached:
            reached.add(reference)
            to_visit += edges[reference]

    assert reached == {component["bom-ref"] for component in bill["components"]} | {"verify-factor-exporter"}


def test_it_has_the_sums_of_the_lock(bill: dict[str, Any]) -> None:
    sums = {
        component["name"]: {entry["content"] for entry in component["externalReferences"][0]["hashes"]}
        for component in bill["components"]
    }

    assert sums == {package.name: set(package.sha256) for package in locked(PROJECT / "requirements.lock", LINUX)}


@pytest.mark.slow
def test_another_reader_of_the_lock_finds_the_same(bill: dict[str, Any]) -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "cyclonedx_py", "requirements", "requirements.lock", "--output-reproducible"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    theirs = {component["purl"]: component["description"] for component in json.loads(printed.stdout)["components"]}
    for_linux = {purl for purl, description in theirs.items() if "sys_platform == 'win32'" not in description}

    assert {component["purl"] for component in bill["components"]} == for_linux
