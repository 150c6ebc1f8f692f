"""What is checked before a release: one version, its changelog, an account, and builds that are equal."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from exporter import __version__
from tools.release import check
from tools.release.changelog import sections
from tools.release.files import PROJECT
from tools.release.repository import PLACEHOLDER, account
from tools.release.version import PLACES, differences, obstacles

if TYPE_CHECKING:
    from pathlib import Path

CHANGELOG = """# Changelog

## [Unreleased]

- New.

## [1.1.0] - 2026-02-01

### Fixed

- A link to [x](y).

## [1.0.0] - 2026-01-01

- First.

[Unreleased]: https://example.org/compare
[1.1.0]: https://example.org/1.1.0
"""


def test_the_changelog_is_divided_by_versions() -> None:
    assert sections(CHANGELOG) == {
        "Unreleased": "- New.\n",
        "1.1.0": "### Fixed\n\n- A link to [x](y).\n",
        "1.0.0": "- First.\n",
    }
    with pytest.raises(ValueError, match=r"^CHANGELOG.md: \[2.0.0\] has no date"):
        sections("## [2.0.0]\n")


def test_the_changelog_keeps_the_format() -> None:
    text = (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8")
    kinds = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")

    assert next(iter(sections(text))) == "Unreleased"
    assert re.search(r"\n\n(?:\[[^]\n]+\]: \S+\n)+$", text), "the references are at the end, below a blank line"
    for version, changes in sections(text).items():
        found = re.findall(r"^### (.+)$", changes, re.MULTILINE)
        assert found == [kind for kind in kinds if kind in found], version
        assert f"\n[{version}]: https://" in text


def test_every_place_has_the_version() -> None:
    assert list(differences()) == []


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in (*PLACES, "CHANGELOG.md", "pyproject.toml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("name", PLACES)
def test_another_version_in_a_place_is_named(project: Path, name: str) -> None:
    text = (project / name).read_text(encoding="utf-8")
    (project / name).write_text(text.replace(__version__, "9.9.9"), encoding="utf-8")

    found = list(differences(project))
    assert len(found) == len(PLACES[name])
    assert all(
        message.startswith(f"{name}: ") and f"9.9.9 instead of {__version__}" in message for message in found
    )


def test_obstacles_to_a_tag_are_named(project: Path) -> None:
    changelog = project / "CHANGELOG.md"
    released = f"## [Unreleased]\n\n## [{__version__}] - 2026-12-01\n"
    about = project / "pyproject.toml"
    about.write_text(about.read_text(encoding="utf-8").replace(f"/{account()}/", f"/{PLACEHOLDER}/"))
    changelog.write_text("## [Unreleased]\n")
    tag, section, owner = obstacles("v9.9.9", project)
    assert tag.startswith(f"the tag v9.9.9 is not v{__version__}: ")
    assert section.startswith(f"CHANGELOG.md has no section [{__version__}]")
    assert owner == "no account is set for the links to the project: make owner OWNER=…"

    changelog.write_text(released)
    about.write_text(about.read_text(encoding="utf-8").replace(f"/{PLACEHOLDER}/", "/acme/"))
    assert list(obstacles(f"v{__version__}", project)) == []


@pytest.mark.slow
def test_two_builds_are_equal_and_a_difference_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check, "KEPT", PROJECT / "dist" / tmp_path.name)
    monkeypatch.setattr(sys, "argv", ["check", "--no-image"])
    try:
        assert check.main() == 0
        lines = (check.KEPT / check.SUMS).read_text().splitlines()
    finally:
        shutil.rmtree(check.KEPT, ignore_errors=True)
    out = capsys.readouterr().out
    assert [line.partition("  ")[2] for line in lines] == [
        "release-notes.md",
        f"verify-factor-exporter-{__version__}.cdx.json",
        f"verify-factor-exporter-{__version__}.tgz",
        f"verify_factor_exporter-{__version__}-py3-none-any.whl",
        f"verify_factor_exporter-{__version__}.tar.gz",
    ]
    assert all(f"sha256:{line}\n" in out for line in lines)

    copied = check.copied

    def differently(folder: Path) -> Path:
        copy = copied(folder)
        (copy / "README.md").write_text(str(folder))
        return copy

    monkeypatch.setattr(check, "copied", differently)
    try:
        assert check.main() == 1
    finally:
        shutil.rmtree(check.KEPT, ignore_errors=True)
    assert f"verify_factor_exporter-{__version__}.tar.gz: two builds of the same source differ" in (
        capsys.readouterr().err
    )


def test_the_notes_of_the_next_release_are_printed() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.release.changelog"], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert done.stdout == sections((PROJECT / "CHANGELOG.md").read_text(encoding="utf-8"))["Unreleased"]
