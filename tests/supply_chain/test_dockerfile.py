"""The Dockerfile, read: what tests/external/test_image.py builds and runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from exporter import __version__
from tools.supply_chain.sbom import PROJECT

DOCKERFILE = (PROJECT / "Dockerfile").read_text()
INSTRUCTIONS = re.sub(r"^\s*#.*\n", "", DOCKERFILE, flags=re.MULTILINE)
BUILD, FINAL = re.split(r"^(?=FROM )", INSTRUCTIONS, flags=re.MULTILINE)[1:]


def test_hadolint_finds_nothing() -> None:
    labels = ("title", "description", "source", "licenses", "version", "revision", "base.name")
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("hadolint"), "--failure-threshold", "style", "--strict-labels"),
            *("--disable-ignore-pragma", "--no-color"),
            *(f"--require-label=org.opencontainers.image.{label}:text" for label in labels),
            "Dockerfile",
        ],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_base_is_an_argument_with_the_tag_of_a_version() -> None:
    assert re.findall(r"^FROM (\S+)", INSTRUCTIONS, re.MULTILINE) == ["${PYTHON_IMAGE}"] * 2
    assert re.findall(r"^ARG PYTHON_IMAGE=(.+)", INSTRUCTIONS, re.MULTILINE) == [
        "docker.io/library/python:3.13-slim"
    ]
    assert "sha256:" not in INSTRUCTIONS, "a release passes the digest"


def test_the_final_stage_runs_nothing() -> None:
    assert "\nRUN " in BUILD
    assert "RUN" not in FINAL
    assert re.findall(r"^COPY (.+)", FINAL, re.MULTILINE) == ["--from=build /opt/exporter /opt/exporter"]


def test_nothing_that_runs_needs_a_shell() -> None:
    commands = re.findall(r"^\s*(HEALTHCHECK|ENTRYPOINT|CMD)\b(.*)$", FINAL.replace("\\\n", " "), re.MULTILINE)

    assert [name for name, _ in commands] == ["HEALTHCHECK", "ENTRYPOINT", "CMD"]
    assert all(re.search(r"\[\"[^\[]+\"\]$", command) for _, command in commands)


def test_everything_from_the_index_is_installed_by_its_hash() -> None:
    installs = re.findall(r"pip (?:--python \S+ )?install (.+?)(?: &&|$)", BUILD.replace("\\\n", " "), re.MULTILINE)

    assert len(installs) == 3
    for install in installs:
        assert "--no-deps" in install
        assert ("--require-hashes" in install) != ("--no-index" in install), install


def test_the_version_is_the_packages() -> None:
    assert re.findall(r"^ARG VERSION=(.+)", INSTRUCTIONS, re.MULTILINE) == [__version__]


def test_only_what_is_listed_enters_the_build() -> None:
    lines = [line for line in (PROJECT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    allowed = [line[1:] for line in lines if line.startswith("!")]
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", BUILD, re.MULTILINE)

    assert lines[0] == "*"
    assert set(allowed) == {name for names in copied for name in names.split()}
    assert all((PROJECT / name).exists() for name in allowed)
    assert lines[len(allowed) + 1 :] == ["**/__pycache__", "**/*.pyc"]
