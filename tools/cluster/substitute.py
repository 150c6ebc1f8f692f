"""Where no pod can run: the test pod's command against exporters that run here, with the files of their pods."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.support.chart.kubelet import Cluster, arguments, environment, mount
from tests.support.chart.sidecar import collect
from tools.cluster.processes import ClusterError, running
from tools.cluster.world import container
from tools.stack.programs import LOOPBACK, port_or_free

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tools.cluster.objects import Manifest

_TEST_SECONDS = 120.0
_TRIES_SECONDS = 2.0
_LISTENING = re.compile(r'^(health_)?listen_address = ":(\d+)"$', re.MULTILINE)
_ORDINAL = re.compile(r"-(\d+)\.[a-z0-9-]+-headless\.")

Ports = dict[tuple[int, int], int]


def run_test(workload: Manifest, test: Manifest, found: Iterable[Manifest], root: Path) -> None:
    """Run the test pod's command against one exporter for each replica. Raises ``ClusterError`` if it fails.

    ``found`` are the ConfigMaps and Secrets of the cluster, with the namespaces they are in.
    """
    pod, ports = workload["spec"]["template"], Ports()
    files = [_files(item) for item in found]
    namespace = workload["metadata"]["namespace"]
    mounted = Cluster(
        {(item["kind"], item["name"]): item["files"] for item in files if item["namespace"] == namespace}
    )
    root.mkdir()
    with contextlib.ExitStack() as stack:
        program = [sys.executable, "-m", "exporter"]
        stack.enter_context(running("simulator", [*program, *container("")["args"]], root))
        for ordinal in range(int(workload["spec"].get("replicas", 1))):
            place = root / str(ordinal)
            mount(pod, mounted, place)
            collect(pod, files, place)
            config = _moved(pod, place, ordinal, ports)
            words = [re.sub(r"^--config\.file=.*", f"--config.file={config}", word) for word in arguments(pod)]
            variables = environment(pod, f"{workload['metadata']['name']}-{ordinal}")
            stack.enter_context(running(f"exporter-{ordinal}", [*program, *words], root, variables))
        words, variables = _as_mounted(test, mounted, root / "test")
        _succeed([*program, *(addressed(word, ports) for word in words)], variables)


def addressed(word: str, ports: Ports) -> str:
    """Return an argument of the test with its URL replaced by that of the exporter here, by ordinal and port."""
    if not word.startswith("--url="):
        return word
    url = urlsplit(word.removeprefix("--url="))
    ordinal = _ORDINAL.search(f"{url.hostname}")
    wanted = (int(ordinal[1]) if ordinal else 0, int(url.port or 80))
    if wanted not in ports:
        raise ClusterError(f"the test's {word} is no address of a pod")
    return f"--url={url.scheme}://{LOOPBACK}:{ports[wanted]}{url.path}"


def _as_mounted(test: Manifest, mounted: Cluster, place: Path) -> tuple[list[str], dict[str, str]]:
    """Write the files of the test pod below a folder, and return arguments and variables that name them."""
    (container,) = test["spec"]["containers"]
    volumes = {volume["name"]: volume for volume in test["spec"].get("volumes", [])}
    words, variables = list(container["args"]), environment(test, test["metadata"]["name"], container["name"])
    for volume in container.get("volumeMounts", []):
        inside, here = volume["mountPath"], f"{place}{volume['mountPath']}"
        Path(here).mkdir(parents=True)
        for name, text in mounted.content(volumes[volume["name"]]).items():
            Path(here, name).write_text(text, encoding="utf-8")
        words = [word.replace(f"={inside}/", f"={here}/") for word in words]
        variables = {name: text.replace(f"{inside}/", f"{here}/") for name, text in variables.items()}
    return words, variables


def _moved(pod: Manifest, place: Path, ordinal: int, ports: Ports) -> Path:
    """Let a configuration name the files below a folder and free ports of loopback, and return its path."""
    (path,) = place.glob("etc/verify-factor-exporter/config/config.toml")
    text = path.read_text(encoding="utf-8")
    for volume in pod["spec"]["containers"][0]["volumeMounts"]:
        text = text.replace(f'"{volume["mountPath"]}/', f'"{place}{volume["mountPath"]}/')

    def listening(match: re.Match[str]) -> str:
        port = ports[ordinal, int(match[2])] = port_or_free()
        return f'{match[1] or ""}listen_address = "{LOOPBACK}:{port}"'

    path.write_text(_LISTENING.sub(listening, text), encoding="utf-8")
    return path


def _files(item: Manifest) -> Manifest:
    data = item.get("data") or {}
    if item["kind"] == "Secret":
        data = {name: base64.b64decode(text).decode(errors="replace") for name, text in data.items()}
    metadata = item["metadata"]
    return {
        "kind": item["kind"],
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "labels": metadata.get("labels", {}),
        "files": data,
    }


def _succeed(command: list[str], variables: dict[str, str]) -> None:
    """Run a command until it succeeds, as the pod's restart policy does. Raises ``ClusterError`` in the end."""
    for _ in range(round(_TEST_SECONDS / _TRIES_SECONDS)):
        try:
            done = subprocess.run(
                command,
                env=os.environ | variables,
                capture_output=True,
                text=True,
                timeout=_TEST_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ClusterError(f"the test's command takes more than {_TEST_SECONDS:g} s") from error
        if done.returncode == 0:
            return
        time.sleep(_TRIES_SECONDS)
    raise ClusterError(f"the test's command: {' '.join((done.stderr or done.stdout).split())[-300:]}")
