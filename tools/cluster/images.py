"""Images without a registry: the exporter's and the sidecar's by buildah, and one for the pods' namespaces."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from typing import TYPE_CHECKING

from tests.support.programs.base_image import NotBuiltError, base_tar
from tests.support.programs.buildah import Store, fresh_context
from tools.cluster.programs import MissingError

if TYPE_CHECKING:
    from pathlib import Path

_DOCKERFILE = """\
ARG PYTHON_IMAGE
FROM ${PYTHON_IMAGE}
COPY . /build
RUN python3 -m venv /app && /app/bin/pip install --no-cache-dir --ignore-requires-python /build
ENV PYTHONUNBUFFERED=1
USER 65534:65534
ENTRYPOINT ["/app/bin/python", "-u", "-m", "sidecar"]
"""


def build_images(folder: Path, names: dict[str, Path | None], revision: str) -> list[Path]:
    """Build the images, by name, into archives of a folder; raises ``MissingError``.

    The source of the exporter's is None; of the sidecar's it is a checkout of https://github.com/kiwigrid/k8s-sidecar.
    """
    buildah, mmdebstrap = shutil.which("buildah"), shutil.which("mmdebstrap")
    if buildah is None or mmdebstrap is None:
        raise MissingError("images need apt-get install --no-install-recommends buildah mmdebstrap, or --image")
    try:
        base = base_tar(mmdebstrap)
    except NotBuiltError as error:
        raise MissingError(str(error)) from error
    store = Store(buildah, folder / "store")
    archives = []
    try:
        store.take_base(base)
        for number, (name, source) in enumerate(names.items()):
            context = folder / f"context-{number}"
            if source is None:
                fresh_context(context)
            else:
                shutil.copytree(source, context, ignore=shutil.ignore_patterns(".git"))
                (context / "Dockerfile").write_text(_DOCKERFILE)
                (context / ".dockerignore").unlink(missing_ok=True)
            archives.append(folder / f"image-{number}.tar")
            store.save(store.build(name, context, form="docker", revision=revision), archives[-1])
    finally:
        store.close()
    return archives


def image_of(program: Path, name: str, archive: Path) -> None:
    """Write an archive of an image that has one program and nothing else."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as files:
        entry = tarfile.TarInfo("program")
        entry.mode, entry.size = 0o755, program.stat().st_size
        with program.open("rb") as content:
            files.addfile(entry, content)
    blob = layer.getvalue()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": ["/program"], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(blob).hexdigest()}"]},
        "history": [{"created_by": "tools.cluster"}],
    }
    members = {
        "layer.tar": blob,
        "config.json": json.dumps(config).encode(),
        "manifest.json": json.dumps(
            [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
        ).encode(),
    }
    with tarfile.open(archive, "w") as files:
        for path, content_bytes in members.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content_bytes)
            files.addfile(entry, io.BytesIO(content_bytes))


def names_in(archive: Path) -> list[str]:
    """Return the names of the images in an archive. Raises ``MissingError`` if it is none."""
    try:
        with tarfile.open(archive) as files:
            manifest = files.extractfile("manifest.json")
            assert manifest is not None
            return [name for image in json.load(manifest) for name in image["RepoTags"] or ()]
    except (OSError, tarfile.TarError, KeyError, ValueError) as error:
        raise MissingError(f"{archive}: not an archive of images: {error}") from error
