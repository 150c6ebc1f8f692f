"""The image, built twice and run as a cluster's strictest rules ask for."""

from __future__ import annotations

import errno
import importlib.metadata
import json
import os
import re
import socket
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from exporter import __version__
from exporter.cli.simulate import write_config
from exporter.simulator import Simulator, demo_world
from tests.support.programs.base_image import NotBuiltError, base_tar
from tests.support.programs.buildah import PROJECT, Image, Store, fresh_context
from tests.support.programs.restricted_pod import Pod
from tools.release.repository import repository
from tools.supply_chain.lock import LINUX, locked
from tools.supply_chain.sbom import sbom

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.fixtures import Program

pytestmark = pytest.mark.external

INSTALL = "as root: apt-get install --no-install-recommends buildah mmdebstrap"
REVISION = "0123456789abcdef0123456789abcdef01234567"
LARGEST_BYTES = 90_000_000  # of what lies over the base
USER = 65532


@contextmanager
def store(program: Program, folder: Path) -> Iterator[Store]:
    """Yield a store that has the base; skips where none can be made, on CI only for want of root."""
    buildah, mmdebstrap = (program(name, install=INSTALL) for name in ("buildah", "mmdebstrap"))
    allowed = subprocess.run(["unshare", "--mount", "--pid", "--fork", "true"], capture_output=True, check=False)
    if os.geteuid() != 0 or allowed.returncode:
        pytest.skip(f"an image is built and run by root, with mounts of its own: {allowed.stderr.decode()[-300:]}")
    try:
        tar = base_tar(mmdebstrap)
    except NotBuiltError as reason:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(reason))
    images = Store(buildah, folder)
    try:
        images.take_base(tar)
        yield images
    finally:
        images.close()


async def test_the_image(program: Program, tmp_path: Path) -> None:
    with store(program, tmp_path / "store") as images:
        first = images.build("localhost/first", PROJECT, form="oci", revision=REVISION)
        again = images.build("localhost/again", fresh_context(tmp_path / "clone"), form="oci", revision=REVISION)
        docker = images.build("localhost/docker", PROJECT, form="docker", revision=REVISION)
        root = images.unpack(first)

        assert first.digest == again.digest, "two builds of the same source differ"
        assert docker.oci["rootfs"] == first.oci["rootfs"], "the files depend on the image's format"
        says_what_it_is(first)
        holds_what_is_locked(first, root)
        await runs_confined(docker, root, tmp_path)


def says_what_it_is(image: Image) -> None:
    """Labels, user, port, signal and entry point are in the image's configuration."""
    config = image.config
    labels = {name.removeprefix("org.opencontainers.image."): text for name, text in config["Labels"].items()}
    assert labels["title"] == "verify-factor-exporter"
    assert labels["source"] == repository()
    assert labels["licenses"] == "Apache-2.0"
    assert labels["version"] == __version__
    assert labels["revision"] == REVISION
    assert labels["base.name"] == "localhost/python:substitute"
    assert config["User"] == f"{USER}:{USER}"
    assert config["Entrypoint"] == ["/opt/exporter/bin/verify-factor-exporter"]
    assert config["Cmd"] == ["run"]
    assert config["ExposedPorts"] == {"10069/tcp": {}}
    assert config["StopSignal"] == "SIGTERM"


def holds_what_is_locked(image: Image, root: Path) -> None:
    """Over its base lies one small layer: what the lock names and the exporter, compiled, and root's own."""
    base, *ours = image.layer_bytes
    assert base > 0
    assert sum(ours) <= LARGEST_BYTES, f"{sum(ours)} bytes over the base"

    (packages,) = (root / "opt/exporter/lib").glob("python3.*/site-packages")
    installed = {
        re.sub(r"[-_.]+", "-", found.name).lower(): found.version
        for found in importlib.metadata.distributions(path=[str(packages)])
    }
    version = packages.parent.name.removeprefix("python")
    assert installed.pop("verify-factor-exporter") == __version__
    packages_locked = locked(PROJECT / "requirements.lock", LINUX | {"python_version": version})
    assert installed == {package.name: package.version for package in packages_locked}
    assert sorted(path.name for path in (root / "opt/exporter/bin").iterdir()) == [
        "python",
        "python3",
        packages.parent.name,
        "verify-factor-exporter",
    ]

    for source in packages.rglob("*.py"):
        (compiled,) = (source.parent / "__pycache__").glob(f"{source.stem}.cpython-*.pyc")
        unchecked_by_hash = compiled.read_bytes()[4:8] == b"\x01\0\0\0"
        assert unchecked_by_hash, compiled
    for path in (root / "opt/exporter").rglob("*"):
        status = path.lstat()
        assert (status.st_uid, status.st_gid) == (0, 0), path
        assert path.is_symlink() or status.st_mode & 0o7022 == 0, path


async def runs_confined(image: Image, root: Path, folder: Path) -> None:
    """It serves as process 1 of a read-only container without capabilities or a shell, and ends on SIGTERM."""
    working_folder = folder / "configuration"
    working_folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    async with Simulator() as simulator:
        config = working_folder / "config.toml"
        write_config(config, simulator, demo_world(simulator))
        config.write_text(f'[web]\nlisten_address = "{address}"\n{config.read_text()}')
        for path in (working_folder, config):
            os.chown(path, USER, USER)

        log = folder / "log"
        health = image.docker["config"]["Healthcheck"]["Test"]
        assert health[0] == "CMD", "a shell would be needed"
        async with Pod.run(image, root, working_folder, url=f"http://{address}", log=log) as pod:
            await is_confined(pod)
            scrape = await pod.shows(lambda scrape: scrape.counts()["verified"])
            assert scrape.samples("twilio_verify_exporter_build_info", version=__version__, revision=REVISION)
            assert await pod.execute(health[1:]) == (0, "healthy")
            status, said = await pod.execute([*image.config["Entrypoint"], "check"])
            assert status == 0, said
            await holds_what_the_bill_says(pod)
            status, said = await pod.execute([*health[1:], "--url", simulator.base_url])
            assert status == 1, said
            assert await pod.terminate() == 0, log.read_text()
        assert "Traceback" not in log.read_text()


async def holds_what_the_bill_says(pod: Pod) -> None:
    """The command that docs/security.md gives for it finds in the container what the bill of materials lists."""
    (code,) = re.findall(r"--entrypoint python3 \S+ -c '(.+?)'", (PROJECT / "docs/security.md").read_text())
    bill = json.loads(sbom())
    listed = [component["purl"] for component in (bill["metadata"]["component"], *bill["components"])]

    assert await pod.execute(["/opt/exporter/bin/python3", "-c", code]) == (
        0,
        "\n".join(sorted(purl.removeprefix("pkg:pypi/") for purl in listed)),
    )


async def is_confined(pod: Pod) -> None:
    """The process is number 1, nobody's, without rights, among files that nobody can change."""
    status = pod.process_status
    assert status["NSpid"].split()[-1] == "1"
    assert set(status["Uid"].split()) == set(status["Gid"].split()) == {str(USER)}
    assert status["Groups"] == ""
    assert {status[name].strip("0") for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {""}
    assert status["NoNewPrivs"] == "1"
    for place in ("opt/exporter/bin", "tmp", "etc/verify-factor-exporter", "home"):
        with pytest.raises(OSError, match="Read-only file system") as refused:
            (pod.root / place / "new").touch()
        assert refused.value.errno == errno.EROFS
    shell, said = await pod.execute(["/bin/sh", "-c", "true"])
    assert shell == 126, said
