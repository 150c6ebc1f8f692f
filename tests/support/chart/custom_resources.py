"""Models of the custom resources: a library's for the Prometheus operator, and partial ones.

The library's models ignore unknown fields, so compare their output with their input.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from cloudcoil.models.prometheus_operator import v1, v1alpha1
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from tests.support.chart.rendering import Manifest


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Metadata(_Strict):
    name: str = Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", max_length=253)
    namespace: str
    labels: dict[str, str]
    annotations: dict[str, str] | None = None


class _StoreReference(_Strict):
    name: str
    kind: Literal["SecretStore", "ClusterSecretStore"]


class _RemoteReference(_Strict):
    key: str
    property: str | None = None
    version: str | None = None


class _SecretKey(_Strict):
    secretKey: str  # noqa: N815 - the field's name in the resource
    remoteRef: _RemoteReference  # noqa: N815  the resource's own name


class _Target(_Strict):
    name: str
    creationPolicy: Literal["Owner", "Orphan", "Merge", "None"]  # noqa: N815  the resource's own name


class _ExternalSecretSpec(_Strict):
    refreshInterval: str  # noqa: N815  the resource's own name
    secretStoreRef: _StoreReference  # noqa: N815  the resource's own name
    target: _Target
    data: list[_SecretKey]


class ExternalSecret(_Strict):
    """https://external-secrets.io/latest/api/externalsecret."""

    apiVersion: Literal["external-secrets.io/v1", "external-secrets.io/v1beta1"]  # noqa: N815  the resource's own name
    kind: Literal["ExternalSecret"]
    metadata: _Metadata
    spec: _ExternalSecretSpec


class _DashboardSpec(_Strict):
    instanceSelector: dict[str, Any]  # noqa: N815  the resource's own name
    allowCrossNamespaceImport: bool  # noqa: N815  the resource's own name
    resyncPeriod: str  # noqa: N815  the resource's own name
    folder: str | None = None
    json_: str = Field(alias="json")


class GrafanaDashboard(_Strict):
    """https://grafana.github.io/grafana-operator/docs/api/#grafanadashboard."""

    apiVersion: Literal["grafana.integreatly.org/v1beta1"]  # noqa: N815  the resource's own name
    kind: Literal["GrafanaDashboard"]
    metadata: _Metadata
    spec: _DashboardSpec


class _ParentReference(_Strict):
    group: str | None = None
    kind: str | None = None
    name: str
    namespace: str | None = None
    port: int | None = None
    sectionName: str | None = None  # noqa: N815  the resource's own name


class _BackendReference(_Strict):
    name: str
    port: int


class _RouteRule(_Strict):
    backendRefs: list[_BackendReference]  # noqa: N815  the resource's own name


class _RouteSpec(_Strict):
    parentRefs: list[_ParentReference]  # noqa: N815  the resource's own name
    hostnames: list[str] | None = None
    rules: list[_RouteRule]


class HTTPRoute(_Strict):
    """https://gateway-api.sigs.k8s.io/reference/spec/#httproute."""

    apiVersion: Literal["gateway.networking.k8s.io/v1"]  # noqa: N815  the resource's own name
    kind: Literal["HTTPRoute"]
    metadata: _Metadata
    spec: _RouteSpec


class _TargetReference(_Strict):
    apiVersion: Literal["apps/v1"]  # noqa: N815  the resource's own name
    kind: Literal["Deployment", "StatefulSet"]
    name: str


class _UpdatePolicy(_Strict):
    updateMode: Literal["Off", "Initial", "Recreate", "InPlaceOrRecreate"]  # noqa: N815  the resource's own name


class _ContainerPolicy(_Strict):
    containerName: Literal["exporter"]  # noqa: N815  the resource's own name
    minAllowed: dict[str, str | int] | None = None  # noqa: N815  the resource's own name
    maxAllowed: dict[str, str | int] | None = None  # noqa: N815  the resource's own name


class _ResourcePolicy(_Strict):
    containerPolicies: list[_ContainerPolicy]  # noqa: N815  the resource's own name


class _AutoscalerSpec(_Strict):
    targetRef: _TargetReference  # noqa: N815  the resource's own name
    updatePolicy: _UpdatePolicy  # noqa: N815  the resource's own name
    resourcePolicy: _ResourcePolicy  # noqa: N815  the resource's own name


class VerticalPodAutoscaler(_Strict):
    """https://github.com/kubernetes/autoscaler/blob/master/vertical-pod-autoscaler/docs/api.md."""

    apiVersion: Literal["autoscaling.k8s.io/v1"]  # noqa: N815  the resource's own name
    kind: Literal["VerticalPodAutoscaler"]
    metadata: _Metadata
    spec: _AutoscalerSpec


MODELS: dict[str, type[BaseModel]] = {
    "ServiceMonitor": v1.ServiceMonitor,
    "PodMonitor": v1.PodMonitor,
    "PrometheusRule": v1.PrometheusRule,
    "ScrapeConfig": v1alpha1.ScrapeConfig,
    "ExternalSecret": ExternalSecret,
    "GrafanaDashboard": GrafanaDashboard,
    "HTTPRoute": HTTPRoute,
    "VerticalPodAutoscaler": VerticalPodAutoscaler,
}


def round_trip(manifest: Manifest) -> Manifest:
    """Return a custom resource after a round trip through its model; raises ValidationError if it is invalid."""
    model = MODELS[manifest["kind"]].model_validate(manifest)
    return model.model_dump(mode="json", by_alias=True, exclude_unset=True)
