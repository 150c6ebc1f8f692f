"""Comparing the objects that Helm rendered with those that the API server keeps."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Manifest = dict[str, Any]
Key = tuple[str, str, str]

_SUFFIXES = {
    **{name: Decimal(1000) ** power for power, name in enumerate(("k", "M", "G", "T", "P", "E"), 1)},
    **{name: Decimal(1024) ** power for power, name in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), 1)},
    "m": Decimal("0.001"),
}
# Their values are quantities, which the API server rewrites: 0.5 becomes 500m.
_QUANTITIES = {"requests", "limits", "minAllowed", "maxAllowed", "sizeLimit", "capacity"}


def key_of(item: Manifest, namespace: str) -> Key:
    """Return kind, namespace and name; the namespace is the given one if the object names none."""
    metadata = item["metadata"]
    return item["kind"], metadata.get("namespace") or namespace, metadata["name"]


def drift(rendered: Iterable[Manifest], live: Iterable[Manifest], namespace: str) -> list[str]:
    """Return each difference as one line: objects that are not there, and fields that are not kept as rendered.

    What the API server adds, such as defaults and status, is no difference.
    """
    kept = {}
    for item in live:
        kind, _, name = key_of(item, "")
        kept[kind, item["metadata"].get("namespace", ""), name] = item
    found = []
    for item in rendered:
        kind, place, name = key_of(item, namespace)
        there = kept.get((kind, place, name)) or kept.get((kind, "", name))
        if there is None:
            found.append(f"{kind} {name}: not there")
        else:
            found += [f"{kind} {name}: {line}" for line in differences(item, there)]
    return found


def differences(rendered: Any, live: Any, path: str = "", *, quantity: bool = False) -> Iterator[str]:
    """Yield the fields of a rendered value that a live one has not, or has otherwise."""
    if isinstance(rendered, dict) and isinstance(live, dict):
        for name, value in rendered.items():
            if value is None or (value in ({}, []) and name not in live):
                continue
            place = f"{path}.{name}" if path else str(name)
            if name not in live:
                yield f"{place} is missing"
            else:
                yield from differences(value, live[name], place, quantity=quantity or name in _QUANTITIES)
    elif isinstance(rendered, list) and isinstance(live, list):
        if len(rendered) != len(live):
            yield f"{path} has {len(live)} items instead of {len(rendered)}"
        for number, (value, other) in enumerate(zip(rendered, live, strict=False)):
            yield from differences(value, other, f"{path}[{number}]", quantity=quantity)
    elif rendered != live and not (quantity and _same_quantity(rendered, live)):
        yield f"{path} is {live!r} instead of {rendered!r}"


def _same_quantity(one: Any, other: Any) -> bool:
    try:
        return _quantity(str(one)) == _quantity(str(other))
    except InvalidOperation:
        return False


def _quantity(text: str) -> Decimal:
    for suffix in sorted(_SUFFIXES, key=len, reverse=True):
        if text.endswith(suffix):
            return Decimal(text.removesuffix(suffix)) * _SUFFIXES[suffix]
    return Decimal(text)


def not_ready(pods: Iterable[Manifest]) -> list[str]:
    """Return what keeps these pods from being ready, one line per pod or container; ended pods count as ready."""
    found = []
    for pod in pods:
        name, status = pod["metadata"]["name"], pod.get("status", {})
        if status.get("phase") == "Succeeded":
            continue
        conditions = {one["type"]: one for one in status.get("conditions", [])}
        if conditions.get("Ready", {}).get("status") == "True" and "deletionTimestamp" not in pod["metadata"]:
            continue
        states = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
        reasons = [
            f"{one['name']}: {details.get('reason', kind)} {details.get('message', '')}".rstrip()
            for one in states
            if not one.get("ready")
            for kind, details in one.get("state", {}).items()
        ]
        if not reasons and (scheduled := conditions.get("PodScheduled", {})).get("message"):
            reasons = [scheduled["message"]]
        found.append(f"{name}: {'; '.join(reasons) or status.get('phase', 'no status')}")
    return found


def restarts(pods: Iterable[Manifest]) -> int:
    """Return how often containers of these pods were restarted."""
    return sum(one["restartCount"] for pod in pods for one in pod.get("status", {}).get("containerStatuses", []))


def incarnations(pods: Iterable[Manifest]) -> set[str]:
    """Return the UIDs of pods: a pod that was replaced has another one."""
    return {str(pod["metadata"]["uid"]) for pod in pods}


def refused_pods(events: Iterable[Manifest]) -> list[str]:
    """Return why pods could not be created: the messages of these events."""
    return sorted({str(event.get("message", "")) for event in events if event.get("reason") == "FailedCreate"})
