"""Parsing of lock files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

LINUX = {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"}
_VIA = re.compile(r"# +(?:via )?(?!via$)([a-z0-9][a-z0-9.-]*)(?: \(pyproject\.toml\))?$")


@dataclass(frozen=True, slots=True)
class Locked:
    """A locked package: the SHA-256 sums of its archives, and the packages that require it."""

    name: str
    version: str
    sha256: tuple[str, ...]
    required_by: tuple[str, ...]


def locked(lock: Path, environment: Mapping[str, str]) -> list[Locked]:
    """Return the packages of a lock that apply to an environment, given as PEP 508 variables."""
    return [found for block in _blocks(lock.read_text()) if (found := _package(block, environment))]


def _blocks(text: str) -> Iterator[list[str]]:
    """Yield the lines of each package: name and version, hashes, and the comment with its dependents."""
    block: list[str] = []
    for line in text.splitlines():
        if line[:1].isalnum() and block:
            yield block
            block = []
        block.append(line)
    yield block


def _package(block: list[str], environment: Mapping[str, str]) -> Locked | None:
    requirement = Requirement(block[0].removesuffix("\\"))
    if requirement.marker is not None and not requirement.marker.evaluate(dict(environment)):
        return None
    (pin,) = requirement.specifier
    text = "\n".join(block)
    return Locked(
        name=canonicalize_name(requirement.name),
        version=pin.version,
        sha256=tuple(sorted(re.findall(r"--hash=sha256:([0-9a-f]{64})", text))),
        required_by=tuple(found[1] for line in block if (found := _VIA.match(line.strip()))),
    )
