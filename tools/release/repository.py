"""Set the GitHub account that the project's links lead to: ``python -m tools.release.repository ACCOUNT``.

``project.urls.Repository`` in pyproject.toml has the current one. The command changes every link to the project on
GitHub, to its images and charts on GitHub's registry, and to its site, in all files, generated ones included.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from typing import TYPE_CHECKING

from tools.release.files import PROJECT, project_files

if TYPE_CHECKING:
    from pathlib import Path

NAME = "verify-factor-exporter"
PLACEHOLDER = "OWNER"
_ACCOUNT = r"[A-Za-z0-9](?:-?[A-Za-z0-9]){0,38}"
_GITHUB = r"(?<![\w.-])(?:github|raw\.githubusercontent)\.com/"
# GitHub ignores the case of an account. Its registry and the names of sites have lower-case letters only.
_LINKS = (
    rf"(?P<before>{_GITHUB}|--repo[ =])(?P<account>{_ACCOUNT})(?=/{NAME}(?![\w-]))",
    rf"(?P<before>(?<![\w.-])ghcr\.io/)(?P<account>{_ACCOUNT})(?=/(?:charts/)?{NAME}(?![\w-]))",
    rf"(?P<before>(?<![\w.-]))(?P<account>{_ACCOUNT})(?=\.github\.io/{NAME}(?![\w-]))",
)
_ANY_CASE = _LINKS[0]


def repository(project: Path = PROJECT) -> str:
    """Return the address of the project on GitHub, without a slash at its end."""
    about = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    address: str = about["urls"]["Repository"]
    return address


def account(project: Path = PROJECT) -> str:
    """Return the account that the links lead to; ``OWNER`` stands for one that was not set yet."""
    return repository(project).removesuffix(f"/{NAME}").rpartition("/")[2]


def accounts(text: str) -> set[str]:
    """Return the accounts in the links of a text."""
    return {found["account"] for pattern in _LINKS for found in re.finditer(pattern, text)}


def changed(text: str, old: str, new: str) -> str:
    """Return a text with its links to the project of one account changed to those of another."""

    for pattern in _LINKS:
        written = new if pattern == _ANY_CASE or new == PLACEHOLDER else new.lower()
        text = re.sub(pattern.replace(_ACCOUNT, rf"(?i:{re.escape(old)})"), rf"\g<before>{written}", text)
    return text


def change(new: str, project: Path = PROJECT) -> list[Path]:
    """Change the links in all files, and return the paths of the files that changed."""
    old = account(project)
    written = []
    for path in project_files(project):
        before = (project / path).read_bytes()
        try:
            after = changed(before.decode(), old, new).encode()
        except UnicodeDecodeError:
            continue
        if after != before:
            (project / path).write_bytes(after)
            written.append(path)
    return written


def main() -> int:
    """Change the links as the command line says; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.release.repository", description=__doc__)
    parser.add_argument(
        "account", metavar="ACCOUNT", help="the GitHub account or organization that has the project"
    )
    new = parser.parse_args().account
    if not re.fullmatch(_ACCOUNT, new):
        rule = "letters, digits and single hyphens, not a link"
        print(f'"{new}" is not a GitHub account: {rule}; run: make owner OWNER=acme', file=sys.stderr)
        return 64
    old = account()
    written = change(new)
    for path in written:
        print(path)
    print(f"links to {old} changed to {new} in {len(written)} files", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
