"""A substitute for the base image: Debian's Python, built from this machine's package source."""

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
    """The base image can't be built on this machine; the message gives the reason."""


def base_tar(mmdebstrap: str) -> Path:
    """Return the base's file tree as a tar file, cached in the user's cache folder.

    Raises NotBuiltError, for example if no package source is reachable.
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
            raise NotBuiltError(f"mmdebstrap failed: {done.stdout[-2000:]}")
        made.replace(kept)
    finally:
        made.unlink(missing_ok=True)
    return kept


def _mirror() -> str:
    """Return the Debian mirror that this machine's apt uses."""
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
    """Return this machine's apt options for reaching the mirror: proxies and date checks."""
    output = subprocess.run(["apt-config", "dump", "Acquire"], capture_output=True, text=True, check=True).stdout
    return [f"--aptopt={line}" for line in re.findall(r"^Acquire::(?:https?|Check-).*;$", output, re.MULTILINE)]


def _suite() -> str:
    """Return the codename of this machine's Debian."""
    found = re.search(r"^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text(), re.MULTILINE)
    if found is None:
        raise NotBuiltError("/etc/os-release names no Debian release")
    return found[1]
