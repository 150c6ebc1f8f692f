"""The files of the project, in a git checkout and in an unpacked sdist."""

from __future__ import annotations

import shutil
import subprocess
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[2]
_CACHES = {"__pycache__", ".hypothesis", ".mypy_cache", ".pytest_cache", ".ruff_cache", "node_modules"}


def project_files(project: Path = PROJECT) -> list[Path]:
    """Return the paths of the files that git tracks or would add, relative to the folder.

    Without git, these are the files of the sdist that are in the folder.
    """
    git = shutil.which("git")
    if git is None or not (project / ".git").exists():
        return sorted(_of_sdist(project))
    listed = subprocess.run(
        [git, "-C", str(project), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=True,
    )
    names = filter(None, listed.stdout.decode().split("\0"))
    return sorted(path for name in names if (project / (path := Path(name))).is_file())


def sdist_roots(project: Path = PROJECT) -> list[str]:
    """Return the files and folders that pyproject.toml puts into the sdist."""
    build = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    return [root.removeprefix("/") for root in build["targets"]["sdist"]["include"]]


def _of_sdist(project: Path) -> set[Path]:
    found = set()
    for root in sdist_roots(project):
        path = project / root
        for file in path.rglob("*") if path.is_dir() else [path]:
            if file.is_file() and not _CACHES.intersection(file.relative_to(project).parts):
                found.add(file.relative_to(project))
    return found
