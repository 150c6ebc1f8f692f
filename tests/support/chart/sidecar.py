"""What kiwigrid's k8s-sidecar does in a pod: it writes the data of labelled Secrets and ConfigMaps to files.

As observed with version 2.10.1: files are written in place, and replaced only if their content differs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.support.chart.kubelet import environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_RESOURCES = {"secret": {"Secret"}, "configmap": {"ConfigMap"}, "both": {"Secret", "ConfigMap"}}


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the sidecar's containers of a pod: the one that lists once, and the one that stays."""
    all_of_them = [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
    return [container for container in all_of_them if "UNIQUE_FILENAMES" in environment(pod, "", container["name"])]


def file_name(namespace: str, kind: str, name: str, key: str) -> str:
    """Return the name of a file with UNIQUE_FILENAMES."""
    return f"namespace_{namespace}.{kind.lower()}_{name}.{key}"


def collect(pod: dict[str, Any], given: list[dict[str, Any]], root: Path) -> None:
    """Write the files that the init container of a pod collects from the cluster, if it has one."""
    for container in containers(pod)[:1]:
        settings = environment(pod, "", container["name"])
        folder = root / settings["FOLDER"].lstrip("/")
        for item in _selected(settings, given):
            for key, text in item["files"].items():
                unique = file_name(item["namespace"], item["kind"], item["name"], key)
                write(folder / (unique if settings["UNIQUE_FILENAMES"] == "true" else key), text)


def write(path: Path, text: str) -> None:
    """Write a file as the sidecar does, in place."""
    path.write_text(text, encoding="utf-8")
    path.chmod(0o640)


def _selected(settings: dict[str, str], given: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    namespaces = settings["NAMESPACE"].split(",")
    for item in given:
        value = item.get("labels", {}).get(settings["LABEL"])
        if (
            item["kind"] in _RESOURCES[settings["RESOURCE"]]
            and value is not None
            and settings.get("LABEL_VALUE") in {None, value}
            and (item["namespace"] in namespaces or namespaces == ["ALL"])
        ):
            yield item
