"""Schemas of the Kubernetes and Prometheus operator fields that the chart passes on, as draft 7 and closed.

Source: Kubernetes' own OpenAPI document, as kubernetes-validate ships it for its newest version, and the models
that cloudcoil generates from the operator's custom resource definitions.
"""

from __future__ import annotations

import importlib.resources
import json
from typing import TYPE_CHECKING, Any

from cloudcoil.models.prometheus_operator import v1

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import BaseModel

Schema = dict[str, Any]

VERSION = "1.37.0"
_SCHEMAS = importlib.resources.files("kubernetes_validate") / "kubernetes-json-schema"
_LOCAL = "#/$defs/"
_ROOTS = {
    "io.k8s.api.core.v1": (
        "Affinity", "Container", "EnvFromSource", "EnvVar", "HostAlias", "Lifecycle", "PodDNSConfig",
        "PodSecurityContext", "ResourceRequirements", "SecurityContext", "Toleration", "TopologySpreadConstraint",
        "Volume", "VolumeMount",
    ),
    "io.k8s.api.apps.v1": ("DeploymentStrategy", "StatefulSetUpdateStrategy"),
    "io.k8s.api.networking.v1": ("IngressTLS", "NetworkPolicyEgressRule", "NetworkPolicyPeer"),
    "io.k8s.apimachinery.pkg.apis.meta.v1": ("LabelSelector",),
}  # fmt: skip
# What else than the structure and the types is kept: formats such as int32 are none of draft 7.
_KEPT = {"type", "enum", "required", "minLength", "pattern"}


def definitions() -> dict[str, Schema]:
    """Return the schemas by their short names, such as `Toleration`, and everything that they refer to."""
    source = json.loads((_SCHEMAS / f"v{VERSION}-local-strict" / "_definitions.json").read_text("utf-8"))["$defs"]
    found: dict[str, Schema] = {}
    waiting = [f"{package}.{name}" for package, names in _ROOTS.items() for name in names]
    while waiting:
        name = waiting.pop()
        short = name.rpartition(".")[2]
        if short not in found:
            found[short] = _converted(source[name], _local)
            waiting += _references(source[name])
    return dict(sorted(found.items())) | _of_the_operator()


def _of_the_operator() -> dict[str, Schema]:
    endpoint = _spec(v1.ServiceMonitor)["endpoints"]["items"]["properties"]
    for rules in ("metricRelabelings", "relabelings"):  # since Prometheus 3, any text is the name of a label
        endpoint[rules]["items"]["properties"]["sourceLabels"]["items"].pop("pattern", None)
    return {
        "basicAuth": endpoint["basicAuth"],
        "metricRelabeling": endpoint["metricRelabelings"]["items"],
        "relabeling": endpoint["relabelings"]["items"],
        "ruleGroup": _spec(v1.PrometheusRule)["groups"]["items"],
        "tlsConfig": endpoint["tlsConfig"],
    }


def _spec(resource: type[BaseModel]) -> Schema:
    """Return the fields of a custom resource's spec; the models' names differ between versions of the operator."""
    whole = resource.model_json_schema()
    fields: Schema = _inlined(whole["properties"]["spec"], whole["$defs"])["properties"]
    return fields


def _inlined(schema: Schema, source: dict[str, Schema]) -> Schema:
    return _converted(schema, lambda reference: _inlined(source[reference.removeprefix(_LOCAL)], source))


def _local(reference: str) -> Schema:
    return {"$ref": f"#/definitions/{reference.rpartition('.')[2]}"}


def _references(schema: object) -> list[str]:
    if isinstance(schema, list):
        return [name for below in schema for name in _references(below)]
    if not isinstance(schema, dict):
        return []
    own = schema.get("$ref")
    found = [own.removeprefix(_LOCAL)] if isinstance(own, str) else []
    return found + [name for below in schema.values() for name in _references(below)]


def _converted(schema: Schema, refer: Callable[[str], Schema]) -> Schema:
    """Return a schema without what only describes it, with one list of types instead of alternatives."""
    if "$ref" in schema:
        return refer(schema["$ref"])
    alternatives = [_converted(below, refer) for key in ("anyOf", "oneOf") for below in schema.get(key, [])]
    found: Schema = {}
    for below in alternatives or [{key: value for key, value in schema.items() if key in _KEPT}]:
        types = sorted({*_types(found), *_types(below)}, key=lambda kind: (kind == "null", kind))
        found |= {key: value for key, value in below.items() if key != "type"}
        if types:
            found["type"] = types[0] if len(types) == 1 else types
    if "(?i)" in found.get("pattern", ""):
        del found["pattern"]  # not every regular expression engine has it in the middle
    if "null" in _types(found) and "enum" in found:
        found["enum"] = [*found["enum"], None]
    if "items" in schema:
        found["items"] = _converted(schema["items"], refer)
    if "properties" in schema:
        found["properties"] = {name: _converted(below, refer) for name, below in schema["properties"].items()}
        found["additionalProperties"] = False
    elif isinstance(schema.get("additionalProperties"), dict):
        found["additionalProperties"] = _converted(schema["additionalProperties"], refer)
    return found


def _types(schema: Schema) -> list[str]:
    kinds = schema.get("type", [])
    return [kinds] if isinstance(kinds, str) else list(kinds)
