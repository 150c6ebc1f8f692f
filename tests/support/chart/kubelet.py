"""What the kubelet does for a pod: mounting its volumes as files, and setting its environment."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.chart.rendering import Rendered

Files = dict[str, str]


@dataclass(frozen=True, slots=True)
class Cluster:
    """The ConfigMaps and Secrets in the cluster: rendered ones and existing ones."""

    files: dict[tuple[str, str], Files]

    @classmethod
    def of(cls, rendered: Rendered, given: list[dict[str, Any]]) -> Cluster:
        """Return the cluster after installing the chart."""
        # Those of other namespaces can't be mounted.
        files = {(item["kind"], _qualified(item)): dict(item["files"]) for item in given}
        for item in rendered.of_kind("ConfigMap", "Secret"):
            data = item.get("data", {})
            if item["kind"] == "Secret":
                data = {key: base64.b64decode(text, validate=True).decode() for key, text in data.items()}
            files[item["kind"], item["metadata"]["name"]] = data
        return cls(files)

    def sources(self, volume: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
        """Yield kind, name and items of the sources of a volume."""
        for source in volume.get("projected", {}).get("sources", [volume]):
            if "secret" in source:
                secret = source["secret"]
                yield "Secret", secret.get("secretName") or secret["name"], secret.get("items")
            elif "configMap" in source:
                yield "ConfigMap", source["configMap"]["name"], source["configMap"].get("items")
            elif "csi" in source:
                yield "csi", volume["name"], None

    def content(self, volume: dict[str, Any]) -> Files:
        """Return the files of a volume; raises KeyError for a missing object or key, which would block the pod."""
        shown: Files = {}
        for kind, name, items in self.sources(volume):
            files = self.files[kind, name]
            chosen = {item["path"]: files[item["key"]] for item in items} if items else files
            twice = shown.keys() & chosen.keys()
            assert not twice, f"{volume['name']}: {twice} comes from two sources"
            shown |= chosen
        return shown


def _qualified(item: dict[str, Any]) -> str:
    return f"{item['namespace']}/{item['name']}" if "namespace" in item else str(item["name"])


def mount(pod: dict[str, Any], cluster: Cluster, root: Path, container: str = "exporter") -> None:
    """Create the mounted files of a container: links into a hidden folder, as the kubelet does."""
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    for place in _container(pod, container)["volumeMounts"]:
        assert "subPath" not in place, "subPath mounts are not updated"
        folder = root / place["mountPath"].lstrip("/")
        content = folder / "..2026_11_24_22_45_00.1"
        content.mkdir(parents=True)
        (folder / "..data").symlink_to(content.name)
        volume = volumes.get(place["name"], {"name": place["name"]})
        for name, text in cluster.content(volume).items():
            (content / name).write_text(text, encoding="utf-8")
            (folder / name).symlink_to(f"..data/{name}")


def environment(pod: dict[str, Any], name: str, container: str = "exporter") -> dict[str, str]:
    """Return the environment of a container in a pod of this name."""
    fields = {"metadata.name": name}
    return {
        item["name"]: item["value"] if "value" in item else fields[item["valueFrom"]["fieldRef"]["fieldPath"]]
        for item in _container(pod, container).get("env", [])
    }


def arguments(pod: dict[str, Any]) -> list[str]:
    """Return the arguments of the exporter's container."""
    return list(_exporter(pod)["args"])


def _exporter(pod: dict[str, Any]) -> dict[str, Any]:
    return _container(pod, "exporter")


def _container(pod: dict[str, Any], name: str) -> dict[str, Any]:
    every = [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
    return next(container for container in every if container["name"] == name)
