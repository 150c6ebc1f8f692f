"""Run the quick tests on every interpreter that can be had.

Usage: ``python -m tools.compatibility.interpreters [VERSION…]``.

Interpreters are those of this machine (the path, pyenv, uv) and those of newer Debian suites, unpacked and not
installed. Each gets an environment of its own with the locked packages. Every run writes a row of
docs/compatibility.md. A VERSION such as ``3.14`` selects the interpreters that begin with it; without one, all run.
Exit status: 1 if a test failed or a lock could not be installed.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tools.compatibility.debian import Suite, UnavailableError, with_own_libraries
from tools.compatibility.page import INTERPRETERS, PROJECT, write_row, write_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

OLDEST = (3, 11)
SUITES = ("trixie", "sid")
ABOUT_THE_PAGE = "tests/test_compatibility_page.py"  # it reads the rows that these runs write
LOCK = PROJECT / "requirements-dev.lock"
_ASK = "import sys; print('.'.join(map(str, sys.version_info[:3])), sys.implementation.name, sys.base_prefix)"
_PACKAGE = r"python3\.(\d+)"


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python that can be run, and where it comes from."""

    version: str
    source: str
    path: Path

    @property
    def minor(self) -> str:
        return ".".join(self.version.split(".")[:2])


@dataclass(frozen=True, slots=True)
class Result:
    """The numbers of one run; ``error`` says why there are none."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    error: str = ""

    @property
    def good(self) -> bool:
        return self.passed > 0 and self.failed == 0

    def cells(self) -> tuple[str, ...]:
        return (self.error, "", "") if self.error else tuple(map(str, (self.passed, self.failed, self.skipped)))


def identified(paths: Iterable[Path]) -> Iterator[Interpreter]:
    """Yield the CPythons among these paths that are new enough, each installation once."""
    seen: set[str] = set()
    for path in paths:
        done = subprocess.run([path, "-c", _ASK], capture_output=True, text=True, check=False)
        version, implementation, prefix = done.stdout.split(maxsplit=2) if done.returncode == 0 else ("0.0", "", "")
        numbers = tuple(map(int, version.split(".")))
        if implementation != "cpython" or numbers < OLDEST or (version + prefix) in seen:
            continue
        seen.add(version + prefix)
        yield Interpreter(version, _source(Path(prefix.strip())), path)


def _source(prefix: Path) -> str:
    if prefix == Path("/usr"):
        release = platform.freedesktop_os_release()
        return f"{release['NAME'].removesuffix(' GNU/Linux')} {release.get('VERSION_ID', '')}".strip()
    return "pyenv" if ".pyenv" in prefix.parts else "uv" if "uv" in prefix.parts else "elsewhere on the path"


def of_this_machine() -> list[Path]:
    """Return the paths of what may be an interpreter."""
    home = Path.home()
    folders = [
        *map(Path, os.environ.get("PATH", "").split(os.pathsep)),
        *sorted(Path(os.environ.get("PYENV_ROOT", home / ".pyenv")).glob("versions/3.*/bin")),
        *sorted((home / ".local/share/uv/python").glob("cpython-3.*/bin")),
    ]
    return [
        path
        for folder in folders
        if folder.is_dir() and folder.name != "shims"
        for path in sorted(folder.iterdir())
        if re.fullmatch(_PACKAGE, path.name) and os.access(path, os.X_OK)
    ]


def of_debian(suite_name: str, folder: Path, wanted: Sequence[str]) -> Iterator[Interpreter]:
    """Yield the interpreters of a Debian suite, unpacked into a folder. Raises ``UnavailableError``."""
    suite = Suite(suite_name, folder)
    suite.update()
    names = [name for name in suite.candidates(_PACKAGE) if _wanted(name.removeprefix("python"), wanted)]
    if not names:
        return
    suite.unpack(*names, dependencies=True)
    for name in names:
        path = suite.root / "usr" / "bin" / name
        with_own_libraries(path, suite.root)
        for found in identified([path]):
            yield Interpreter(found.version, f"Debian {suite_name}", path)


def _wanted(version: str, wanted: Sequence[str]) -> bool:
    return not wanted or any(f"{version}.".startswith(f"{one}.") or one.startswith(f"{version}.") for one in wanted)


def tested(interpreter: Interpreter, folder: Path, pytest: Sequence[str]) -> Result:
    """Install the locked packages and run the quick tests; the log of the run is left in the folder."""
    environment = folder / "environment"
    python = environment / "bin" / "python"
    uv = Path(sys.executable).with_name("uv")
    log = folder / "log"
    folder.mkdir(parents=True, exist_ok=True)
    steps: tuple[tuple[str | Path, ...], ...] = (
        (uv, "venv", "--quiet", "--clear", "--python", interpreter.path, environment),
        (uv, "pip", "install", "--quiet", "--python", python, "--require-hashes", "--no-deps", "-r", LOCK),
    )
    for command in steps:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            log.write_text(done.stderr)
            return Result(error="the locked packages can't be installed")
    with log.open("w") as out:
        run: tuple[str | Path, ...] = (python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *pytest)
        subprocess.run(run, cwd=PROJECT, stdout=out, stderr=subprocess.STDOUT, check=False)
    return counted(log.read_text(errors="replace"))


def counted(output: str) -> Result:
    """Return the numbers of pytest's last line."""
    lines = re.findall(r"^=*\s*((?:\d+ [a-z]+(?:, )?)+) in [\d.]+s", output, re.MULTILINE)
    if not lines:
        return Result(error="the tests did not finish")
    numbers: Counter[str] = Counter()
    for number, word in re.findall(r"(\d+) ([a-z]+)", lines[-1]):
        numbers[word.removesuffix("s")] += int(number)
    return Result(numbers["passed"], numbers["failed"] + numbers["error"], numbers["skipped"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("versions", nargs="*", metavar="VERSION")
    parser.add_argument("--folder", type=Path, default=PROJECT / ".venv-interpreters")
    parser.add_argument("--jobs", default="4", help="processes of the tests")
    arguments = parser.parse_args()
    found = [one for one in identified(of_this_machine()) if _wanted(one.version, arguments.versions)]
    for suite in SUITES:
        try:
            found += of_debian(suite, arguments.folder / suite, arguments.versions)
        except UnavailableError as error:
            print(f"not tried: the interpreters of Debian {suite}: {error}", file=sys.stderr)
    good = bool(found)
    if not arguments.versions:
        write_table(INTERPRETERS, [])  # a full run leaves no row of an interpreter that is gone
    quick = (
        "-n",
        arguments.jobs,
        "--dist",
        "worksteal",
        "-m",
        "not slow and not external",
        f"--ignore={ABOUT_THE_PAGE}",
    )
    for interpreter in found:
        print(f"{interpreter.version} ({interpreter.source}) …", flush=True)
        folder = arguments.folder / interpreter.version
        result = tested(interpreter, folder, quick)
        write_row(INTERPRETERS, (interpreter.version, interpreter.source, *result.cells()), keys=2)
        print(f"  {result.error or f'{result.passed} passed, {result.failed} failed, {result.skipped} skipped'}")
        if not result.good:
            print(f"  see {folder / 'log'}")
        good &= result.good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
