"""The chart's fixtures: values, existing objects in the cluster, and the expected result.

A valid fixture is a folder with values.yaml, expected.yaml and, if it refers to existing objects, given.yaml. An
invalid one has expected.txt, whose lines must all be in Helm's error message.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FIXTURES = Path(__file__).parents[2] / "chart" / "fixtures"


@dataclass(frozen=True, slots=True)
class Case:
    """A fixture."""

    folder: Path

    @property
    def values(self) -> Path:
        """Its values.yaml."""
        return self.folder / "values.yaml"

    @property
    def expected(self) -> dict[str, Any]:
        """The expected result."""
        return dict(_read(self.folder / "expected.yaml"))

    @property
    def given(self) -> list[dict[str, Any]]:
        """Objects that already exist in the cluster: kind, name and files."""
        path = self.folder / "given.yaml"
        return list(_read(path)) if path.exists() else []

    @property
    def message(self) -> list[str]:
        """The lines that must be in the error message."""
        return (self.folder / "expected.txt").read_text(encoding="utf-8").splitlines()

    def __str__(self) -> str:
        return self.folder.name


def case(name: str) -> Case:
    """Return a valid fixture by its name."""
    return Case(FIXTURES / "valid" / name)


def cases(sort: str) -> list[Case]:
    """Return the valid or the invalid fixtures."""
    return [Case(folder) for folder in sorted((FIXTURES / sort).iterdir())]


@functools.cache
def _read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


VALID = cases("valid")
INVALID = cases("invalid")
