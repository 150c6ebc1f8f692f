"""Models of what Argo CD and Flux read: the fields that the examples use, and no others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from collections.abc import Sequence

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", max_length=53)]
ChartUrl = Annotated[str, Field(pattern=r"^oci://[^:]+$")]
Duration = Annotated[str, Field(pattern=r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Metadata(_Strict):
    name: Name
    namespace: Name


class _Helm(_Strict):
    valuesObject: dict[str, Any]  # noqa: N815 - the field's name in the resource


class _Source(_Strict):
    repoURL: ChartUrl  # noqa: N815  the resource's own name
    targetRevision: str  # noqa: N815  the resource's own name
    path: Literal["."]
    helm: _Helm


class _Destination(_Strict):
    server: Literal["https://kubernetes.default.svc"]
    namespace: Name


class _Automated(_Strict):
    prune: bool
    selfHeal: bool  # noqa: N815  the resource's own name


class _SyncPolicy(_Strict):
    automated: _Automated
    syncOptions: list[Literal["CreateNamespace=true", "ServerSideApply=true"]]  # noqa: N815  the resource's own name


class _ApplicationSpec(_Strict):
    project: Name
    source: _Source
    destination: _Destination
    syncPolicy: _SyncPolicy  # noqa: N815  the resource's own name


class Application(_Strict):
    """https://argo-cd.readthedocs.io/en/stable/user-guide/application-specification/."""

    apiVersion: Literal["argoproj.io/v1alpha1"]  # noqa: N815  the resource's own name
    kind: Literal["Application"]
    metadata: _Metadata
    spec: _ApplicationSpec


class _Reference(_Strict):
    tag: str


class _Layer(_Strict):
    mediaType: Literal["application/vnd.cncf.helm.chart.content.v1.tar+gzip"]  # noqa: N815  the resource's own name
    operation: Literal["copy"]


class _RepositorySpec(_Strict):
    interval: Duration
    url: ChartUrl
    ref: _Reference
    layerSelector: _Layer  # noqa: N815  the resource's own name


class OCIRepository(_Strict):
    """https://fluxcd.io/flux/components/source/ocirepositories/."""

    apiVersion: Literal["source.toolkit.fluxcd.io/v1"]  # noqa: N815  the resource's own name
    kind: Literal["OCIRepository"]
    metadata: _Metadata
    spec: _RepositorySpec


class _ChartReference(_Strict):
    kind: Literal["OCIRepository"]
    name: Name


class _Remediation(_Strict):
    retries: int
    remediateLastFailure: bool  # noqa: N815  the resource's own name


class _Upgrade(_Strict):
    remediation: _Remediation


class _Test(_Strict):
    enable: bool
    ignoreFailures: bool  # noqa: N815  the resource's own name


class _Drift(_Strict):
    mode: Literal["enabled", "warn", "disabled"]


class _ReleaseSpec(_Strict):
    interval: Duration
    timeout: Duration
    chartRef: _ChartReference  # noqa: N815  the resource's own name
    upgrade: _Upgrade
    test: _Test
    driftDetection: _Drift  # noqa: N815  the resource's own name
    values: dict[str, Any]


class HelmRelease(_Strict):
    """https://fluxcd.io/flux/components/helm/helmreleases/."""

    apiVersion: Literal["helm.toolkit.fluxcd.io/v2"]  # noqa: N815  the resource's own name
    kind: Literal["HelmRelease"]
    metadata: _Metadata
    spec: _ReleaseSpec


@dataclass(frozen=True, slots=True)
class Delivery:
    """The release that a file describes."""

    name: str
    namespace: str
    url: str
    version: str
    values: dict[str, Any]


def delivery(documents: Sequence[Any]) -> Delivery:
    """Return the release that the documents of a file describe; raises ValidationError if one is invalid."""
    if documents[0]["kind"] == "Application":
        (document,) = documents
        application = Application.model_validate(document)
        source, place = application.spec.source, application.spec.destination
        return Delivery(
            application.metadata.name,
            place.namespace,
            source.repoURL,
            source.targetRevision,
            source.helm.valuesObject,
        )
    repository = OCIRepository.model_validate(documents[0])
    (document,) = documents[1:]
    release = HelmRelease.model_validate(document)
    assert (release.spec.chartRef.name, release.metadata.namespace) == (
        repository.metadata.name,
        repository.metadata.namespace,
    )
    return Delivery(
        release.metadata.name,
        release.metadata.namespace,
        repository.spec.url,
        repository.spec.ref.tag,
        release.spec.values,
    )
