"""A rendered release with the files that its pod sees."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.support.chart.kubelet import Cluster, arguments, environment, mount
from tests.support.chart.sidecar import collect

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.chart.cases import Case
    from tests.support.chart.rendering import Rendered

_CONFIG_FILE = re.compile(r"--config\.file=(\S+)")


def installed(
    fixture: Case, rendered: Rendered, certificates: dict[str, str], root: Path
) -> tuple[Path, dict[str, str]]:
    """Return the path of config.toml as mounted in the pod, and the environment.

    Absolute paths in it are moved below a folder of the test. ``certificates`` replaces placeholders in files.
    """
    pod = rendered.workload["spec"]["template"]
    given = [
        item | {"files": {name: certificates.get(text, text) for name, text in item["files"].items()}}
        for item in fixture.given
    ]
    cluster = Cluster.of(rendered, given)
    for volume in (*pod["spec"]["volumes"], *rendered.workload["spec"].get("volumeClaimTemplates", [])):
        if "emptyDir" not in volume and "metadata" not in volume and "persistentVolumeClaim" not in volume:
            assert list(cluster.sources(volume)), f"{volume['name']} has no content"
    mount(pod, cluster, root)
    collect(pod, given, root)
    found = _CONFIG_FILE.search(" ".join(arguments(pod)))
    assert found is not None
    path = root / found[1].lstrip("/")
    text = path.read_text(encoding="utf-8")
    for place in pod["spec"]["containers"][0]["volumeMounts"]:
        text = text.replace(f'"{place["mountPath"]}/', f'"{root}{place["mountPath"]}/')
    path.write_text(text, encoding="utf-8")
    return path, environment(pod, f"{rendered.workload['metadata']['name']}-0")
