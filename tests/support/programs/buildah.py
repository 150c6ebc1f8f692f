"""Building images without a container engine: buildah with its own store."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[3]
BASE = "localhost/python:substitute"
CREATED = 1_700_000_000
_TIMEOUT_SECONDS = 600
_PIP_KEYS = {"index-url", "extra-index-url", "trusted-host", "proxy", "cert"}
_CA_INSIDE = "/etc/pip-ca.pem"


@dataclass(frozen=True, slots=True)
class Image:
    """A built image."""

    name: str
    digest: str
    oci: dict[str, Any]
    docker: dict[str, Any]
    layer_bytes: tuple[int, ...]

    @property
    def config(self) -> dict[str, Any]:
        """The image configuration: user, command, environment, labels."""
        config: dict[str, Any] = self.oci["config"]
        return config


class Store:
    """Images and containers in a folder; ``close`` removes them."""

    def __init__(self, buildah: str, folder: Path) -> None:
        self._program = buildah
        self._folder = folder
        folder.mkdir()
        configuration = folder / "storage.conf"
        configuration.write_text(
            f'[storage]\ndriver = "vfs"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n'
        )
        self._environ = os.environ | {
            "BUILDAH_ISOLATION": "chroot",
            "CONTAINERS_STORAGE_CONF": str(configuration),
            "TMPDIR": str(folder),
        }

    def take_base(self, tar: Path) -> None:
        """Create the base image from its file tree."""
        container = self._buildah("from", "scratch")
        self._buildah("add", "--quiet", container, str(tar), "/")
        self._buildah("config", "--env", "PATH=/usr/local/bin:/usr/bin:/bin", "--cmd", "python3", container)
        self._buildah("commit", "--quiet", "--rm", container, BASE)

    def build(self, name: str, context: Path, *, form: str, revision: str) -> Image:
        """Build the Dockerfile of a folder, in the form ``oci`` or ``docker``."""
        self._buildah(
            *("bud", "--pull=never", "--no-cache", "--format", form, "--timestamp", str(CREATED)),
            *("--build-arg", f"PYTHON_IMAGE={BASE}", "--build-arg", f"REVISION={revision}"),
            *(f"--volume={volume}" for volume in _pip_volumes(self._folder)),
            *("--tag", name, str(context)),
        )
        info = json.loads(self._buildah("inspect", "--type", "image", name))
        layers = json.loads(info["Manifest"])["layers"]
        sizes = tuple(layer["size"] for layer in layers)
        return Image(name, info["FromImageDigest"], info["OCIv1"], info["Docker"], sizes)

    def save(self, image: Image, archive: Path) -> None:
        """Write an image to an archive that ``ctr images import`` and ``docker load`` read."""
        self._buildah("push", "--quiet", image.name, f"docker-archive:{archive}:{image.name}")

    def unpack(self, image: Image) -> Path:
        """Return the folder with an image's file tree."""
        container = self._buildah("from", "--pull=never", image.name)
        return Path(self._buildah("mount", container))

    def close(self) -> None:
        """Remove all images and containers."""
        self._buildah("rm", "--all")
        shutil.rmtree(self._folder)

    def _buildah(self, *arguments: str) -> str:
        done = subprocess.run(
            [self._program, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=self._environ,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"buildah {' '.join(arguments)}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout.strip()


def fresh_context(folder: Path) -> Path:
    """Return a copy of the build context, as in a fresh clone: different paths and times."""
    allowed = [line[1:] for line in (PROJECT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    folder.mkdir()
    for name in ["Dockerfile", ".dockerignore", *allowed]:
        source = PROJECT / name
        if source.is_dir():
            shutil.copytree(
                source, folder / name, ignore=shutil.ignore_patterns("__pycache__"), copy_function=shutil.copy
            )
        else:
            shutil.copy(source, folder / name)
    return folder


def _pip_volumes(folder: Path) -> list[str]:
    """Return the volumes with this machine's pip settings and CA certificates, for access to the package index."""
    settings: dict[str, str] = {}
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, timeout=300, check=True
    )
    for line in listed.stdout.splitlines():
        name, _, value = line.partition("=")
        key = name.rpartition(".")[2]
        if key in _PIP_KEYS:
            settings[key] = str(ast.literal_eval(value))
    authorities = (
        settings.pop("cert", "") or os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE")
    )
    volumes = []
    if authorities and Path(authorities).is_file():
        settings["cert"] = _CA_INSIDE
        volumes.append(f"{Path(authorities).resolve()}:{_CA_INSIDE}:ro")
    if settings:
        file = folder / "pip.conf"
        lines = (f"{key} = {value.replace(chr(10), f'{chr(10)}  ')}\n" for key, value in settings.items())
        file.write_text("[global]\n" + "".join(lines))
        volumes.append(f"{file}:/etc/pip.conf:ro")
    return volumes
