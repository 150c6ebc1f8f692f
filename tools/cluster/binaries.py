"""Get the programs of a cluster: Kubernetes and CoreDNS built from Go modules, etcd and containerd from Debian.

Usage: ``python -m tools.cluster.binaries [--kubernetes v1.35.4]``. Needs Go and, on two processors, 20 minutes.
Nothing is installed. What can't be had is named; exit status 1 if that is anything.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tools.cluster.programs import FOLDER
from tools.compatibility.debian import Suite, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

MODULE = "k8s.io/kubernetes"
VERSION = "v1.35.4"
PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
OWN = ("pause", "coredns")  # programs of the folder go: only what a cluster for trials needs
DEBIAN = ("etcd-server", "containerd", "runc", "containernetworking-plugins")
COREDNS_MODULE = "github.com/coredns/coredns"
COREDNS = "v1.12.4"  # its dependencies are older than those of Kubernetes, which therefore keep their versions
_SOURCES = Path(__file__).parent / "go"
_STAGING = re.compile(r"^\s*(?:replace\s+)?(\S+)\s+=>\s+\./staging/src/\S+\s*$", re.MULTILINE)
_KEPT = re.compile(r"^(?:go|godebug) .+$", re.MULTILINE)
_VERSION_PACKAGES = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")


def staging_modules(go_mod: str) -> list[str]:
    """Return the modules that Kubernetes' go.mod replaces by folders of its own repository."""
    return _STAGING.findall(go_mod)


def staging_version(version: str) -> str:
    """Return the version under which these modules are published: v1.35.4 is v0.35.4 there."""
    major, rest = version.removeprefix("v").split(".", 1)
    if major != "1":
        raise ValueError(f"{version}: not a version v1.N.N of Kubernetes")
    return f"v0.{rest}"


def build_module(go_mod: str, version: str) -> str:
    """Return the go.mod of a module that builds Kubernetes' programs and CoreDNS.

    Kubernetes' own module builds nothing outside its repository: a module proxy serves no folders beside a module.
    So every replacement must name a published version.
    """
    replaced = staging_modules(go_mod)
    if not replaced:
        raise ValueError(f"{MODULE} {version} replaces no module by a folder of its own")
    lines = (f"\t{name} => {name} {staging_version(version)}" for name in replaced)
    required = (f"require {MODULE} {version}", f"require {COREDNS_MODULE} {COREDNS}")
    header = "\n\n".join(["module cluster", *_KEPT.findall(go_mod), *required])
    return f"{header}\n\nreplace (\n" + "\n".join(lines) + "\n)\n"


def linker_flags(version: str) -> str:
    """Return the flags that make the programs report their version, which Helm compares with ``kubeVersion``."""
    major, minor, _ = version.removeprefix("v").split(".", 2)
    values = {
        "gitVersion": version,
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "clean",
        "gitCommit": "unknown",
    }
    told = (f"-X {package}.{name}={value}" for package in _VERSION_PACKAGES for name, value in values.items())
    return " ".join(["-s -w", *told])


def build_kubernetes(folder: Path, version: str, programs: Iterable[str]) -> None:
    """Build programs of Kubernetes, CoreDNS and pause into ``folder/bin``. Raises ``UnavailableError``."""
    place = folder / "kubernetes"
    place.mkdir(parents=True, exist_ok=True)
    # Outside any module: within one that requires Kubernetes, Go would load its requirements, which don't exist.
    module = json.loads(_go(Path("/"), "mod", "download", "-json", f"{MODULE}@{version}"))
    go_mod = Path(module["GoMod"]).read_text(encoding="utf-8")
    (place / "go.mod").write_text(build_module(go_mod, version))
    shutil.copytree(_SOURCES, place, dirs_exist_ok=True)
    for program in (*OWN, *programs):
        package = f"./{program}" if program in OWN else f"{MODULE}/cmd/{program}"
        _build(place, folder / "bin" / program, package, linker_flags(version))


def unpack_debian(folder: Path) -> None:
    """Unpack etcd, containerd, runc and the CNI plugins of this machine's Debian. Raises ``UnavailableError``."""
    suite = Suite(platform.freedesktop_os_release().get("VERSION_CODENAME", "stable"), folder / "debian")
    suite.update()
    suite.unpack(*DEBIAN, dependencies=False)


def _build(place: Path, target: Path, package: str, flags: str) -> None:
    began = time.monotonic()
    target.parent.mkdir(parents=True, exist_ok=True)
    _go(place, "build", "-mod=mod", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", str(target), package)
    print(f"built {target.name} in {time.monotonic() - began:.0f} s", flush=True)


def _go(place: Path, *arguments: str) -> str:
    environment = os.environ | {"CGO_ENABLED": "0", "GOWORK": "off"}
    try:
        done = subprocess.run(
            ("go", *arguments), cwd=place, env=environment, capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise UnavailableError("go is not installed") from error
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UnavailableError(f"go {arguments[0]}: {last}")
    return done.stdout


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--kubernetes", default=VERSION, metavar="VERSION", help="(default: %(default)s)")
    options = parser.parse_args()
    folder: Path = options.folder.absolute()
    steps: Mapping[str, Callable[[], None]] = {
        "etcd, containerd, runc and the CNI plugins": lambda: unpack_debian(folder),
        f"Kubernetes {options.kubernetes}": lambda: build_kubernetes(folder, options.kubernetes, PROGRAMS),
    }
    failed = False
    for name, step in steps.items():
        try:
            step()
        except (UnavailableError, ValueError) as error:
            failed = True
            print(f"not here: {name}: {error}", file=sys.stderr)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
