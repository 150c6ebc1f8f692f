"""The version, and every place that has to have the same: ``exporter/__init__.py`` is its only source."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from exporter import __version__
from tools.release.changelog import UNRELEASED, sections
from tools.release.files import PROJECT
from tools.release.repository import PLACEHOLDER, account

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Each file, and the patterns whose matches are the version. The package and the program read the source itself.
PLACES = {
    "Dockerfile": (r"^ARG VERSION=(\S+)$",),
    "helm/verify-factor-exporter/Chart.yaml": (
        r"^version: (\S+)$",
        r"^appVersion: \"?([^\s\"]+)\"?$",
        r"image: \S*verify-factor-exporter:(\S+)$",
    ),
    "README.md": (r"oci://.* --version (\S+)",),
    "docs/kubernetes.md": (r"/verify-factor-exporter:(\d\S+)", r"oci://.* --version (\S+)"),
    "docs/kubernetes/upgrading.md": (r"oci://.* --version (\d[^\s`]+)",),
    "docs/examples/kubernetes/argo-cd.yaml": (r"targetRevision: (\S+)",),
    "docs/examples/kubernetes/flux.yaml": (r"tag: (\S+)",),
    "docs/security.md": (r"git checkout v(\S+)",),
}


def differences(project: Path = PROJECT) -> Iterator[str]:
    """Yield a message for each place that has another version, or none."""
    for name, patterns in PLACES.items():
        text = (project / name).read_text(encoding="utf-8")
        for pattern in patterns:
            found = set(re.findall(pattern, text, re.MULTILINE))
            if found != {__version__}:
                yield f"{name}: {pattern!r} finds {', '.join(sorted(found)) or 'nothing'} instead of {__version__}"


def obstacles(tag: str, project: Path = PROJECT) -> Iterator[str]:
    """Yield what keeps a tag from being released: its name, the changelog, or the account of the links."""
    if tag != f"v{__version__}":
        yield f"the tag {tag} is not v{__version__}: set __version__ in exporter/__init__.py, or tag again"
    changes = sections((project / "CHANGELOG.md").read_text(encoding="utf-8"))
    if __version__ not in changes:
        yield f"CHANGELOG.md has no section [{__version__}] with its date: rename [{UNRELEASED}]"
    if account(project) == PLACEHOLDER:
        yield "no account is set for the links to the project: make owner OWNER=…"
