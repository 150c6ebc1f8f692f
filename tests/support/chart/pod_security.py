"""The Pod Security profile "restricted".

https://kubernetes.io/docs/concepts/security/pod-security-standards
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"
}  # fmt: skip


def violations(pod: dict[str, Any]) -> list[str]:
    """Return the fields of a pod that violate the profile."""
    spec = pod["spec"]
    security = spec.get("securityContext", {})
    found = [f"spec.{name}" for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)]
    found += [f"volumes.{volume['name']}" for volume in spec.get("volumes", []) if not _allowed(volume)]
    found += ["securityContext.sysctls"] if security.get("sysctls") else []
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(kind, []):
            own = container.get("securityContext", {})
            found += [f"{container['name']}.{violation}" for violation in _of_container(container, own, security)]
    return found


def _allowed(volume: dict[str, Any]) -> bool:
    return set(volume) - {"name"} <= _VOLUMES


def _of_container(container: dict[str, Any], own: dict[str, Any], pod: dict[str, Any]) -> Iterator[str]:
    capabilities = own.get("capabilities", {})
    if own.get("privileged"):
        yield "privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation"
    if "ALL" not in capabilities.get("drop", []):
        yield "capabilities.drop"
    if set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield "capabilities.add"
    if own.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True:
        yield "runAsNonRoot"
    if own.get("runAsUser", pod.get("runAsUser")) == 0:
        yield "runAsUser"
    profile = own.get("seccompProfile", pod.get("seccompProfile", {}))
    if profile.get("type") not in {"RuntimeDefault", "Localhost"}:
        yield "seccompProfile"
    if own.get("procMount", "Default") != "Default":
        yield "procMount"
    if any(port.get("hostPort") for port in container.get("ports", [])):
        yield "hostPort"
