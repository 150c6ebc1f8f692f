"""Programs of another Debian suite, unpacked into a folder; nothing is installed.

The mirror is the one that this machine's apt uses. Needs neither root nor a network namespace, only ``apt-get`` and
``dpkg``.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_SOURCES = Path("/etc/apt")
_LOADER = "usr/lib64/ld-linux-x86-64.so.2"
_LIBRARIES = "usr/lib/x86_64-linux-gnu"


class UnavailableError(Exception):
    """Something can't be had on this machine; the text says what, and how to get it."""


class Suite:
    """A Debian suite, such as ``sid``, with its lists and archives in a folder of its own."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.root = folder / "root"
        self._folder = folder

    def update(self) -> None:
        """Download the suite's list of packages. Raises ``UnavailableError``."""
        for folder in ("lists/partial", "archives/partial", "root"):
            (self._folder / folder).mkdir(parents=True, exist_ok=True)
        (self._folder / "status").touch()
        source = f"deb [signed-by={_KEYRING}] {_mirror()} {self.name} main\n"
        (self._folder / "sources.list").write_text(source)
        self._apt("apt-get", "update", "-qq")

    def candidates(self, pattern: str) -> list[str]:
        """Return the names of the packages that match a regular expression as a whole."""
        return sorted(name for name in self._apt("apt-cache", "pkgnames").split() if re.fullmatch(pattern, name))

    def unpack(self, *packages: str, dependencies: bool) -> None:
        """Download packages and unpack them, with or without all that they depend on."""
        archives = self._folder / "archives"
        if dependencies:
            command = ("install", "--yes", "-qq", "--download-only", "--no-install-recommends")
            self._apt("apt-get", *command, *packages)
        else:
            self._apt("apt-get", "download", "-qq", *packages, cwd=archives)
        for archive in sorted(archives.glob("*.deb")):
            _run("dpkg", "-x", str(archive), str(self.root))

    def _apt(self, program: str, *words: str, cwd: Path | None = None) -> str:
        settings = {
            "Dir::Etc::SourceList": self._folder / "sources.list",
            "Dir::Etc::SourceParts": "-",
            "Dir::State::Lists": self._folder / "lists",
            "Dir::State::status": self._folder / "status",
            "Dir::Cache::Archives": self._folder / "archives",
            "Dir::Cache::pkgcache": "",
            "Dir::Cache::srcpkgcache": "",
            "APT::Sandbox::User": "root",
            "Debug::NoLocking": "1",
        }
        options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        return _run(program, *options, *words, cwd=cwd)


def with_own_libraries(program: Path, root: Path) -> None:
    """Let an unpacked program use the C library and the libraries that were unpacked with it.

    This machine's C library may be older than the one that the program needs.
    """
    if shutil.which("patchelf") is None:
        raise UnavailableError("patchelf is not installed (apt-get install patchelf)")
    # An RPATH, unlike a RUNPATH, also holds for the libraries that libraries need.
    libraries = ("--force-rpath", "--set-rpath", str(root / _LIBRARIES))
    _run("patchelf", "--set-interpreter", str(root / _LOADER), *libraries, str(program))


def _mirror() -> str:
    files = [_SOURCES / "sources.list", *sorted((_SOURCES / "sources.list.d").glob("*.[ls]*"))]
    text = "\n".join(path.read_text() for path in files if path.suffix in (".list", ".sources") and path.is_file())
    for line in text.splitlines():
        named = re.match(r"URIs:\s*(.+)|deb\s+(?:\[[^]]*\]\s+)?(\S+)", line)
        for address in (named[1] or named[2]).split() if named else ():
            if re.search(r"/debian/?$", address) and _KEYRING.is_file():
                return str(address)
    raise UnavailableError("this machine's apt has no Debian mirror")


def _run(*command: str, cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise UnavailableError(f"{command[0]} is not installed") from error
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UnavailableError(f"{command[0]}: {last}")
    return done.stdout
