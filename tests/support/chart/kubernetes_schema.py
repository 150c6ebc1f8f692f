"""Validation with Kubernetes' own schemas, and detection of duplicate keys in lists."""

from __future__ import annotations

import functools
import importlib.resources
import json
from typing import TYPE_CHECKING, Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.chart.rendering import Manifest

_SCHEMAS = importlib.resources.files("kubernetes_validate") / "kubernetes-json-schema"


def errors(manifest: Manifest, kubernetes: str) -> list[str]:
    """Return the violations of the schema of a Kubernetes version; unknown fields are violations."""
    validator = _validator(_file_name(manifest), kubernetes)
    return [f"{'.'.join(map(str, error.path))}: {error.message}" for error in validator.iter_errors(manifest)]


def duplicates(manifest: Manifest, kubernetes: str) -> list[str]:
    """Return the places of duplicate keys in lists, which server-side apply refuses."""
    schema = _validator(_file_name(manifest), kubernetes).schema
    return list(_duplicates(manifest, schema, _definitions(kubernetes), manifest["kind"]))


def _duplicates(value: Any, schema: Any, definitions: Any, place: str) -> Iterator[str]:
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    if isinstance(value, dict):
        for name, item in value.items():
            below = schema.get("properties", {}).get(name)
            if below is not None:
                yield from _duplicates(item, below, definitions, f"{place}.{name}")
    elif isinstance(value, list):
        keys = schema.get("x-kubernetes-list-map-keys")
        merged = schema.get("x-kubernetes-patch-merge-key")
        names = keys or ([merged] if merged else [])
        if names:
            seen = [tuple(item.get(name) for name in names) for item in value]
            yield from (f"{place}: {key}" for key in sorted(set(seen), key=str) if seen.count(key) > 1)
        for index, item in enumerate(value):
            yield from _duplicates(item, schema.get("items", {}), definitions, f"{place}[{index}]")


def _file_name(manifest: Manifest) -> str:
    group, _, version = manifest["apiVersion"].rpartition("/")
    return "-".join(filter(None, (manifest["kind"].lower(), group.partition(".")[0], version))) + ".json"


@functools.cache
def _definitions(kubernetes: str) -> Any:
    return _load("_definitions.json", kubernetes)["$defs"]


@functools.cache
def _validator(file_name: str, kubernetes: str) -> Draft202012Validator:
    return Draft202012Validator(_load(file_name, kubernetes), registry=_registry(kubernetes))


@functools.cache
def _registry(kubernetes: str) -> Any:
    resource = Resource.from_contents(_load("_definitions.json", kubernetes))
    return resource @ Registry()


def _load(file_name: str, kubernetes: str) -> Any:
    return json.loads((_SCHEMAS / f"v{kubernetes}-local-strict" / file_name).read_text(encoding="utf-8"))
