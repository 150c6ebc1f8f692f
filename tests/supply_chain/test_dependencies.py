"""docs/dependencies.md has a row for each dependency of pyproject.toml, with its reason and an alternative."""

from __future__ import annotations

import re
import tomllib

import pytest
from packaging.requirements import Requirement

from tools.supply_chain.sbom import PROJECT

PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
GROUPS = PYPROJECT["dependency-groups"]
SECTIONS = {
    "Of the exporter": PYPROJECT["project"]["dependencies"],
    "Of development": [line for line in GROUPS["dev"] if isinstance(line, str)],
    "Of the documentation site": GROUPS["docs"],
}


@pytest.mark.parametrize("section", SECTIONS)
def test_every_dependency_has_a_reason_and_an_alternative(section: str) -> None:
    page = (PROJECT / "docs/dependencies.md").read_text(encoding="utf-8")
    text = page.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([^`]+)` \| (.+) \| (.+) \|$", text, re.MULTILINE)

    assert [name for name, _, _ in rows] == sorted(Requirement(line).name for line in SECTIONS[section])
    assert all(reason.strip() and alternative.strip() for _, reason, alternative in rows)


def test_every_group_has_a_section() -> None:
    included = {entry["include-group"] for lines in GROUPS.values() for entry in lines if isinstance(entry, dict)}
    assert set(GROUPS) == {"dev"} | included == {"dev", "docs"}
