"""A stand-in for the image's base: Debian's own Python, put together from this machine's package source."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from pathlib import Path

_TIMEOUT_SECONDS = 600
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_RECIPE = (
    "--variant=essential",
    "--include=python3-venv,ca-certificates",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
)
_ADDRESS = re.compile(r"^(?:URIs:|deb +(?:\[[^]]*\] +)?)\s*(\S+/debian/?)(?:\s|$)", re.MULTILINE)
_ADDRESS_FILE = re.compile(r"mirror\+file:(\S+/debian\.list)")  # as in Debian's own cloud images


class NotBuiltError(Exception):
    """The stand-in can't be made on this machine; the message says why."""


def base_tar(mmdebstrap: str) -> Path:
    """Return the base's file tree as a tar file, made anew where none is kept from an earlier run.

    It is kept in the user's cache folder. Raises NotBuiltError, such as where no package source can be reached.
    """
    source = f"deb [signed-by={_KEYRING}] {_mirror()} {_suite()} main"
    recipe = hashlib.sha256(repr((source, _RECIPE)).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "verify-factor-exporter"
    kept = cache / f"base-{recipe}.tar"
    if kept.exists():
        return kept
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = kept.with_suffix(f".{os.getpid()}.tar")
    try:
        done = subprocess.run(
            [mmdebstrap, "--quiet", *_RECIPE, *_apt_options(), _suite(), str(made), source],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
        if done.returncode:
            raise NotBuiltError(f"mmdebstrap made no base: {done.stdout[-2000:]}")
        made.replace(kept)
    finally:
        made.unlink(missing_ok=True)
    return kept


def _mirror() -> str:
    """Return the address of the Debian packages that this machine's apt uses."""
    if not _KEYRING.exists():
        raise NotBuiltError(f"{_KEYRING} is missing (apt-get install debian-archive-keyring)")
    apt = Path("/etc/apt")
    files = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]
    for file in files:
        if file.is_file() and (found := _ADDRESS.search(file.read_text())):
            return found[1]
        if file.is_file() and (found := _ADDRESS_FILE.search(file.read_text())):
            return Path(found[1]).read_text().split()[0]
    raise NotBuiltError("no source of Debian packages in /etc/apt")


def _apt_options() -> list[str]:
    """Return how this machine's apt reaches its source: proxies, and which dates it believes."""
    told = subprocess.run(["apt-config", "dump", "Acquire"], capture_output=True, text=True, check=True).stdout
    return [f"--aptopt={line}" for line in re.findall(r"^Acquire::(?:https?|Check-).*;$", told, re.MULTILINE)]


def _suite() -> str:
    """Return the name of this machine's Debian."""
    found = re.search(r"^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text(), re.MULTILINE)
    if found is None:
        raise NotBuiltError("/etc/os-release names no release of Debian")
    return found[1]
